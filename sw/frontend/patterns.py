"""The table of operators: what each makes of what is known of its inputs.

A handler takes the builder and a node and returns what is known of the node's output, or
:py:`None` to be treated like an operator without a handler. A new layer is a new entry here that
returns a :class:`~weft.frontend.values.Pending`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from weft import reference
from weft.errors import ModelError
from weft.frontend.source import attributes, label, type_name
from weft.frontend.values import (
    Constant,
    Dequantized,
    Geometry,
    Host,
    Opaque,
    Pending,
    Quantized,
    QuantizedConstant,
    Value,
    View,
)

if TYPE_CHECKING:
    from weft.frontend.builder import Builder

__all__ = ["HANDLERS", "LAYERS", "unsupported"]


Handler = Callable[["Builder", onnx.NodeProto], Value | None]

# How far a bias scale may be from input scale x weight scale. Products rounded in different orders
# differ by a few units of 2^-24, scales kept as text by some more; onnxruntime 1.31 adds the
# integers as they are up to 1 % in a Conv, and whatever the scale is in a Gemm.
_BIAS_SCALE_TOLERANCE = 1e-3


def unsupported(node: onnx.NodeProto) -> ModelError:
    """The error for an operator that the accelerator lacks."""
    known = ", ".join("Add of a constant" if op == "Add" else op for op in sorted(HANDLERS))
    return ModelError(f"{label(node)} is not supported between quantized layers; supported are "
                      f"{known}")


# Quantization -------------------------------------------------------------------------------------

def _parameters(builder: "Builder", node: onnx.NodeProto, shape: tuple[int, ...] | None) \
        -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point of a Q or DQ node: scalars, or broadcast to ``shape``."""
    scale = builder.array(node.input[1])
    zero = builder.array(node.input[2]) if len(node.input) > 2 and node.input[2] \
        else np.zeros_like(scale, np.int64)
    if scale is None or zero is None:
        raise ModelError(f"{label(node)} must have a constant scale and zero point")
    if scale.dtype != np.float32:
        raise ModelError(f"{label(node)} must have a float32 scale, not {scale.dtype}")
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise ModelError(f"{label(node)} must have positive scales, not {scale.min()}")
    if scale.size == 1 and zero.size == 1:
        scale, zero = scale.reshape(()), zero.reshape(())
        if shape is None:
            return scale, zero
    elif shape is None:
        raise ModelError(f"{label(node)} has {scale.size} scales; an activation must have one")
    else:
        axis = attributes(node).get("axis", 1)
        if not -len(shape) <= axis < len(shape) or scale.shape != (shape[axis],):
            raise ModelError(f"{label(node)} has {scale.size} scales on axis {axis} of a tensor of "
                             f"shape {list(shape)}")
        across = tuple(-1 if index == axis % len(shape) else 1 for index in range(len(shape)))
        scale, zero = scale.reshape(across), zero.reshape(across)
    return np.broadcast_to(scale, shape), np.broadcast_to(zero, shape)


def _quantized(builder: "Builder", node: onnx.NodeProto, name: str, kind: int) -> Quantized:
    """The quantized activation ``name`` with the parameters of a Q or DQ node."""
    if kind not in (TensorProto.INT8, TensorProto.UINT8):
        raise ModelError(f"{label(node)} has {type_name(kind)} values; only int8 and uint8 are "
                         f"supported")
    scale, zero = _parameters(builder, node, None)
    unsigned = kind == TensorProto.UINT8
    return Quantized(name=name, shape=builder.shape(node, name), scale=float(scale),
                     zero_point=int(zero) - 128 * unsigned, unsigned=unsigned)


def _result_type(builder: "Builder", node: onnx.NodeProto) -> int:
    given = attributes(node).get("output_dtype", 0)
    if given:
        return int(given)
    zero = builder.array(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    return TensorProto.UINT8 if zero is None else helper.np_dtype_to_tensor_dtype(zero.dtype)


def _quantize_linear(builder: "Builder", node: onnx.NodeProto) -> Value | None:
    value = builder.value(node.input[0])
    kind = _result_type(builder, node)
    if isinstance(value, Constant | QuantizedConstant):
        array = builder.array(node.input[0])
        assert array is not None
        scale, zero = _parameters(builder, node, array.shape)
        info = np.iinfo(helper.tensor_dtype_to_np_dtype(kind))
        ratio = np.clip(array.astype(np.float32) / scale, info.min - zero.astype(np.int64),
                        info.max - zero.astype(np.int64))
        return Constant((np.rint(ratio) + zero).astype(info.dtype))
    if isinstance(value, Opaque):
        if value.layer:
            raise value.reason
        return value
    target = _quantized(builder, node, node.output[0], kind)
    if isinstance(value, Pending):
        return builder.finish(value, target)
    if isinstance(value, Dequantized) and value.source.accelerated:
        return _requantized(builder, node, value, target)
    if isinstance(value, Host | Dequantized):
        return target
    return None


def _requantized(builder: "Builder", node: onnx.NodeProto, value: Dequantized,
                 target: Quantized) -> Value:
    """A quantized tensor that is quantized again, with at most views and bounds between."""
    through = value.clip.node or f"'{value.source.name}'"
    if not target.same_quantization(value.source):
        return Opaque(ModelError(
            f"{label(node)} gives the output of {through} another scale or zero point than its "
            f"input '{value.source.name}' has, which is not supported"))
    if not value.clip.active:
        return _renamed(value.source, target.name, value.view, value.exclusive)
    if not value.exclusive:
        return Opaque(ModelError(
            f"{value.clip.node} cannot be folded into the layer before it: '{value.source.name}' "
            f"has other readers"))
    return builder.clamp(value, target)


def _renamed(source: Quantized, name: str, view: View, sole: bool) -> Quantized:
    """``source`` through a view, under another name."""
    result = replace(source, name=name, shape=view.shape, sole=sole, placed={})
    if source.accelerated:
        result.layout = source.layout.through(view.inverse(source.shape))
    return result


def _dequantize_linear(builder: "Builder", node: onnx.NodeProto) -> Value | None:
    name = node.input[0]
    value = builder.value(name)
    if isinstance(value, Opaque):
        return value
    if isinstance(value, Constant):
        scale, zero = _parameters(builder, node, value.array.shape)
        return QuantizedConstant(value.array, scale, zero)
    if isinstance(value, Host):
        kind = builder.source.element_type(name)
        if kind not in (TensorProto.INT8, TensorProto.UINT8):
            return None
        value = _quantized(builder, node, name, kind)
        builder.remember(name, value)
    if not isinstance(value, Quantized):
        return None
    kind = TensorProto.UINT8 if value.unsigned else TensorProto.INT8
    if not value.same_quantization(_quantized(builder, node, name, kind)):
        raise ModelError(f"{label(node)} must use the scale and zero point that '{name}' was "
                         f"quantized with")
    exclusive = value.sole and builder.uses(name) == 1 and builder.uses(node.output[0]) == 1
    return Dequantized(value, View(value.shape), exclusive=exclusive)


# Views and bounds ---------------------------------------------------------------------------------

def _view(change: Callable[["Builder", onnx.NodeProto, Any], Any]) -> Handler:
    """A handler for an operator that only moves elements; ``change`` does it to a view or array."""
    def handler(builder: "Builder", node: onnx.NodeProto) -> Value | None:
        value = builder.value(node.input[0])
        if isinstance(value, QuantizedConstant):
            moved: QuantizedConstant = change(builder, node, value)
            return moved
        if isinstance(value, Dequantized):
            return replace(value, view=change(builder, node, value.view),
                           exclusive=value.exclusive and builder.uses(node.output[0]) == 1)
        if isinstance(value, Pending):
            return replace(value, view=change(builder, node, value.view), channel_axis=None)
        if isinstance(value, Quantized):
            sole = value.sole and builder.uses(value.name) == 1
            return _renamed(value, node.output[0],
                            change(builder, node, View(value.shape)), sole)
        return None
    return handler


def _reshaped(builder: "Builder", node: onnx.NodeProto, value: Any) -> Any:
    return value.reshape(builder.shape(node, node.output[0]))


def _transposed(builder: "Builder", node: onnx.NodeProto, value: Any) -> Any:
    rank = len(builder.shape(node, node.input[0]))
    return value.transpose(tuple(attributes(node).get("perm", range(rank)[::-1])))


def _bounded(builder: "Builder", node: onnx.NodeProto, low: float, high: float) -> Value | None:
    value = builder.value(node.input[0])
    if isinstance(value, Pending):
        return replace(value, clip=value.clip.within(low, high, label(node)))
    if isinstance(value, Dequantized):
        return replace(value, clip=value.clip.within(low, high, label(node)),
                       exclusive=value.exclusive and builder.uses(node.output[0]) == 1)
    return None


def _relu(builder: "Builder", node: onnx.NodeProto) -> Value | None:
    return _bounded(builder, node, 0.0, np.inf)


def _clip(builder: "Builder", node: onnx.NodeProto) -> Value | None:
    given = attributes(node)
    bounds = [given.get("min", -np.inf), given.get("max", np.inf)]
    for index, name in enumerate(node.input[1:3]):
        if name:
            bound = builder.array(name)
            if bound is None:
                return None if isinstance(builder.value(node.input[0]), Host) else Opaque(
                    ModelError(f"{label(node)} must have constant bounds"))
            bounds[index] = float(bound.reshape(()))
    return _bounded(builder, node, *bounds)


# Layers -------------------------------------------------------------------------------------------

def _data(builder: "Builder", node: onnx.NodeProto) -> Dequantized | Host:
    """The activation that a layer reads, if it is one."""
    value = builder.value(node.input[0])
    if isinstance(value, Dequantized):
        if value.clip.active:
            raise ModelError(f"{label(node)} reads the output of {value.clip.node}, which must "
                             f"have a QuantizeLinear after it")
        return value
    if isinstance(value, Host):
        return value
    if isinstance(value, Pending):
        raise ModelError(f"{label(node)} reads the output of {label(value.node)}, which must have "
                         f"a QuantizeLinear after it")
    raise ModelError(f"{label(node)} must read an activation, not a constant")


def _weights(builder: "Builder", node: onnx.NodeProto, *, first: int) \
        -> tuple[np.ndarray, np.ndarray, QuantizedConstant]:
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
    return integers.astype(np.int8), scales[:, 0].astype(np.float32), value


def _bias(builder: "Builder", node: onnx.NodeProto, name: str, axis: int, source: Quantized,
          weight_scale: np.ndarray) -> np.ndarray:
    """int32 [N] bias from a tensor that broadcasts against an output with channels on ``axis``,
    counted from the end."""
    count = len(weight_scale)
    value = builder.value(name)
    if isinstance(value, Constant):
        raise ModelError(f"{label(node)} has a {value.array.dtype} bias; it must be int32 behind a "
                         f"DequantizeLinear of scale input scale x weight scale")
    if not isinstance(value, QuantizedConstant):
        raise ModelError(f"{label(node)} must have a constant bias")
    if value.values.dtype != np.int32 or value.zero_point.any():
        kind = value.values.dtype if value.values.dtype != np.int32 \
            else f"int32 of zero point {value.zero_point.reshape(-1)[0]}"
        raise ModelError(f"{label(node)} must have an int32 bias of zero point 0, not {kind}")
    shape = value.values.shape
    if value.values.size != 1 and (
            axis > len(shape) or value.values.size != count or shape[-axis] != count):
        raise ModelError(f"{label(node)} must have a bias of {count} values, one for each output "
                         f"channel, not of shape {list(shape)}")
    bias = np.broadcast_to(value.values.reshape(-1), (count,)).astype(np.int32)
    scale = np.broadcast_to(value.scale.reshape(-1), (count,))
    expected = np.float32(source.scale) * weight_scale
    # Where the scales disagree, the integers cannot be added: the model means other numbers.
    wrong = np.flatnonzero((np.abs(scale - expected) > _BIAS_SCALE_TOLERANCE * expected)
                           & (bias != 0))
    if wrong.size:
        raise ModelError(f"{label(node)} must have a bias of scale {expected[wrong[0]]:.6g} (input "
                         f"scale x weight scale) in channel {wrong[0]}, not {scale[wrong[0]]:.6g}")
    return bias


def _known(node: onnx.NodeProto, *names: str) -> dict[str, Any]:
    """Attributes of a node; an error if one is not among ``names``."""
    given = attributes(node)
    for name in given:
        if name not in names:
            raise ModelError(f"{label(node)} has the attribute {name}, which is not supported")
    return given


def _conv_geometry(node: onnx.NodeProto, size: tuple[int, ...], kernel: tuple[int, ...]) \
        -> Geometry:
    given = _known(node, "auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    if given.get("group", 1) != 1:
        raise ModelError(f"{label(node)} has group {given['group']}; only group 1 is supported")
    if tuple(given.get("kernel_shape", kernel)) != kernel:
        raise ModelError(f"{label(node)} has kernel_shape {given['kernel_shape']}, but its weights "
                         f"are {'x'.join(map(str, kernel))}")
    strides = tuple(given.get("strides", (1, 1)))
    dilations = tuple(given.get("dilations", (1, 1)))
    pads = tuple(given.get("pads", (0, 0, 0, 0)))
    for name, values, low in (("strides", strides, 1), ("dilations", dilations, 1),
                              ("pads", pads, 0)):
        if len(values) != (4 if name == "pads" else 2) or min(values) < low:
            raise ModelError(f"{label(node)} must have {name} of at least {low}, "
                             f"not {list(values)}")
    auto_pad = given.get("auto_pad", "NOTSET")
    if auto_pad == "VALID":
        pads = (0, 0, 0, 0)
    elif auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        totals = [max((-(-length // stride) - 1) * stride + (taps - 1) * dilation + 1 - length, 0)
                  for length, stride, taps, dilation
                  in zip(size, strides, kernel, dilations, strict=True)]
        smaller, larger = [total // 2 for total in totals], [-(-total // 2) for total in totals]
        before, after = (smaller, larger) if auto_pad == "SAME_UPPER" else (larger, smaller)
        pads = (before[0], before[1], after[0], after[1])
    elif auto_pad != "NOTSET":
        raise ModelError(f"{label(node)} must have auto_pad NOTSET, SAME_UPPER, SAME_LOWER or "
                         f"VALID, not {auto_pad}")
    top, left, bottom, right = pads
    return Geometry(strides=(strides[0], strides[1]), pads=(top, left, bottom, right),
                    dilations=(dilations[0], dilations[1]))


def _conv(builder: "Builder", node: onnx.NodeProto) -> Value | None:
    data = _data(builder, node)
    if isinstance(data, Host):
        return data
    shape = data.view.shape
    if len(shape) != 4:
        raise ModelError(f"{label(node)} is a {len(shape) - 2}-D convolution; only 2-D is "
                         f"supported")
    if shape[0] != 1:
        raise ModelError(f"{label(node)} has a batch of {shape[0]}; only a batch of 1 is supported")
    weights, weight_scale, _ = _weights(builder, node, first=0)
    geometry = _conv_geometry(node, shape[2:], weights.shape[2:])
    if weights.shape[1] != shape[1]:
        raise ModelError(f"{label(node)} has weights for {weights.shape[1]} input channels, but "
                         f"its input has {shape[1]}")
    out_h, out_w = (
        reference.output_size(shape[2 + axis], weights.shape[2 + axis], geometry.strides[axis],
                              geometry.pads[axis], geometry.pads[2 + axis],
                              geometry.dilations[axis]) for axis in (0, 1))
    if out_h < 1 or out_w < 1:
        raise ModelError(f"{label(node)} has a kernel that does not fit into its padded input of "
                         f"shape {list(shape)}")
    has_bias = len(node.input) > 2 and bool(node.input[2])
    bias = _bias(builder, node, node.input[2], 1, data.source, weight_scale) if has_bias \
        else np.zeros(len(weights), np.int32)
    tensor = builder.place(node, data.source, data.view.reshape(shape[1:]))
    output = (len(weights), out_h, out_w)
    return Pending(node=node, input=tensor, source=data.source, weights=weights,
                   weight_scale=weight_scale, bias=bias, has_bias=has_bias, geometry=geometry,
                   shape=output, view=View((1, *output)), channel_axis=1)


def _gemm(builder: "Builder", node: onnx.NodeProto) -> Value | None:
    data = _data(builder, node)
    if isinstance(data, Host):
        return data
    given = _known(node, "alpha", "beta", "transA", "transB")
    for name in ("alpha", "beta"):
        if given.get(name, 1.0) != 1.0:
            raise ModelError(f"{label(node)} has {name} {given[name]:g}; only 1 is supported")
    view = data.view.transpose((1, 0)) if given.get("transA", 0) else data.view
    return _matrix(builder, node, data, view, axis=0 if given.get("transB", 0) else 1)


def _matmul(builder: "Builder", node: onnx.NodeProto) -> Value | None:
    if isinstance(builder.value(node.input[0]), QuantizedConstant | Constant):
        raise ModelError(f"{label(node)} must have its constant as the second input")
    data = _data(builder, node)
    if isinstance(data, Host):
        return data
    _known(node)
    view = data.view if len(data.view.shape) > 1 else data.view.reshape((1, *data.view.shape))
    return _matrix(builder, node, data, view, axis=1)


def _matrix(builder: "Builder", node: onnx.NodeProto, data: Dequantized, view: View,
            axis: int) -> Pending:
    """Rows of ``view`` times weights with output channels on ``axis``."""
    constant = builder.value(node.input[1])
    if isinstance(constant, QuantizedConstant) and constant.values.ndim != 2:
        raise ModelError(f"{label(node)} must have weights of two dimensions, "
                         f"not {constant.values.ndim}")
    matrix, weight_scale, _ = _weights(builder, node, first=axis)
    filters, features = matrix.shape
    rows = view.reshape((-1, features) if view.indices is not None
                        else (int(np.prod(view.shape)) // features, features))
    count = len(rows.array()) if rows.indices is not None else rows.shape[0]
    has_bias = len(node.input) > 2 and bool(node.input[2])
    bias = _bias(builder, node, node.input[2], 1, data.source, weight_scale) if has_bias \
        else np.zeros(filters, np.int32)

    result: tuple[int, int, int]
    if count == 1:
        tensor, weights = _cover(builder, node, data, rows, matrix)
        result, order = (filters, 1, 1), View((filters,))
    else:
        # Several rows are pixels of a 1x1 convolution, channels last in the ONNX tensor.
        layout = data.source.layout
        plane = layout.shape[1:] if data.source.accelerated and layout.shape[0] == features \
            else (count, 1)
        tensor = builder.place(node, data.source,
                               rows.transpose((1, 0)).reshape((features, *plane)))
        weights = matrix.reshape(filters, features, 1, 1)
        result = (filters, plane[0], plane[1])
        order = View((filters, count)).transpose((1, 0))
    shape = builder.shape(node, node.output[0])
    return Pending(node=node, input=tensor, source=data.source, weights=weights,
                   weight_scale=weight_scale, bias=bias, has_bias=has_bias, geometry=Geometry(),
                   shape=result, view=order.reshape(shape), channel_axis=len(shape) - 1)


def _cover(builder: "Builder", node: onnx.NodeProto, data: Dequantized, rows: View,
           matrix: np.ndarray) -> tuple[str, np.ndarray]:
    """A tensor with all inputs of a fully connected layer, and weights in that tensor's order."""
    filters, features = matrix.shape
    source = data.source
    if source.tensor is not None:
        tensor, layout = source.tensor, source.layout
    elif source.placed:
        tensor, layout = next(iter(source.placed.items()))
    else:
        layout = rows.reshape((features, 1, 1))
        tensor = builder.place(node, source, layout)
    # The feature that each position of the tensor is, by way of the ONNX tensor they share.
    feature = layout.through(rows.inverse(source.shape))
    columns = feature.flat()
    ordered = matrix if columns is None else matrix[:, columns]
    return tensor, np.ascontiguousarray(ordered).reshape(filters, *layout.shape)


def _add(builder: "Builder", node: onnx.NodeProto) -> Value | None:
    """A constant added to a layer that has no bias yet."""
    for layer, constant in (node.input, tuple(node.input)[::-1]):
        value = builder.value(layer)
        if isinstance(value, Pending) and isinstance(builder.value(constant),
                                                     Constant | QuantizedConstant):
            if value.has_bias or value.clip.active or value.channel_axis is None:
                return None
            axis = len(value.view.shape) - value.channel_axis
            try:
                bias = _bias(builder, node, constant, axis, value.source, value.weight_scale)
            except ModelError as error:
                return Opaque(error, layer=True)
            return replace(value, bias=bias, has_bias=True)
    return None


HANDLERS: dict[str, Handler] = {
    "Add": _add,
    "Clip": _clip,
    "Conv": _conv,
    "DequantizeLinear": _dequantize_linear,
    "Flatten": _view(_reshaped),
    "Gemm": _gemm,
    "Identity": _view(lambda builder, node, value: value),
    "MatMul": _matmul,
    "QuantizeLinear": _quantize_linear,
    "Relu": _relu,
    "Reshape": _view(_reshaped),
    "Squeeze": _view(_reshaped),
    "Transpose": _view(_transposed),
    "Unsqueeze": _view(_reshaped),
}
"""What is understood of each operator between quantized layers."""

LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
"""Operators that are never left to the host between quantized layers."""
