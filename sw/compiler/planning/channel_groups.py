"""A convolution and the depthwise one that reads it, some channels at a time.

Channels of a depthwise convolution do not meet. So what a convolution hands to one need not be on
chip as a whole: where the planes are small and the channels many, the two take turns, each time for
a chunk of channel blocks, and between them are buffers for a few chunks. No row is computed twice
and none is moved, and weights are loaded when their chunk has its turn.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from weft.compiler.channel_layout import ChannelLayout
from weft.compiler.timing.engines import COMMAND_OVERHEAD, step_cycles
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.vector_rules import window_groups
from weft.ir import Convolution, Depthwise

from .columns import weight_tiles
from .groups import Group
from .loop_order import window_loop_order

__all__ = ["ChannelChoice", "ChannelGroupPlan", "channel_choices"]


_SIZES = (1, 2, 3, 4, 6, 8, 12, 16)     # channel blocks of a chunk, that are tried
_SLOTS = 2                              # chunks that are on chip: one is made, one is read


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelChoice:
    """A way to compute such a group.

    Attributes
    ----------
    cycles : :class:`float`
        By an estimate.
    chunks : :class:`tuple` of :class:`range`
        Channel blocks that have their turn together.
    rooms : :class:`dict`
        By tensor that has a buffer, its words and how many there are: one for what is inside, or
        loaded; two for an output that is stored.
    """

    cycles: float
    chunks: tuple[range, ...]
    rooms: dict[str, tuple[int, int]]

    @property
    def words(self) -> int:
        """Words on chip, all together."""
        return sum(words * count for words, count in self.rooms.values())


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelGroupPlan:
    """How such a group is computed.

    Attributes
    ----------
    layers : :class:`range`
        Indices.
    chunks : :class:`tuple` of :class:`range`
        Channel blocks that have their turn together.
    inner : :class:`str`
        What the convolution makes.
    addresses : :class:`dict`
        Of the buffers, in activation memory: for the inner tensor, and for an input that is loaded.
    """

    layers: range
    chunks: tuple[range, ...]
    inner: str
    addresses: dict[str, int]

    @property
    def slots(self) -> int:
        """Chunks of the inner tensor that there is room for."""
        return _SLOTS


def channel_choices(laid_out: ChannelLayout, config: AcceleratorConfig, group: Group,
                    outside: frozenset[str]) -> Iterator[ChannelChoice]:
    """All ways to compute a group by channels, with the tensors ``outside`` of its input and its
    output in external memory."""
    graph = laid_out.graph
    conv, window = (graph.layers[index] for index in group.layers)
    assert isinstance(conv, Convolution) and isinstance(window, Depthwise)
    name, = group.inner
    source, = group.inputs
    _, height, width = graph.tensors[name].shape
    _, out_h, out_w = graph.tensors[group.output].shape
    columns, steps = weight_tiles(config, laid_out, conv)
    order = window_loop_order(config, graph, window)
    kernel_h, kernel_w = window.weights.shape[1:]
    kernel = (kernel_w, kernel_h) if order.transposed else (kernel_h, kernel_w)
    weight_rows = steps * config.weight_tile_rows
    # What constants of a channel block take of each memory.
    needs = ((weight_rows, config.weight_depth),
             (config.requant_groups, config.parameter_depth),
             (len(window_groups(config, kernel, lines=order.lines)), config.vector_entries),
             (config.vector_groups, config.vector_parameter_depth))
    per_beat = config.word_bytes / config.axi_bytes
    source_words = (laid_out.channels[source].blocks(config)
                    * prod(graph.tensors[source].shape[1:]))
    matrix = columns * max(steps * step_cycles(config, height * width),
                           height * width * config.requant_groups)
    vector = columns * order.cycles
    load = (columns * weight_rows * config.weight_row_bytes / config.axi_bytes
            + (source_words * per_beat if source in outside else 0))
    store = columns * out_h * out_w * per_beat if group.output in outside else 0
    for size in _SIZES:
        # Constants of the next chunk are loaded beside those of this one.
        if size >= columns or any(2 * size * each > depth for each, depth in needs):
            return
        chunks = tuple(range(first, min(first + size, columns))
                       for first in range(0, columns, size))
        rooms = {name: (_SLOTS * size * height * width, 1)}
        if source in outside:
            rooms[source] = source_words, 1
        if group.output in outside:
            rooms[group.output] = size * out_h * out_w, 2
        work = (float(matrix), float(vector), load, store)
        commands = len(chunks) * (5 if group.output in outside else 4)
        yield ChannelChoice(
            cycles=(max(work) + (sum(work) - max(work)) / len(chunks)
                    + COMMAND_OVERHEAD / 2 * commands), chunks=chunks, rooms=rooms)
