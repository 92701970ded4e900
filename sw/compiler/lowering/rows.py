"""What works on rows of channels, softmax and layer normalization: one command for each head and
tile of rows."""

from math import frexp

import numpy as np

from weft import reference
from weft.compiler.ops import Buffer, Fields, Op, Region, Space
from weft.hw.isa.commands import Opcode
from weft.ir import Normalization, RowLayer, Softmax, layout

from .context import LoweringContext

__all__ = ["lower_normalization", "lower_softmax"]


_NUMBER_BITS = 16       # of numbers whose first bit is set
_EXPONENT_AT = 23       # in a float32


def lower_softmax(context: LoweringContext, index: int, layer: Softmax) -> None:
    """Commands of one layer, its exponentials loaded once."""
    packed = context.once((index, "exponentials"), lambda: layout.pack_exponentials(layer.table))
    table = context.constant(index, "exponentials", Space.ROW_CONSTANT, packed)
    factor, exponent = _number(layer.factor)
    _lower(context, index, layer, Opcode.SOFTMAX, table, {"factor": factor, "exponent": exponent})


def lower_normalization(context: LoweringContext, index: int, layer: Normalization) -> None:
    """Commands of one layer, its constants loaded once."""
    source, target = context.tensor(layer.input), context.tensor(layer.output)
    packed = context.once((index, "normalization"), lambda: layout.pack_normalization(
        reference.normalized_values(source),
        reference.thresholds(target.scale, target.zero_point), layer.scale, layer.shift))
    table = context.constant(index, "values, thresholds, scales and shifts", Space.ROW_CONSTANT,
                             packed)
    length, length_exponent = _number(target.shape[0])
    rate, rate_exponent = _number(1 / target.scale)
    _lower(context, index, layer, Opcode.NORMALIZE, table, {
        "length": length, "length_exponent": length_exponent, "rate": rate,
        "rate_exponent": rate_exponent, "sum_exponent": _bits(source.scale) >> _EXPONENT_AT,
        "epsilon": _bits(layer.epsilon)})


def _lower(context: LoweringContext, index: int, layer: RowLayer, opcode: Opcode, table: Buffer,
           fields: Fields) -> None:
    config = context.config
    target = context.tensor(layer.output)
    length = target.shape[0] // layer.heads
    depth = layout.channel_blocks(config, length)
    for tile in context.tiles(index):
        for head in range(layer.heads):
            if not context.in_turn(range(head, head + 1)):
                continue
            blocks = range(head * depth, (head + 1) * depth)
            source = context.read(index, layer.input, *tile, blocks=blocks)
            view = context.write(index, *tile, blocks=blocks)
            text = layer.name + (f" head {head}" if layer.heads > 1 else "")
            if len(view.rows) != target.shape[1]:
                text += f" rows {view.rows.start}..{view.rows.stop - 1}"
            context.emit(index, Op(
                opcode=opcode, layer=index, text=text,
                fields=fields | {
                    "in_base": source.at(), "in_plane": source.plane,
                    "out_base": view.at(), "out_plane": view.plane,
                    "out_zero": target.zero_point, "pixels": len(view.rows) * view.width,
                    "blocks": depth, "lanes": length - (depth - 1) * config.word_lanes,
                },
                reads=(*source.regions(), Region.whole(table)), writes=view.regions()))
            context.finish(index, view)


def _number(value: float) -> tuple[int, int]:
    """Its first bits, the first one set, and its exponent: a number of 1 is 2**15 and 0."""
    fraction, exponent = frexp(value)
    return int(fraction * (1 << _NUMBER_BITS)), exponent - 1


def _bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32))
