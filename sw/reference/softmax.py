"""The softmax of quantized rows, by the rule of onnxruntime's QLinearSoftmax.

The exponential of a value depends on its distance from the largest one of its row alone, so there
are 256 of them. Their sum is float32, added up from the first value of a row to the last; the share
of a value in it is exact, and rounded once::

    t[i]  = fl32(exp((i - 255) * sx + max(0, fl32(ln(fl32(FLT_MAX / length))) - 5))
    sum   = fl32(... fl32(fl32(t[x0 - largest + 255]) + t[x1 - largest + 255]) + ...)
    y     = min(RNE(t * floor(fl32(1 / sy)) / sum) + zy, 127)
"""

import math

import numpy as np

from weft.ir import Softmax, Tensor

__all__ = ["exponentials", "shares", "softmax", "softmax_factor"]


_FLOAT_BITS = 24    # of the significand of a float32
_MARGIN = 5.0       # exponents of e that the sum of a row stays below the largest float32


def exponentials(scale: float, length: int) -> np.ndarray:
    """The table of a row of ``length`` values, float32 [256]: entry ``255 - d`` belongs to a value
    that is ``d`` below the largest one. They are as large as their sum allows."""
    most = np.float32(np.finfo(np.float32).max) / np.float32(length)
    reach = float(np.float32(math.log(float(most))))
    offset = max(0.0, reach - _MARGIN) / float(np.float32(scale))
    return np.array([math.exp((index - 255 + offset) * float(np.float32(scale)))
                     for index in range(256)]).astype(np.float32)


def softmax_factor(scale: float) -> int:
    """What shares are multiplied with for an output of ``scale``: ``floor(fl32(1 / scale))``."""
    return int(np.floor(np.float32(1) / np.float32(scale)))


def shares(values: np.ndarray, terms: np.ndarray, factor: int,
           exponent: int = 0) -> np.ndarray:
    """``factor * 2**exponent`` times the share of each value in its row, rounded to an integer.

    No float64 here is rounded but the last quotient. It is at least ``2**-41`` of itself away from
    what lies between two integers, or just there, so that does not matter.

    Parameters
    ----------
    values : int [..., length]
        From -128 to 127.
    terms : float64 [256]
        Of at most 24 bits each, at least 0, by the distance from the largest value of the row.
    factor : :class:`int`
        From 1 to 65535.
    exponent : :class:`int`
        From -15 to 0.

    Returns
    -------
    int64 [..., length]
        0 where a term is.
    """
    at = values.astype(np.int64)
    own = terms[at - at.max(axis=-1, keepdims=True) + 255]
    total = np.zeros(own.shape[:-1])
    for number in range(own.shape[-1]):
        total = _round(total + own[..., number])
    # Where all terms of a row are zero there is nothing to divide by.
    quotient = own * math.ldexp(factor, exponent) / np.where(total > 0, total, 1)[..., None]
    return np.rint(quotient).astype(np.int64)


def _round(values: np.ndarray) -> np.ndarray:
    """Sums of two float32 values as float32, whatever their exponents: rounded to even."""
    fraction, exponent = np.frexp(values)
    return np.ldexp(np.rint(np.ldexp(fraction, _FLOAT_BITS)), exponent - _FLOAT_BITS)


def softmax(layer: Softmax, values: np.ndarray, target: Tensor) -> np.ndarray:
    """One layer, int8 [C, H, W]."""
    rows = values.reshape(layer.heads, -1, *values.shape[1:])
    found = shares(np.moveaxis(rows, 1, -1), layer.table.astype(np.float64), layer.factor)
    rounded = np.minimum(found + target.zero_point, 127).astype(np.int8)
    return np.ascontiguousarray(np.moveaxis(rounded, -1, 1).reshape(values.shape))
