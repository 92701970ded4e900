"""How layers that have everything on chip are split into commands.

Engines overlap by commands: a layer begins as soon as the first commands of the one before it are
done. Many short commands overlap best, few long ones cost least. So some splits of all layers are
played through, each for a grain; and then, layer by layer, the splits next to the best of them, as
long as the search may go on.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import lcm
from typing import Any

from weft.compiler.channel_layout import ChannelLayout
from weft.compiler.timing.engines import COMMAND_WORTH, step_cycles
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.rows.walk import batch_rows
from weft.ir import Alias, Concat, Convolution, Layer, MatMul, RowLayer

from .columns import column_chunks, weight_tiles
from .loop_order import layer_cycles
from .placement import MemoryPlan
from .products import row_layer_cycles
from .tiles import LayerPlan

__all__ = ["Grain", "SplitSearch", "split_layers"]


@dataclass(frozen=True, kw_only=True)
class Grain:
    """Cycles of a command, at least, for all layers alike.

    Parameters
    ----------
    matrix, vector : :class:`float`
        Of convolutions, and of all other layers.
    """

    matrix: float
    vector: float


_GRAINS = (
    Grain(matrix=400, vector=150),
    Grain(matrix=250, vector=100),
    Grain(matrix=400, vector=400),
    Grain(matrix=700, vector=250),
    Grain(matrix=150, vector=60),
    Grain(matrix=float("inf"), vector=float("inf")),    # nothing is split
)


@dataclass(frozen=True, kw_only=True)
class SplitSearch:
    """How long to look for the best split.

    A network computes the same whatever the split. A single grain and no effort make compilation
    fast, and let a test choose the split.

    Parameters
    ----------
    grains : :class:`tuple` of :class:`Grain`
        What is tried first; of a large network the first and the last alone.
    effort : :class:`int`
        Commands that are played in all, at most, before the search ends.
    """

    grains: tuple[Grain, ...] = _GRAINS
    effort: int = 10000

    def __post_init__(self) -> None:
        if not self.grains:
            raise ValueError("Search must have at least one grain, not none")


_COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)  # commands of a layer that are tried
_Change = dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Splits:
    """Layers that are split alike: in rows the copies of one for all frames of a batch, in channels
    a convolution and what follows it channel block by channel block.

    Attributes
    ----------
    changes : :class:`list` of :class:`dict`
        For each split, by layer, what changes in its plan: from the fewest to the most commands.
    cycles : :class:`list` of :class:`float`
        For each split, cycles of a command.
    vector : :class:`bool`
        None of the layers is a convolution.
    start : :class:`int` or :py:`None`
        The split to start from, if not that of a grain.
    """

    changes: list[dict[int, _Change]]
    cycles: list[float]
    vector: bool
    start: int | None = None

    def of_grain(self, grain: Grain) -> int:
        """The split with the shortest commands that are no shorter than ``grain``."""
        if self.start is not None:
            return self.start
        least = grain.vector if self.vector else grain.matrix
        return max((number for number, cycles in enumerate(self.cycles) if cycles >= least),
                   default=0)


def split_layers(laid_out: ChannelLayout, config: AcceleratorConfig, plan: MemoryPlan,
                 play: Callable[[MemoryPlan], tuple[float, int]],
                 search: SplitSearch | None = None) -> MemoryPlan:
    """The plan with a split for all layers that it left whole.

    Parameters
    ----------
    plan : :class:`MemoryPlan`
    play : callable
        Gives the estimated cycles of a plan, and the number of commands that it takes.
    search : :class:`SplitSearch`
        How long to look for a better one.
    """
    choices = list(_Splitter(laid_out, config, plan).choices())
    if not choices:
        return plan
    return _Search(plan, choices, play, search or SplitSearch()).run()


class _Search:
    """Looks for the best number of a split for each of ``choices``."""

    def __init__(self, plan: MemoryPlan, choices: Sequence[_Splits],
                 play: Callable[[MemoryPlan], tuple[float, int]], limits: SplitSearch):
        self._plan = plan
        self._choices = choices
        self._play = play
        self._limits = limits
        self._played = 0                            # commands
        self._tried: set[tuple[int, ...]] = set()
        # Plans of layers that are split alike are the same ones, so that they are lowered once.
        self._changed: dict[tuple[LayerPlan, int, int], LayerPlan] = {}
        self._best: tuple[int, ...] = ()
        self._least = float("inf")

    def run(self) -> MemoryPlan:
        grains = self._limits.grains
        commands = sum(len(layer.tiles) * max(1, len(layer.chunks)) for layer in self._plan.layers)
        if commands * len(grains) > self._limits.effort:
            grains = tuple(dict.fromkeys((grains[0], grains[-1])))
        if len(grains) == 1 and not self._limits.effort:    # there is nothing to compare
            return self._apply(tuple(choice.of_grain(grains[0]) for choice in self._choices))
        for grain in grains:
            self._improves(tuple(choice.of_grain(grain) for choice in self._choices))
        changed = True
        while changed:
            changed = False
            for at in range(len(self._choices)):
                changed |= self._climb(at)
        return self._apply(self._best)

    def _climb(self, at: int) -> bool:
        """Goes from the best split to those next to it in one choice, as long as they are better;
        whether any was."""
        found = False
        for step in (1, -1):
            number = self._best[at] + step
            while 0 <= number < len(self._choices[at].changes) \
                    and self._played < self._limits.effort \
                    and self._improves((*self._best[:at], number, *self._best[at + 1:])):
                found = True
                number += step
        return found

    def _improves(self, numbers: tuple[int, ...]) -> bool:
        """Whether these splits, not tried before, are the best so far."""
        if numbers in self._tried:
            return False
        self._tried.add(numbers)
        cycles, commands = self._play(self._apply(numbers))
        self._played += commands
        cycles += commands * COMMAND_WORTH
        if cycles >= self._least:
            return False
        self._best, self._least = numbers, cycles
        return True

    def _apply(self, numbers: Sequence[int]) -> MemoryPlan:
        layers = list(self._plan.layers)
        for at, (choice, number) in enumerate(zip(self._choices, numbers, strict=True)):
            for index, change in choice.changes[number].items():
                key = layers[index], at, number
                if key not in self._changed:
                    self._changed[key] = replace(layers[index], **change)
                layers[index] = self._changed[key]
        return replace(self._plan, layers=tuple(layers))


class _Splitter:
    """Finds what there is to choose."""

    def __init__(self, laid_out: ChannelLayout, config: AcceleratorConfig, plan: MemoryPlan):
        self._laid_out = laid_out
        self._graph = laid_out.graph
        self._config = config
        self._plan = plan

    def choices(self) -> Iterator[_Splits]:
        """All splits of all layers that are not computed in tiles already."""
        graph, frames = self._graph, self._graph.frames
        groups: dict[int, list[int]] = {}
        for index in range(len(graph.layers)):
            if self._free(index):
                groups.setdefault(self._laid_out.origins[index] // frames, []).append(index)
        for group in groups.values():
            yield self._together(group, [self._rows(index) for index in group])
        if frames == 1:
            for chain in self._chains():
                flat = min(self._pixels(index) for index in chain) < 4 * self._config.pe_rows
                least = max(len(self._plan.layers[index].chunks) for index in chain)
                splits = [self._columns(index, max(1, least)) for index in chain]
                # Split rows where there are enough of them.
                yield self._together(chain, splits, start=None if flat else 0)

    def _free(self, index: int) -> bool:
        """Whether a layer may be split: it is computed by itself, with everything on chip, each
        sum in one command."""
        plan = self._plan.layers[index]
        return not (isinstance(self._graph.layers[index], Concat | Alias | MatMul)
                    or plan.tile_buffers
                    or plan.in_turns or plan.depths)

    def _pixels(self, index: int) -> int:
        _, height, width = self._graph.tensors[self._graph.layers[index].output].shape
        return height * width

    def _together(self, group: Sequence[int], splits: Sequence[Sequence[_Change]], *,
                  start: int | None = None) -> _Splits:
        changes = [{index: own[min(number, len(own) - 1)]
                    for index, own in zip(group, splits, strict=True)}
                   for number in range(max(map(len, splits)))]
        vector = not any(isinstance(self._graph.layers[index], Convolution) for index in group)
        return _Splits(changes=changes, start=start, vector=vector, cycles=[
            max(self._cycles(index) / max(1, len(change.get("tiles") or change["chunks"]))
                for index, change in split.items()) for split in changes])

    def _cycles(self, index: int) -> float:
        config, layer = self._config, self._graph.layers[index]
        blocks = self._laid_out.channels[layer.output].blocks(config)
        if isinstance(layer, RowLayer):
            return row_layer_cycles(config, self._graph, layer, self._pixels(index))
        if not isinstance(layer, Convolution):
            return layer_cycles(config, self._graph, layer, blocks)
        _, height, width = self._graph.tensors[layer.output].shape
        columns, steps = weight_tiles(config, self._laid_out, layer)
        return columns * steps * step_cycles(config, height * width)

    # Rows -------------------------------------------------------------------------------------

    def _rows(self, index: int) -> list[_Change]:
        layer = self._graph.layers[index]
        _, height, width = self._graph.tensors[layer.output].shape
        align = self._plan.align(layer.output)
        if isinstance(layer, RowLayer):     # a batch takes as long if it is not full
            align = lcm(align, batch_rows(self._config))
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

    # Channels ---------------------------------------------------------------------------------

    def _chains(self) -> Iterator[list[int]]:
        """Layers that can go through channel blocks in step: vector layers, and what they read."""
        makers = {layer.output: index for index, layer in enumerate(self._graph.layers)}
        chains: dict[int, list[int]] = {}  # by layer; layers of a chain share one
        for index, layer in enumerate(self._graph.layers):
            if not self._free(index) or isinstance(layer, RowLayer):    # a row needs all channels
                continue
            chains[index] = chain = [index]
            for name in () if self._mixes(layer) else layer.inputs:
                before = chains.get(makers.get(name, -1))
                if before is not None and before is not chain:
                    chain[:0] = before
                    chains.update(dict.fromkeys(before, chain))
        for first, chain in chains.items():
            if first == chain[0] and len(chain) > 1:
                yield chain

    def _mixes(self, layer: Layer) -> bool:
        """Whether a layer cannot go through channel blocks in step with what it reads: it mixes
        channels, or has a factor or a summand for each channel, which squeeze-and-excitation makes
        of all of them."""
        return isinstance(layer, Convolution) or (self._graph.tensors[layer.output].shape[1:] != (
            1, 1) and any(self._graph.tensors[name].shape[1:] == (1, 1) for name in layer.inputs))

    def _columns(self, index: int, least: int) -> list[_Change]:
        """Splits of a layer of a chain, of which one is in ``least`` chunks already."""
        layer, plan = self._graph.layers[index], self._plan.layers[index]
        config = self._config
        blocks = self._laid_out.channels[layer.output].blocks(config)
        found: list[tuple[range, ...]] = []
        if isinstance(layer, Convolution):
            found.append(plan.chunks)
            tiles, steps = weight_tiles(config, self._laid_out, layer)
            rows = steps * config.weight_tile_rows
            smallest = len(column_chunks(config, layer.name, tiles, rows, share=0))
            for count in _COUNTS:
                if len(plan.chunks) < count <= smallest:
                    found.append(tuple(column_chunks(config, layer.name, tiles, rows,
                                                     least=count)))
        else:
            least = min(least, blocks)
            for count in (least, *(count for count in _COUNTS if count > least)):
                if count <= blocks:
                    size = -(-blocks // count)
                    found.append(tuple(range(first, min(first + size, blocks))
                                       for first in range(0, blocks, size)))
        return [{"chunks": chunks, "columns_outer": len(chunks) > 1}
                for chunks in dict.fromkeys(found)]
