"""Two products and the softmax between them, some rows of a head at a time.

What the heads of attention hand from the first product to the second one grows with the square of
the tokens. It need not be on chip as a whole, nor leave it: the three take turns, head by head and
for some rows of queries in each, and between them is room for two turns. So the softmax of one turn
is computed beside the products of the turns before and behind it. It puts its results where its
values were. Keys and values of a head become weights once, and stay until the head is done.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import lcm

from weft.compiler.channel_layout import ChannelLayout
from weft.compiler.timing.engines import COMMAND_OVERHEAD, step_cycles, turn_cycles
from weft.compiler.timing.transfer import row_cycles
from weft.hw.isa.commands import Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.rows.walk import batch_rows
from weft.ir import MatMul, Softmax

from .groups import Group
from .products import head_steps

__all__ = ["HeadChoice", "HeadGroupPlan", "head_choices"]


_SLOTS = 2      # turns that there is room for


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadChoice:
    """A way to compute such a group.

    Attributes
    ----------
    cycles : :class:`float`
        By an estimate.
    tiles : :class:`tuple` of :class:`range`
        Rows that have their turn together.
    rooms : :class:`dict`
        By tensor that has buffers, their words and how many there are. That of the first tensor
        inside the group is one for all turns, and for both.
    """

    cycles: float
    tiles: tuple[range, ...]
    rooms: dict[str, tuple[int, int]]

    @property
    def words(self) -> int:
        """Words on chip, all together."""
        return sum(words * count for words, count in self.rooms.values())


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadGroupPlan:
    """How such a group is computed.

    Attributes
    ----------
    layers : :class:`range`
        Indices.
    heads : :class:`int`
    tiles : :class:`tuple` of :class:`range`
        Rows that have their turn together.
    inner : :class:`tuple` of :class:`str`
        What the first product and the softmax make.
    address : :class:`int`
        Of their common buffer, in activation memory.
    """

    layers: range
    heads: int
    tiles: tuple[range, ...]
    inner: tuple[str, ...]
    address: int

    @property
    def slots(self) -> int:
        """Turns that there is room for."""
        return _SLOTS


def head_choices(laid_out: ChannelLayout, config: AcceleratorConfig, group: Group,
                 outside: frozenset[str], aligns: Mapping[str, int]) -> Iterator[HeadChoice]:
    """All ways to compute a group by heads, with the tensors ``outside`` of its inputs and its
    output in external memory."""
    graph = laid_out.graph
    first, softmax, second = (graph.layers[index] for index in group.layers)
    assert isinstance(first, MatMul) and isinstance(softmax, Softmax) and isinstance(second, MatMul)
    _, height, width = graph.tensors[group.output].shape
    heads = softmax.heads
    products = [head_steps(config, graph, layer) for layer in (first, second)]
    scores, depth = products[0]
    results, _ = products[1]
    per_beat = config.word_bytes / config.axi_bytes
    moved = {name: laid_out.channels[name].blocks(config) * graph.tensors[name].shape[1]
             * graph.tensors[name].shape[2] for name in (*group.inputs, group.output)}
    turns = heads * sum(turn_cycles(config, {
        "pixels": blocks * config.rows, "blocks": columns, "turned": layer.transposed})
        for layer, (columns, blocks) in zip((first, second), products, strict=True))
    align = lcm(*(aligns[name] for name in (*group.inner, first.a, group.output)))
    for rows in _heights(config, height, width, align):
        tiles = tuple(range(row, min(row + rows, height)) for row in range(0, height, rows))
        pixels = [len(tile) * width for tile in tiles]
        matrix = heads * sum(columns * steps * step_cycles(config, count)
                             for columns, steps in products for count in pixels)
        softmaxes = heads * sum(row_cycles(config, Opcode.SOFTMAX, count, scores)
                                for count in pixels)
        load = softmaxes + turns + per_beat * sum(
            moved[name] for name in group.inputs if name in outside)
        store = per_beat * moved[group.output] if group.output in outside else 0
        rooms = {group.inner[0]: (_SLOTS * scores * rows * width, 1)}
        for name in outside:
            if name == first.a:
                rooms[name] = depth * rows * width, 2
            elif name == group.output:
                rooms[name] = results * rows * width, 2
            else:
                rooms[name] = moved[name] // heads, 1
        work = (float(matrix), load, store)
        count = heads * len(tiles)
        commands = count * (3 + len(outside & {first.a, group.output})) + 2 * heads
        yield HeadChoice(
            cycles=(max(work) + (sum(work) - max(work)) / count
                    + COMMAND_OVERHEAD / 2 * commands), tiles=tiles, rooms=rooms)


def _heights(config: AcceleratorConfig, height: int, width: int, align: int) -> list[int]:
    """Rows of a turn that are tried: parts of about one size, and those that fill the batches of a
    softmax."""
    parts = {-(-height // count) for count in range(1, height + 1)}
    batch = batch_rows(config)
    full = {rows for rows in range(1, height + 1) if rows * width % batch == 0}
    return sorted({min(rows + -rows % align, height) for rows in parts | full})
