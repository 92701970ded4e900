"""Tables of 256 entries: functions of one quantized value, exact because all inputs are tried."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper

from weft import reference
from weft.errors import ModelError
from weft.reference.golden import GoldenSession, to_int8

from .nodes import label
from .source import Source
from .values import Clip, Constant, Dequantized, Quantized, QuantizedConstant, Value

__all__ = ["MOVES", "channel_tables", "function_table", "scale_table"]


_FREE = Clip()
_EVERY = np.arange(-128, 128).astype(np.int8)

MOVES = ("Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that change no value."""


def scale_table(source: Quantized, target: Quantized, clip: Clip = _FREE) -> np.ndarray:
    """int8 [256]: every value of ``source``, within bounds, in the quantization of ``target``."""
    real = reference.dequantize(_EVERY, source.scale, source.zero_point)
    bounded = np.minimum(np.maximum(real, np.float32(clip.low)), np.float32(clip.high))
    return reference.quantize(bounded, target.scale, target.zero_point)


def function_table(source: Source, operand: Callable[[str], Value], value: Dequantized,
                   target: Quantized) -> np.ndarray:
    """int8 [256]: what onnxruntime makes of every value with the nodes of ``value``, in the
    quantization of ``target``; ``operand`` tells what is known of a tensor that they read."""
    return _run(source, operand, value, target, _EVERY).reshape(-1)


def channel_tables(source: Source, operand: Callable[[str], Value], value: Dequantized,
                   target: Quantized, axis: int) -> np.ndarray:
    """int8 [C, 256]: as :func:`function_table`, for each place along ``axis``, the only one along
    which constants of the nodes differ."""
    shape = [1] * len(value.view.shape)
    # As in the model, constants stay the same along the last axis if they do there.
    across = len(shape) - 1 if axis != len(shape) - 1 else len(shape) - 2
    every = np.moveaxis(_EVERY.reshape(*shape[1:], 256), -1, across)
    every = every.repeat(value.view.shape[axis], axis)
    made = _run(source, operand, value, target, every)
    return np.moveaxis(made, (axis, across), (0, 1)).reshape(-1, 256)


def _run(source: Source, operand: Callable[[str], Value], value: Dequantized, target: Quantized,
         values: np.ndarray) -> np.ndarray:
    """What onnxruntime makes of int8 ``values``, as int8 values of that shape."""
    constants: dict[str, np.ndarray] = {}

    def parameters(name: str, tensor: Quantized) -> list[str]:
        zero = tensor.zero_point + 128 * tensor.unsigned
        constants[f"{name}_s"] = np.asarray(tensor.scale, np.float32)
        constants[f"{name}_z"] = np.asarray(zero, np.uint8 if tensor.unsigned else np.int8)
        return [f"{name}_s", f"{name}_z"]

    nodes = [helper.make_node("DequantizeLinear", ["every", *parameters("every", value.source)],
                              ["every_real"])]
    made = {name for node in value.nodes for name in node.output}
    for node in value.nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if node.op_type in MOVES:
            copy = helper.make_node("Identity", [node.input[0]], [node.output[0]])
        for index, name in enumerate(copy.input):
            if not name or name in made:
                continue
            constant = operand(name)
            if isinstance(constant, QuantizedConstant):
                if any(len(np.unique(each)) > 1
                       for each in (constant.scale, constant.zero_point)):
                    raise ModelError(f"{label(node)} has the constant '{name}' of several "
                                     f"scales or zero points, which is not supported")
                # Kept quantized, or onnxruntime would not choose its integer kernel.
                constants |= {f"{name}_q": constant.values,
                              f"{name}_s": np.asarray(constant.scale.reshape(-1)[0], np.float32),
                              f"{name}_z": np.asarray(constant.zero_point.reshape(-1)[0],
                                                      constant.values.dtype)}
                nodes.append(helper.make_node(
                    "DequantizeLinear", [f"{name}_q", f"{name}_s", f"{name}_z"], [f"{name}_real"]))
                copy.input[index] = f"{name}_real"
            elif isinstance(constant, Constant):
                constants[name] = constant.array
            else:
                copy.input[index] = "every_real"
        nodes.append(copy)
    nodes.append(helper.make_node(
        "QuantizeLinear", [value.nodes[-1].output[0], *parameters("result", target)], ["result"]))
    every = (values.view(np.uint8) ^ np.uint8(128)) if value.source.unsigned else values
    model = source.probe(nodes, {"every": every}, "result", constants)
    return to_int8(GoldenSession(model).run({"every": every})["result"])
