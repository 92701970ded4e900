"""Linear functions of one value, another one for each channel: what a layer of them yields, and
constants that make it yield given tables."""

import numpy as np

from weft.ir import Affine

from .rounding import requantize

__all__ = ["MOST_BITS", "affine", "affine_constants"]


MOST_BITS = 24
"""Of a factor's magnitude."""

_VALUES = np.arange(-128, 128)
_STEEPEST = 1024.0      # output steps for each input step; by then all values but one are bounds
_SEARCH = 110           # thirds of the range of slopes that are cut off
_UNITS = 10             # units tried, each twice the one before
_SMALLEST_UNIT = -30    # as a power of 2


def affine(layer: Affine, x: np.ndarray) -> np.ndarray:
    """One layer: int8 [C, H, W] to int8 of that shape."""
    sums = x.astype(np.int64) * layer.factor[:, None, None] + layer.bias[:, None, None]
    return requantize(sums.astype(np.int32), layer.scale, 0, layer.clamp)


def affine_constants(tables: np.ndarray, clamp: tuple[int, int]) \
        -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Constants of an :class:`weft.ir.Affine` that makes of every value what tables say.

    A table asks for ``t - 1/2 <= slope * v + offset <= t + 1/2`` at every value ``v`` whose result
    ``t`` is not a bound. The slope with the widest room for an offset is found, and both are
    rounded to multiples of a unit: of one that is a power of 2, so that ties stay ties.

    Parameters
    ----------
    tables : int8 [C, 256]
        Result for the value ``v`` at index ``v + 128``.
    clamp : (low, high)
        Bounds of all results.

    Returns
    -------
    int32 [C], int32 [C], float32 [C], int64 [C]
        Factor, bias, scale; and for how many values the result is another, at best.
    """
    low, high = clamp
    wanted = tables.astype(np.float64)
    lower = np.where(wanted > low, wanted - 0.5, -np.inf)
    upper = np.where(wanted < high, wanted + 0.5, np.inf)
    slope = np.where((tables == tables[:, :1]).all(axis=1), 0.0, _widest(lower, upper))
    reach = 128 * np.abs(slope) + np.abs(_middle(lower, upper, slope))
    with np.errstate(divide="ignore"):
        finest = np.minimum(MOST_BITS - 1 - np.log2(np.abs(slope)), 30 - np.log2(reach + 1))
    finest = np.minimum(np.floor(finest), -_SMALLEST_UNIT)
    count = len(tables)
    factor, bias, scale = np.zeros(count, int), np.zeros(count, int), np.ones(count, np.float32)
    fewest = np.full(count, 257)
    for coarser in range(_UNITS):
        unit = np.exp2(coarser - finest)
        first = np.rint(slope / unit)
        second = np.rint(_middle(lower, upper, first * unit) / unit)
        sums = (first[:, None] * _VALUES + second[:, None]).astype(np.int64)
        made = requantize(sums.astype(np.int32), unit.astype(np.float32), 0, clamp)
        differing = (made != tables).sum(axis=1)
        better = differing < fewest
        factor[better], bias[better], scale[better] = first[better], second[better], unit[better]
        fewest[better] = differing[better]
        if not fewest.any():
            break
    return factor.astype(np.int32), bias.astype(np.int32), scale, fewest


def _offsets(lower: np.ndarray, upper: np.ndarray, slope: np.ndarray) \
        -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest offset for a slope, float64 [C]; infinite where there is no bound."""
    straight = slope[:, None] * _VALUES
    return (lower - straight).max(axis=1), (upper - straight).min(axis=1)


def _middle(lower: np.ndarray, upper: np.ndarray, slope: np.ndarray) -> np.ndarray:
    least, most = _offsets(lower, upper, slope)
    least = np.where(np.isinf(least), most - 1, least)
    most = np.where(np.isinf(most), least + 1, most)
    return np.where(np.isinf(least), 0.0, (least + most) / 2)


def _widest(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The slope that leaves most room for an offset: the room is a concave function of it."""
    left = np.full(len(lower), -_STEEPEST)
    right = -left

    def room(slope: np.ndarray) -> np.ndarray:
        least, most = _offsets(lower, upper, slope)
        return most - least

    for _ in range(_SEARCH):
        third = (right - left) / 3
        better = room(left + third) < room(right - third)
        left = np.where(better, left + third, left)
        right = np.where(better, right, right - third)
    return (left + right) / 2
