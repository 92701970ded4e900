"""Constants of element-wise layers in fixed point, and the proof that they compute what TensorFlow
Lite computes.

TFLite scales both terms of a sum, rounds them to some 2**-20 of an output step, and rounds the sum
twice. The vector engine adds exact products and rounds at the end. Both differ in what lies that
near to a half: where the real sum is one, as it is for scales of a simple ratio, the rounding of
the terms may decide, and that no constants can follow. All pairs are compared, and those that
differ are counted.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from weft import reference
from weft.hw.isa.commands import Rounding
from weft.ir import Add, layout

from .proof import Exactness, FixedAddConstants, Quantization, ScaleConstants

__all__ = ["fixed_add_constants", "fixed_average_constants"]


_CANDIDATES = 128    # constants tried at a time
_DRAWN = 1 << 14     # of which they are the best
_BATCHES = 16        # at most
_PATIENCE = 4        # batches; if more than this many inputs still differ, no others will help
_ULPS = 24           # neighbours of a scale above it
_MULTIPLIER_MAX = (1 << 24) - 1
_BIAS_MAX = (1 << layout.FIXED_POINT_BIAS_BITS - 1) - 1
_INT32_MAX = (1 << 31) - 1
_NEAR = 2.0 ** -11   # of an output step: more than what any rounding can move

Pair = tuple[int, int]


@lru_cache(maxsize=1024)
def fixed_average_constants(count: int, clamp: Pair) -> tuple[ScaleConstants, Exactness]:
    """Constants with which a sum of ``count`` int8 values becomes their average, halves rounded
    away from zero."""
    sums = np.arange(-128 * count, 127 * count + 1, dtype=np.int64)
    rule = np.clip(np.sign(sums) * ((np.abs(sums) + count // 2) // count), *clamp)
    best, fewest = 0.0, len(sums) + 1
    # Halves go away from zero if the scale is a little too large.
    nearest = int(np.float32(1 / count).view(np.int32))
    for scale in np.arange(nearest, nearest + _ULPS, dtype=np.int32).view(np.float32):
        made = np.clip(np.rint(sums.astype(np.float32) * scale), *clamp)
        differing = int((made != rule).sum())
        if differing < fewest:
            best, fewest = float(scale), differing
        if not fewest:
            break
    return ScaleConstants(0, best, 0), Exactness(len(sums), fewest)


# Addition -------------------------------------------------------------------------------------

@lru_cache(maxsize=1024)
def fixed_add_constants(a: Quantization, b: Quantization, y: Quantization, clamp: Pair,
                        subtract: bool = False) -> tuple[FixedAddConstants, Exactness]:
    """Constants with which ADD follows the rule of ADD, or SUB, of TFLite for as many pairs as
    possible. The second factor is positive in either case."""
    sign = -1 if subtract else 1
    x, z = reference.every_pair()
    rule = reference.add(Add(name="", op="", output="", a="", b="", clamp=clamp,
                             rounding=Rounding.FIXED_POINT, subtract=subtract),
                         x[None], z[None], a.tensor(), b.tensor(), y.tensor())[0]
    scales = [float(np.float32(each.scale)) for each in (a, b, y)]
    values = x.astype(np.int64) - a.zero_point, sign * (z.astype(np.int64) - b.zero_point)
    real = (values[0] * scales[0] + values[1] * scales[1]) / scales[2]
    near = ((real + y.zero_point > clamp[0] - 1) & (real + y.zero_point < clamp[1] + 1)
            & (np.abs(real - np.floor(real) - 0.5) < _NEAR))
    some = values[0][near], values[1][near]

    best, fewest = None, 0
    for number, (factors, multiplier, shift) in enumerate(_candidates(
            scales, (a.zero_point, sign * b.zero_point))):
        sums = factors[0][:, None] * some[0] + factors[1][:, None] * some[1]
        for rounding in (Rounding.FIXED_POINT_ONCE, Rounding.FIXED_POINT):
            made = reference.requantize_fixed_point(sums, multiplier, shift, y.zero_point, clamp,
                                                    rounding=rounding)
            differing = (made != rule[near]).sum(axis=1)
            at = int(differing.argmin())
            if best is None or differing[at] < fewest:
                fewest = int(differing[at])
                first, second = int(factors[0][at]), int(factors[1][at])
                best = FixedAddConstants(
                    first, second, -first * a.zero_point - sign * second * b.zero_point,
                    int(multiplier[at]), int(shift[at]), rounding)
        if fewest == 0 or (number >= _PATIENCE and fewest > _PATIENCE):
            break
    assert best is not None
    sums = (best.first * values[0] + best.second * values[1]).astype(np.int32)
    made = reference.requantize_fixed_point(
        sums[None], np.array([best.multiplier]), np.array([best.shift]), y.zero_point, clamp,
        rounding=best.rounding)[0]
    return best, Exactness(rule.size, int((made != rule).sum()))


def _candidates(scales: list[float], zeros: Pair) -> Iterator[
        tuple[tuple[np.ndarray, np.ndarray], np.ndarray, np.ndarray]]:
    """Batches of factors of both operands, and of multiplier and shift of the sum, the most obvious
    first."""
    large, small = (0, 1) if scales[0] >= scales[1] else (1, 0)
    ratio = scales[small] / scales[large]
    # The largest factor with which neither sum, bias nor factor overflows.
    most = int(0.99 * min(_MULTIPLIER_MAX, _INT32_MAX / (255 * (1 + ratio)),
                          _BIAS_MAX / max(1, abs(zeros[large] + zeros[small] * ratio))))
    rng = np.random.default_rng(0)

    def batch(first: np.ndarray, second: np.ndarray, tilt: np.ndarray) -> tuple[
            tuple[np.ndarray, np.ndarray], np.ndarray, np.ndarray]:
        factors = first, np.rint(second).astype(np.int64)
        return ((factors[large], factors[small]), *reference.quantized_multiplier(
            scales[large] / scales[2] / first * (1 + tilt)))

    # Powers of 2 keep simple ratios exact, and so their halves.
    plain = np.append(1 << np.arange(10, most.bit_length())[::-1], most)
    tilts = np.array([0, 1, -1, 4, -4]) * 2.0 ** -30
    yield batch(np.repeat(plain, len(tilts)), np.repeat(plain * ratio, len(tilts)),
                np.tile(tilts, len(plain)))
    for number in range(_BATCHES):
        # Of many, those of which the other one is nearly an integer, too. What is tried gets ever
        # further away from the true ratios.
        spread = 2.0 ** (number / 2)
        first = rng.integers(most // 2, most, _DRAWN)
        second = first * ratio * (1 + rng.normal(0, spread * 2.0 ** -24 * (number > 0), _DRAWN))
        chosen = np.argsort(np.abs(second - np.rint(second)))[:_CANDIDATES]
        yield batch(first[chosen], second[chosen],
                    rng.normal(0, spread * 2.0 ** -25, _CANDIDATES))
