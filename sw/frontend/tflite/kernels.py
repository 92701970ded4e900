"""What operators compute, in numpy: the golden model of the format, and what the host runs.

Every kernel takes the operator, the rule and the values of its inputs, and returns those of its
output, in the shapes and types of the file.
"""

from collections.abc import Callable, Sequence

import numpy as np

from weft import ir, reference
from weft.errors import ModelError
from weft.ir import Convolution, Depthwise, Pool
from weft.reference.fixed_point import ADD_SHIFT

from . import layers
from .file import Operator, Tensor, label
from .functions import FUNCTIONS, apply
from .rules import Rule, activation_bounds, round_away
from .softmax import softmax

__all__ = ["KERNELS", "VIEWS", "elements", "left_to_host", "padding", "rehearse",
           "resized_indices", "run"]


Values = Sequence[np.ndarray | None]
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


def _tensor(tensor: Tensor) -> ir.Tensor:
    return ir.Tensor(name=tensor.name, shape=(1, 1, 1), scale=tensor.scale,
                     zero_point=tensor.zero_point)


def _frames(operator: Operator, layer: Convolution | Depthwise | Pool, x: np.ndarray) \
        -> np.ndarray:
    """[N, H, W, C] through a layer, frame by frame."""
    source, target = _tensor(layers.data(operator, 0)), _tensor(operator.outputs[0])
    results = []
    for frame in x:
        planes = frame.transpose(2, 0, 1)
        match layer:
            case Convolution():
                result = reference.convolution(layer, planes, source, target)
            case Depthwise():
                result = reference.depthwise(layer, planes, source, target)
            case Pool():
                out = operator.outputs[0].shape
                result = reference.pool(
                    layer, planes,
                    ir.Tensor(name="", shape=planes.shape, scale=source.scale,
                              zero_point=source.zero_point),
                    ir.Tensor(name="", shape=(out[-1], *out[1:3]) if len(out) == 4
                              else (planes.shape[0], 1, 1), scale=target.scale,
                              zero_point=target.zero_point))
        results.append(result.transpose(1, 2, 0))
    return np.stack(results).reshape(operator.outputs[0].shape)


def _present(operator: Operator, values: Values, index: int = 0) -> np.ndarray:
    value = values[index]
    assert value is not None
    return value


# Windows and matrices -----------------------------------------------------------------------------

def _convolution(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    return _frames(operator, layers.convolution(operator, rule, layers.Names()),
                   _present(operator, values))


def _depthwise(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    layer = layers.depthwise(operator, rule, layers.Names())
    repeated = _present(operator, values).repeat(layers.multiplier_of_depth(operator), axis=3)
    return _frames(operator, layer, repeated)


def _pool(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    return _frames(operator, layers.pool(operator, rule, layers.Names()),
                   _present(operator, values))


def _fully_connected(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    weights, weight_scale, bias = layers.summary(operator)
    source, target = layers.data(operator, 0), operator.outputs[0]
    rows = _present(operator, values).reshape(-1, weights.shape[1]).astype(np.int64)
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
    source = layers.quantized(operator, layers.data(operator, 0), "input")
    target = layers.quantized(operator, operator.outputs[0], "output")
    x = _present(operator, values)
    if rule is Rule.ONNXRUNTIME and axes == (1, 2) and x.ndim == 4:
        return _frames(operator, layers.mean(operator, rule, layers.Names()), x)
    sums = (x.astype(np.int32) - source.zero_point).sum(axis=axes, dtype=np.int32)
    result = reference.scale_fixed_point(sums, *layers.mean_multiplier(operator))
    return np.clip(result + target.zero_point, -128, 127).astype(np.int8).reshape(target.shape)


# Elements -----------------------------------------------------------------------------------------

def elements(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    """ADD or MUL of arrays of any shapes that fit each other."""
    layer = layers.pair(operator, rule, "a", "b", "output")
    a, b = np.broadcast_arrays(_present(operator, values, 0), _present(operator, values, 1))
    tensors = [_tensor(each) for each in (layers.data(operator, 0), layers.data(operator, 1),
                                          operator.outputs[0])]
    if isinstance(layer, ir.Add):
        return reference.add(layer, a, b, *tensors)
    return reference.multiply(layer, a, b, *tensors)


def _pair(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    return elements(operator, rule, values).reshape(operator.outputs[0].shape)


def _subtract(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    """In fixed point whatever the rule: there is no layer for it."""
    a, b = layers.data(operator, 0), layers.data(operator, 1)
    target = layers.quantized(operator, operator.outputs[0], "output")
    factors = reference.add_multipliers(a.scale, b.scale, target.scale)
    terms = []
    for index, (tensor, factor) in enumerate(zip((a, b), factors[:2], strict=True)):
        layers.quantized(operator, tensor, "input")
        centred = _present(operator, values, index).astype(np.int32) - tensor.zero_point
        terms.append(reference.scale_fixed_point(centred << ADD_SHIFT, *factor))
    result = reference.scale_fixed_point((terms[0] - terms[1]).astype(np.int32), *factors[2])
    bounds = activation_bounds(operator, target)
    return np.clip(result + target.zero_point, *bounds).astype(np.int8).reshape(target.shape)


def _function(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    source = layers.quantized(operator, layers.data(operator, 0), "input")
    target = layers.quantized(operator, operator.outputs[0], "output")
    return apply(operator, _present(operator, values), source, target).reshape(target.shape)


def _softmax(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    source = layers.quantized(operator, layers.data(operator, 0), "input")
    target = layers.quantized(operator, operator.outputs[0], "output")
    if target.zero_point != -128 or abs(target.scale * 256 - 1) > 1e-3:
        raise ModelError(f"{label(operator)} must have an output of scale 1/256 and zero point "
                         f"-128, not {target.scale:g} and {target.zero_point}")
    beta = operator.options["Beta"]
    if not beta * source.scale * (1 << 26) > 1:
        raise ModelError(f"{label(operator)} must have a beta x input scale above 2^-26, not "
                         f"{beta * source.scale:g}")
    return softmax(_present(operator, values), source.scale, beta).reshape(target.shape)


# Real values --------------------------------------------------------------------------------------

def _quantize(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    """Of real values, or from one quantization to another."""
    source, target = layers.data(operator, 0), operator.outputs[0]
    x = _present(operator, values)
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
    source, target = layers.data(operator, 0), operator.outputs[0]
    if source.dtype not in (np.int8, np.uint8) or source.quantization is None \
            or source.quantization.scale.size != 1 or target.dtype != np.float32:
        raise ModelError(f"{label(operator)} must make float32 of int8 or uint8 with one scale, "
                         f"not {target.dtype} of {source.dtype}")
    return reference.dequantize(_present(operator, values), source.scale,
                                source.zero_point).reshape(target.shape)


# Moves --------------------------------------------------------------------------------------------

def _view(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    x = _present(operator, values)
    target = operator.outputs[0]
    if x.size != int(np.prod(target.shape)) or x.dtype != target.dtype:
        raise ModelError(f"{label(operator)} must make {x.size} values of {x.dtype}, not "
                         f"{target.dtype} {list(target.shape)}")
    return x.reshape(target.shape)


def _concatenation(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    target = operator.outputs[0]
    for index in range(len(operator.inputs)):
        source = layers.data(operator, index)
        if source.quantization is not None and target.quantization is not None \
                and (source.scale, source.zero_point) != (target.scale, target.zero_point):
            raise ModelError(
                f"{label(operator)} must join tensors of the output's scale and zero point, "
                f"{target.scale:g} and {target.zero_point}, not {source.scale:g} and "
                f"{source.zero_point}")
    if activation_bounds(operator, target) != (-128, 127):
        raise ModelError(f"{label(operator)} must have no fused activation")
    arrays = [_present(operator, values, index) for index in range(len(values))]
    try:
        return np.concatenate(arrays, operator.options["Axis"]).reshape(target.shape)
    except ValueError as error:
        raise ModelError(f"{label(operator)}: {error}") from None


def padding(operator: Operator) -> tuple[list[tuple[int, int]], int]:
    """Elements before and after each dimension of a PAD, and their value."""
    source = layers.quantized(operator, layers.data(operator, 0), "input")
    target = layers.quantized(operator, operator.outputs[0], "output")
    if (source.scale, source.zero_point) != (target.scale, target.zero_point):
        raise ModelError(f"{label(operator)} must have an output of its input's scale and zero "
                         f"point")
    rank = len(source.shape)
    flat = layers.integers(operator, 1, "paddings", 2 * rank)
    pairs = [(flat[2 * axis], flat[2 * axis + 1]) for axis in range(rank)]
    shape = tuple(size + sum(pair) for size, pair in zip(source.shape, pairs, strict=True))
    if min(flat) < 0 or shape != target.shape:
        raise ModelError(f"{label(operator)} must make {list(shape)} with paddings of at least 0, "
                         f"not {list(target.shape)} with {pairs}")
    fill = target.zero_point
    if len(operator.inputs) > 2:
        given = layers.quantized(operator, layers.data(operator, 2), "fill value")
        if given.scale != target.scale or given.zero_point != target.zero_point:
            raise ModelError(f"{label(operator)} must have a fill value of its output's scale and "
                             f"zero point")
        fill = int(layers.constant(operator, 2, "a fill value").reshape(-1)[0])
    return pairs, fill


def _pad(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    pairs, fill = padding(operator)
    return np.pad(_present(operator, values), pairs, constant_values=fill)


def resized_indices(operator: Operator, axis: int) -> np.ndarray:
    """Where each row (axis 1) or column (axis 2) of an enlarged plane comes from."""
    size, wanted = layers.data(operator, 0).shape[axis], operator.outputs[0].shape[axis]
    corners, centres = operator.options["AlignCorners"], operator.options["HalfPixelCenters"]
    scale = np.float32(size - 1) / np.float32(wanted - 1) if corners and wanted > 1 \
        else np.float32(size) / np.float32(wanted)
    places = (np.arange(wanted).astype(np.float32) + np.float32(0.5 if centres else 0)) * scale
    places = round_away(places) if corners else np.floor(places)
    return np.clip(places.astype(np.int64), 0, size - 1)


def _resize(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    source, target = layers.data(operator, 0), operator.outputs[0]
    if len(source.shape) != 4 or len(target.shape) != 4 or source.shape[::3] != target.shape[::3]:
        raise ModelError(f"{label(operator)} must make planes of planes, not "
                         f"{list(target.shape)} of {list(source.shape)}")
    x = _present(operator, values)
    return x[:, resized_indices(operator, 1)][:, :, resized_indices(operator, 2)]


KERNELS: dict[str, Kernel] = {
    **dict.fromkeys(FUNCTIONS, _function),
    **dict.fromkeys(VIEWS, _view),
    "ADD": _pair,
    "AVERAGE_POOL_2D": _pool,
    "CONCATENATION": _concatenation,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "DEQUANTIZE": _dequantize,
    "FULLY_CONNECTED": _fully_connected,
    "MAX_POOL_2D": _pool,
    "MEAN": _mean,
    "MUL": _pair,
    "PAD": _pad,
    "PADV2": _pad,
    "QUANTIZE": _quantize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "SOFTMAX": _softmax,
    "SUB": _subtract,
}
"""By operator."""
