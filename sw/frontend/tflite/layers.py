"""Layers that equal operators: everything but where their tensors lie.

Tensors of TFLite are [N, H, W, C]; those of a layer, [C, H, W] of one frame.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from weft import reference
from weft.errors import ModelError
from weft.frontend.weights import dense_weights
from weft.hw.isa.commands import Rounding
from weft.ir import NO_PADS, Add, Convolution, Depthwise, Multiply, Pads, Pool, PoolKind
from weft.reference.exact_fixed_point import fixed_add_constants
from weft.reference.proof import Exactness, Quantization

from . import inputs
from .file import Operator, Tensor, label
from .rules import Rule, activation_bounds, exact_once

__all__ = ["Names", "convolution", "depthwise", "fully_connected", "fully_connected_ratio", "macs",
           "mean", "mean_multiplier", "multiplier_of_depth", "pair", "pair_proof", "pool",
           "reduced_axes", "summary"]


@dataclass(frozen=True, kw_only=True)
class Names:
    """Tensors that a layer reads and makes."""

    input: str = "input"
    output: str = "output"


# Windows ------------------------------------------------------------------------------------------

def _window(operator: Operator, size: tuple[int, int], kernel: tuple[int, int]) \
        -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], Pads]:
    """Strides, dilations, the output's plane, and padding of a window over a plane of ``size``."""
    given = operator.options
    strides = given["StrideH"], given["StrideW"]
    dilations = given.get("DilationHFactor", 1), given.get("DilationWFactor", 1)
    if min(*strides, *dilations, *kernel) < 1:
        raise ModelError(f"{label(operator)} must have kernel, strides and dilations of at least "
                         f"1, not {kernel}, {strides} and {dilations}")
    output, pads = [], []
    for length, taps, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
        span = dilation * (taps - 1) + 1
        if given["Padding"] == "SAME":
            count = -(-length // stride)
            total = max((count - 1) * stride + span - length, 0)
            pads.append((total // 2, total - total // 2))
        elif given["Padding"] == "VALID":
            count = (length + stride - span) // stride
            pads.append((0, 0))
        else:
            raise ModelError(f"{label(operator)} must have padding SAME or VALID, "
                             f"not {given['Padding']}")
        if count < 1:
            raise ModelError(f"{label(operator)} has a kernel of {kernel[0]}x{kernel[1]}, which "
                             f"does not fit into its input of {size[0]}x{size[1]}")
        output.append(count)
    return strides, dilations, (output[0], output[1]), Pads(
        pads[0][0], pads[1][0], pads[0][1], pads[1][1])


def _joined(pads: Pads, before: Pads) -> Pads:
    return Pads(*(one + other for one, other in zip(pads, before, strict=True)))


def _scales(operator: Operator, rule: Rule, weight_scale: np.ndarray, target: Tensor) \
        -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """The float32 multiplier of a convolution, and the constants of the other rule."""
    source = inputs.data(operator, 0)
    single = reference.multiplier(source.scale, weight_scale, target.scale)
    if rule is not Rule.ONNXRUNTIME:
        try:
            return single, reference.fixed_point_multiplier(source.scale, weight_scale,
                                                            target.scale)
        except ValueError as error:
            raise ModelError(f"{label(operator)}: {error}") from None
    if not np.isfinite(single).all():
        raise ModelError(f"{label(operator)}: input scale x weight scale / output scale must be "
                         f"finite in float32")
    return single, None


def convolution(operator: Operator, rule: Rule, names: Names, before: Pads = NO_PADS) \
        -> Convolution:
    """CONV_2D, of any number of groups, of an input around which ``before`` has been padded with
    its zero point."""
    batch, height, width, channels = inputs.image(operator)
    weights, weight_scale = inputs.weights(operator, 4, 0)
    filters, kernel_h, kernel_w, depth = weights.shape
    if channels % depth or filters % (channels // depth):
        raise ModelError(f"{label(operator)} must have weights for {channels} input channels, or "
                         f"for groups of them, not {list(weights.shape)}")
    groups = channels // depth
    strides, dilations, plane, pads = _window(operator, (height, width), (kernel_h, kernel_w))
    target = inputs.output(operator, (batch, *plane, filters))
    single, fixed_point = _scales(operator, rule, weight_scale, target)
    first = np.ascontiguousarray(weights.transpose(0, 3, 1, 2))
    return Convolution(
        name=operator.name, op=operator.op, input=names.input, output=names.output,
        weights=first if groups == 1 else dense_weights(first, groups), groups=groups,
        bias=inputs.bias(operator, filters), multiplier=single, weight_scale=weight_scale,
        strides=strides, dilations=dilations, pads=_joined(pads, before),
        clamp=activation_bounds(operator, target), rounding=rule.rounding,
        fixed_point=fixed_point)


def multiplier_of_depth(operator: Operator) -> int:
    """How many channels a DEPTHWISE_CONV_2D makes of each that it reads."""
    channels, count = inputs.image(operator)[3], inputs.data(operator, 1).shape[-1]
    if count % channels:
        raise ModelError(f"{label(operator)} must have weights for a multiple of {channels} "
                         f"channels, not {count}")
    return count // channels


def depthwise(operator: Operator, rule: Rule, names: Names, before: Pads = NO_PADS) -> Depthwise:
    """DEPTHWISE_CONV_2D of an input whose channels are repeated as often as its
    :func:`multiplier_of_depth` says; padded as in :func:`convolution`."""
    batch, height, width, _ = inputs.image(operator)
    weights, weight_scale = inputs.weights(operator, 4, 3)
    _, kernel_h, kernel_w, count = weights.shape
    multiplier_of_depth(operator)
    strides, dilations, plane, pads = _window(operator, (height, width), (kernel_h, kernel_w))
    target = inputs.output(operator, (batch, *plane, count))
    single, fixed_point = _scales(operator, rule, weight_scale, target)
    return Depthwise(
        name=operator.name, op=operator.op, input=names.input, output=names.output,
        weights=np.ascontiguousarray(weights[0].transpose(2, 0, 1)),
        bias=inputs.bias(operator, count), multiplier=single,
        strides=strides, dilations=dilations, pads=_joined(pads, before),
        clamp=activation_bounds(operator, target), rounding=rule.rounding,
        fixed_point=fixed_point)


def pool(operator: Operator, rule: Rule, names: Names) -> Pool:
    """AVERAGE_POOL_2D or MAX_POOL_2D."""
    batch, height, width, channels = inputs.image(operator)
    kernel = operator.options["FilterHeight"], operator.options["FilterWidth"]
    strides, _, plane, pads = _window(operator, (height, width), kernel)
    target = inputs.output(operator, (batch, *plane, channels))
    inputs.same_quantization(operator, inputs.data(operator, 0), target)
    average = operator.op == "AVERAGE_POOL_2D"
    return Pool(
        name=operator.name, op=operator.op, input=names.input, output=names.output,
        kind=PoolKind.AVERAGE if average else PoolKind.MAX, kernel=kernel, strides=strides,
        pads=pads, clamp=activation_bounds(operator, target),
        rounding=rule.rounding if average else Rounding.FLOAT32)


# Sums of all that is there ------------------------------------------------------------------------

def reduced_axes(operator: Operator) -> tuple[int, ...]:
    """The dimensions over which a MEAN goes, in ascending order."""
    rank = len(inputs.data(operator, 0).shape)
    axes = inputs.integers(operator, 1, "axes")
    if any(not -rank <= axis < rank for axis in axes):
        raise ModelError(f"{label(operator)} must have axes from {-rank} to {rank - 1}, not {axes}")
    return tuple(sorted({axis % rank for axis in axes}))


def mean_multiplier(operator: Operator) -> tuple[np.ndarray, np.ndarray]:
    """Multiplier and shift of a sum of a MEAN: the scales' ratio, divided by the number of values
    and cut off at 31 bits."""
    source, target = inputs.data(operator, 0), operator.outputs[0]
    multiplier, shift = reference.quantized_multiplier(source.scale / target.scale)
    count = prod(source.shape[axis] for axis in reduced_axes(operator))
    places = min(count.bit_length() - 1, 32, 31 + int(shift[0]))
    divided = (int(multiplier[0]) << places) // count
    return np.array([divided], np.int32), shift - np.int32(places)


def mean(operator: Operator, rule: Rule, names: Names) -> Depthwise | Pool:
    """MEAN over whole planes."""
    _, height, width, channels = inputs.image(operator)
    source, target = inputs.data(operator, 0), inputs.output(operator)
    ratio = np.float32(source.scale) / (np.float32(target.scale) * np.float32(height * width))
    if rule is Rule.ONNXRUNTIME:
        return Pool(name=operator.name, op=operator.op, input=names.input, output=names.output,
                    kind=PoolKind.AVERAGE, kernel=(height, width), multiplier=float(ratio))
    constants = [np.broadcast_to(each, (channels,)).copy() for each in mean_multiplier(operator)]
    return Depthwise(
        name=operator.name, op=operator.op, input=names.input, output=names.output,
        weights=np.ones((channels, height, width), np.int8), bias=np.zeros(channels, np.int32),
        multiplier=np.full(channels, ratio, np.float32), rounding=rule.rounding,
        fixed_point=(constants[0], constants[1]))


def summary(operator: Operator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights [N, features], weight scales and bias of a FULLY_CONNECTED."""
    if operator.options["WeightsFormat"] != 0:
        raise ModelError(f"{label(operator)} must have weights in the usual order, not shuffled")
    weights, weight_scale = inputs.weights(operator, 2, 0)
    filters, features = weights.shape
    source = inputs.quantized(operator, inputs.data(operator, 0), "input")
    if prod(source.shape) % features:
        raise ModelError(f"{label(operator)} must have weights for rows of its input "
                         f"{list(source.shape)}, not {list(weights.shape)}")
    target = inputs.output(operator)
    if prod(target.shape) != prod(source.shape) // features * filters:
        raise ModelError(f"{label(operator)} must make {filters} values of each {features}, "
                         f"not {list(target.shape)}")
    return weights, weight_scale, inputs.bias(operator, filters)


def fully_connected_ratio(operator: Operator, weight_scale: np.ndarray) -> np.ndarray:
    """float64 [N]: input scale x weight scale / output scale."""
    return np.asarray(inputs.data(operator, 0).scale * weight_scale.astype(np.float64)
                      / operator.outputs[0].scale)


def fully_connected(operator: Operator, rule: Rule, names: Names,
                    arrange: Callable[[np.ndarray], np.ndarray]) -> Convolution:
    """FULLY_CONNECTED; ``arrange`` brings [N, features] into the order of the input's tensor,
    [N, C, H, W]."""
    weights, weight_scale, bias = summary(operator)
    source, target = inputs.data(operator, 0), operator.outputs[0]
    single, fixed_point = _scales(operator, rule, weight_scale, target)
    if rule is Rule.TFLITE:
        farthest = max(127 - source.zero_point, source.zero_point + 128)
        limit = np.abs(weights.astype(np.int64)).sum(1) * farthest + np.abs(bias.astype(np.int64))
        try:
            fixed_point = exact_once(fully_connected_ratio(operator, weight_scale), limit,
                                     target.zero_point)
        except ValueError as error:
            raise ModelError(f"{label(operator)}: {error}") from None
    return Convolution(
        name=operator.name, op=operator.op, input=names.input, output=names.output,
        weights=arrange(weights), bias=bias, multiplier=single, weight_scale=weight_scale,
        clamp=activation_bounds(operator, target), fixed_point=fixed_point,
        rounding=Rounding.FIXED_POINT_ONCE if rule is Rule.TFLITE else rule.rounding)


def macs(operator: Operator) -> int:
    """Multiply-accumulates of a convolution or matrix product; 0 for other operators. As the
    weights of all three say how many there are for one output value."""
    if operator.op not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return 0
    weights = inputs.data(operator, 1).shape
    taps = prod(weights[:-1]) if operator.op == "DEPTHWISE_CONV_2D" else prod(weights[1:])
    return prod(operator.outputs[0].shape) * taps


# Two tensors --------------------------------------------------------------------------------------

def pair(operator: Operator, rule: Rule, a: str, b: str, output: str) -> Add | Multiply:
    """ADD, SUB or MUL; a SUB is in fixed point whatever the rule."""
    for index in (0, 1):
        inputs.quantized(operator, inputs.data(operator, index), "input")
    target = inputs.output(operator)
    clamp = activation_bounds(operator, target)
    if operator.op == "MUL":
        return Multiply(name=operator.name, op=operator.op, a=a, b=b, output=output, clamp=clamp,
                        rounding=rule.rounding)
    subtract = operator.op == "SUB"
    return Add(name=operator.name, op=operator.op, a=a, b=b, output=output, clamp=clamp,
               rounding=Rounding.FIXED_POINT if subtract else rule.rounding, subtract=subtract)


def pair_proof(operator: Operator, layer: Add | Multiply) -> Exactness | None:
    """How far the accelerator makes of every pair what the layer's rule makes of it; :py:`None` if
    it is exact by construction, or follows onnxruntime."""
    if not isinstance(layer, Add) or layer.rounding is not Rounding.FIXED_POINT:
        return None
    tensors = (inputs.data(operator, 0), inputs.data(operator, 1), operator.outputs[0])
    return fixed_add_constants(*(Quantization(each.scale, each.zero_point, False)
                                 for each in tensors), layer.clamp, layer.subtract)[1]
