"""The rounding of TensorFlow Lite: a 31-bit multiplier and a shift, rounded twice or once.

The names are those of gemmlowp, from which TFLite has its two roundings.
"""

import numpy as np
from numpy.typing import ArrayLike

from weft.hw.isa.commands import Rounding

__all__ = ["ADD_SHIFT", "add_multipliers", "fixed_point_multiplier", "product_multiplier",
           "quantized_multiplier", "rdbpot", "requantize_fixed_point", "scale_fixed_point",
           "srdhm"]


ADD_SHIFT = 20  # to the left, of the operands of an ADD
_SHIFT_MIN = -31  # a multiplier that is smaller still counts as zero

Multiplier = tuple[np.ndarray, np.ndarray]


# Multipliers ----------------------------------------------------------------------------------

def quantized_multiplier(ratio: ArrayLike) -> Multiplier:
    """A scale as ``M * 2**(shift - 31)``, rounded to 31 bits::

        (q, shift) = frexp(ratio),  M = round(q * 2**31)

    Parameters
    ----------
    ratio : float64 [N]

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
    ratio = np.atleast_1d(np.asarray(ratio, np.float64))
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


def fixed_point_multiplier(sx: ArrayLike, sw: ArrayLike, sy: float) -> Multiplier:
    """Scale from accumulator to output of a convolution: ``sx * sw / sy``, computed in float64 from
    the float32 scales; results and errors are those of :func:`quantized_multiplier`."""
    sx, sw = (np.atleast_1d(scale).astype(np.float32).astype(np.float64) for scale in (sx, sw))
    # Of float32 values neither overflows; what a division by zero yields is refused.
    with np.errstate(divide="ignore", invalid="ignore"):
        return quantized_multiplier(sx * sw / np.float64(np.float32(sy)))


def product_multiplier(sa: float, sb: float, sy: float) -> Multiplier:
    """Scale from product to output of a MUL: ``fl32(fl32(sa * sb) / sy)``, of float32 scales."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return quantized_multiplier(np.float32(sa) * np.float32(sb) / np.float32(sy))


def add_multipliers(sa: float, sb: float, sy: float) -> tuple[Multiplier, Multiplier, Multiplier]:
    """Scales of an ADD: of both operands relative to twice the larger one, and from there, less
    :data:`ADD_SHIFT` bits, to the output."""
    a, b, y = (float(np.float32(scale)) for scale in (sa, sb, sy))
    twice = 2 * max(a, b)
    return (quantized_multiplier(a / twice), quantized_multiplier(b / twice),
            quantized_multiplier(twice / ((1 << ADD_SHIFT) * y)))


# Rounding -------------------------------------------------------------------------------------

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


def _once(acc: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """``acc * multiplier / 2**(31 - shift)``, halves rounded away from zero: int64. One whose
    ``acc`` shifted to the left needs more than 32 bits is 2**31, with its sign."""
    acc = acc.astype(np.int64)
    product = acc * multiplier.astype(np.int64)
    shifted = acc << np.maximum(shift, 0)
    places = 31 - shift
    half = np.where(places > 0, np.int64(1) << np.maximum(places - 1, 0), 0)
    rounded = np.sign(product) * (np.abs(product) + half >> places)
    return np.asarray(np.where(shifted == shifted.astype(np.int32), rounded,
                               np.sign(acc) << np.int64(31)))


def scale_fixed_point(acc: np.ndarray, multiplier: np.ndarray, shift: np.ndarray,
                      rounding: Rounding = Rounding.FIXED_POINT) -> np.ndarray:
    """``acc * multiplier * 2**(shift - 31)`` as integers.

    With ``FIXED_POINT`` it is ``RDBPOT(SRDHM(acc << max(shift, 0), multiplier), max(-shift, 0))``;
    where ``acc`` shifted to the left needs more than 32 bits they are dropped (TFLite does not
    define what happens). With ``FIXED_POINT_ONCE`` it is ``acc * multiplier / 2**(31 - shift)``
    in 64 bits, halves rounded away from zero; where ``acc`` shifted to the left needs more than 32
    bits, it is a number beyond any int8.

    Parameters
    ----------
    acc : int32
    multiplier, shift : int32
        As of :func:`quantized_multiplier`; of a shape that fits ``acc``.

    Returns
    -------
    int64 of the shape of ``acc``
    """
    shift = shift.astype(np.int64)
    if rounding is Rounding.FIXED_POINT_ONCE:
        return _once(acc, multiplier, shift)
    shifted = (acc.astype(np.int64) << np.maximum(shift, 0)).astype(np.int32)
    return rdbpot(srdhm(shifted, multiplier), np.maximum(-shift, 0))


def requantize_fixed_point(acc: np.ndarray, multiplier: np.ndarray, shift: np.ndarray,
                           out_zero: int, clamp: tuple[int, int] = (-128, 127), *,
                           rounding: Rounding = Rounding.FIXED_POINT) -> np.ndarray:
    """Accumulators to int8 values.

    Parameters
    ----------
    acc : int32 [N, ...]
        Sums, bias included.
    multiplier, shift : int32 [N]
        As of :func:`quantized_multiplier`.
    out_zero : :class:`int`
    clamp : (low, high)
        Bounds of the result, inclusive.
    rounding : :class:`Rounding`
        One of the fixed-point rules; see :func:`scale_fixed_point`.
    """
    axes = (-1, *(1,) * (acc.ndim - 1))
    scaled = scale_fixed_point(acc, multiplier.reshape(axes), shift.reshape(axes), rounding)
    return np.asarray(np.clip(scaled + out_zero, *clamp), np.int8)
