"""Constants of layers in fixed point, and layers against the published rule in integers."""

import dataclasses
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from graph_builder import GraphBuilder
from graphs import in_fixed_point

from weft import reference
from weft.compiler import compile
from weft.errors import CompileError
from weft.hw.isa.commands import Rounding
from weft.hw.isa.presets import PRESETS
from weft.ir import Add, Graph, Multiply, Pool, PoolKind, Tensor
from weft.reference.exact import exactness
from weft.reference.exact_fixed_point import fixed_add_constants, fixed_average_constants
from weft.reference.proof import Exactness, Quantization

INT8 = (-128, 127)
FIXED = Rounding.FIXED_POINT


def quantization(scale: float, zero: int) -> Quantization:
    return Quantization(float(np.float32(scale)), int(zero), False)


# The rules in integers ------------------------------------------------------------------------

def multiplier_of(ratio: float) -> tuple[int, int]:
    """Of a scale of one half or more and below one times a power of 2, by hand."""
    shift, fraction = 0, Fraction(ratio)
    while fraction >= 1:
        fraction, shift = fraction / 2, shift + 1
    while fraction < Fraction(1, 2):
        fraction, shift = fraction * 2, shift - 1
    rounded = floor(fraction * 2**31 + Fraction(1, 2))
    return (rounded, shift) if rounded < 1 << 31 else (1 << 30, shift + 1)


def away(value: Fraction) -> int:
    """The nearest integer, halves away from zero."""
    return floor(abs(value) + Fraction(1, 2)) * (1 if value >= 0 else -1)


def twice(value: int, multiplier: int, shift: int) -> int:
    high = floor(Fraction((value << max(shift, 0)) * multiplier, 2**31) + Fraction(1, 2))
    return away(Fraction(high, 2**max(-shift, 0)))


def tensors(seed: int, shape: tuple[int, int, int] = (3, 5, 4)) -> dict[str, Tensor]:
    rng = np.random.default_rng(seed)
    scales = np.exp(rng.uniform(-6, 0, 3)).astype(np.float32)
    scales[2] = scales[:2].max() * rng.uniform(0.8, 2)
    if seed % 2:
        scales = np.float32([0.5, 0.5, 1])
    return {name: Tensor(name=name, shape=shape, scale=float(scale),
                         zero_point=int(rng.integers(-128, 128)))
            for name, scale in zip("aby", scales, strict=True)}


def computed(layer: Add | Multiply, known: dict[str, Tensor], seed: int) -> tuple[
        np.ndarray, list[tuple[int, int]]]:
    rng = np.random.default_rng([seed, 1])
    values = {name: rng.integers(-128, 128, known[name].shape).astype(np.int8) for name in "ab"}
    graph = Graph(name="", tensors=known, layers=(layer,), inputs=(), outputs=())
    centred = (values[name].astype(int).ravel() - known[name].zero_point for name in "ab")
    return reference.compute(graph, layer, values).ravel(), [
        (int(a), int(b)) for a, b in zip(*centred, strict=True)]


@pytest.mark.parametrize("seed", range(6))
def test_sum_is_that_of_three_scalings(seed):
    known = tensors(seed)
    got, pairs = computed(
        Add(name="", op="", output="y", a="a", b="b", clamp=(-100, 90), rounding=FIXED), known,
        seed)
    most = 2 * max(known["a"].scale, known["b"].scale)
    ma, mb = (multiplier_of(known[name].scale / most) for name in "ab")
    my = multiplier_of(most / (2**20 * known["y"].scale))
    for value, (a, b) in zip(got, pairs, strict=True):
        total = twice(twice(a << 20, *ma) + twice(b << 20, *mb), *my) + known["y"].zero_point
        assert value == min(max(total, -100), 90)


@pytest.mark.parametrize("seed", range(6))
def test_product_is_scaled_once_and_rounded_twice(seed):
    known = tensors(seed)
    scales = [np.float32(known[name].scale) for name in "ab"]
    out = np.float32(64) * scales[0] * scales[1] * np.float32(1 + seed / 8)
    known["y"] = dataclasses.replace(known["y"], scale=float(out))
    got, pairs = computed(Multiply(name="", op="", output="y", a="a", b="b", rounding=FIXED),
                          known, seed)
    factor = multiplier_of(float(scales[0] * scales[1] / out))
    for value, (a, b) in zip(got, pairs, strict=True):
        total = twice(a * b, *factor) + known["y"].zero_point
        assert value == min(max(total, -128), 127)


def test_rounded_once_is_the_nearest_integer():
    rng = np.random.default_rng(3)
    acc = rng.integers(-2**31, 2**31, 4000) >> rng.integers(0, 31, 4000)
    acc[:9] = -2**31, 2**31 - 1, 0, 1, -1, 3, -3, 5, -5
    multiplier = rng.integers(2**30, 2**31, 4000)
    multiplier[::4] = 2**30
    shift = rng.integers(-32, 32, 4000)
    shift[:2000] = 8 - np.array([int(value).bit_length() for value in acc[:2000]])
    got = reference.scale_fixed_point(acc.astype(np.int32), multiplier, shift,
                                      Rounding.FIXED_POINT_ONCE)
    for value, a, m, s in zip(got, acc, multiplier, shift, strict=True):
        exact = away(Fraction(int(a) * int(m), 2**(31 - int(s))))
        assert value == exact or (min(abs(int(value)), abs(exact)) >= 2**29
                                  and (value > 0) == (exact > 0))
    halves = np.array([-3, -1, 1, 3], np.int32)
    assert reference.scale_fixed_point(
        halves, np.array([2**30]), np.array([0]), Rounding.FIXED_POINT_ONCE).tolist() \
        == [-2, -1, 1, 2]


def test_average_is_that_of_plain_values():
    x = np.array([[[-128, -127, 5], [-128, -128, 6]]], np.int8)
    known = {name: Tensor(name=name, shape=shape, scale=0.1, zero_point=7)
             for name, shape in (("x", (1, 2, 3)), ("y", (1, 2, 3)))}
    layer = Pool(name="", op="", input="x", output="y", kind=PoolKind.AVERAGE, kernel=(1, 2),
                 pads=(0, 0, 0, 1), clamp=(-127, 127), rounding=FIXED)
    got = reference.pool(layer, x, known["x"], known["y"])
    assert got.tolist() == [[[-127, -61, 5], [-127, -61, 6]]]  # -127.5 is -128


# What graphs refuse ---------------------------------------------------------------------------

@pytest.mark.parametrize("changes", [
    {"kind": PoolKind.MAX}, {"multiplier": 0.5}, {"late_zero": True}, {"count_pads": (0, 0, 0, 1)}])
def test_average_in_fixed_point_has_no_other_rule(changes):
    fields = {"kind": PoolKind.AVERAGE, "kernel": (2, 2), "rounding": FIXED} | changes
    with pytest.raises(ValueError, match=r"^Layer 'p' must be an average without multiplier, late "
                                         r"zero point or padding that counts to be rounded in "
                                         r"fixed point, or to have weights$"):
        Pool(name="p", op="", input="x", output="y", **fields)


@pytest.mark.parametrize("kind", [Add, Multiply])
def test_pair_cannot_be_rounded_once(kind):
    with pytest.raises(ValueError, match=r"^Layer 'p' must be rounded as float32 or fixed-point: "
                                         r"only convolutions have FIXED_POINT_ONCE$"):
        kind(name="p", op="", output="y", a="a", b="b", rounding=Rounding.FIXED_POINT_ONCE)


def test_average_in_fixed_point_keeps_scale_and_zero_point():
    builder = GraphBuilder(np.random.default_rng(0), (3, 4, 4))
    graph = in_fixed_point(np.random.default_rng(0), builder.graph(
        builder.average_pool(builder.input)), share=1)
    other = dataclasses.replace(graph.tensors["t0"], zero_point=-graph.tensors["x"].zero_point - 1)
    with pytest.raises(ValueError, match=r"^Layer 'layer0' must have one scale and zero point in "
                                         r"front and behind to be rounded in fixed point$"):
        compile(dataclasses.replace(graph, tensors=graph.tensors | {"t0": other}),
                PRESETS["tiny"].replace(fixed_point=True))


@pytest.mark.parametrize("add", ["sum", "product", "depthwise"])
def test_hardware_without_the_rule_is_refused(add):
    rng = np.random.default_rng(0)
    builder = GraphBuilder(rng, (3, 4, 4))
    others = [] if add == "depthwise" else [builder.add_input("z", (3, 4, 4))]
    graph = in_fixed_point(rng, builder.graph(getattr(builder, add)(builder.input, *others)),
                           share=1)
    with pytest.raises(CompileError, match=r"rounds in fixed point as TFLite does: "
                                           r"the configuration 'bare' must have fixed_point"):
        compile(graph, PRESETS["tiny"].replace(name="bare", fixed_point=False))


# Constants ------------------------------------------------------------------------------------

def test_average_of_any_number_is_exact():
    for count in (*range(1, 66, 3), 2, 9, 64, 128, 255, 1024):
        assert fixed_average_constants(count, INT8)[1] == Exactness(255 * count + 1, 0)


def test_sums_of_random_scales_are_exact():
    rng = np.random.default_rng(4)
    for _ in range(20):
        a, b = np.exp(rng.uniform(-6, 0, 2))
        known = [quantization(scale, rng.integers(-128, 128))
                 for scale in (a, b, max(a, b) * rng.uniform(0.8, 2))]
        assert fixed_add_constants(*known, INT8)[1] == Exactness(65536, 0)


@pytest.mark.parametrize("b, y", [(1, 1), (1, 2), (0.5, 1), (4, 8), (0.125, 0.5)])
def test_sums_full_of_halves_are_exact(b, y):
    rng = np.random.default_rng(5)
    scale = rng.uniform(0.01, 0.2)
    for _ in range(3):
        known = [quantization(scale * factor, rng.integers(-128, 128)) for factor in (1, b, y)]
        assert fixed_add_constants(*known, (-128, 100))[1].exact


def test_constants_of_a_sum_fit_their_fields():
    rng = np.random.default_rng(6)
    for number in range(12):
        a, b, y = np.exp(rng.uniform(-8, 2, 3))
        zeros = rng.integers(-128, 128, 3) if number else (-128, -128, 0)
        known = [quantization(*each) for each in zip((a, b, y), zeros, strict=True)]
        constants, _ = fixed_add_constants(*known, INT8)
        assert 0 <= constants.first < 1 << 24 and 0 <= constants.second < 1 << 24
        assert -(1 << 26) <= constants.bias < 1 << 26
        x, z = (values.astype(np.int64) for values in reference.every_pair())
        assert np.abs(constants.first * x + constants.second * z
                      + constants.bias).max() < 1 << 31


def test_a_sum_that_may_differ_says_so():
    known = [quantization(scale, zero) for scale, zero in ((7, 5), (3, -9), (4, 0))]
    _, proof = fixed_add_constants(*known, INT8)
    assert not proof.exact and proof.checked == 65536
    assert proof == exactness(Graph(
        name="", tensors={name: dataclasses.replace(each.tensor(), name=name)
                          for name, each in zip("aby", known, strict=True)},
        layers=(), inputs=(), outputs=()),
        Add(name="", op="", output="y", a="a", b="b", rounding=FIXED))
