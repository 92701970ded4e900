"""Layer normalization against onnxruntime, and its constants."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from weft import reference
from weft.hw.isa.constants import RowConstant
from weft.ir import Normalization, Tensor, layout
from weft.reference.golden import load_exactly

LENGTHS = (8, 16, 24, 40, 64, 72, 120, 192, 200, 384, 768, 1000, 1024)


def onnx_normalization(values, source, target, layer, *, bias=True):
    """A model of a LayerNormalization between quantizers, run by onnxruntime; ``source`` and
    ``target`` are a scale and a zero point."""
    kind = TensorProto.UINT8 if values.dtype == np.uint8 else TensorProto.INT8
    named = {"sx": np.float32(source[0]), "zx": values.dtype.type(source[1]),
             "sy": np.float32(target[0]), "zy": values.dtype.type(target[1]),
             "scale": layer.scale, "bias": layer.shift}
    graph = helper.make_graph([
        helper.make_node("DequantizeLinear", ["x", "sx", "zx"], ["real"]),
        helper.make_node("LayerNormalization", ["real", "scale", *["bias"] * bias], ["normal"],
                         axis=-1, epsilon=layer.epsilon),
        helper.make_node("QuantizeLinear", ["normal", "sy", "zy"], ["y"])], "normalization",
        [helper.make_tensor_value_info("x", kind, values.shape)],
        [helper.make_tensor_value_info("y", kind, values.shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in named.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return load_exactly(model).run(None, {"x": values})[0]


def tensors(values, source, target):
    """Those in front of and behind a layer, in the domain of int8."""
    offset = 128 * (values.dtype == np.uint8)
    shape = (values.shape[-1], values.size // values.shape[-1], 1)
    return (Tensor(name=name, shape=shape, scale=float(np.float32(scale)), zero_point=zero - offset)
            for name, (scale, zero) in (("x", source), ("y", target)))


def ours(values, source, target, layer):
    """The same by the reference, of values [..., length]."""
    offset = 128 * (values.dtype == np.uint8)
    rows = (values.astype(int) - offset).astype(np.int8).reshape(-1, values.shape[-1])
    found = reference.normalization(layer, rows.T[:, :, None], *tensors(values, source, target))
    return (found[:, :, 0].T.astype(int) + offset).astype(values.dtype).reshape(values.shape)


def drawn(rng, dtype, shape):
    """Values near each other or far apart, some rows all equal."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    centre, spread = rng.integers(low, high + 1), rng.choice([0.3, 2, 20, 128])
    values = np.clip(np.rint(rng.normal(centre, spread, shape)), low, high)
    values[0, 0], values[0, 1] = low, high
    values[0, 2] = rng.choice([low, high], shape[-1])
    values[0, 3] = rng.integers(low, high + 1)
    return values.astype(dtype)


def constants(rng, length):
    """A layer; some of its scales and shifts are zero."""
    scale, shift = (rng.normal(mean, rng.choice([0.1, 1]), length)
                    * rng.choice([0, 1, 1, 1, 1], length) for mean in (1, 0))
    return Normalization(name="normal", op="LayerNormalization", input="x", output="y",
                         scale=scale.astype(np.float32), shift=shift.astype(np.float32),
                         epsilon=float(np.float32(rng.choice([1e-5, 1e-6, 1e-12, 0.1]))))


def quantization(rng, dtype, least, most):
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    zero = int(rng.choice([low, 0 if low else 128, rng.integers(low, high + 1)]))
    return float(np.exp(rng.uniform(np.log(least), np.log(most)))), zero


@pytest.mark.parametrize("seed", range(6))
def test_onnxruntime_yields_the_same_bytes(seed):
    rng = np.random.default_rng(seed)
    for number in range(20):
        dtype = (np.int8, np.uint8)[number % 2]
        length = int(rng.choice(LENGTHS))
        values = drawn(rng, dtype, (1, max(5, 4000 // length), length))
        layer = constants(rng, length)
        bias = bool(number % 5)
        if not bias:
            layer = replace(layer, shift=np.zeros(length, np.float32))
        source = quantization(rng, dtype, 1e-6, 100)
        target = quantization(rng, dtype, 1e-4, 1)
        found = onnx_normalization(values, source, target, layer, bias=bias)
        np.testing.assert_array_equal(ours(values, source, target, layer), found)


def test_the_bounds_are_where_onnxruntime_still_agrees():
    rng = np.random.default_rng(10)
    for source, epsilon, size, target in (
            (2.0 ** -27, 2.0 ** -60, 2.0 ** -60, 2.0 ** -40), (2.0 ** 40, 2.0 ** -60, 2.0 ** 40, 1),
            (2.0 ** -27, 2.0 ** 40, 2.0 ** 40, 2.0 ** -20), (2.0 ** 40, 2.0 ** 40, 1, 2.0 ** 40)):
        values = drawn(rng, np.int8, (1, 40, 64))
        layer = Normalization(name="normal", op="LayerNormalization", input="x", output="y",
                              scale=np.full(64, size, np.float32), epsilon=epsilon,
                              shift=(rng.choice([-1, 0, 1], 64) * size).astype(np.float32))
        assert not reference.out_of_bounds(layer, source, target)
        found = onnx_normalization(values, (source, 3), (target, -5), layer)
        np.testing.assert_array_equal(ours(values, (source, 3), (target, -5), layer), found)


GOOD = constants(np.random.default_rng(0), 16)


@pytest.mark.parametrize("layer, source, target, text", [
    (GOOD, 2.0 ** -28, 1, "an input scale of 3.72529e-09; one from 2**-27 to 2**40 is supported"),
    (GOOD, 2.0 ** 41, 1, "an input scale of 2.19902e+12; one from 2**-27 to 2**40 is supported"),
    (GOOD, 1, 2.0 ** -41, "an output scale of 4.54747e-13; one from 2**-40 to 2**40 is supported"),
    (replace(GOOD, epsilon=0.0), 1, 1, "an epsilon of 0; one from 2**-60 to 2**40 is supported"),
    (replace(GOOD, epsilon=-1.0), 1, 1, "an epsilon of -1; one from 2**-60 to 2**40 is supported"),
    (replace(GOOD, epsilon=np.nan), 1, 1,
     "an epsilon of nan; one from 2**-60 to 2**40 is supported"),
    (replace(GOOD, scale=np.full(16, np.inf, np.float32)), 1, 1,
     "values in its scale that are not 0 and not from 2**-60 to 2**40"),
    (replace(GOOD, shift=np.full(16, -1e-30, np.float32)), 1, 1,
     "values in its bias that are not 0 and not from 2**-60 to 2**40"),
    (constants(np.random.default_rng(0), 12), 1, 1,
     "rows of 12 values; multiples of 8 up to 4096 are supported"),
    (constants(np.random.default_rng(0), 4104), 1, 1,
     "rows of 4104 values; multiples of 8 up to 4096 are supported"),
    (constants(np.random.default_rng(0), 4096), 1, 1, ""),
])
def test_what_is_out_of_bounds(layer, source, target, text):
    assert reference.out_of_bounds(layer, source, target) == text


def rounded(value):
    """A fraction as a float32, half to even."""
    if not value:
        return value
    sign, size = (-1 if value < 0 else 1), abs(value)
    exponent = size.numerator.bit_length() - size.denominator.bit_length() - 24
    while size >= Fraction(2) ** (exponent + 24):
        exponent += 1
    while size < Fraction(2) ** (exponent + 23):
        exponent -= 1
    return sign * round(size / Fraction(2) ** exponent) * Fraction(2) ** exponent


def test_every_step_is_rounded_once():
    """By fractions; but for the root, which numpy rounds as it must."""
    rng = np.random.default_rng(11)
    for length in (8, 24, 56):
        layer = constants(rng, length)
        x = (rng.integers(-128, 128, (3, length)) * np.float32(0.037)).astype(np.float32)
        found = reference.normalize(x, layer.scale, layer.shift, layer.epsilon)
        for row, result in zip(x, found, strict=True):
            values = [Fraction(float(value)) for value in row]
            mean = rounded(sum(values) / length)
            distance = [rounded(value - mean) for value in values]
            lanes = [Fraction(0)] * 8
            for place, value in enumerate(distance):
                lanes[place % 8] = rounded(value * value + lanes[place % 8])
            while len(lanes) > 1:
                half = len(lanes) // 2
                lanes = [rounded(a + b) for a, b in zip(lanes[:half], lanes[half:], strict=True)]
            within = rounded(rounded(lanes[0] / length) + Fraction(layer.epsilon))
            root = Fraction(float(np.sqrt(np.float32(float(within)))))
            factor = rounded(1 / root)
            expected = [rounded(rounded(value * factor) * Fraction(float(scale))
                                + Fraction(float(shift)))
                        for value, scale, shift in zip(distance, layer.scale, layer.shift,
                                                       strict=True)]
            assert [Fraction(float(value)) for value in result] == expected


def test_thresholds_are_the_least_values_above():
    rng = np.random.default_rng(12)
    for _ in range(40):
        scale, zero = quantization(rng, np.int8, 1e-6, 1e6)
        scale = float(np.float32(scale))
        least = reference.thresholds(scale, zero)
        assert (np.diff(least) > 0).all()
        with np.errstate(over="ignore"):
            below = np.nextafter(least, np.float32(-np.inf))
        np.testing.assert_array_equal(reference.quantize(least, scale, zero), np.arange(-127, 128))
        np.testing.assert_array_equal(reference.quantize(below, scale, zero), np.arange(-128, 127))
        values = (rng.normal(0, 100 * scale, 1000)).astype(np.float32)
        np.testing.assert_array_equal(np.searchsorted(least, values, side="right") - 128,
                                      reference.quantize(values, scale, zero))


def test_constants_are_packed_and_unpacked():
    rng = np.random.default_rng(13)
    layer = constants(rng, 24)
    source = Tensor(name="x", shape=(24, 1, 1), scale=0.3, zero_point=-7)
    values, least = reference.normalized_values(source), reference.thresholds(0.01, 9)
    packed = layout.pack_normalization(values, least, layer.scale, layer.shift)
    assert packed.shape == (RowConstant.CHANNELS + 48, 4)
    words = packed.view("<u4").reshape(-1)
    # The byte 0x80 stands for -128; thresholds are in order, whatever their sign.
    assert words[128] == np.float32(-121 * np.float32(0.3)).view(np.uint32)
    order = words[RowConstant.THRESHOLDS:RowConstant.CHANNELS]
    assert (np.diff(order.astype(np.int64)) > 0).all() and order[-1] == 0xffffffff
    for found, expected in zip(layout.unpack_normalization(packed, 24),
                               (values, least, layer.scale, layer.shift), strict=True):
        np.testing.assert_array_equal(found, expected)
