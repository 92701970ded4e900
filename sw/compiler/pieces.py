"""In what pieces layers are computed that have everything on chip.

Engines overlap by pieces: a layer begins as soon as the first pieces of the one before it are done.
Many small pieces overlap best, few large ones cost least. So some ways to cut all layers are played
through, and then, layer by layer, ways next to the best of them, as long as there is time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from weft import layout
from weft.config import AcceleratorConfig
from weft.ir import Concat, Convolution

from .convolution import column_chunks
from .maps import Mapped
from .plan import LayerPlan, Plan
from .vector import layer_cycles

__all__ = ["cut"]

_COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)  # pieces of a layer that are tried
_GRAINS = (400, 150, 250, 700, float("inf"))  # cycles of a piece, at least, for all alike
_COMMAND_COST = 16  # cycles that a command must be worth: fetched through the port of the loads
_EFFORT = 6000  # commands that are played in all, at most


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ways:
    """Layers that are cut alike: the copies of one for all frames of a batch, or the layers at the
    end of a graph that can be computed channel block by channel block.

    Attributes
    ----------
    plans : :class:`list` of :class:`dict`
        Plans by layer, from the fewest to the most pieces.
    grains : :class:`list` of :class:`float`
        Cycles of a piece, for each of them.
    """

    plans: list[dict[int, LayerPlan]]
    grains: list[float]

    def of_grain(self, grain: float) -> int:
        """The way with the smallest pieces that are no smaller than ``grain``."""
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
            for index, layer in choice.plans[way].items():
                layers[index] = layer
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
        cycles += commands * _COMMAND_COST
        if cycles >= least:
            return False
        best, least = ways, cycles
        return True

    best = tuple(choice.of_grain(_GRAINS[0]) for choice in choices)
    if not choices or sum(len(layer.tiles) for layer in plan.layers) * len(_GRAINS) > _EFFORT:
        return apply(best)
    for grain in _GRAINS:
        if effort < _EFFORT:
            improves(tuple(choice.of_grain(grain) for choice in choices))
    changed = True
    while changed:
        changed = False
        for at, choice in enumerate(choices):
            for step in (1, -1):
                way = best[at] + step
                while 0 <= way < len(choice.plans) and effort < _EFFORT \
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
        tail = self._tail() if frames == 1 else set()
        last: list[int] = []
        for group in groups.values():
            if tail.issuperset(group):
                last += group
                continue
            ways = [self._rows(index) for index in group]
            yield self._together(group, ways)
        if last:
            rows = [self._rows(index)[:1] for index in last]
            yield self._together(last, [
                [*whole, *self._columns(index)] for whole, index in zip(rows, last, strict=True)])

    def _together(self, group: Sequence[int],
                  ways: Sequence[Sequence[LayerPlan]]) -> _Ways:
        most = max(map(len, ways))
        plans = [{index: own[min(way, len(own) - 1)]
                  for index, own in zip(group, ways, strict=True)} for way in range(most)]
        return _Ways(plans=plans, grains=[
            max(self._cycles(index) / (len(plan.tiles) * max(1, len(plan.chunks)))
                for index, plan in way.items()) for way in plans])

    def _cycles(self, index: int) -> float:
        config, layer = self._config, self._graph.layers[index]
        blocks = self._mapped.channels[layer.output].blocks(config)
        if not isinstance(layer, Convolution):
            return layer_cycles(config, self._graph, layer, blocks)
        _, height, width = self._graph.tensors[layer.output].shape
        steps = (layer.weights.shape[2] * layer.weights.shape[3]
                 * self._mapped.channels[layer.input].blocks(config) * self._columns_of(layer))
        return steps * max(height * width, config.pe_rows)

    def _columns_of(self, layer: Convolution) -> int:
        outputs = self._mapped.channels[layer.output]
        return layout.col_tiles(
            self._config, layer.weights.shape[0] if outputs.plain(self._config)
            else outputs.blocks(self._config) * self._config.word_lanes)

    # Pieces of rows ---------------------------------------------------------------------------

    def _rows(self, index: int) -> list[LayerPlan]:
        layer, plan = self._graph.layers[index], self._plan.layers[index]
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
        return [replace(plan, tiles=tuple(range(row, min(row + rows, height))
                                          for row in range(0, height, rows)))
                for rows in heights]

    # Pieces of channels -----------------------------------------------------------------------

    def _tail(self) -> set[int]:
        """Layers whose output only vector layers read that yield one row, such as a global pool,
        or that may themselves be computed block by block."""
        readers: dict[str, list[int]] = {}
        for index, layer in enumerate(self._graph.layers):
            for name in layer.inputs:
                readers.setdefault(name, []).append(index)
        tail: set[int] = set()
        for index in reversed(range(len(self._graph.layers))):
            layer = self._graph.layers[index]
            if isinstance(layer, Concat) or self._plan.layers[index].slabs:
                continue
            after = readers.get(layer.output, [])
            follows = bool(after) and all(
                other in tail and not isinstance(self._graph.layers[other], Convolution)
                for other in after)
            flat = (self._graph.tensors[layer.output].shape[1] == 1
                    and not isinstance(layer, Convolution)
                    and self._graph.tensors[layer.inputs[0]].shape[1] > 1)
            if flat or follows:
                tail.add(index)
        return tail

    def _columns(self, index: int) -> Iterator[LayerPlan]:
        layer, plan = self._graph.layers[index], self._plan.layers[index]
        config = self._config
        blocks = self._mapped.channels[layer.output].blocks(config)
        found: list[tuple[range, ...]] = [plan.chunks]
        if isinstance(layer, Convolution):
            rows = (layer.weights.shape[2] * layer.weights.shape[3] * config.weight_tile_rows
                    * self._mapped.channels[layer.input].blocks(config))
            tiles = self._columns_of(layer)
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
        for chunks in dict.fromkeys(found[1:]):
            yield replace(plan, chunks=chunks, columns_outer=isinstance(layer, Convolution))
