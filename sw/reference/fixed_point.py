"""The rounding of TFLite Micro: in fixed point, and twice.

The names are those of gemmlowp, from which TFLite Micro has the two roundings.
"""

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["fixed_point_multiplier", "rdbpot", "requantize_fixed_point", "srdhm"]


_SHIFT_MIN = -31  # a multiplier that is smaller still counts as zero


def fixed_point_multiplier(sx: ArrayLike, sw: ArrayLike, sy: float) \
        -> tuple[np.ndarray, np.ndarray]:
    """Scale from accumulator to output as ``M * 2**(shift - 31)``.

    ``sx * sw / sy`` is computed in float64 from the float32 scales, and rounded to 31 bits::

        (q, shift) = frexp(sx * sw / sy),  M = round(q * 2**31)

    Returns
    -------
    M : int32 [N]
        From 2**30 to 2**31 - 1; or 0, with a shift of 0, where the scale is below 2**-32.
    shift : int32 [N]
        At least -31.

    Raises
    ------
    ValueError
        If a scale is negative or not finite, or is 2**31 or more.
    """
    sx, sw = (np.atleast_1d(scale).astype(np.float32).astype(np.float64) for scale in (sx, sw))
    # Of float32 values neither overflows; a division by zero shows below.
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = sx * sw / np.float64(np.float32(sy))
    if not (np.isfinite(ratio) & (ratio >= 0)).all():
        raise ValueError("Scales must be finite and not negative")
    fraction, shift = np.frexp(ratio)
    mantissa = np.floor(fraction * 2.0 ** 31 + 0.5).astype(np.int64)
    carried = mantissa == 1 << 31
    mantissa, shift = np.where(carried, 1 << 30, mantissa), shift + carried
    none = (mantissa == 0) | (shift < _SHIFT_MIN)
    mantissa, shift = np.where(none, 0, mantissa), np.where(none, 0, shift)
    if (shift > 31).any():
        raise ValueError(f"Scales must be below 2**31, not up to {ratio.max():g}")
    return mantissa.astype(np.int32), shift.astype(np.int32)


def srdhm(a: np.ndarray, multiplier: np.ndarray) -> np.ndarray:
    """Saturating rounding doubling high multiplication, ``a * multiplier / 2**31``: int64 of two
    arrays of int32 values that are not both -2**31. Halves are rounded up."""
    product = a.astype(np.int64) * multiplier.astype(np.int64)
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    truncated: np.ndarray = np.where(nudged >= 0, nudged >> 31, -(-nudged >> 31))
    return truncated


def rdbpot(x: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """Rounding division by a power of two, ``x / 2**exponent``: int64 of int64 and an ``exponent``
    of 0..31. Halves are rounded away from zero."""
    mask = (np.int64(1) << exponent.astype(np.int64)) - 1
    threshold = (mask >> 1) + (x < 0)
    return np.asarray((x >> exponent) + ((x & mask) > threshold))


def requantize_fixed_point(acc: np.ndarray, multiplier: np.ndarray, shift: np.ndarray,
                           out_zero: int, clamp: tuple[int, int] = (-128, 127)) -> np.ndarray:
    """Accumulators to int8 values.

    Parameters
    ----------
    acc : int32 [N, ...]
        Sums, bias included. Where one shifted to the left needs more than 32 bits they are dropped
        (TFLite Micro does not define what happens).
    multiplier, shift : int32 [N]
        As of :func:`fixed_point_multiplier`.
    out_zero : :class:`int`
    clamp : (low, high)
        Bounds of the result, inclusive.
    """
    axes = (-1, *(1,) * (acc.ndim - 1))
    multiplier, shift = multiplier.reshape(axes), shift.reshape(axes).astype(np.int64)
    shifted = (acc.astype(np.int64) << np.maximum(shift, 0)).astype(np.int32)
    rounded = rdbpot(srdhm(shifted, multiplier), np.maximum(-shift, 0))
    return np.asarray(np.clip(rounded + out_zero, *clamp), np.int8)
