"""Between real and int8 values: quantization, and everything that rounds."""

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["SUM_BYTES", "dequantize", "fma", "multiplier", "quantize", "requantize", "sum_bytes"]


SUM_BYTES = 4
"""Of the int32 sum of a convolution."""


def multiplier(sx: ArrayLike, sw: ArrayLike, sy: float) -> np.ndarray:
    """Scale from accumulator to output, ``fl32(fl32(sx * sw) / sy)``, at least one-dimensional.

    The order matters: it decides the last bit. Infinite where float32 ends.
    """
    with np.errstate(over="ignore"):
        product = np.atleast_1d(sx).astype(np.float32) * np.atleast_1d(sw).astype(np.float32)
        scale: np.ndarray = product / np.float32(sy)
    return scale


def quantize(x: ArrayLike, scale: float, zero_point: int, *, unsigned: bool = False) -> np.ndarray:
    """QuantizeLinear of float32 values to int8, or to uint8 when ``unsigned``.

    A division, not a multiplication by the reciprocal; values outside saturate. ``zero_point`` is
    in the domain of the result.
    """
    low, high = (0, 255) if unsigned else (-128, 127)
    ratio = np.asarray(x, np.float32) / np.float32(scale)
    rounded = np.rint(np.clip(ratio, low - zero_point, high - zero_point)) + zero_point
    return np.asarray(rounded, np.uint8 if unsigned else np.int8)


def dequantize(q: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    """DequantizeLinear: ``(q - zero_point) * scale`` in float32."""
    centred = q.astype(np.int32) - np.int32(zero_point)
    return np.asarray(centred.astype(np.float32) * np.float32(scale))


def requantize(acc: np.ndarray, multiplier: np.ndarray, out_zero: int,
               clamp: tuple[int, int] = (-128, 127)) -> np.ndarray:
    """Accumulators to int8 values.

    Parameters
    ----------
    acc : int32 [N, ...]
        Sums, bias included.
    multiplier : float32 [N]
    out_zero : :class:`int`
    clamp : (low, high)
        Bounds of the result, inclusive.
    """
    per_channel = multiplier.astype(np.float32).reshape(-1, *(1,) * (acc.ndim - 1))
    scaled = acc.astype(np.float32) * per_channel
    rounded = np.rint(np.clip(scaled, -128 - out_zero, 127 - out_zero)) + out_zero
    return np.asarray(np.clip(rounded, *clamp), np.int8)


def sum_bytes(acc: np.ndarray, which: np.ndarray) -> np.ndarray:
    """A byte of each sum, 0 for the lowest, as a number from 0 to 255.

    Parameters
    ----------
    acc : int32 [N, ...]
    which : int [N]
        The byte, of each channel.

    Returns
    -------
    int32 of the shape of ``acc``
    """
    places = 8 * which.astype(np.int32).reshape(-1, *(1,) * (acc.ndim - 1))
    return np.asarray(acc >> places & 255, np.int32)


def fma(a: ArrayLike, b: ArrayLike, c: ArrayLike) -> np.ndarray:
    """Fused multiply-add of float32 values, ``fl32(a * b + c)`` with one rounding.

    The product is exact in float64, but the sum need not be, and rounding it twice may differ from
    rounding it once. So the sum is rounded to odd: where it is not exact its last bit is made 1,
    which no later rounding to fewer bits can mistake for a tie.
    """
    product = np.asarray(a, np.float32).astype(np.float64) * np.asarray(b, np.float32)
    addend = np.asarray(c, np.float32).astype(np.float64)
    total = np.asarray(product + addend)
    # Knuth's two-sum: the error of the addition, exactly.
    back = total - product
    error = (product - (total - back)) + (addend - back)
    even = (total.view(np.int64) & 1) == 0
    odd = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.where((error != 0) & even, odd, total).astype(np.float32)
