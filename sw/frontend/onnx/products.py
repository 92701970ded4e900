"""Matrix products: of an activation and a constant, or of two activations."""

from math import prod

import numpy as np
import onnx

from weft import reference
from weft.errors import ModelError
from weft.ir import MatMul

from .builder import Builder
from .convolutions import matmul as constant_matmul
from .elementwise import operands
from .nodes import BrokenModel, label
from .values import Constant, Dequantized, Pending, Quantized, QuantizedConstant, Value, View
from .windows import known

__all__ = ["channels_first", "lies_so", "matmul"]


def matmul(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """A fully connected layer, or the products of two tensors: one for each head, that is, for all
    axes but the last two."""
    if _weights(builder, node):
        return constant_matmul(builder, node)
    a, b = operands(builder, node)
    known(node)
    shapes = a.view.shape, b.view.shape
    batches = [[size for size in shape[:-2] if size > 1] for shape in shapes]
    if min(map(len, shapes)) < 2 or batches[0] != batches[1]:
        raise ModelError(f"{label(node)} multiplies shapes {list(shapes[0])} and "
                         f"{list(shapes[1])}; only matrices are supported, and batches of as many "
                         f"on both sides")
    heads, (rows, depth), columns = prod(batches[0]), shapes[0][-2:], shapes[1][-1]
    if shapes[1][-2] != depth:
        raise BrokenModel(f"{label(node)} multiplies shapes {list(shapes[0])} and "
                          f"{list(shapes[1])}")
    first, stage = builder.place(node, a.source, channels_first(a.view, heads, rows, depth))
    second, other, transposed = _second(builder, node, b, (heads, depth, columns))

    def make(name: str, target: Quantized, pending: Pending) -> MatMul:
        scale = reference.multiplier(a.source.scale, np.array(b.source.scale), target.scale)
        if not np.isfinite(scale):
            raise ModelError(f"{label(node)}: product of the input scales / output scale must be "
                             f"finite in float32")
        return MatMul(name=builder.name(node), op=builder.op(node), a=first, b=second, output=name,
                      heads=heads, depth=depth, transposed=transposed, multiplier=scale.item(),
                      clamp=builder.bounds(pending.clip, target))

    made = View((heads, columns, rows)).transpose((0, 2, 1))
    return Pending(node=node, stage=max(stage, other), shape=(heads * columns, rows, 1),
                   view=made.reshape(builder.shape(node, node.output[0])), make=make)


def _weights(builder: Builder, node: onnx.NodeProto) -> bool:
    """Whether a constant is what a fully connected layer reads: a second factor of two
    dimensions. Any other one is a tensor like an activation, if it is quantized as such."""
    first, second = map(builder.value, node.input)
    if isinstance(first, QuantizedConstant) or isinstance(second, QuantizedConstant):
        return isinstance(second, QuantizedConstant) and second.values.ndim <= 2
    return isinstance(first, Constant) or isinstance(second, Constant)


def channels_first(view: View, heads: int, rows: int, columns: int) -> View:
    """The columns of each head as channels, one head behind the other, the rows as pixels."""
    turned = view.reshape((heads, rows, columns)).transpose((0, 2, 1))
    return turned.reshape((heads * columns, rows, 1))


def lies_so(source: Quantized, want: View) -> bool:
    """Whether no word need be moved for a tensor of the accelerator to be in the order ``want``."""
    return source.accelerated and (source.layout.same(want) or source.layout.channels(
        want, source.shape) is not None)


def _second(builder: Builder, node: onnx.NodeProto, operand: Dequantized,
            shape: tuple[int, int, int]) -> tuple[str, int, bool]:
    """The tensor of the second factor, [heads, depth, columns], the stage that makes it, and
    whether its columns are pixels there, and not its channels: it is taken as it lies."""
    heads, depth, columns = shape
    source = operand.source
    straight = channels_first(operand.view, heads, depth, columns)
    turned = operand.view.reshape((heads * depth, columns, 1))
    transposed = lies_so(source, turned) and not lies_so(source, straight)
    tensor, stage = builder.place(node, source, turned if transposed else straight)
    return tensor, stage, transposed
