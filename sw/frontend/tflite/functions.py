"""Functions of one int8 value, each by the integer arithmetic of its reference kernel."""

import math
from collections.abc import Callable

import numpy as np

from weft import reference
from weft.errors import ModelError

from .file import Operator, Tensor, label
from .rules import quantized_bound, round_away

__all__ = ["EVERY", "FUNCTIONS", "apply", "scaled", "table"]


Function = Callable[[Operator, np.ndarray, Tensor, Tensor], np.ndarray]
"""From an operator, its int8 values as int64, source and target to values before the clamp."""

EVERY = np.arange(-128, 128).astype(np.int8)
"""Every int8 value."""


def apply(operator: Operator, values: np.ndarray, source: Tensor, target: Tensor) -> np.ndarray:
    """int8 values of ``target`` for int8 values of ``source``."""
    result = FUNCTIONS[operator.op](operator, values.astype(np.int64), source, target)
    return np.asarray(np.clip(result, -128, 127), np.int8)


def table(operator: Operator, source: Tensor, target: Tensor) -> np.ndarray:
    """int8 [256]: the result for every value."""
    return apply(operator, EVERY, source, target)


def scaled(values: np.ndarray, ratio: float | np.floating) -> np.ndarray:
    """``values * ratio`` with a quantized multiplier; a negative ratio negates the result."""
    multiplier, shift = reference.quantized_multiplier(abs(float(ratio)))
    result = reference.scale_fixed_point(values.astype(np.int32), multiplier, shift)
    return -result if ratio < 0 else result


# By integers --------------------------------------------------------------------------------------

def _bounded(low: float, high: float | None) -> Function:
    """Bounds on real values, with a change of scale."""
    def function(operator: Operator, values: np.ndarray, source: Tensor,
                 target: Tensor) -> np.ndarray:
        ratio = np.float32(source.scale) / np.float32(target.scale)
        result = scaled(values - source.zero_point, ratio) + target.zero_point
        result = np.maximum(result, quantized_bound(low, target))
        return result if high is None else np.minimum(result, quantized_bound(high, target))
    return function


def _leaky_relu(operator: Operator, values: np.ndarray, source: Tensor,
                target: Tensor) -> np.ndarray:
    sx, sy = np.float32(source.scale), np.float32(target.scale)
    centred = values - source.zero_point
    below = scaled(centred, sx * np.float32(operator.options["Alpha"]) / sy)
    return np.where(centred >= 0, scaled(centred, sx / sy), below) + target.zero_point


def _prelu(operator: Operator, values: np.ndarray, source: Tensor, target: Tensor) -> np.ndarray:
    alpha = operator.inputs[1]
    if alpha is None or alpha.data is None or alpha.quantization is None:
        raise ModelError(f"{label(operator)} must have a constant, quantized alpha")
    slopes = alpha.data.astype(np.int64) - alpha.zero_point
    if slopes.size == 1:
        slopes = slopes.reshape(())
    sx, sy = np.float32(source.scale), np.float32(target.scale)
    centred = values - source.zero_point
    below = scaled(centred * slopes, sx * np.float32(alpha.scale) / sy)
    return np.where(centred >= 0, scaled(centred, sx / sy), below) + target.zero_point


def _quantize(operator: Operator, values: np.ndarray, source: Tensor,
              target: Tensor) -> np.ndarray:
    return scaled(values - source.zero_point, source.scale / target.scale) + target.zero_point


def _high_product(a: np.ndarray, b: int) -> np.ndarray:
    """gemmlowp's saturating rounding doubling high multiplication of 16-bit values."""
    product = a * b
    nudged = product + np.where(product >= 0, 1 << 14, 1 - (1 << 14))
    return np.where(nudged >= 0, nudged >> 15, -(-nudged >> 15))


def _saturated(a: np.ndarray) -> np.ndarray:
    return np.clip(a, -(1 << 15), (1 << 15) - 1)


def _hard_swish(operator: Operator, values: np.ndarray, source: Tensor,
                target: Tensor) -> np.ndarray:
    fine = np.float32(1 / 128) * np.float32(source.scale)
    (to_output, output_exponent), (to_ramp, ramp_exponent) = (
        _short_multiplier(float(fine / scale))
        for scale in (np.float32(target.scale), np.float32(3 / 32768)))
    if output_exponent > 0:
        raise ModelError(f"{label(operator)} must have an input scale of at most 128 times its "
                         f"output scale, not {source.scale / target.scale:g} times")
    x = (values - source.zero_point) << 7
    before_shift = _high_product(x, to_output)
    # From -3..3 to -1..1, saturating in the last of the left shifts.
    ramp = _saturated(x << max(ramp_exponent - 1, 0))
    ramp = _high_product(ramp, to_ramp)
    ramp = _saturated(ramp << min(max(ramp_exponent, 0), 1))
    ramp = reference.rdbpot(ramp, np.array(max(-ramp_exponent, 0)))
    ramp = ramp + (1 << 15) >> 1
    product = ramp * before_shift
    product = np.where(product >= 0, product >> 15, -(-product >> 15))
    return reference.rdbpot(product, np.array(-output_exponent)) + target.zero_point


def _short_multiplier(ratio: float) -> tuple[int, int]:
    """A multiplier of 15 bits, and its exponent."""
    multiplier, shift = reference.quantized_multiplier(ratio)
    most = (1 << 15) - 1
    short = most if multiplier[0] >= most << 16 else int(multiplier[0]) + (1 << 15) >> 16
    return short, int(shift[0])


# By tables of float32 -----------------------------------------------------------------------------

def _real(function: Callable[[float], float]) -> Function:
    """A function of real values, in float32 as TFLite fills its tables."""
    def tabulated(operator: Operator, values: np.ndarray, source: Tensor,
                  target: Tensor) -> np.ndarray:
        inverse = np.float32(1) / np.float32(target.scale)
        real = np.float32(source.scale) * (EVERY.astype(np.int32) - source.zero_point).astype(
            np.float32)
        results = np.array([function(float(each)) for each in real], np.float32)
        entries = round_away(results * inverse).astype(np.float64) + target.zero_point
        return np.asarray(entries.astype(np.int64)[values + 128])
    return tabulated


def _logistic(x: float) -> float:
    exponential = np.float32(math.exp(min(-x, 88.0)))   # far beyond what an int8 value can tell
    return float(np.float32(1) / (np.float32(1) + exponential))


FUNCTIONS: dict[str, Function] = {
    "HARD_SWISH": _hard_swish,
    "LEAKY_RELU": _leaky_relu,
    "LOGISTIC": _real(_logistic),
    "PRELU": _prelu,
    "QUANTIZE": _quantize,
    "RELU": _bounded(0.0, None),
    "RELU6": _bounded(0.0, 6.0),
    "RELU_0_TO_1": _bounded(0.0, 1.0),
    "RELU_N1_TO_1": _bounded(-1.0, 1.0),
    "TANH": _real(math.tanh),
}
"""By operator. PRELU is a function of one value only if it has one slope for all."""
