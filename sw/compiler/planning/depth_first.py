"""How a group of layers is computed depth first: in what tiles, and with what buffers.

Each tensor that a group hands on has a line of rows on chip, and so has each that it reads from
external memory. With room for a second tile in every line, engines work side by side: one on a
tile, the next on what the one before has made of it.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache

from weft.compiler.channel_layout import ChannelLayout
from weft.compiler.timing.engines import COMMAND_OVERHEAD, step_cycles
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Convolution, Depthwise, Pool

from .columns import weight_tiles
from .groups import Group
from .loop_order import layer_cycles, window_loop_order
from .row_flow import Flow, Line, row_flows, shortest_line

__all__ = ["GroupChoice", "GroupPlan", "GroupPlanner"]


_HEIGHTS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32)  # of tiles, that are tried
_DEPTHS = (3, 2, 1)  # tiles of new rows that a line has room for
# Of the work of the engines that are not the busiest, what is done while that one waits: with kept
# rows in the way, two tiles are not enough to keep all of them at work.
_WAITING = {3: 0.0, 2: 0.3, 1: 1.0}


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
        self.best = lru_cache(maxsize=None)(self._best)

    def _best(self, group: Group, outside: frozenset[str],
              available: int) -> tuple[GroupChoice | None, int]:
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
        best: GroupChoice | None = None
        least = 1 << 62
        for choice in self._choices(group, outside):
            least = min(least, choice.words)
            if choice.words <= available and (best is None or choice.cycles < best.cycles):
                best = choice
        return best, least

    def _choices(self, group: Group, outside: frozenset[str]) -> Iterator[GroupChoice]:
        _, out_h, _ = self._graph.tensors[group.output].shape
        align = self._aligns[group.output]
        for height in dict.fromkeys(height + -height % align for height in _HEIGHTS):
            if height >= out_h:
                return
            for depth in _DEPTHS:
                yield self._choice(group, outside, height, depth)

    def _choice(self, group: Group, outside: frozenset[str], height: int,
                depth: int) -> GroupChoice:
        tiles, flows = self._flows(group, height)
        lines = {}
        for name in (*group.inner, *group.inputs):
            if name in group.inner or name in outside:
                line = self._line(flows[name], depth, self._graph.tensors[name].shape[1])
                lines[name] = line, line.rows * self._row_words(name)
        count = (2 if depth > 1 else 1) if group.output in outside else 0
        return GroupChoice(
            cycles=self._estimate(group, height, outside, lines, depth), tiles=tiles, flows=flows,
            lines=lines, output_words=height * self._row_words(group.output), output_count=count)

    @staticmethod
    def _line(flow: Flow, depth: int, height: int) -> Line:
        kept = any(flow.kept(tile) for tile in range(len(flow.new)))
        if not kept:
            depth = min(depth, 2)
        return (Line.of(flow, min(flow.most + (depth - 1) * flow.step, height))
                or shortest_line(flow))

    def _row_words(self, name: str) -> int:
        return (self._laid_out.channels[name].blocks(self._config)
                * self._graph.tensors[name].shape[2])

    def _flows_of(self, group: Group, height: int) -> tuple[tuple[range, ...], dict[str, Flow]]:
        graph = self._graph
        _, out_h, _ = graph.tensors[group.output].shape
        tiles = tuple(range(row, min(row + height, out_h)) for row in range(0, out_h, height))
        layers = [graph.layers[index] for index in group.layers]
        stored = self._stored & set(group.inner)
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
                matrix += columns * steps * sum(step_cycles(config, len(rows) * out_w)
                                                for rows in parts)
            elif isinstance(layer, Depthwise | Pool):
                order = window_loop_order(config, graph, layer, parts[0])
                vector += blocks * order.cycles * out_h / len(parts[0])
            else:
                vector += layer_cycles(config, graph, layer, blocks)
        return matrix, vector, commands

    def _estimate(self, group: Group, height: int, outside: frozenset[str],
                  lines: Mapping[str, tuple[Line, int]], depth: int) -> float:
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
        if group.output in outside:
            store = (graph.tensors[group.output].shape[1] * self._row_words(group.output)
                     * config.word_bytes / beat)
            commands += tiles
        work = (matrix, vector, load, store)
        waiting = (sum(work) - max(work)) * _WAITING[depth]
        # The first tile goes through all engines before all of them are at work.
        fill = (sum(work) - max(work)) / tiles
        return max(work) + waiting + fill + COMMAND_OVERHEAD * commands / 4

    def _constant_bytes(self, group: Group) -> int:
        config = self._config
        found = 0
        for index in group.layers:
            layer = self._graph.layers[index]
            if isinstance(layer, Convolution):
                columns, steps = weight_tiles(config, self._laid_out, layer)
                found += columns * steps * config.weight_tile_rows * config.weight_row_bytes
        return found
