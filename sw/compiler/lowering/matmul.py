"""Products of two tensors: one of them becomes weights on chip, then the matrix engine does what it
always does."""

from functools import partial

import numpy as np

from weft.compiler.ops import Address, Buffer, Op, Region, Space
from weft.compiler.planning.products import head_chunks, head_steps
from weft.errors import CompileError
from weft.hw.isa.commands import Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import MatMul, Tensor, layout

from .context import LoweringContext
from .matrix import load_table, matrix_op, table_of, tile_text
from .view import View

__all__ = ["lower_matmul"]


def lower_matmul(context: LoweringContext, index: int, layer: MatMul) -> None:
    """Commands of a product: for each head and each group of its column tiles, a TURN of the second
    factor, and a MATRIX for each tile of rows."""
    _MatMul(context, index, layer).run()


class _MatMul:
    def __init__(self, context: LoweringContext, index: int, layer: MatMul):
        self._context = context
        self._index = index
        self._layer = layer
        self._columns, self._depth = head_steps(context.config, context.graph, layer)
        self._channels = context.tensor(layer.output).shape[0] // layer.heads
        _prove(context.config, layer, context.tensor(layer.a), context.tensor(layer.b))

    def run(self) -> None:
        context, index, layer = self._context, self._index, self._layer
        tiles = context.tiles(index)
        table = load_table(context, index, layer)
        for head in range(layer.heads):
            if not context.in_turn(range(head, head + 1)):
                continue
            for chunk in head_chunks(context.config, context.graph, layer):
                weights: tuple[Buffer, Buffer] | None = None
                for tile in tiles:
                    source = context.read(index, layer.a, *tile, blocks=range(
                        head * self._depth, (head + 1) * self._depth))
                    weights = weights or context.stays(
                        index, (head, chunk), partial(self._turn, head, chunk, tile))
                    target = context.write(index, *tile, blocks=range(
                        head * self._columns + chunk.start, head * self._columns + chunk.stop))
                    self._multiply(head, chunk, weights, source, target, table)
                    context.finish(index, target)

    def _text(self, head: int, chunk: range) -> str:
        layer = self._layer
        text = layer.name + (f" head {head}" if layer.heads > 1 else "")
        return text if len(chunk) == self._columns else (
            f"{text} columns {chunk.start}..{chunk.stop - 1}")

    def _turn(self, head: int, chunk: range, tile: tuple[range, range]) -> tuple[Buffer, Buffer]:
        """Makes the weights of some column tiles of a head, and their parameters."""
        context, layer, config = self._context, self._layer, self._context.config
        size = config.rows
        first, stop = chunk.start * size, min(chunk.stop * size, self._channels)
        if layer.transposed:
            blocks = range(head * self._depth, (head + 1) * self._depth)
            pixels, offset, lanes = stop - first, first, layer.depth - (self._depth - 1) * size
        else:
            start = head * self._columns
            blocks = range(start + chunk.start, start + chunk.stop)
            pixels, offset, lanes = layer.depth, 0, stop - first - (len(chunk) - 1) * size
        if context.plan(self._index).in_turns:
            part = context.read(self._index, layer.b, *tile, blocks=blocks)
        else:   # of what is loaded, that of all heads
            part = context.read(self._index, layer.b, *tile).part(blocks)
        at = part.offset + offset
        words = Region(part.buffer, at, at + pixels, len(part.blocks), part.plane)

        text = self._text(head, chunk)
        rows = len(chunk) * self._depth * config.weight_tile_rows
        weights = Buffer(name=f"{text} weights", space=Space.WEIGHT, size=rows, layer=layer.name)
        parameters = Buffer(name=f"{text} parameters", space=Space.PARAMETER, layer=layer.name,
                            size=len(chunk) * config.requant_groups)
        zero, input_zero = (context.tensor(name).zero_point for name in (layer.b, layer.a))
        scale = layout.hardware_scale(np.array(layer.multiplier, np.float32))
        context.emit(self._index, Op(
            opcode=Opcode.TURN, layer=self._index, text=f"{text} turn",
            fields={
                "in_base": part.at(offset), "zero": zero, "in_plane": part.plane,
                "input_zero": input_zero, "pixels": pixels, "blocks": len(part.blocks),
                "lanes": lanes, "turned": int(layer.transposed), "weight_base": Address(weights),
                "parameter_base": Address(parameters),
                "bias": layout.product_constant(config, layer.depth, input_zero, zero),
                "scale": int(scale.view(np.uint32)),
            },
            reads=(words,), writes=(Region.whole(weights), Region.whole(parameters))))
        return weights, parameters

    def _multiply(self, head: int, chunk: range, made: tuple[Buffer, Buffer], source: View,
                  target: View, table: Buffer | None) -> None:
        context, layer, config = self._context, self._layer, self._context.config
        weights, parameters = made
        last = min(chunk.stop * config.cols, self._channels) - (chunk.stop - 1) * config.cols
        groups = -(-last // config.requant_lanes)
        entries = (len(chunk) - 1) * config.requant_groups + groups
        context.emit(self._index, matrix_op(
            context, self._index, layer,
            text=self._text(head, chunk) + tile_text(context.plan(self._index), target),
            source=source, target=target, columns=len(chunk), groups=groups,
            weights=Region.whole(weights), parameters=Region(parameters, 0, entries),
            table=table_of(layer, table, 0), weight_zero=context.tensor(layer.b).zero_point))


def _prove(config: AcceleratorConfig, layer: MatMul, a: Tensor, b: Tensor) -> None:
    """Makes sure that no sum can overflow, whatever the tensors hold."""
    def reach(tensor: Tensor) -> int:
        """The largest distance from the zero point."""
        return max(127 - tensor.zero_point, tensor.zero_point + 128)

    # Once the column that corrects is taken off: a times (b - zero), and with the fast inner
    # product b0 * b1 - zero**2 for each pair.
    held = 128 * reach(b) * layer.depth
    if config.fip:
        held += 2 * 128 * 128 * -(-layer.depth // 2)
    for what, most, width in (("accumulator", held, config.accumulator_width),
                              ("int32 sum", reach(a) * reach(b) * layer.depth, 32)):
        if most >= 1 << width - 1:
            raise CompileError(f"Layer {layer.name!r} may reach {most} in its {what}, which holds "
                               f"{-(1 << width - 1)} to {(1 << width - 1) - 1}")
