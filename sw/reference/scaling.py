"""A float32 scale for integers, with which the hardware makes of them what a rule does."""

import numpy as np

from .proof import ScaleConstants

__all__ = ["fit_scale", "near_steps", "scaled"]


_ULPS = 24         # neighbours of a scale on each side
_NEAR = 2.0 ** -11  # of an output step: more than what any rounding can move

Pair = tuple[int, int]


def near_steps(value: np.ndarray, clamp: Pair) -> np.ndarray:
    """Where a real-valued result is so near to a half that rounding may decide."""
    inside = (value > clamp[0]) & (value < clamp[1])
    return np.asarray(inside & (np.abs(value - np.floor(value) - 0.5) < _NEAR))


def scaled(sums: np.ndarray, scale: np.ndarray, out_zero: np.ndarray, clamp: Pair) -> np.ndarray:
    """What the hardware makes of sums, [candidates, inputs]: float32 holding integers."""
    scaled = sums.astype(np.float32) * scale.astype(np.float32)[:, None]
    return np.asarray(np.clip(np.rint(scaled) + out_zero[:, None], *clamp))


def fit_scale(values: np.ndarray, rule: np.ndarray, ratio: float, zero: int,
               clamp: Pair) -> ScaleConstants:
    """Constants with which scaled ``values`` come nearest to ``rule``, both flat.

    The output's zero point is added after rounding, or before: as part of the bias, where it is
    a whole number of units. It makes a difference for ties.
    """
    near = near_steps(values * ratio + zero, clamp)
    values, rule = values[near], rule[near]
    around = np.arange(-_ULPS, _ULPS + 1)
    around = around[np.argsort(np.abs(around), kind="stable")]
    middle = int(np.float32(ratio).view(np.int32))
    scales = np.maximum(middle + around, 1 << 23).astype(np.int32).view(np.float32)
    choices = [(0, zero)]
    units = round(zero / ratio)
    if abs(units) < 1 << 30 and abs(units * ratio - zero) < 2.0 ** -16:
        choices.insert(0, (units, 0))
    best, fewest = None, 0
    for bias, out_zero in choices:
        for part in (slice(0, 1), slice(1, None)):
            scale = scales[part]
            made = scaled(np.broadcast_to(values + bias, (len(scale), values.size)), scale,
                           np.full(len(scale), out_zero), clamp)
            differing = (made != rule).sum(axis=1)
            at = int(differing.argmin())
            if best is None or differing[at] < fewest:
                fewest = int(differing[at])
                best = ScaleConstants(bias, float(scale[at]), out_zero)
            if fewest == 0:
                return best
    assert best is not None
    return best
