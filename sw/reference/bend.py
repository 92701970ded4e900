"""Functions of one value that are linear on both sides of a bend, other ones for each channel, as a
PRelu is: constants with which a sum of two tensors yields given tables."""

from dataclasses import dataclass

import numpy as np

from weft.ir import ChannelSum

from .rounding import requantize

__all__ = ["Bend", "bend_constants", "channel_sum"]


_VALUES = np.arange(-128, 128)
_SLOPE_BITS = 22        # of the steeper slope, so that neither a factor nor a sum is too large
_SMALLEST_UNIT = -30    # as a power of 2


def channel_sum(layer: ChannelSum, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One layer: int8 [C, H, W] of both operands to int8 of that shape."""
    first, second, bias = (values.astype(np.int64)[:, None, None]
                           for values in (layer.first, layer.second, layer.bias))
    sums = a.astype(np.int64) * first + b.astype(np.int64) * second + bias
    return requantize(sums.astype(np.int32), layer.scale, layer.zero, layer.clamp)


@dataclass(frozen=True, kw_only=True, eq=False)
class Bend:
    """How a :class:`weft.ir.ChannelSum` makes of a value ``v`` what tables say.

    Attributes
    ----------
    mirrored : :class:`bool`
        Operand ``a`` is not ``v``, but :attr:`distance` of it. Operand ``b`` is ``min(v, at)``.
    at : :class:`int`
        The value with the bend.
    first, second, bias : int32 [C]
    scale : float32 [C]
    zero : :class:`int`
    clamp : (low, high)
        As of :class:`weft.ir.ChannelSum`.
    """

    mirrored: bool
    at: int
    first: np.ndarray
    second: np.ndarray
    bias: np.ndarray
    scale: np.ndarray
    zero: int
    clamp: tuple[int, int]

    @property
    def distance(self) -> np.ndarray:
        """How far values are from the bend, less 128: int8 [256], from that of -128 on."""
        return (np.abs(_VALUES - self.at) - 128).astype(np.int8)


def bend_constants(tables: np.ndarray, at: int) -> Bend | None:
    """Constants that yield every entry of the tables, if there are some.

    With slopes ``p`` above the bend and ``s`` below it, a result is ``p * v + (s - p) * min(v,
    at)``, or, with ``d`` for the distance from the bend, ``p * d + (s + p) * min(v, at)``. The
    hardware has factors without a sign, and adds or subtracts in all channels alike. So the first
    form is for slopes ``s <= p`` in all channels, the second one for ``s >= -p``.

    Parameters
    ----------
    tables : int8 [C, 256]
        Result for the value ``v`` at index ``v + 128``.
    at : :class:`int`
        The value with the bend, int8. All channels must have the same result there.
    """
    zeros = tables[:, at + 128]
    if (zeros != zeros[0]).any():
        return None
    zero, clamp = int(zeros[0]), (int(tables.min()), int(tables.max()))
    above = _slopes(tables, at, clamp, range(at + 1, 128))
    below = _slopes(tables, at, clamp, range(-128, at))
    if at == 127:
        above = np.abs(below)   # of nothing
    for mirrored in (False, True):
        found = _constants(above, below, at, zero, clamp, mirrored=mirrored)
        if found is not None and (_made(found) == tables).all():
            return found
    return None


def _slopes(tables: np.ndarray, at: int, clamp: tuple[int, int], values: range) -> np.ndarray:
    """The slope in the middle of those that yield the entries of ``values``, float64 [C]."""
    if not values:
        return np.zeros(len(tables))
    wanted = tables[:, values.start + 128:values.stop + 128].astype(np.float64)
    zero, steps = tables[:, at + 128, None].astype(np.float64), np.asarray(values) - at
    lower = np.where(wanted > clamp[0], wanted - 0.5 - zero, -np.inf) / steps
    upper = np.where(wanted < clamp[1], wanted + 0.5 - zero, np.inf) / steps
    least, most = np.minimum(lower, upper).max(axis=1), np.maximum(lower, upper).min(axis=1)
    least = np.where(np.isinf(least), np.where(np.isinf(most), 0.0, most - 1), least)
    most = np.where(np.isinf(most), least + 1, most)
    return (least + most) / 2


def _constants(above: np.ndarray, below: np.ndarray, at: int, zero: int, clamp: tuple[int, int], *,
               mirrored: bool) -> Bend | None:
    """Constants for these slopes, in one of both forms, if there are any in it; those below the
    bend are moved to where they are possible."""
    if (above < 0).any():
        return None
    below = np.maximum(below, -above) if mirrored else np.minimum(below, above)
    steepest = np.maximum(above, np.abs(below))
    finest = _SLOPE_BITS - np.ceil(np.log2(np.maximum(steepest, 2.0 ** _SMALLEST_UNIT)))
    unit = np.exp2(-np.minimum(finest, -_SMALLEST_UNIT))
    high, low = (np.rint(slope / unit).astype(np.int64) for slope in (above, below))
    if mirrored:
        second = low + high
        bias = 128 * high - at * second
    else:
        second = low - high
        bias = -at * low
    return Bend(mirrored=mirrored, at=at, first=high.astype(np.int32),
                second=second.astype(np.int32), bias=bias.astype(np.int32),
                scale=unit.astype(np.float32), zero=zero, clamp=clamp)


def _made(found: Bend) -> np.ndarray:
    """int8 [C, 256]: what constants make of every value."""
    layer = ChannelSum(name="", op="", output="", a="", b="", first=found.first,
                       second=found.second, bias=found.bias, scale=found.scale, zero=found.zero,
                       clamp=found.clamp)
    every = _VALUES.astype(np.int8)
    first = found.distance if found.mirrored else every
    shape = (len(found.first), 1, 256)
    return channel_sum(layer, np.broadcast_to(first, shape),
                       np.broadcast_to(np.minimum(every, np.int8(found.at)), shape))[:, 0]
