"""The softmax of rows of channels: one command for each head and tile of rows."""

from weft.compiler.ops import Op, Region, Space
from weft.hw.isa.commands import Opcode
from weft.ir import Softmax, layout

from .context import LoweringContext

__all__ = ["lower_softmax"]


def lower_softmax(context: LoweringContext, index: int, layer: Softmax) -> None:
    """Commands of one layer, its exponentials loaded once."""
    config = context.config
    target = context.tensor(layer.output)
    length = target.shape[0] // layer.heads
    depth = layout.channel_blocks(config, length)
    lanes = length - (depth - 1) * config.word_lanes
    bits = layer.factor.bit_length()
    table = context.constant(index, "exponentials", Space.ROW_CONSTANT,
                             layout.pack_exponentials(layer.table))
    for tile in context.tiles(index):
        for head in range(layer.heads):
            blocks = range(head * depth, (head + 1) * depth)
            source = context.read(index, layer.input, *tile, blocks=blocks)
            view = context.write(index, *tile, blocks=blocks)
            text = layer.name + (f" head {head}" if layer.heads > 1 else "")
            if len(view.rows) != target.shape[1]:
                text += f" rows {view.rows.start}..{view.rows.stop - 1}"
            context.emit(index, Op(
                opcode=Opcode.SOFTMAX, layer=index, text=text,
                fields={
                    "in_base": source.at(), "in_plane": source.plane,
                    "out_base": view.at(), "out_plane": view.plane,
                    "out_zero": target.zero_point, "pixels": len(view.rows) * view.width,
                    "blocks": depth, "lanes": lanes, "factor": layer.factor << 16 - bits,
                    "exponent": bits - 1,
                },
                reads=(*source.regions(), Region.whole(table)), writes=view.regions()))
            context.finish(index, view)
