"""Linear interpolation as an average whose taps have weights: its rule, and the proof for it.

Enlarged by a whole factor, and then averaged with weights, a plane is interpolated: with weights
1 2 1 in each axis behind an enlargement by 2, for instance, each output is made of 9, 3, 3 and 1
sixteenths of four inputs. At the rim of the plane, where a window reaches into the padding, all
that it sees is one input, so that the weights inside are what to divide by.

A framework works with real values: of each input, each product with a weight and each sum in
float32, in whatever order. That is that near to the exact result, so only exact sums near a tie of
the output may differ; and none where scale and weights are such that nothing is ever rounded.
"""

from functools import lru_cache, partial
from itertools import product
from math import prod

import numpy as np

from weft.hw.isa.commands import Rounding
from weft.ir import Pool, Tensor

from .proof import Exactness, Quantization, ScaleConstants
from .scaling import fit_scale, scaled

__all__ = ["interpolate", "interpolation_constants"]


_ROUNDINGS = 6      # of a product: its input, two weights one after the other; and three sums
_MANTISSA = 24      # bits of a float32


def interpolate(acc: np.ndarray, inside: np.ndarray, source: Tensor, target: Tensor,
                clamp: tuple[int, int]) -> np.ndarray:
    """int8 results of exact weighted sums of ``value - zero point``, by the weights inside."""
    real = acc * float(np.float32(source.scale)) / inside
    return _quantized(real, Quantization.of(target), clamp).astype(np.int8)


def _quantized(real: np.ndarray, y: Quantization, clamp: tuple[int, int]) -> np.ndarray:
    """What a float32 value and a QuantizeLinear make of real ones; never falls where they grow."""
    steps = np.rint(real.astype(np.float32) / np.float32(y.scale))
    return np.asarray(np.clip(steps + y.zero_point, *clamp))


def interpolation_constants(layer: Pool, source: Tensor, target: Tensor,
                            inside: int) -> tuple[ScaleConstants, Exactness]:
    """Constants for the windows of an interpolation that have so much weight inside the input."""
    assert layer.weights is not None and layer.rounding is Rounding.FLOAT32
    sums = [(_partial_sums(weights), sum(weights)) for weights in layer.weights]
    # A window at the rim sees one input alone: its sum is a multiple of all the weight.
    steps = [prod(part for part, (_, whole) in zip(parts, sums, strict=True) if part < whole)
             for parts in product(*(found for found, _ in sums)) if prod(parts) == inside]
    bits = (prod(whole for _, whole in sums) - 1).bit_length()
    return _constants(Quantization.of(source), Quantization.of(target), inside,
                      int(np.gcd.reduce(steps)), bits, layer.clamp)


def _partial_sums(weights: tuple[int, ...]) -> set[int]:
    """Weight that may be inside, of one axis."""
    return {sum(weights[first:last]) for last in range(len(weights) + 1) for first in range(last)}


@lru_cache(maxsize=256)
def _constants(x: Quantization, y: Quantization, inside: int, step: int, bits: int,
               clamp: tuple[int, int]) -> tuple[ScaleConstants, Exactness]:
    low, high = (bound - x.zero_point for bound in (-128, 127))
    sums = np.arange(inside * low, inside * high + 1, step, dtype=np.int64)
    scale = float(np.float32(x.scale))
    exact = sums * scale / inside
    rule = partial(_quantized, y=y, clamp=clamp)
    best = fit_scale(sums, rule(exact), scale / inside / float(np.float32(y.scale)),
                     y.zero_point, clamp)
    made = scaled((sums + best.bias)[None], np.array([best.scale]), np.array([best.out_zero]),
                  clamp)[0]
    mantissa, _ = float(scale).as_integer_ratio()
    significant = (mantissa // (mantissa & -mantissa)).bit_length()
    reach = max(high, -low)
    error = 0.0
    if significant + reach.bit_length() + bits > _MANTISSA:
        error = _ROUNDINGS * 2.0 ** -_MANTISSA * 1.001 * reach * scale
    differing = (rule(exact - error) != made) | (rule(exact + error) != made)
    return best, Exactness(len(sums), int(differing.sum()))
