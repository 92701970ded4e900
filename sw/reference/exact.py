"""Constants of element-wise layers, and the proof that they compute what onnxruntime computes.

The vector engine adds integers and rounds at the end; onnxruntime works in float32 and rounds
after every step. Both make steps at certain inputs, and there are few inputs: start from the
real-valued optimum, compare on all of them, and try neighbouring constants until none differs.
What is left is counted.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np

from weft import reference
from weft.hw.isa.commands import Rounding
from weft.ir import (
    NO_PADS,
    Add,
    Affine,
    Convolution,
    Depthwise,
    Graph,
    Layer,
    Lookup,
    Multiply,
    Pool,
    PoolKind,
    layout,
)

from . import vector as vector_model
from .exact_fixed_point import fixed_add_constants, fixed_average_constants
from .interpolation import interpolation_constants
from .proof import AddConstants, Exactness, Quantization, ScaleConstants
from .real_sums import differing_sums
from .scaling import fit_scale, near_steps, scaled

__all__ = ["Exactness", "Quantization", "AddConstants", "ScaleConstants", "add_constants",
           "multiply_constants", "average_constants", "average_windows", "exactness",
           "pool_constants"]


_CANDIDATES = 64   # constants tried at a time
_BATCHES = 64      # at most
_PATIENCE = 8      # batches; if more than this many inputs still differ, they are ties in a row
_MULTIPLIER_MAX = (1 << 24) - 1
_INT32_MAX = (1 << 31) - 1

Pair = tuple[int, int]


def exactness(graph: Graph, layer: Layer) -> Exactness | None:
    """The proof for a layer; :py:`None` if it is exact by construction, as convolutions, maxima,
    copies and products in fixed point are."""
    def of(name: str) -> Quantization:
        return Quantization.of(graph.tensors[name])

    match layer:
        case Convolution(real_sums=True) | Depthwise(real_sums=True):
            return Exactness(*differing_sums(layer, graph.tensors[layer.input],
                                             graph.tensors[layer.output]))
        case Add(rounding=Rounding.FIXED_POINT):
            return fixed_add_constants(of(layer.a), of(layer.b), of(layer.output), layer.clamp,
                                       layer.subtract)[1]
        case Add():
            return add_constants(of(layer.a), of(layer.b), of(layer.output), layer.clamp)[1]
        case Multiply(rounding=Rounding.FLOAT32):
            return multiply_constants(of(layer.a), of(layer.b), of(layer.output), layer.clamp)[1]
        case Pool(kind=PoolKind.AVERAGE):
            total = Exactness(0, 0)
            inside, divisors = (array.ravel().tolist()
                                for array in average_windows(graph, layer))
            for kind in sorted(set(zip(inside, divisors, strict=True))):
                total += pool_constants(graph, layer, *kind)[1]
            return total
        case Lookup():
            return Exactness(layer.table.size, 0)
        case Affine():  # tables of what it should make come first
            return Exactness(256 * len(layer.factor), 0)
    return None


# Addition -------------------------------------------------------------------------------------

@lru_cache(maxsize=1024)
def add_constants(a: Quantization, b: Quantization, y: Quantization,
                  clamp: Pair) -> tuple[AddConstants, Exactness]:
    """Constants with which ADD follows the rule of QLinearAdd for as many pairs as possible.

    Returns
    -------
    :class:`AddConstants`, :class:`Exactness`
        The zero point of the output is part of the bias, because QLinearAdd rounds after adding
        it.
    """
    x, z = reference.every_pair()
    rule = reference.add(Add(name="", op="Add", output="", a="", b="", clamp=clamp), x[None],
                         z[None], a.tensor(), b.tensor(), y.tensor())[0]
    scale = np.float32(y.scale)
    ratios = (float(np.float32(a.scale) / scale), float(np.float32(b.scale) / scale))
    offset = y.zero_point - ratios[0] * a.zero_point - ratios[1] * b.zero_point
    real = offset + x.astype(np.int64) * ratios[0] + z.astype(np.int64) * ratios[1]
    near = near_steps(real, clamp)
    first_values, second_values = x[near].astype(np.int64), z[near].astype(np.int64)

    best, fewest = None, 0
    for number, (first, second, bias, unit) in enumerate(
            _add_candidates(ratios, offset, float(np.abs(real).max()))):
        sums = (first[:, None] * first_values + second[:, None] * second_values + bias[:, None])
        made = scaled(sums, unit, np.zeros(len(unit)), clamp)
        differing = (made != rule[near]).sum(axis=1)
        at = int(differing.argmin())
        if best is None or differing[at] < fewest:
            fewest = int(differing[at])
            best = AddConstants(int(first[at]), int(second[at]), int(bias[at]), float(unit[at]))
        if fewest == 0 or (number >= _PATIENCE and fewest > _PATIENCE):
            break
    assert best is not None
    proof = vector_model.add(
        x[None], z[None], (np.array([best.first]), np.array([best.second])),
        np.array([best.bias], np.int32), np.array([best.scale], np.float32), clamp=clamp)
    return best, Exactness(rule.size, int((proof[0] != rule).sum()))


def _add_candidates(ratios: tuple[float, float], offset: float, extreme: float) \
        -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Batches of multipliers, biases and scales, the most obvious first."""
    # The smallest unit in which neither the sum nor a multiplier overflows, with room to vary.
    finest = np.log2(min((_INT32_MAX - (1 << 12)) / max(extreme, 1.0),
                         (_MULTIPLIER_MAX - 4) / max(*ratios, 2.0 ** -20)))
    rng = np.random.default_rng(0)

    def batch(exponents: np.ndarray, wobble: np.ndarray, shift: np.ndarray) \
            -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        scale = np.exp2(-exponents).astype(np.float32)
        units = 1.0 / scale.astype(np.float64)
        first, second = (np.clip(np.rint(units * ratio + wobble[which]), 0, _MULTIPLIER_MAX)
                         for which, ratio in enumerate(ratios))
        bias = np.clip(np.rint(units * (offset + shift)), -_INT32_MAX, _INT32_MAX)
        return first.astype(np.int64), second.astype(np.int64), bias.astype(np.int64), scale

    # Powers of 2 keep simple ratios exact, and so their ties.
    plain = np.append(np.floor(finest) - np.arange(8), finest)
    yield batch(plain, np.zeros((2, len(plain))), np.zeros(len(plain)))
    for _ in range(_BATCHES):
        exponents = finest - 1.5 * rng.random(_CANDIDATES)
        exponents[::2] = np.floor(exponents[::2])
        yield batch(exponents, rng.uniform(-2, 2, (2, _CANDIDATES)),
                    rng.uniform(-1, 1, _CANDIDATES) * 2.0 ** -15)


# Products -------------------------------------------------------------------------------------

@lru_cache(maxsize=1024)
def multiply_constants(a: Quantization, b: Quantization, y: Quantization,
                       clamp: Pair) -> tuple[ScaleConstants, Exactness]:
    """Constants with which MULTIPLY follows the rule of QLinearMul for as many pairs as
    possible."""
    x, z = reference.every_pair()
    rule = reference.multiply(Multiply(name="", op="Mul", output="", a="", b="", clamp=clamp),
                              x[None], z[None], a.tensor(), b.tensor(), y.tensor())[0]
    ratio = float(reference.multiplier(a.scale, b.scale, y.scale)[0])
    products = (x.astype(np.int64) - a.zero_point) * (z.astype(np.int64) - b.zero_point)
    best = fit_scale(products.ravel(), rule.ravel(), ratio, y.zero_point, clamp)
    proof = vector_model.multiply(
        x[None], z[None], np.array([best.bias], np.int32), np.array([best.scale], np.float32),
        a_zero=a.zero_point, b_zero=b.zero_point, out_zero=best.out_zero, clamp=clamp)
    return best, Exactness(rule.size, int((proof[0] != rule).sum()))


# Averages -------------------------------------------------------------------------------------

def average_windows(graph: Graph, layer: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Taps inside the input, and the divisor, of every window of an average: int64
    [out_h, out_w] each."""
    source, target = graph.tensors[layer.input], graph.tensors[layer.output]
    bare = replace(layer, count_pads=NO_PADS)
    return (reference.average_counts(bare, source, target),
            reference.average_counts(layer, source, target))


def pool_constants(graph: Graph, layer: Pool, inside: int,
                   divisor: int) -> tuple[ScaleConstants, Exactness]:
    """Constants for the windows of an average that have so many taps inside the input, and this
    divisor, by the rule of the layer."""
    if layer.rounding is Rounding.FIXED_POINT:
        return fixed_average_constants(inside, layer.clamp)
    if layer.weights is not None:
        return interpolation_constants(layer, graph.tensors[layer.input],
                                       layer.result(graph.tensors[layer.output]), inside)
    source, target = (Quantization.of(tensor) for tensor in (
        graph.tensors[layer.input], layer.result(graph.tensors[layer.output])))
    return average_constants(source, target, layer.multiplier, inside, divisor, layer.clamp,
                             layer.late_zero)


@lru_cache(maxsize=1024)
def average_constants(x: Quantization, y: Quantization, multiplier: float | None, inside: int,
                      divisor: int, clamp: Pair,
                      late_zero: bool = False) -> tuple[ScaleConstants, Exactness]:
    """Constants that make averages of sums of ``value - zero point``.

    With a ``multiplier`` the rule is that of the requantization, and the hardware follows it. The
    float32 rule of QLinearAveragePool adds up real values, each rounded: its result is not quite
    a function of the exact sum. So all results that rounding could give are compared, and a sum
    counts as differing if only one of them does.

    Parameters
    ----------
    inside : :class:`int`
        Taps of the window that are inside the input.
    divisor : :class:`int`
    late_zero : :class:`bool`
        As in :class:`weft.ir.Pool`.
    """
    low, high = (bound - x.zero_point for bound in (-128, 127))
    sums = np.arange(inside * low, inside * high + 1, dtype=np.int64)
    if multiplier is not None:
        scale = float(layout.hardware_scale(np.array([multiplier], np.float32))[0])
        return ScaleConstants(0, scale, y.zero_point), Exactness(len(sums), 0)

    ratio = float(np.float32(x.scale)) / divisor / float(np.float32(y.scale))
    exact = sums * float(np.float32(x.scale))
    averages = partial(_averages, y=y, divisor=divisor, clamp=clamp, late_zero=late_zero)
    best = fit_scale(sums, averages(exact), ratio, y.zero_point, clamp)
    made = scaled((sums + best.bias)[None], np.array([best.scale]), np.array([best.out_zero]),
                   clamp)[0]
    differing = np.ones(len(sums), bool)
    for bound in (_rough_error, _close_error):
        error = bound(x, sums[differing], inside)
        differing[differing] = (
            (averages(exact[differing] - error) != made[differing])
            | (averages(exact[differing] + error) != made[differing]))
    return best, Exactness(len(sums), int(differing.sum()))


def _averages(total: np.ndarray, y: Quantization, divisor: int, clamp: Pair,
              late_zero: bool) -> np.ndarray:
    """What QLinearAveragePool, or a mean and QuantizeLinear, make of real sums; never falls where
    the sum grows."""
    offset = 128 * y.unsigned
    scaled = total.astype(np.float32) / np.float32(divisor) / np.float32(y.scale)
    if late_zero:
        return np.asarray(np.clip(np.rint(scaled) + y.zero_point, *clamp))
    return np.asarray(np.clip(np.rint(scaled + np.float32(y.zero_point + offset)) - offset,
                              *clamp))


# A float32 sum of real values differs from the exact one, because every value and every partial
# sum is rounded, by at most half of its last place. Both functions bound the difference for exact
# sums, int64 [sums], of ``taps`` values: the first quickly, the second well.

def _rough_error(x: Quantization, sums: np.ndarray, taps: int) -> np.ndarray:
    return taps * 2.0 ** -24 * _magnitudes(x, sums, taps) * float(np.float32(x.scale))


def _close_error(x: Quantization, sums: np.ndarray, taps: int) -> np.ndarray:
    largest = max(128 + x.zero_point, 127 - x.zero_point)
    reach = _magnitudes(x, sums, taps)
    mantissa = int(np.float32(x.scale).view(np.int32)) & 0x7f_ffff | 0x80_0000
    bits = (mantissa // (mantissa & -mantissa)).bit_length()
    grown = float(np.float32(x.scale)) * (1 + taps * 2.0 ** -23)  # partial sums are rounded, too

    def halves(partial: np.ndarray) -> np.ndarray:
        half = np.spacing((partial * grown).astype(np.float32)).astype(np.float64) / 2
        return np.where(partial < 1 << (24 - bits), 0.0, half)

    # Partial sums grow by the largest value until they reach all there is.
    growing = np.append(0.0, np.cumsum(halves(np.arange(1, taps + 1) * largest)))
    steps = np.minimum(reach // largest, taps)
    error = growing[steps] + (taps - steps) * halves(reach)
    return np.asarray(error + taps * float(np.spacing(np.float32(largest * grown))) / 2
                      * (bits > 16))


def _magnitudes(x: Quantization, sums: np.ndarray, taps: int) -> np.ndarray:
    """Largest sum of the magnitudes of values with the given sums: a sum itself, and twice what
    values of the other sign take away."""
    below, above = max(128 + x.zero_point, 0), max(127 - x.zero_point, 0)
    return np.minimum(np.abs(sums) + 2 * taps * min(below, above), taps * max(below, above))
