"""The table of operators: what each makes of what is known of its inputs.

A handler takes the builder and a node and returns what is known of the node's output, a tuple with
one value for each output if they differ, or :py:`None` for an operator that it leaves to the host;
where it can tell why, it raises a ModelError instead. A new layer is a new entry here that returns
a :class:`~weft.frontend.onnx.values.Pending`.
"""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import onnx

from weft.errors import ModelError

from . import (
    affine,
    channels,
    convolutions,
    depth,
    elementwise,
    integer_products,
    joins,
    planes,
    pools,
    prelu,
    products,
    quantizers,
    rows,
    transposed,
)
from .builder import Builder
from .nodes import attributes, label
from .values import Dequantized, Pending, Quantized, QuantizedConstant, Value, View

__all__ = ["HANDLERS", "OF_CONSTANTS", "OF_HOST", "VIEWS", "unsupported"]


Handler = Callable[[Builder, onnx.NodeProto], Value | tuple[Value, ...] | None]


def unsupported(node: onnx.NodeProto) -> ModelError:
    """The error for an operator that the accelerator lacks."""
    return ModelError(f"{label(node)} is not supported on the accelerator")


def _view(change: Callable[[Builder, onnx.NodeProto, Any], Any]) -> Handler:
    """A handler for an operator that only moves elements; ``change`` does it to a view or array."""
    def handler(builder: Builder, node: onnx.NodeProto) -> Value | None:
        value = builder.value(node.input[0])
        if isinstance(value, QuantizedConstant):
            moved: QuantizedConstant = change(builder, node, value)
            return moved
        if isinstance(value, Dequantized):
            elementwise.plain(node, value)
            nodes = (*value.nodes, node) if value.nodes else ()
            return replace(value, view=change(builder, node, value.view), nodes=nodes,
                           exclusive=value.exclusive and builder.uses(node.output[0]) == 1)
        if isinstance(value, Pending):
            # A bias may follow its layer, but not behind a view.
            sums = value.filter and replace(value.filter, channel_axis=None)
            return replace(value, view=change(builder, node, value.view), filter=sums)
        if isinstance(value, Quantized):
            sole = value.sole and builder.uses(value.name) == 1
            return quantizers.renamed(value, node.output[0],
                                      change(builder, node, View(value.shape)), sole)
        return None
    return handler


def _reshaped(builder: Builder, node: onnx.NodeProto, value: Any) -> Any:
    shape = builder.shape(node, node.output[0])
    if prod(shape) != prod(value.shape):
        raise ModelError(f"{label(node)} must give {prod(value.shape)} values, as it reads, "
                         f"not {'x'.join(map(str, shape))}")
    return value.reshape(shape)


def _transposed(builder: Builder, node: onnx.NodeProto, value: Any) -> Any:
    rank = len(builder.shape(node, node.input[0]))
    return value.transpose(tuple(attributes(node).get("perm", range(rank)[::-1])))


def _same(builder: Builder, node: onnx.NodeProto, value: Any) -> Any:
    if len(list(filter(None, node.output))) > 1:
        raise ModelError(f"{label(node)} has a second output, which is not supported")
    return value


VIEWS: dict[str, Handler] = {
    "Dropout": _view(_same),
    "Flatten": _view(_reshaped),
    "Identity": _view(_same),
    "Reshape": _view(_reshaped),
    "Squeeze": _view(_reshaped),
    "Transpose": _view(_transposed),
    "Unsqueeze": _view(_reshaped),
}
"""Operators that only move elements."""

HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(elementwise.UNARY, elementwise.unary),
    **VIEWS,
    "Add": elementwise.add,
    "AveragePool": pools.average_pool,
    "BatchNormalization": affine.batch_normalization,
    "Clip": elementwise.clip,
    "Concat": joins.concat,
    "Conv": convolutions.conv,
    "ConvInteger": integer_products.conv_integer,
    "ConvTranspose": transposed.conv_transpose,
    "DepthToSpace": depth.depth_to_space,
    "DequantizeLinear": quantizers.dequantize_linear,
    "Gather": channels.gather,
    "Gemm": convolutions.gemm,
    "GlobalAveragePool": pools.global_average_pool,
    "GlobalMaxPool": pools.global_max_pool,
    "LayerNormalization": rows.layer_normalization,
    "MatMul": products.matmul,
    "MatMulInteger": integer_products.matmul_integer,
    "MaxPool": pools.max_pool,
    "Mul": elementwise.multiply,
    "PRelu": prelu.prelu,
    "Pad": planes.pad,
    "QuantizeLinear": quantizers.quantize_linear,
    "ReduceMax": pools.reduce_max,
    "ReduceMean": pools.reduce_mean,
    "Relu": elementwise.relu,
    "Resize": planes.resize,
    "Slice": channels.cut,
    "Softmax": rows.softmax,
    "Split": channels.split,
}
"""What is understood of each operator between quantized layers."""

OF_CONSTANTS = frozenset({"DequantizeLinear", "QuantizeLinear", *VIEWS})
"""Operators whose handlers also take constants."""

OF_HOST = frozenset({"ConvInteger", "DequantizeLinear", "MatMulInteger", "QuantizeLinear"})
"""Operators whose handlers also take what the host makes."""
