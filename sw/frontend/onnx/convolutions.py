"""Convolutions and matrix products: a sum over weights, a bias, one scale per output channel."""

from dataclasses import replace

import numpy as np
import onnx

from weft import reference
from weft.errors import ModelError
from weft.frontend.weights import dense_weights
from weft.ir import NO_PADS, Convolution, Depthwise

from .builder import Builder
from .geometry import Window, of_planes, window
from .nodes import BrokenModel, label
from .values import (
    Constant,
    Dequantized,
    Filter,
    Pending,
    Quantized,
    QuantizedConstant,
    Value,
    View,
)
from .windows import image, known, like, real_input

__all__ = ["add_bias", "conv", "gemm", "matmul", "quantized_bias", "quantized_weights"]


# How far a bias scale may be from input scale x weight scale. Products rounded in different orders
# differ by a few units of 2^-24, scales kept as text by some more; onnxruntime 1.31 adds the
# integers as they are up to 1 % in a Conv, and whatever the scale is in a Gemm.
_BIAS_SCALE_TOLERANCE = 1e-3


# Constants ----------------------------------------------------------------------------------------

def quantized_weights(builder: Builder, node: onnx.NodeProto, *, first: int) \
        -> tuple[np.ndarray, np.ndarray]:
    """int8 weights with the output channel moved from axis ``first`` to the front, and a float32
    scale for each output channel."""
    value = builder.value(node.input[1])
    if isinstance(value, Constant):
        raise ModelError(f"{label(node)} has {value.array.dtype} weights; they must be int8 or "
                         f"uint8 behind a DequantizeLinear")
    if not isinstance(value, QuantizedConstant):
        raise ModelError(f"{label(node)} must have constant weights; it multiplies two activations")
    centre = {np.dtype(np.int8): 0, np.dtype(np.uint8): 128}.get(value.values.dtype)
    if centre is None:
        raise ModelError(f"{label(node)} has {value.values.dtype} weights; only int8 and uint8 are "
                         f"supported")
    wrong = np.asarray(value.zero_point)[value.zero_point != centre]
    if wrong.size:
        raise ModelError(f"{label(node)} must have {value.values.dtype} weights of zero point "
                         f"{centre}, not {wrong[0]}")
    integers = np.moveaxis(value.values, first, 0).astype(np.int16) - centre
    scales = np.moveaxis(value.scale, first, 0).reshape(len(integers), -1)
    if (scales != scales[:, :1]).any():
        raise ModelError(f"{label(node)} has weight scales that vary within an output channel; "
                         f"they must be per tensor or per output channel")
    return integers.astype(np.int8), scales[:, 0].astype(np.float32)


def _bias(builder: Builder, node: onnx.NodeProto, name: str, axis: int, source: Quantized,
          weight_scale: np.ndarray) -> np.ndarray:
    """int32 [N] bias from a tensor that broadcasts against an output with channels on ``axis``,
    counted from the end."""
    count = len(weight_scale)
    value = builder.value(name)
    expected = np.float32(source.scale) * weight_scale
    if isinstance(value, Constant):
        return _float_bias(builder, node, value.array, axis, expected)
    if not isinstance(value, QuantizedConstant):
        raise ModelError(f"{label(node)} must have a constant bias")
    if value.values.dtype != np.int32 or value.zero_point.any():
        kind = value.values.dtype if value.values.dtype != np.int32 \
            else f"int32 of zero point {value.zero_point.reshape(-1)[0]}"
        raise ModelError(f"{label(node)} must have an int32 bias of zero point 0, not {kind}")
    _check_bias_shape(node, value.values.shape, axis, count)
    bias = np.broadcast_to(value.values.reshape(-1), (count,)).astype(np.int32)
    scale = np.broadcast_to(value.scale.reshape(-1), (count,))
    # Where the scales disagree, the integers cannot be added: the model means other numbers.
    wrong = np.flatnonzero((np.abs(scale - expected) > _BIAS_SCALE_TOLERANCE * expected)
                           & (bias != 0))
    if wrong.size:
        raise ModelError(f"{label(node)} must have a bias of scale {expected[wrong[0]]:.6g} (input "
                         f"scale x weight scale) in channel {wrong[0]}, not {scale[wrong[0]]:.6g}")
    return bias


def _float_bias(builder: Builder, node: onnx.NodeProto, values: np.ndarray, axis: int,
                scale: np.ndarray) -> np.ndarray:
    """The int32 bias that onnxruntime, too, makes of a float32 one."""
    # It does so only there; elsewhere it adds what the model says.
    if values.dtype != np.float32 or builder.maker(node.input[0]) != "DequantizeLinear":
        raise ModelError(f"{label(node)} has a {values.dtype} bias; it must be int32 behind a "
                         f"DequantizeLinear of scale input scale x weight scale, or float32 right "
                         f"behind the DequantizeLinear of the input")
    _check_bias_shape(node, values.shape, axis, len(scale))
    ratio = np.rint(values.reshape(-1) / scale)
    wrong = np.flatnonzero(~(np.abs(ratio) < 2.0 ** 31))
    if wrong.size:
        raise ModelError(f"{label(node)} has a bias of {ratio[wrong[0]]:g} x input scale x weight "
                         f"scale in channel {wrong[0]}, which does not fit int32")
    return np.broadcast_to(ratio, scale.shape).astype(np.int32)


def _check_bias_shape(node: onnx.NodeProto, shape: tuple[int, ...], axis: int,
                      count: int) -> None:
    size = int(np.prod(shape))
    if size != 1 and (axis > len(shape) or size != count or shape[-axis] != count):
        raise ModelError(f"{label(node)} must have a bias of {count} values, one for each output "
                         f"channel, not of shape {list(shape)}")


def quantized_bias(builder: Builder, node: onnx.NodeProto, source: Quantized,
                   weight_scale: np.ndarray) -> np.ndarray:
    """int32 [N] bias that is the third input of a node, or zeros."""
    if len(node.input) > 2 and node.input[2]:
        return _bias(builder, node, node.input[2], 1, source, weight_scale)
    return np.zeros(len(weight_scale), np.int32)


# Operators ----------------------------------------------------------------------------------------

def _pending(builder: Builder, node: onnx.NodeProto, data: Dequantized, tensor: str, stage: int,
             weights: np.ndarray, weight_scale: np.ndarray, geometry: Window,
             shape: tuple[int, int, int], view: View, channel_axis: int, *,
             groups: int = 1, depthwise: bool = False) -> Pending:
    """The result of a layer of these weights, [N, C, kernel_h, kernel_w], or without the C."""
    count = len(weights)
    has_bias = len(node.input) > 2 and bool(node.input[2])
    bias = quantized_bias(builder, node, data.source, weight_scale)

    def make(name: str, target: Quantized, pending: Pending) -> Convolution | Depthwise:
        assert pending.filter is not None
        scale = reference.multiplier(data.source.scale, weight_scale, target.scale)
        if not np.isfinite(scale).all():
            raise ModelError(f"{label(node)}: input scale x weight scale / output scale must be "
                             f"finite in float32")
        multiplier = np.broadcast_to(scale, (count,)).copy()
        clamp = builder.bounds(pending.clip, target)
        if depthwise:
            return Depthwise(
                name=builder.name(node), op=builder.op(node), input=tensor, output=name,
                weights=weights, bias=pending.filter.bias, multiplier=multiplier, clamp=clamp,
                strides=geometry.strides, pads=geometry.pads, dilations=geometry.dilations)
        return Convolution(
            name=builder.name(node), op=builder.op(node), input=tensor, output=name,
            weights=weights, bias=pending.filter.bias, multiplier=multiplier, clamp=clamp,
            strides=geometry.strides, pads=geometry.pads, dilations=geometry.dilations,
            groups=groups,
            weight_scale=np.broadcast_to(weight_scale, (count,)).astype(np.float32))

    return Pending(node=node, stage=stage, shape=shape, view=view, make=make,
                   filter=Filter(data.source, weight_scale, bias, has_bias, channel_axis))


def conv(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """A convolution of any group. Groups of one channel and one filter are depthwise; others
    become a dense convolution, with zeros between channels of different groups."""
    read = real_input(builder, node)
    data = image(node, read)
    shape = data.view.shape
    weights, weight_scale = quantized_weights(builder, node, first=0)
    given = known(node, "auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    kernel = weights.shape[2:]
    if tuple(given.get("kernel_shape", kernel)) != kernel:
        raise BrokenModel(f"{label(node)} has kernel_shape {given['kernel_shape']}, but its "
                          f"weights are {'x'.join(map(str, kernel))}")
    groups, channels = given.get("group", 1), shape[1]
    if weights.shape[1] * groups != channels:
        raise BrokenModel(f"{label(node)} has weights for {weights.shape[1] * groups} input "
                          f"channels, but its input has {channels}")
    if len(weights) % groups:
        raise BrokenModel(f"{label(node)} has group {groups}, which does not divide its "
                          f"{len(weights)} filters")
    weights = weights.reshape((*weights.shape, 1)[:4])
    geometry = window(node, of_planes(read.view.shape, given), shape[2:], weights.shape[2:],
                      data.pads)
    depthwise = 1 < groups == channels == len(weights)
    if depthwise:
        weights = np.ascontiguousarray(weights[:, 0])
    elif groups > 1:
        weights = dense_weights(weights, groups)
    tensor, stage = builder.place(node, data.source, data.view.reshape(shape[1:]))
    output = (len(weights), *geometry.output)
    return _pending(builder, node, data, tensor, stage, weights, weight_scale, geometry, output,
                    like(read, View((1, *output))), 1, groups=groups, depthwise=depthwise)


def gemm(builder: Builder, node: onnx.NodeProto) -> Value | None:
    data = _flat(builder, node)
    given = known(node, "alpha", "beta", "transA", "transB")
    for name in ("alpha", "beta"):
        if given.get(name, 1.0) != 1.0:
            raise ModelError(f"{label(node)} has {name} {given[name]:g}; only 1 is supported")
    view = data.view.transpose((1, 0)) if given.get("transA", 0) else data.view
    return _matrix(builder, node, data, view, axis=0 if given.get("transB", 0) else 1)


def matmul(builder: Builder, node: onnx.NodeProto) -> Value | None:
    if isinstance(builder.value(node.input[0]), QuantizedConstant | Constant):
        raise ModelError(f"{label(node)} must have its constant as the second input")
    data = _flat(builder, node)
    known(node)
    view = data.view if len(data.view.shape) > 1 else data.view.reshape((1, *data.view.shape))
    return _matrix(builder, node, data, view, axis=1)


def _flat(builder: Builder, node: onnx.NodeProto) -> Dequantized:
    data = real_input(builder, node)
    if data.pads != NO_PADS:
        raise ModelError(f"{label(node)} reads the output of a Pad; only convolutions and pools do "
                         f"so on the accelerator")
    return data


def _matrix(builder: Builder, node: onnx.NodeProto, data: Dequantized, view: View,
            axis: int) -> Pending:
    """Rows of ``view`` times weights with output channels on ``axis``."""
    constant = builder.value(node.input[1])
    if isinstance(constant, QuantizedConstant) and constant.values.ndim != 2:
        raise ModelError(f"{label(node)} must have weights of two dimensions, "
                         f"not {constant.values.ndim}")
    matrix, weight_scale = quantized_weights(builder, node, first=axis)
    filters, features = matrix.shape
    rows = view.reshape((int(np.prod(view.shape)) // features, features))
    count = rows.shape[0]

    result: tuple[int, int, int]
    if count == 1:
        tensor, stage, weights = _cover(builder, node, data, rows, matrix)
        result, order = (filters, 1, 1), View((filters,))
    else:
        # Several rows are pixels of a 1x1 convolution, channels last in the ONNX tensor.
        layout = data.source.layout
        plane = layout.shape[1:] if data.source.accelerated and layout.shape[0] == features \
            else (count, 1)
        tensor, stage = builder.place(node, data.source,
                                      rows.transpose((1, 0)).reshape((features, *plane)))
        weights = matrix.reshape(filters, features, 1, 1)
        result = (filters, plane[0], plane[1])
        order = View((filters, count)).transpose((1, 0))
    shape = builder.shape(node, node.output[0])
    return _pending(builder, node, data, tensor, stage, weights, weight_scale,
                    Window(output=result[1:]), result, order.reshape(shape), len(shape) - 1)


def _cover(builder: Builder, node: onnx.NodeProto, data: Dequantized, rows: View,
           matrix: np.ndarray) -> tuple[str, int, np.ndarray]:
    """A tensor with all inputs of a fully connected layer, the stage that makes it, and weights in
    that tensor's order."""
    filters, features = matrix.shape
    source = data.source
    tensor, stage, layout = builder.anywhere(source, rows.reshape((features, 1, 1)))
    # The feature that each position of the tensor is, by way of the ONNX tensor they share.
    feature = layout.through(rows.inverse(source.shape))
    columns = feature.flat()
    ordered = matrix if columns is None else matrix[:, columns]
    return tensor, stage, np.ascontiguousarray(ordered).reshape(filters, *layout.shape)


def add_bias(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """A constant added to a layer that has no bias yet; :py:`None` if the node is no such thing."""
    for layer, constant in (node.input, tuple(node.input)[::-1]):
        value = builder.value(layer)
        if isinstance(value, Pending) and isinstance(builder.value(constant),
                                                     Constant | QuantizedConstant):
            sums = value.filter
            if sums is None or sums.has_bias or value.clip.active or sums.channel_axis is None:
                raise ModelError(f"{label(node)} adds a constant to the output of "
                                 f"{label(value.node)}, which takes no bias there")
            axis = len(value.view.shape) - sums.channel_axis
            bias = _bias(builder, node, constant, axis, sums.source, sums.weight_scale)
            return replace(value, filter=replace(sums, bias=bias, has_bias=True))
    return None
