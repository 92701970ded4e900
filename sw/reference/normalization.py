"""Layer normalization of quantized rows, by the float32 arithmetic of onnxruntime.

The sum of a row is exact whatever its order, as its values are multiples of the smallest one. The
squares are added up in eight lanes, so rows are a multiple of eight values::

    mean   = fl32(sum of x / length)
    d      = fl32(x - mean)
    s[k]   = fma(d[k], d[k], s[k - 8])      and then the eight lanes in halves
    factor = fl32(1 / fl32(sqrt(fl32(fl32(s / length) + epsilon))))
    y      = fma(fl32(d * factor), scale, shift)

None of these numbers is too large or too small for a normal float32 if :func:`out_of_bounds` finds
nothing.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from weft.hw.isa.limits import MOST_NORMALIZED, NORMALIZED_LANES
from weft.ir import Normalization, Tensor

from .rounding import dequantize, fma, quantize

__all__ = ["normalization", "normalize", "normalized_values", "out_of_bounds", "thresholds"]


_NEGATIVE = np.uint32(1 << 31)


class _Bounds(NamedTuple):
    """The exponents of 2 that numbers lie between."""
    least: int
    most: int

    def have(self, values: ArrayLike) -> bool:
        found = np.asarray(values, np.float64)
        return bool(((found >= 2.0 ** self.least) & (found <= 2.0 ** self.most)).all())


_SOURCE_SCALE = _Bounds(-27, 40)
_TARGET_SCALE = _Bounds(-40, 40)
_CONSTANT = _Bounds(-60, 40)


def normalize(x: np.ndarray, scale: np.ndarray, shift: np.ndarray, epsilon: float) -> np.ndarray:
    """Rows with a mean of 0 and a variance of 1, times ``scale`` and plus ``shift``.

    Parameters
    ----------
    x : float32 [N, length]
        The length is a multiple of 8; values are less than 2**20 times as
        large as what they are multiples of, for their sum to be exact.
    scale, shift : float32 [length]
    epsilon : :class:`float`
        Added to the variance.

    Returns
    -------
    float32 [N, length]
    """
    length = x.shape[1]
    # A quotient of float64 is rounded again. That changes nothing: one that is not just between two
    # float32 values is at least 2**-45 of itself away from it.
    mean = (x.astype(np.float64).sum(axis=1) / length).astype(np.float32)
    distance = x - mean[:, None]
    squares = np.zeros((len(x), NORMALIZED_LANES), np.float32)
    for first in range(0, length, NORMALIZED_LANES):
        part = distance[:, first:first + NORMALIZED_LANES]
        squares = fma(part, part, squares)
    while squares.shape[1] > 1:
        half = squares.shape[1] // 2
        squares = squares[:, :half] + squares[:, half:]
    variance = squares[:, 0] / np.float32(length)
    factor = np.float32(1) / np.sqrt(variance + np.float32(epsilon))
    return fma(distance * factor[:, None], scale, shift)


def normalized_values(source: Tensor) -> np.ndarray:
    """What each value of a tensor stands for, float32 [256], from that of -128 on."""
    return dequantize(np.arange(-128, 128), source.scale, source.zero_point)


def thresholds(scale: float, zero_point: int) -> np.ndarray:
    """For each ``j`` from -128 to 126, the least float32 that is quantized to more than ``j``:
    float32 [255]."""
    wanted = np.arange(-128, 127)
    low, high = np.zeros(255, np.uint32), np.full(255, (1 << 32) - 1, np.uint32)
    while (low < high).any():
        middle = low + (high - low) // 2
        above = quantize(_value(middle), scale, zero_point) > wanted
        low, high = np.where(above, low, middle + 1), np.where(above, middle, high)
    return _value(low)


def _value(order: np.ndarray) -> np.ndarray:
    """The float32 values of a range of numbers in which they are in order. Infinities take the
    place of what is no number."""
    bits = np.where(order & _NEGATIVE, order ^ _NEGATIVE, ~order)
    values = bits.astype(np.uint32).view(np.float32)
    beyond = np.where(order & _NEGATIVE, np.float32(np.inf), np.float32(-np.inf))
    return np.where(np.isnan(values), beyond, values)


def normalization(layer: Normalization, values: np.ndarray, source: Tensor,
                  target: Tensor) -> np.ndarray:
    """One layer, int8 [C, H, W]."""
    rows = np.moveaxis(values, 0, -1).reshape(-1, len(values))
    found = normalize(normalized_values(source)[rows.astype(np.int16) + 128], layer.scale,
                      layer.shift, layer.epsilon)
    result = quantize(found, target.scale, target.zero_point)
    return np.ascontiguousarray(np.moveaxis(result.reshape(*values.shape[1:], -1), -1, 0))


def out_of_bounds(layer: Normalization, source_scale: float, target_scale: float) -> str:
    """What of a layer is longer, larger or smaller than the arithmetic takes: empty if nothing
    is."""
    length = len(layer.scale)
    if length % NORMALIZED_LANES or not 0 < length <= MOST_NORMALIZED:
        return (f"rows of {length} values; multiples of {NORMALIZED_LANES} up to "
                f"{MOST_NORMALIZED} are supported")
    for what, value, bounds in (("an input scale", source_scale, _SOURCE_SCALE),
                                ("an output scale", target_scale, _TARGET_SCALE),
                                ("an epsilon", layer.epsilon, _CONSTANT)):
        if not bounds.have(value):
            return (f"{what} of {value:g}; one from 2**{bounds.least} to 2**{bounds.most} is "
                    f"supported")
    for what, values in (("scale", layer.scale), ("bias", layer.shift)):
        if not _CONSTANT.have(np.abs(values[values != 0])):
            return (f"values in its {what} that are not 0 and not from 2**{_CONSTANT.least} to "
                    f"2**{_CONSTANT.most}")
    return ""
