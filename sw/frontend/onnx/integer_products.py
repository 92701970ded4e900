"""ConvInteger and MatMulInteger: sums of products of integers, as they are."""

from math import prod

import numpy as np
import onnx
from onnx import TensorProto

from weft.errors import ModelError
from weft.frontend.weights import dense_weights
from weft.ir import Sums

from .builder import Builder
from .geometry import Window, of_planes, window
from .nodes import BrokenModel, label
from .values import Constant, Dequantized, Host, Pending, Quantized, Raw, View
from .windows import image, known, like
from .zero_points import middle

__all__ = ["conv_integer", "matmul_integer"]


def _activation(builder: Builder, node: onnx.NodeProto) -> Quantized:
    """The integers that a node reads, whose zero point must be that of the accelerator."""
    if node.output[0] in builder.source.refusals:
        raise builder.source.refusals[node.output[0]]
    name = node.input[0]
    value = builder.value(name)
    if isinstance(value, Host):
        kind = builder.source.element_type(name)
        value = Quantized(name=name, shape=builder.shape(node, name), scale=1.0, zero_point=0,
                          unsigned=kind == TensorProto.UINT8, stage=value.stage)
        builder.remember(name, value)
    if not isinstance(value, Quantized):
        raise ModelError(f"{label(node)} must read int8 or uint8 activations")
    if value.zero_point != 0:
        offset = 128 * value.unsigned
        raise ModelError(f"{label(node)} must read activations that are quantized with the zero "
                         f"point {offset}, not {value.zero_point + offset}")
    return value


def _weights(builder: Builder, node: onnx.NodeProto) -> np.ndarray:
    """Less their zero point, int8."""
    value = builder.value(node.input[1])
    if not isinstance(value, Constant):
        raise ModelError(f"{label(node)} must have constant weights; it multiplies two activations")
    moved = value.array.astype(np.int16) - middle(value.array.dtype)
    return moved.astype(np.int8)


def _sums(builder: Builder, node: onnx.NodeProto, tensor: str, stage: int, weights: np.ndarray,
          geometry: Window, view: View, groups: int = 1) -> Raw:
    """The layer of some weights, int8 [N, C, kernel_h, kernel_w]; ``view`` is what the model's
    tensor sees of [N, out_h, out_w]."""
    name = node.output[0]
    most = 128 * int(np.abs(weights.astype(np.int64)).sum(axis=(1, 2, 3)).max())
    parts = next(parts for parts in (2, 3, 4) if most < 1 << 8 * parts - 1 or parts == 4)
    target = Quantized(name=name, shape=view.shape, scale=1.0, zero_point=-128, unsigned=False,
                       parts=parts)

    def make(name: str, _target: Quantized, _pending: Pending) -> Sums:
        return Sums.of(weights, parts, name=builder.name(node), op=builder.op(node), input=tensor,
                       output=name, strides=geometry.strides, pads=geometry.pads,
                       dilations=geometry.dilations, groups=groups,
                       asked=name not in builder.source.added)

    shape = (len(weights), *geometry.output)
    return Raw(builder.finish(Pending(node=node, stage=stage, shape=shape, view=view, make=make),
                              target))


def conv_integer(builder: Builder, node: onnx.NodeProto) -> Raw:
    """A convolution of any group, dense with zeros between channels of different groups."""
    source = _activation(builder, node)
    read = Dequantized(source, View(source.shape))
    data = image(node, read)
    shape = data.view.shape
    weights = _weights(builder, node)
    given = known(node, "auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    groups = given.get("group", 1)
    weights = weights.reshape((*weights.shape, 1)[:4])
    if weights.ndim != 4 or weights.shape[1] * groups != shape[1] or len(weights) % groups:
        raise BrokenModel(f"{label(node)} must have weights for {shape[1]} input channels in "
                          f"{groups} groups, not of shape {list(weights.shape)}")
    geometry = window(node, of_planes(read.view.shape, given), shape[2:], weights.shape[2:])
    if groups > 1:
        weights = dense_weights(weights, groups)
    tensor, stage = builder.place(node, source, data.view.reshape(shape[1:]))
    return _sums(builder, node, tensor, stage, weights, geometry,
                 like(read, View((1, len(weights), *geometry.output))), groups)


def matmul_integer(builder: Builder, node: onnx.NodeProto) -> Raw:
    """Rows of activations times a matrix: each row is a pixel of a 1x1 convolution."""
    source = _activation(builder, node)
    matrix = _weights(builder, node)
    if matrix.ndim != 2:
        raise ModelError(f"{label(node)} must have weights of two dimensions, not {matrix.ndim}")
    features, filters = matrix.shape
    count = prod(source.shape) // features
    rows = View(source.shape).reshape((count, features))
    tensor, stage = builder.place(node, source,
                                  rows.transpose((1, 0)).reshape((features, count, 1)))
    weights = np.ascontiguousarray(matrix.T).reshape(filters, features, 1, 1)
    order = View((filters, count)).transpose((1, 0))
    return _sums(builder, node, tensor, stage, weights, Window(output=(count, 1)),
                 order.reshape(builder.shape(node, node.output[0])))
