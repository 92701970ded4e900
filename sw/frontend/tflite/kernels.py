"""What operators compute, in numpy: the golden model of the format, and what the host runs.

Every kernel takes the operator, the rule and the values of its inputs, and returns those of its
output, in the shapes and types of the file.
"""

from collections.abc import Callable

import numpy as np

from weft import ir, reference
from weft.errors import ModelError
from weft.ir import Convolution, Depthwise, Pool

from . import inputs, layers, moves
from .file import Operator, Tensor, label
from .functions import FUNCTIONS, apply
from .inputs import Values, present
from .interpolation import interpolate
from .rules import Rule, activation_bounds, round_away
from .softmax import softmax

__all__ = ["KERNELS", "VIEWS", "elements", "left_to_host", "rehearse", "run"]


Kernel = Callable[[Operator, Rule, Values], np.ndarray]

VIEWS = frozenset({"EXPAND_DIMS", "RESHAPE", "SQUEEZE"})
"""Operators that keep the order of all values."""


def _check(operator: Operator) -> None:
    """An error for an operator that there is no kernel for."""
    if operator.custom:
        raise ModelError(f"{label(operator)} is a custom operator, which neither accelerator nor "
                         f"host can run: convert the model without it")
    if operator.op not in KERNELS:
        raise ModelError(f"{label(operator)} is not supported, on the accelerator or the host: "
                         f"convert the model without it")
    if len(operator.outputs) != 1:
        raise ModelError(f"{label(operator)} must have one output, not {len(operator.outputs)}")


def rehearse(operator: Operator, rule: Rule) -> None:
    """Runs an operator on zeros, so that what is wrong with it is known before there are values.

    Raises
    ------
    ModelError
        If it cannot run, or its output is not what the file says.
    """
    values = [None if each is None else np.zeros(each.shape, each.dtype) if each.data is None
              else each.data for each in operator.inputs]
    try:
        result = run(operator, rule, values)
    except (ValueError, IndexError, AssertionError) as error:   # shapes that do not fit
        raise ModelError(f"{label(operator)} has inputs that do not fit: {error}") from None
    target = operator.outputs[0]
    if result.shape != target.shape or result.dtype != target.dtype:
        raise ModelError(f"{label(operator)} must make {result.dtype} {list(result.shape)}, not "
                         f"{target.dtype} {list(target.shape)}")


def left_to_host(operator: Operator) -> ModelError:
    """Why the accelerator does not run an operator that it has no layer for."""
    if operator.op == "QUANTIZE" or operator.op == "DEQUANTIZE":
        return ModelError(f"{label(operator)} changes the type of values at the graph's edge")
    return ModelError(f"{label(operator)} is not supported on the accelerator")


def run(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    """The output of an operator.

    Raises
    ------
    ModelError
        If it is not supported, or its types are not.
    """
    _check(operator)
    return KERNELS[operator.op](operator, rule, values)


def _tensor(tensor: Tensor, shape: tuple[int, int, int] = (1, 1, 1)) -> ir.Tensor:
    return ir.Tensor(name=tensor.name, shape=shape, scale=tensor.scale,
                     zero_point=tensor.zero_point)


def _frames(operator: Operator, layer: Convolution | Depthwise | Pool, x: np.ndarray) \
        -> np.ndarray:
    """[N, H, W, C] through a layer, frame by frame."""
    _, height, width, channels = x.shape
    target = operator.outputs[0]
    plane = target.shape[1:3] if len(target.shape) == 4 else (1, 1)
    graph = ir.Graph(name="", layers=(layer,), inputs=(), outputs=(), tensors={
        layer.input: _tensor(inputs.data(operator, 0), (channels, height, width)),
        layer.output: _tensor(target, (target.shape[-1], plane[0], plane[1]))})
    results = [reference.compute(graph, layer, {layer.input: frame}).transpose(1, 2, 0)
               for frame in x.transpose(0, 3, 1, 2)]
    return np.stack(results).reshape(target.shape)


# Windows and matrices -----------------------------------------------------------------------------

def _convolution(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    return _frames(operator, layers.convolution(operator, rule, layers.Names()),
                   present(operator, values))


def _depthwise(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    layer = layers.depthwise(operator, rule, layers.Names())
    repeated = present(operator, values).repeat(layers.multiplier_of_depth(operator), axis=3)
    return _frames(operator, layer, repeated)


def _pool(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    return _frames(operator, layers.pool(operator, rule, layers.Names()),
                   present(operator, values))


def _fully_connected(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    weights, weight_scale, bias = layers.summary(operator)
    source, target = inputs.data(operator, 0), operator.outputs[0]
    rows = present(operator, values).reshape(-1, weights.shape[1]).astype(np.int64)
    sums = (rows - source.zero_point) @ weights.T.astype(np.int64) + bias
    clamp = activation_bounds(operator, target)
    if rule is Rule.ONNXRUNTIME:
        single = reference.multiplier(source.scale, weight_scale, target.scale)
        return reference.requantize(sums.T.astype(np.int32), single, target.zero_point,
                                    clamp).T.reshape(target.shape)
    ratio = layers.fully_connected_ratio(operator, weight_scale)
    if rule is Rule.TFLITE_MICRO:
        result = reference.scale_fixed_point(sums.astype(np.int32),
                                             *reference.quantized_multiplier(ratio))
    else:
        result = round_away(sums * ratio)
    return np.clip(result + target.zero_point, *clamp).astype(np.int8).reshape(target.shape)


def _mean(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    axes = layers.reduced_axes(operator)
    source = inputs.quantized(operator, inputs.data(operator, 0), "input")
    target = inputs.quantized(operator, operator.outputs[0], "output")
    x = present(operator, values)
    if rule is Rule.ONNXRUNTIME and axes == (1, 2) and x.ndim == 4:
        return _frames(operator, layers.mean(operator, rule, layers.Names()), x)
    sums = (x.astype(np.int32) - source.zero_point).sum(axis=axes, dtype=np.int32)
    result = reference.scale_fixed_point(sums, *layers.mean_multiplier(operator))
    return np.clip(result + target.zero_point, -128, 127).astype(np.int8).reshape(target.shape)


# Elements -----------------------------------------------------------------------------------------

def elements(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    """ADD, SUB or MUL of arrays of any shapes that fit each other."""
    layer = layers.pair(operator, rule, "a", "b", "output")
    a, b = np.broadcast_arrays(present(operator, values, 0), present(operator, values, 1))
    tensors = [_tensor(each) for each in (inputs.data(operator, 0), inputs.data(operator, 1),
                                          operator.outputs[0])]
    if isinstance(layer, ir.Add):
        return reference.add(layer, a, b, *tensors)
    return reference.multiply(layer, a, b, *tensors)


def _pair(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    return elements(operator, rule, values).reshape(operator.outputs[0].shape)


def _function(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    source = inputs.quantized(operator, inputs.data(operator, 0), "input")
    target = inputs.quantized(operator, operator.outputs[0], "output")
    return apply(operator, present(operator, values), source, target).reshape(target.shape)


def _softmax(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    source = inputs.quantized(operator, inputs.data(operator, 0), "input")
    target = inputs.quantized(operator, operator.outputs[0], "output")
    if target.zero_point != -128 or abs(target.scale * 256 - 1) > 1e-3:
        raise ModelError(f"{label(operator)} must have an output of scale 1/256 and zero point "
                         f"-128, not {target.scale:g} and {target.zero_point}")
    beta = operator.options["Beta"]
    if not beta * source.scale * (1 << 26) > 1:
        raise ModelError(f"{label(operator)} must have a beta x input scale above 2^-26, not "
                         f"{beta * source.scale:g}")
    return softmax(present(operator, values), source.scale, beta).reshape(target.shape)


# Real values --------------------------------------------------------------------------------------

def _quantize(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    """Of real values, or from one quantization to another."""
    source, target = inputs.data(operator, 0), operator.outputs[0]
    x = present(operator, values)
    if target.dtype not in (np.int8, np.uint8) or target.quantization is None \
            or target.quantization.scale.size != 1:
        raise ModelError(f"{label(operator)} must make int8 or uint8 of one scale, "
                         f"not {target.dtype}")
    limits = np.iinfo(target.dtype)
    if source.dtype == np.float32:
        steps = round_away(np.clip(np.nan_to_num(x / np.float32(target.scale)), -1e6, 1e6)) \
            + target.zero_point
    elif source.dtype in (np.int8, np.uint8) and source.quantization is not None:
        steps = FUNCTIONS["QUANTIZE"](operator, x.astype(np.int64), source, target)
    else:
        raise ModelError(f"{label(operator)} must read float32, int8 or uint8, "
                         f"not {source.dtype}")
    return np.clip(steps, limits.min, limits.max).astype(target.dtype).reshape(target.shape)


def _dequantize(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    source, target = inputs.data(operator, 0), operator.outputs[0]
    if source.dtype not in (np.int8, np.uint8) or source.quantization is None \
            or source.quantization.scale.size != 1 or target.dtype != np.float32:
        raise ModelError(f"{label(operator)} must make float32 of int8 or uint8 with one scale, "
                         f"not {target.dtype} of {source.dtype}")
    return reference.dequantize(present(operator, values), source.scale,
                                source.zero_point).reshape(target.shape)


KERNELS: dict[str, Kernel] = {
    **dict.fromkeys(FUNCTIONS, _function),
    **dict.fromkeys(VIEWS, moves.view),
    "ADD": _pair,
    "AVERAGE_POOL_2D": _pool,
    "CONCATENATION": moves.concatenation,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "DEQUANTIZE": _dequantize,
    "FULLY_CONNECTED": _fully_connected,
    "MAX_POOL_2D": _pool,
    "MEAN": _mean,
    "MUL": _pair,
    "PAD": moves.pad,
    "PADV2": moves.pad,
    "QUANTIZE": _quantize,
    "RESIZE_BILINEAR": interpolate,
    "RESIZE_NEAREST_NEIGHBOR": moves.resize,
    "SOFTMAX": _softmax,
    "SUB": _pair,
    "TRANSPOSE": moves.transpose,
}
"""By operator."""
