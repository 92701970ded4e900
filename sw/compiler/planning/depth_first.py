"""How a group of layers is computed depth first: in what tiles, and with what buffers.

Each tensor that a group hands on has a line of rows on chip, and so has each that it reads from
external memory. With room for a second tile in every line, engines work side by side: one on a
tile, the next on what the one before has made of it.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache

from weft.compiler.channel_layout import ChannelLayout
from weft.compiler.timing.engines import COMMAND_OVERHEAD, step_cycles
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Convolution, Depthwise, Pool

from .channel_groups import ChannelChoice, channel_choices
from .columns import weight_tiles
from .groups import Group
from .head_groups import HeadChoice, head_choices
from .loop_order import layer_cycles, window_loop_order
from .row_flow import Flow, Line, row_flows, shortest_line
from .rows import window

__all__ = ["GroupChoice", "GroupPlan", "GroupPlanner"]


_HEIGHTS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32)  # of tiles, that are tried
# Rows of a line, that are tried: so many times those that a tile holds, so many tiles of new ones
# beside, and yet so many where they are loaded, as loads take turns with those of constants. With
# room for two tiles one is computed while the next layer reads the one before it, and with some
# more they need not keep step; with yet more, fewer rows have to be moved.
_DEPTHS = ((2, 1, 2), (2, 0, 2), (1, 1, 2), (1, 0, 0), (4, 0, 2), (8, 0, 2))
# With less of what is loaded, of groups with a side output: they are long, and short of room.
_SIDE_DEPTHS = (_DEPTHS[0], (2, 1, 1), *_DEPTHS[1:])
# Of the work of the engines that are not the busiest, what is done while that one waits.
_WAITING = {(2, 0): 0.15, (1, 1): 0.4, (1, 0): 1.0}
# What is tried later must be better by so much.
_GAIN = 0.995


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupChoice:
    """A way to compute a group.

    Attributes
    ----------
    cycles : :class:`float`
        By an estimate.
    tiles : :class:`tuple` of :class:`range`
        Rows of its output that are computed at a time.
    flows : :class:`dict`
        :class:`Flow` of every tensor.
    lines : :class:`dict`
        :class:`Line` of every tensor that has one, with its words.
    output_words, output_count : :class:`int`
        Of tile buffers for an output in external memory.
    """

    cycles: float
    tiles: tuple[range, ...]
    flows: dict[str, Flow]
    lines: dict[str, tuple[Line, int]]
    output_words: int
    output_count: int

    @property
    def moves(self) -> int:
        """Rows that are moved, in all."""
        return sum(line.moves for line, _ in self.lines.values())

    @property
    def words(self) -> int:
        """Words on chip, all together."""
        return sum(words for _, words in self.lines.values()) \
            + self.output_words * self.output_count


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupPlan:
    """How a group is computed.

    Attributes
    ----------
    layers : :class:`range`
        Indices.
    flows : :class:`dict`
        :class:`Flow` of every tensor that they read or write.
    lines : :class:`dict`
        :class:`Line` of every tensor that is handed on inside, or read from external memory.
    addresses : :class:`dict`
        Of the lines, in activation memory.
    """

    layers: range
    flows: dict[str, Flow]
    lines: dict[str, Line]
    addresses: dict[str, int]


def _line(flow: Flow, depth: tuple[int, int, int], height: int, loaded: bool) -> Line:
    """A line for a tensor of ``height`` rows, which may be loaded."""
    times, more, ahead = depth
    if not any(flow.kept(tile) for tile in range(len(flow.new))):
        times = min(times, 2)
    if loaded:
        more += ahead
    rows = flow.most * times + flow.step * more
    return Line.of(flow, min(rows, height)) or shortest_line(flow)


class GroupPlanner:
    """Finds the best way to compute a group.

    Parameters
    ----------
    laid_out : :class:`ChannelLayout`
    config : :class:`AcceleratorConfig`
    aligns : :class:`dict`
        By tensor, see :meth:`MemoryPlan.align`.
    stored : :class:`set`
        Tensors that leave the chip, whoever reads them.
    """

    def __init__(self, laid_out: ChannelLayout, config: AcceleratorConfig,
                 aligns: Mapping[str, int], stored: AbstractSet[str]):
        self._laid_out = laid_out
        self._graph = laid_out.graph
        self._config = config
        self._aligns = aligns
        self._stored = stored
        self._flows = lru_cache(maxsize=None)(self._flows_of)
        self._engines = lru_cache(maxsize=None)(self._engines_of)
        self._line = lru_cache(maxsize=None)(_line)
        self.best = lru_cache(maxsize=None)(self._best)

    def _best(self, group: Group, outside: frozenset[str],
              available: int) -> tuple[GroupChoice | ChannelChoice | HeadChoice | None, int]:
        """The best way with the tensors ``outside`` in external memory; and the fewest words that
        would do.

        Parameters
        ----------
        group : :class:`Group`
        outside : :class:`set`
            Of its inputs and its output.
        available : :class:`int`
            Words that there are for buffers.
        """
        if group.by_channels or group.by_heads:
            ways: list[ChannelChoice | HeadChoice] = []
            if group.by_heads:
                ways += head_choices(self._laid_out, self._config, group, outside, self._aligns)
            else:
                ways += channel_choices(self._laid_out, self._config, group, outside)
            fitting = [way for way in ways if way.words <= available]
            return (min(fitting, key=lambda way: way.cycles, default=None),
                    min((way.words for way in ways), default=1 << 62))
        best: GroupChoice | None = None
        least = 1 << 62
        for height in self._heights(group):
            fits = False
            for depth in _SIDE_DEPTHS if group.side_outputs else _DEPTHS:
                choice = self._choice(group, outside, height, depth)
                if choice.moves and not self._config.vector:
                    continue    # nothing could move rows
                least = min(least, choice.words)
                if choice.words <= available:
                    fits = True
                    if best is None or choice.cycles < _GAIN * best.cycles:
                        best = choice
            if not fits:
                break   # nor do higher tiles
        return best, least

    def fewest_words(self, group: Group) -> int:
        """A bound that is quickly known: the words of the rows that a single row of each layer
        needs of the tensors inside a group; none of one by channels or heads."""
        found = 0
        if group.by_channels or group.by_heads:
            return found
        for name in (*group.inner, *group.side_outputs):
            height = self._graph.tensors[name].shape[1]
            rows = 1
            for index in group.layers:
                if name in self._graph.layers[index].inputs:
                    shape = window(self._graph.layers[index], 0)
                    rows = max(rows, shape.dilation * (shape.kernel - 1) + 1)
            found += min(rows, height) * self._row_words(name)
        return found

    def _heights(self, group: Group) -> list[int]:
        """Rows of a tile that are tried; there are at least two tiles."""
        _, out_h, _ = self._graph.tensors[group.output].shape
        align = self._aligns[group.output]
        heights = dict.fromkeys(height + -height % align for height in _HEIGHTS)
        return [height for height in heights if height < out_h]

    def _choice(self, group: Group, outside: frozenset[str], height: int,
                depth: tuple[int, int, int]) -> GroupChoice:
        tiles, flows = self._flows(group, height)
        lines = {}
        made = (*group.inner, *group.side_outputs)
        for name in (*made, *group.inputs):
            if name in made or name in outside:
                line = self._line(flows[name], depth, self._graph.tensors[name].shape[1],
                                  name in outside)
                lines[name] = line, line.rows * self._row_words(name)
        count = (1 if depth[:2] == (1, 0) else 2) if group.output in outside else 0
        return GroupChoice(
            cycles=self._estimate(group, height, outside, lines, depth), tiles=tiles, flows=flows,
            lines=lines, output_words=height * self._row_words(group.output), output_count=count)

    def _row_words(self, name: str) -> int:
        return (self._laid_out.channels[name].blocks(self._config)
                * self._graph.tensors[name].shape[2])

    def _flows_of(self, group: Group, height: int) -> tuple[tuple[range, ...], dict[str, Flow]]:
        graph = self._graph
        _, out_h, _ = graph.tensors[group.output].shape
        tiles = tuple(range(row, min(row + height, out_h)) for row in range(0, out_h, height))
        layers = [graph.layers[index] for index in group.layers]
        stored = self._stored & set(group.inner) | set(group.side_outputs)
        return tiles, row_flows(
            layers, {name: tensor.shape[1] for name, tensor in graph.tensors.items()}, tiles,
            {name: self._aligns[name] for name in (*group.inputs, *stored)}, stored)

    # Cycles -----------------------------------------------------------------------------------

    def _engines_of(self, group: Group, height: int) -> tuple[float, float, int]:
        """Cycles of the matrix and of the vector engine, and the number of their commands."""
        config, graph = self._config, self._graph
        _, flows = self._flows(group, height)
        matrix, vector, commands = 0.0, 0.0, 0
        for index in group.layers:
            layer = graph.layers[index]
            parts = [rows for rows in flows[layer.output].new if rows]
            commands += len(parts)
            _, out_h, out_w = graph.tensors[layer.output].shape
            blocks = self._laid_out.channels[layer.output].blocks(config)
            if isinstance(layer, Convolution):
                columns, steps = weight_tiles(config, self._laid_out, layer)
                for rows in parts:
                    pixels = len(rows) * out_w
                    matrix += columns * max(steps * step_cycles(config, pixels),
                                            pixels * config.requant_groups)
            elif isinstance(layer, Depthwise | Pool):
                order = window_loop_order(config, graph, layer, parts[0], blocks=blocks)
                vector += blocks * order.cycles * out_h / len(parts[0])
            else:
                vector += layer_cycles(config, graph, layer, blocks)
        return matrix, vector, commands

    def _estimate(self, group: Group, height: int, outside: frozenset[str],
                  lines: Mapping[str, tuple[Line, int]], depth: tuple[int, int, int]) -> float:
        config, graph = self._config, self._graph
        matrix, vector, commands = self._engines(group, height)
        vector += sum(line.moves * self._row_words(name) for name, (line, _) in lines.items())
        beat = config.axi_bytes
        load = float(self._constant_bytes(group)) / beat
        tiles = -(-graph.tensors[group.output].shape[1] // height)
        for name in group.inputs:
            if name in outside:
                load += (graph.tensors[name].shape[1] * self._row_words(name)
                         * config.word_bytes / beat)
                commands += tiles
        store = 0.0
        for name in (*group.side_outputs, *{group.output} & outside):
            store += graph.tensors[name].shape[1] * self._row_words(name) * config.word_bytes / beat
            commands += tiles
        work = (matrix, vector, load, store)
        waiting = (sum(work) - max(work)) * _WAITING.get(depth[:2], 0.0)
        # The first tile goes through all engines before all of them are at work. Half of what a
        # command takes beside its work is hidden behind another engine's.
        fill = (sum(work) - max(work)) / tiles
        return max(work) + waiting + fill + COMMAND_OVERHEAD / 2 * commands

    def _constant_bytes(self, group: Group) -> int:
        config = self._config
        found = 0
        for index in group.layers:
            layer = self._graph.layers[index]
            if isinstance(layer, Convolution):
                columns, steps = weight_tiles(config, self._laid_out, layer)
                found += columns * steps * config.weight_tile_rows * config.weight_row_bytes
        return found
