"""SOFTMAX by the fixed-point arithmetic of the reference kernel.

``Qm`` is a fixed-point number of 32 bits with m integer bits, as gemmlowp's.
"""

import math

import numpy as np

from weft import reference

__all__ = ["softmax"]


_INPUT_BITS = 5         # integer bits of the scaled difference to the maximum
_SUM_BITS = 12          # integer bits of the sum of exponentials
_ONE = (1 << 31) - 1    # in Q0

# exp(-2**k) in Q0, for k from -2.
_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
_EXP_OF_EIGHTH = 1895147668     # exp(-1/8) in Q0
_THIRD = 715827883              # in Q0
_48_BY_17, _MINUS_32_BY_17 = 1515870810, -1010580540    # in Q2

_INT32 = np.iinfo(np.int32)


def softmax(x: np.ndarray, scale: float, beta: float) -> np.ndarray:
    """int8 of scale 1/256 and zero point -128, over the last dimension of int8 ``x``."""
    real = min(float(np.float32(beta)) * scale * (1 << (31 - _INPUT_BITS)), (1 << 31) - 1.0)
    multiplier, shift = reference.quantized_multiplier(real)
    radius = ((1 << _INPUT_BITS) - 1) * 2.0 ** (31 - _INPUT_BITS) / 2.0 ** int(shift[0])
    lowest = -math.floor(radius)

    difference = x.astype(np.int64) - x.max(axis=-1, keepdims=True)
    counts = difference >= lowest
    scaled = reference.srdhm(np.where(counts, difference, 0) << shift.astype(np.int64), multiplier)
    exponential = _exp(scaled)
    total = np.where(counts, _rdbpot(exponential, _SUM_BITS), 0).sum(axis=-1, keepdims=True)
    inverse, over = _reciprocal(total)
    result = reference.rdbpot(reference.srdhm(inverse, exponential), over + 31 - 8) - 128
    return np.asarray(np.where(counts, np.clip(result, -128, 127), -128), np.int8)


def _rdbpot(x: np.ndarray, exponent: int) -> np.ndarray:
    return reference.rdbpot(x, np.array(exponent))


def _shifted(x: np.ndarray, places: int) -> np.ndarray:
    """To the left, saturating."""
    return np.clip(x << places, _INT32.min, _INT32.max)


def _exp(a: np.ndarray) -> np.ndarray:
    """Q0 of values of at most 0 in Q5."""
    quarter = 1 << (31 - _INPUT_BITS - 2)
    low = (a & (quarter - 1)) - quarter
    result = _exp_of_quarter(_shifted(low, _INPUT_BITS))
    rest = low - a
    for power, factor in enumerate(_POWERS, -2):
        if power < _INPUT_BITS:
            bit = 1 << (31 - _INPUT_BITS + power)
            result = np.where(rest & bit, reference.srdhm(result, np.array(factor)), result)
    return np.where(a == 0, _ONE, result)


def _exp_of_quarter(a: np.ndarray) -> np.ndarray:
    """Q0 of values from -1/4 to 0 in Q0: a Taylor series around -1/8."""
    x = a + (1 << 28)
    x2 = reference.srdhm(x, x)
    x3 = reference.srdhm(x2, x)
    x4 = reference.srdhm(x2, x2)
    sixth = reference.srdhm(_rdbpot(x4, 2) + x3, np.array(_THIRD)) + x2
    series = x + _rdbpot(sixth, 1)
    return _EXP_OF_EIGHTH + reference.srdhm(series, np.array(_EXP_OF_EIGHTH))


def _reciprocal(total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of sums in Q12: a mantissa in Q0, and by how many bits the sum exceeds 1. Newton's method,
    after which three steps are enough."""
    zeros = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    fraction = (total << zeros) - (1 << 31)
    half = fraction + _ONE
    half = np.where(half >= 0, half + 1, half - 1) // 2     # rounded half sum with one
    x = _48_BY_17 + reference.srdhm(half, np.array(_MINUS_32_BY_17))
    for _ in range(3):
        error = (1 << 29) - reference.srdhm(half, x)
        x = x + _shifted(reference.srdhm(x, error), 2)
    return _shifted(x, 1), _SUM_BITS - zeros
