"""In what pieces layers are computed that have everything on chip.

Engines overlap by pieces: a layer begins as soon as the first pieces of the one before it are done.
Many small pieces overlap best, few large ones cost least. So some ways to cut all layers are played
through, and then, layer by layer, ways next to the best of them, as long as there is time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from weft.compiler.channel_layout import Mapped
from weft.compiler.timing.engines import COMMAND_WORTH, step_cycles
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Concat, Convolution

from .columns import column_chunks, weight_tiles
from .loop_order import layer_cycles
from .placement import Plan

__all__ = ["cut"]

_COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)  # pieces of a layer that are tried
_WHOLE = float("inf")
# Cycles of a piece, at least, of convolutions and of other layers, for all of them alike.
_GRAINS = ((400, 150), (250, 100), (400, 400), (700, 250), (150, 60), (_WHOLE, _WHOLE))
_Change = dict[str, Any]
_EFFORT = 10000  # commands that are played in all, at most


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ways:
    """Layers that are cut alike: in rows the copies of one for all frames of a batch, in channels
    a convolution and what follows it channel block by channel block.

    Attributes
    ----------
    changes : :class:`list` of :class:`dict`
        By layer, what changes in its plan: from the fewest to the most pieces.
    grains : :class:`list` of :class:`float`
        Cycles of a piece, for each of them.
    vector : :class:`bool`
        None of them is a convolution.
    start : :class:`int` or :py:`None`
        The way to start from, if not that of a grain.
    """

    changes: list[dict[int, _Change]]
    grains: list[float]
    vector: bool
    start: int | None = None

    def of_grain(self, grains: tuple[float, float]) -> int:
        """The way with the smallest pieces that are no smaller than that of ``grains``."""
        if self.start is not None:
            return self.start
        grain = grains[self.vector]
        return max((way for way, cycles in enumerate(self.grains) if cycles >= grain), default=0)


def cut(mapped: Mapped, config: AcceleratorConfig, plan: Plan,
        play: Callable[[Plan], tuple[float, int]]) -> Plan:
    """The plan with pieces for all layers that it left whole.

    Parameters
    ----------
    plan : :class:`Plan`
    play : callable
        Gives the estimated cycles of a plan, and the number of commands that it takes.
    """
    choices = list(_Cutter(mapped, config, plan).choices())

    def apply(ways: Sequence[int]) -> Plan:
        layers = list(plan.layers)
        for choice, way in zip(choices, ways, strict=True):
            for index, change in choice.changes[way].items():
                layers[index] = replace(layers[index], **change)
        return replace(plan, layers=tuple(layers))

    effort = 0
    best: tuple[int, ...] = ()
    least = float("inf")
    tried: set[tuple[int, ...]] = set()

    def improves(ways: tuple[int, ...]) -> bool:
        nonlocal best, least, effort
        if ways in tried:
            return False
        tried.add(ways)
        cycles, commands = play(apply(ways))
        effort += commands
        cycles += commands * COMMAND_WORTH
        if cycles >= least:
            return False
        best, least = ways, cycles
        return True

    commands = sum(len(layer.tiles) * max(1, len(layer.chunks)) for layer in plan.layers)
    if not choices:
        return plan
    small = commands * len(_GRAINS) <= _EFFORT
    for grains in _GRAINS if small else (_GRAINS[0], _GRAINS[-1]):
        improves(tuple(choice.of_grain(grains) for choice in choices))
    changed = True
    while changed:
        changed = False
        for at, choice in enumerate(choices):
            for step in (1, -1):
                way = best[at] + step
                while 0 <= way < len(choice.changes) and effort < _EFFORT \
                        and improves((*best[:at], way, *best[at + 1:])):
                    changed = True
                    way += step
    return apply(best)


class _Cutter:
    def __init__(self, mapped: Mapped, config: AcceleratorConfig, plan: Plan):
        self._mapped = mapped
        self._graph = mapped.graph
        self._config = config
        self._plan = plan

    def choices(self) -> Iterator[_Ways]:
        """All that there is to choose."""
        graph, frames = self._graph, self._graph.frames
        groups: dict[int, list[int]] = {}
        for index, layer in enumerate(graph.layers):
            if not isinstance(layer, Concat) and not self._plan.layers[index].slabs:
                groups.setdefault(self._mapped.origins[index] // frames, []).append(index)
        for group in groups.values():
            yield self._together(group, [self._rows(index) for index in group])
        if frames == 1:
            for chain in self._chains():
                flat = min(self._pixels(index) for index in chain) < 4 * self._config.pe_rows
                ways = [self._columns(index) for index in chain]
                # Rows are the better pieces where there are enough of them.
                yield self._together(chain, ways, start=None if flat else 0)

    def _pixels(self, index: int) -> int:
        _, height, width = self._graph.tensors[self._graph.layers[index].output].shape
        return height * width

    def _together(self, group: Sequence[int], ways: Sequence[Sequence[_Change]], *,
                  start: int | None = None) -> _Ways:
        changes = [{index: own[min(way, len(own) - 1)]
                    for index, own in zip(group, ways, strict=True)}
                   for way in range(max(map(len, ways)))]
        vector = not any(isinstance(self._graph.layers[index], Convolution) for index in group)
        return _Ways(changes=changes, start=start, vector=vector, grains=[
            max(self._cycles(index) / max(1, len(change.get("tiles") or change["chunks"]))
                for index, change in way.items()) for way in changes])

    def _cycles(self, index: int) -> float:
        config, layer = self._config, self._graph.layers[index]
        blocks = self._mapped.channels[layer.output].blocks(config)
        if not isinstance(layer, Convolution):
            return layer_cycles(config, self._graph, layer, blocks)
        _, height, width = self._graph.tensors[layer.output].shape
        columns, steps = weight_tiles(config, self._mapped, layer)
        return columns * steps * step_cycles(config, height * width)

    # Pieces of rows ---------------------------------------------------------------------------

    def _rows(self, index: int) -> list[_Change]:
        layer = self._graph.layers[index]
        _, height, width = self._graph.tensors[layer.output].shape
        align = self._plan.align(layer.output)
        heights: list[int] = []
        for count in _COUNTS:
            rows = -(-height // count)
            rows = min(rows + -rows % align, height)
            # A step takes pe_rows cycles, even if it has fewer pixels.
            short = isinstance(layer, Convolution) and rows * width < self._config.pe_rows
            if rows not in heights and (not short or not heights):
                heights.append(rows)
        return [{"tiles": tuple(range(row, min(row + rows, height))
                                for row in range(0, height, rows))} for rows in heights]

    # Pieces of channels -----------------------------------------------------------------------

    def _chains(self) -> Iterator[list[int]]:
        """Layers that can go through channel blocks in step: vector layers, and what they read."""
        makers = {layer.output: index for index, layer in enumerate(self._graph.layers)}
        chains: dict[int, list[int]] = {}  # by layer; layers of a chain share one
        for index, layer in enumerate(self._graph.layers):
            if isinstance(layer, Concat) or self._plan.layers[index].slabs:
                continue
            chains[index] = chain = [index]
            for name in () if isinstance(layer, Convolution) else layer.inputs:
                before = chains.get(makers.get(name, -1))
                if before is not None and before is not chain:
                    chain[:0] = before
                    chains.update(dict.fromkeys(before, chain))
        for first, chain in chains.items():
            if first == chain[0] and len(chain) > 1:
                yield chain

    def _columns(self, index: int) -> list[_Change]:
        layer, plan = self._graph.layers[index], self._plan.layers[index]
        config = self._config
        blocks = self._mapped.channels[layer.output].blocks(config)
        found: list[tuple[range, ...]] = [plan.chunks]
        if isinstance(layer, Convolution):
            tiles, steps = weight_tiles(config, self._mapped, layer)
            rows = steps * config.weight_tile_rows
            smallest = len(column_chunks(config, layer.name, tiles, rows, share=0))
            for count in _COUNTS:
                if len(plan.chunks) < count <= smallest:
                    found.append(tuple(column_chunks(config, layer.name, tiles, rows,
                                                     least=count)))
        else:
            for count in _COUNTS[1:]:
                if count <= blocks:
                    size = -(-blocks // count)
                    found.append(tuple(range(first, min(first + size, blocks))
                                       for first in range(0, blocks, size)))
        return [{"chunks": chunks, "columns_outer": len(chunks) > 1}
                for chunks in dict.fromkeys(found)]
