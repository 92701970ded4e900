"""QuantizeLinear and DequantizeLinear: where layers begin and end."""

from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper

from weft.errors import ModelError

from .affine import by_channel, channel_axis
from .builder import Builder
from .nodes import BrokenModel, attributes, label, type_name
from .values import (
    Constant,
    Dequantized,
    Host,
    Padded,
    Pending,
    Quantized,
    QuantizedConstant,
    Value,
    View,
    stage_of,
)

__all__ = ["dequantize_linear", "quantize_linear", "renamed"]


def _parameters(builder: Builder, node: onnx.NodeProto, shape: tuple[int, ...] | None) \
        -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point of a Q or DQ node: scalars, or broadcast to ``shape``."""
    scale = builder.array(node.input[1])
    zero = builder.array(node.input[2]) if len(node.input) > 2 and node.input[2] \
        else np.zeros_like(scale, np.int64)
    if scale is None or zero is None:
        raise ModelError(f"{label(node)} must have a constant scale and zero point")
    if scale.dtype != np.float32:
        raise ModelError(f"{label(node)} must have a float32 scale, not {scale.dtype}")
    if zero.size not in (1, scale.size):
        raise ModelError(f"{label(node)} must have as many zero points as scales, which are "
                         f"{scale.size}, not {zero.size}")
    if not (scale.size and np.isfinite(scale).all() and (scale > 0).all()):
        raise BrokenModel(f"{label(node)} must have positive scales, not "
                          f"{scale.min() if scale.size else 'none'}")
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


def _quantized(builder: Builder, node: onnx.NodeProto, name: str, kind: int) -> Quantized:
    """The quantized activation ``name`` with the parameters of a Q or DQ node."""
    if kind not in (TensorProto.INT8, TensorProto.UINT8):
        raise ModelError(f"{label(node)} has {type_name(kind)} values; only int8 and uint8 are "
                         f"supported")
    scale, zero = _parameters(builder, node, None)
    unsigned = kind == TensorProto.UINT8
    return Quantized(name=name, shape=builder.shape(node, name), scale=float(scale),
                     zero_point=int(zero) - 128 * unsigned, unsigned=unsigned)


def _result_type(builder: Builder, node: onnx.NodeProto) -> int:
    given = attributes(node).get("output_dtype", 0)
    if given:
        return int(given)
    zero = builder.array(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    return TensorProto.UINT8 if zero is None else helper.np_dtype_to_tensor_dtype(zero.dtype)


def quantize_linear(builder: Builder, node: onnx.NodeProto) -> Value | None:
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
    target = _quantized(builder, node, node.output[0], kind)
    if isinstance(value, Pending):
        return builder.finish(value, target)
    if isinstance(value, Dequantized) and (value.source.accelerated or value.nodes
                                           or any(value.pads)):
        return _again(builder, value, target)
    if isinstance(value, Host | Dequantized):
        stage = stage_of(value)
        return replace(target, stage=stage + stage % 2)
    return None


def _again(builder: Builder, value: Dequantized, target: Quantized) -> Value:
    """A quantized tensor that is quantized again, with what was done to its values between."""
    same = target.same_quantization(value.source)
    if any(value.pads):
        if not same or value.nodes:
            raise ModelError(f"'{target.name}' pads '{value.source.name}', and must have the scale "
                             f"and zero point that '{value.source.name}' has")
        return Padded(target, value)
    if same and not value.nodes:
        return renamed(value.source, target.name, value.view, value.exclusive)
    if same and value.bounded and value.exclusive and builder.can_clamp(value.source):
        return builder.clamp(value, target)
    axis = channel_axis(builder, value)
    if axis is not None:
        return builder.finish(by_channel(builder, value, axis), target)
    return builder.look_up(value, target)


def renamed(source: Quantized, name: str, view: View, sole: bool) -> Quantized:
    """``source`` through a view, under another name."""
    result = replace(source, name=name, shape=view.shape, sole=sole, placed={})
    if source.accelerated:
        result.layout = source.layout.through(view.inverse(source.shape))
    return result


def dequantize_linear(builder: Builder, node: onnx.NodeProto) -> Value | None:
    name = node.input[0]
    value = builder.value(name)
    if isinstance(value, Constant):
        scale, zero = _parameters(builder, node, value.array.shape)
        return QuantizedConstant(value.array, scale, zero)
    if isinstance(value, Host):
        kind = builder.source.element_type(name)
        if kind not in (TensorProto.INT8, TensorProto.UINT8):
            return None
        value = replace(_quantized(builder, node, name, kind), stage=value.stage)
        builder.remember(name, value)
    held = value.target if isinstance(value, Padded) else value
    if not isinstance(held, Quantized):
        return None
    kind = TensorProto.UINT8 if held.unsigned else TensorProto.INT8
    if not held.same_quantization(_quantized(builder, node, name, kind)):
        raise ModelError(f"{label(node)} must use the scale and zero point that '{name}' was "
                         f"quantized with")
    if isinstance(value, Padded):
        return value.inner
    exclusive = held.sole and builder.uses(name) == 1 and builder.uses(node.output[0]) == 1
    return Dequantized(held, View(held.shape), exclusive=exclusive)
