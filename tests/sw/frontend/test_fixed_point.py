"""Fixed-point rounding: the model against hand-made values and fractions; layout, compiler."""

import dataclasses
import re
from fractions import Fraction
from math import floor, trunc

import numpy as np
import pytest
from amaranth.lib import data
from graph_builder import GraphBuilder
from graphs import random_graph, random_image
from sw_programs import equal

from weft import reference
from weft.compiler import compile
from weft.digits import MODEL
from weft.errors import CompileError, InputError
from weft.frontend import load_graph
from weft.frontend.fixed_point import with_fixed_point
from weft.hw.isa.commands import Rounding
from weft.hw.isa.config import ConfigError
from weft.hw.isa.constants import FixedPointParameters
from weft.hw.isa.presets import PRESETS
from weft.ir import Convolution, layout

TINY = PRESETS["tiny"].replace(fixed_point=True)
HALF = 1 << 30  # the smallest multiplier: a half


def one(acc, multiplier, shift, zero=0, clamp=(-128, 127)):
    """A single value of the model."""
    return int(reference.requantize_fixed_point(
        np.array([acc], np.int32), np.array([multiplier], np.int32), np.array([shift], np.int32),
        zero, clamp)[0])


def exactly(acc, multiplier, shift, zero=0, clamp=(-128, 127)):
    """The same in Python's integers and fractions."""
    shifted = (acc << max(shift, 0)) + 2**31 & 2**32 - 1
    product = (shifted - 2**31) * multiplier
    high = trunc(Fraction(product + (2**30 if product >= 0 else 1 - 2**30), 2**31))
    quotient = Fraction(high, 2**max(-shift, 0))
    rounded = floor(abs(quotient) + Fraction(1, 2)) * (1 if quotient >= 0 else -1)
    return min(max(rounded + zero, clamp[0]), clamp[1])


@pytest.mark.parametrize("acc, multiplier, shift, expected", [
    (0, HALF, 0, 0),
    (2, HALF, 0, 1),
    (3, HALF, 0, 2),         # the first rounding: 1.5 up
    (-3, HALF, 0, -1),       # and -1.5 up
    (6, HALF, -1, 2),        # the second: 1.5 away from zero
    (-6, HALF, -1, -2),      # and -1.5 too
    (5, HALF, -1, 2),        # 2.5 is 3, and 3 / 2 is 2; rounded once, 1.25 would be 1
    (-5, HALF, -1, -1),      # -2.5 is -2, and -2 / 2 is -1
    (-7, HALF, -1, -2),      # -3.5 is -3, and -3 / 2 is -2
    (3, 3 << 29, 2, 9),      # 12 * 0.75
    (-100, HALF, 1, -100),
    (100, 2**31 - 1, 0, 100),
    (2**31 - 1, HALF, -31, 1),   # 2**30 / 2**31 is a half
    (2**31 - 3, HALF, -31, 0),
    (-2**31, HALF, -31, -1),
    (-2**31 + 2, HALF, -31, 0),
    (2**31 - 1, 2**31 - 1, 0, 127),
    (-2**31, 2**31 - 1, 0, -128),
    (12345, 0, 0, 0),
])
def test_values_by_hand(acc, multiplier, shift, expected):
    assert one(acc, multiplier, shift) == expected
    assert exactly(acc, multiplier, shift) == expected


def test_zero_point_comes_before_the_clamp():
    assert one(200, HALF, 0, zero=-90) == 10
    assert one(200, HALF, 0, zero=-90, clamp=(-20, 5)) == 5
    assert one(-200, HALF, 0, zero=-90, clamp=(-20, 5)) == -20


def test_roundings_by_hand():
    full = np.array([2**31 - 1])
    assert reference.srdhm(np.array([2**31 - 1]), full) == 2**31 - 2
    assert reference.srdhm(np.array([-2**31]), full) == -2**31 + 1
    values = np.array([-6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(reference.rdbpot(values, np.array([2])),
                                  [-2, -1, -1, -1, -1, 0, 0, 0, 1, 1, 1, 1, 2])
    np.testing.assert_array_equal(reference.rdbpot(values, np.array([0])), values)


@pytest.mark.parametrize("seed", range(4))
def test_model_is_exact(seed):
    rng = np.random.default_rng(seed)
    count = 5000
    acc = rng.integers(-2**31, 2**31, count) >> rng.integers(0, 31, count)
    acc[::7] = rng.integers(-300, 300, len(acc[::7]))
    multiplier = rng.integers(2**30, 2**31, count)
    multiplier[::3] = HALF + (rng.integers(0, 2, len(multiplier[::3])) << 29)  # ties
    bits = np.array([int(value).bit_length() for value in acc])
    shift = np.where(rng.random(count) < 0.8, rng.integers(4, 10, count) - bits,
                     rng.integers(-31, 32, count)).clip(-31, 31)
    got = reference.requantize_fixed_point(
        acc.astype(np.int32), multiplier.astype(np.int32), shift.astype(np.int32), 3, (-120, 99))
    expected = [exactly(int(a), int(m), int(s), 3, (-120, 99))
                for a, m, s in zip(acc, multiplier, shift, strict=True)]
    np.testing.assert_array_equal(got, expected)
    assert len(set(expected)) > 200


def test_multipliers_are_those_of_each_channel():
    acc = np.arange(-6, 6, dtype=np.int32).reshape(2, 2, 3)
    got = reference.requantize_fixed_point(acc, np.array([HALF, 3 << 29], np.int32),
                                      np.array([0, -1], np.int32), 0)
    for index in np.ndindex(acc.shape):
        multiplier, shift = ((HALF, 0), (3 << 29, -1))[index[0]]
        assert got[index] == exactly(int(acc[index]), multiplier, shift)


@pytest.mark.parametrize("scales, multiplier, shift", [
    ((0.5, 1, 1), HALF, 0),
    ((0.75, 1, 1), 3 << 29, 0),
    ((1, 1, 1), HALF, 1),
    ((3, 0.25, 8), 3 << 29, -3),
    ((2**-16, 2**-16, 1), HALF, -31),
    ((2**-16, 2**-17, 1), 0, 0),             # too small: TFLite Micro takes zero
    ((0, 1, 1), 0, 0),
    ((1 - 2**-20, 1 + 2**-20, 1), HALF, 1),  # 1 - 2**-40 rounds to 1
    ((2**30, 1, 1), HALF, 31),
])
def test_multiplier_of_scales(scales, multiplier, shift):
    got = reference.fixed_point_multiplier(*scales)
    assert [(values.dtype, values.tolist()) for values in got] \
        == [(np.int32, [multiplier]), (np.int32, [shift])]


def test_multiplier_is_the_nearest_of_31_bits():
    rng = np.random.default_rng(5)
    sx, sy = (np.float32(10.0 ** rng.uniform(-3, 1)) for _ in range(2))
    sw = (10.0 ** rng.uniform(-7, 0, 500)).astype(np.float32)
    multiplier, shift = reference.fixed_point_multiplier(sx, sw, sy)
    assert (multiplier >= HALF).all()
    for scale, m, s in zip(sw, multiplier, shift, strict=True):
        exact = Fraction(float(sx)) * Fraction(float(scale)) / Fraction(float(sy))
        error = abs(Fraction(int(m)) * Fraction(2) ** int(s - 31) - exact)
        # Half a unit, and what the two roundings of float64 may add.
        assert error <= Fraction(2) ** int(s - 32) * (1 + Fraction(1, 2**20))


@pytest.mark.parametrize("scales, message", [
    ((-1, 1, 1), "Scales must be finite and not negative"),
    ((1, 1, 0), "Scales must be finite and not negative"),
    ((2**31, 1, 1), "Scales must be below 2**31, not up to 2.14748e+09"),
])
def test_multiplier_of_scales_wrong(scales, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        reference.fixed_point_multiplier(*scales)


# Layout -------------------------------------------------------------------------------------------

def test_parameter_entries_are_those_of_the_struct():
    rng = np.random.default_rng(6)
    channels = TINY.cols + 1
    bias = rng.integers(-2**26, 2**26, channels).astype(np.int32)
    multiplier = rng.integers(2**29, 2**31, channels).astype(np.int32)
    shift = rng.integers(-31, 32, channels).astype(np.int32)
    bias[:2], shift[:2], multiplier[3] = (-2**26, 2**26 - 1), (-31, 31), 0
    packed = layout.pack_fixed_point_parameters(TINY, bias, multiplier, shift)
    assert packed.shape == (2, TINY.requant_groups, TINY.parameter_entry_bytes)
    entries = packed.reshape(-1, TINY.parameter_entry_bytes)[:, :TINY.parameter_entry_data_bytes]
    raw = np.ascontiguousarray(entries).view("<u8").ravel()
    shape = data.Layout.cast(FixedPointParameters)
    for channel in range(2 * TINY.cols):
        if channel >= channels:
            assert raw[channel] == 0
            continue
        fields = shape.from_bits(int(raw[channel]))
        assert (fields.bias, fields.shift, fields.multiplier) == (
            bias[channel], shift[channel], multiplier[channel])
    unpacked = layout.unpack_fixed_point_parameters(entries)
    for got, given in zip(unpacked, (bias, multiplier, shift), strict=True):
        np.testing.assert_array_equal(got[:channels], given)


@pytest.mark.parametrize("changes, message", [
    ({"bias": 2**26}, "Fixed-point bias must be between -67108864 and 67108863, not "
                      "67108864 to 67108864"),
    ({"bias": -2**26 - 1}, "Fixed-point bias must be between -67108864 and 67108863, not "
                           "-67108865 to -67108865"),
    ({"multiplier": -1}, "Fixed-point multiplier must be between 0 and 2147483647, not -1 to -1"),
    ({"shift": 32}, "Fixed-point shift must be between -32 and 31, not 32 to 32"),
])
def test_values_that_do_not_fit_are_refused(changes, message):
    values = {"bias": 0, "multiplier": 2**30, "shift": 0} | changes
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        layout.pack_fixed_point_parameters(
            TINY, **{name: np.array([value], np.int32) for name, value in values.items()})


def test_arrays_of_wrong_type_are_refused():
    with pytest.raises(ValueError, match=re.escape(
            "Bias, multiplier and shift must be int32 of one shape, not int32 (2,), int64 (2,), "
            "int32 (1,)")):
        layout.pack_fixed_point_parameters(TINY, np.zeros(2, np.int32), np.zeros(2, np.int64),
                                      np.zeros(1, np.int32))


# Graphs -------------------------------------------------------------------------------------------

def small_graph(seed=0, layers=2):
    return random_graph(np.random.default_rng(seed), layers, max_size=8, max_channels=9)


def test_chosen_layers_get_the_rule():
    graph = small_graph()
    first, second = graph.layers
    changed = with_fixed_point(graph, [second.name])
    assert changed.layers[0] is first
    assert changed.layers[1].rounding is Rounding.FIXED_POINT
    scales = [graph.tensors[name].scale for name in (second.input, second.output)]
    for got, expected in zip(changed.layers[1].fixed_point, reference.fixed_point_multiplier(
            scales[0], second.weight_scale, scales[1]), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert all(layer.rounding is Rounding.FIXED_POINT for layer in with_fixed_point(graph).layers)


def test_rules_differ_by_little_and_rarely():
    rng = np.random.default_rng(3)
    builder = GraphBuilder(rng, (12, 20, 20))
    graph = builder.graph(builder.conv(builder.input, 40, kernel=(3, 3)))
    image = random_image(rng, graph)
    once, twice = (reference.run(each, image)["t0"].astype(int)
                   for each in (graph, with_fixed_point(graph)))
    assert np.abs(once - twice).max() == 1
    assert (once != twice).mean() < 0.01


def test_layer_without_the_scale_of_its_weights_is_refused():
    graph = small_graph(layers=1)
    bare = dataclasses.replace(
        graph, layers=(dataclasses.replace(graph.layers[0], weight_scale=None),))
    with pytest.raises(InputError, match=r"^Layer 'layer0' must have the scale of its weights to "
                                         r"be rounded twice$"):
        with_fixed_point(bare)


def test_only_convolutions_can_be_chosen():
    with pytest.raises(InputError, match=r"^Layer 'pool' must be a convolution to be rounded "
                                         r"twice$"):
        with_fixed_point(small_graph(), ["layer0", "pool"])


def test_rule_and_multipliers_go_together():
    layer = small_graph().layers[0]
    assert isinstance(layer, Convolution)
    with pytest.raises(ValueError, match=r"^Layer 'layer0' must have a fixed-point multiplier "
                                         r"and shift if that is its rule, and only then$"):
        dataclasses.replace(layer, rounding=Rounding.FIXED_POINT)


def test_hardware_without_the_rule_is_refused():
    graph = with_fixed_point(small_graph())
    with pytest.raises(CompileError, match=r"rounds in fixed point as TFLite does: "
                                           r"the configuration 'tiny' must have fixed_point"):
        compile(graph, PRESETS["tiny"])


@pytest.mark.parametrize("bias", [2**26, -2**26 - 1])
def test_bias_beyond_27_bits_is_refused(bias):
    graph = small_graph(layers=1)
    layer = graph.layers[0]
    tensors = {name: dataclasses.replace(tensor, zero_point=0)
               for name, tensor in graph.tensors.items()}
    big = dataclasses.replace(layer, bias=np.full_like(layer.bias, bias))
    graph = with_fixed_point(dataclasses.replace(graph, layers=(big,), tensors=tensors))
    with pytest.raises(CompileError, match=(
            rf"^Layer 'layer0' has a bias of {bias}, zero points and weights folded in; to be "
            rf"rounded in fixed point it must be within -67108864 to 67108863$")):
        compile(graph, TINY.replace(fip=False))


def test_configuration_takes_true_or_false():
    with pytest.raises(ConfigError, match=r"^Fixed point must be true or false, not 1$"):
        TINY.replace(fixed_point=1)


def test_onnx_model_rounded_twice_equals_the_reference():
    once = load_graph(MODEL)
    twice = with_fixed_point(once)
    rng = np.random.default_rng(8)
    equal(twice, TINY, rng)
    # It is another model: about one value in two hundred differs.
    differing = total = 0
    for _ in range(20):
        image = random_image(rng, once)
        a, b = (reference.run(graph, image) for graph in (once, twice))
        differing += sum(np.count_nonzero(a[layer.output] != b[layer.output])
                         for layer in once.layers)
        total += sum(a[layer.output].size for layer in once.layers)
    assert 0.0005 < differing / total < 0.05
