"""Softmax against onnxruntime, and its arithmetic against fractions."""

from fractions import Fraction

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from weft import reference
from weft.ir import Softmax, Tensor
from weft.reference.golden import load_exactly

LENGTHS = (1, 2, 3, 5, 7, 8, 10, 12, 16, 17, 33, 64, 77, 100, 197, 256, 500)
"""Of rows: of all kinds to whoever would add up several values at a time."""


def onnx_softmax(values, scale, zero, out_scale, out_zero, *, opset=13, axis=-1):
    """A model of a Softmax between quantizers, run by onnxruntime."""
    kind = TensorProto.UINT8 if values.dtype == np.uint8 else TensorProto.INT8
    named = {"sx": np.float32(scale), "zx": values.dtype.type(zero), "sy": np.float32(out_scale),
             "zy": values.dtype.type(out_zero)}
    graph = helper.make_graph([
        helper.make_node("DequantizeLinear", ["x", "sx", "zx"], ["real"]),
        helper.make_node("Softmax", ["real"], ["share"], axis=axis),
        helper.make_node("QuantizeLinear", ["share", "sy", "zy"], ["y"])], "softmax",
        [helper.make_tensor_value_info("x", kind, values.shape)],
        [helper.make_tensor_value_info("y", kind, values.shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in named.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return load_exactly(model).run(None, {"x": values})[0]


def ours(values, scale, out_scale, out_zero):
    """The same by the reference, of values [..., length]."""
    offset = 128 * (values.dtype == np.uint8)
    rows = (values.astype(int) - offset).astype(np.int8).reshape(-1, values.shape[-1])
    layer = Softmax(name="softmax", op="Softmax", input="x", output="y",
                    table=reference.exponentials(scale, values.shape[-1]),
                    factor=reference.softmax_factor(out_scale))
    target = Tensor(name="y", shape=(*rows.T.shape, 1), scale=out_scale,
                    zero_point=out_zero - offset)
    found = reference.softmax(layer, rows.T[:, :, None], target)[:, :, 0].T
    return (found.astype(int) + offset).astype(values.dtype).reshape(values.shape)


def drawn(rng, dtype, shape):
    """Values near each other or far apart, some rows all equal."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    spread = rng.choice([1, 2, 20, 128])
    values = np.clip(np.rint(rng.normal((low + high + 1) // 2, spread, shape)), low, high)
    values[0, 0], values[0, 1] = low, high
    values[0, 2] = rng.choice([low, high], shape[-1])
    return values.astype(dtype)


@pytest.mark.parametrize("seed", range(6))
def test_onnxruntime_yields_the_same_bytes(seed):
    rng = np.random.default_rng(seed)
    for number in range(24):
        dtype = (np.int8, np.uint8)[number % 2]
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        length = int(rng.choice(LENGTHS))
        values = drawn(rng, dtype, (1, max(4, 4000 // length), length))
        scale = float(np.exp(rng.uniform(np.log(0.0005), np.log(3))))
        out_scale = float((1 / 256, 1 / 255, 1 / 128, rng.uniform(0.001, 0.02),
                           np.exp(rng.uniform(-9, 0)))[number % 5])
        out_zero = int((low, low, 0, rng.integers(low, high + 1))[number % 4])
        opset = (13, 17, 11, 12)[number % 4]
        found = onnx_softmax(values, scale, int(rng.integers(low, high + 1)), out_scale, out_zero,
                             opset=opset, axis=-1 if opset > 12 else 2)
        np.testing.assert_array_equal(ours(values, scale, out_scale, out_zero), found)


def test_halves_go_where_onnxruntime_takes_them():
    for length, inverse in ((6, 255.5), (6, 63.5), (30, 255.5), (2, 255.5), (512, 256), (34, 255)):
        values = np.zeros((1, 4, length), np.int8)
        found = onnx_softmax(values, 0.1, 0, 1 / inverse, -128)
        np.testing.assert_array_equal(ours(values, 0.1, 1 / inverse, -128), found)


def rounded(value):
    """A positive fraction as one of 24 bits, half to even."""
    if not value:
        return value
    exponent = value.numerator.bit_length() - value.denominator.bit_length() - 24
    while value >= Fraction(2) ** (exponent + 24):
        exponent += 1
    while value < Fraction(2) ** (exponent + 23):
        exponent -= 1
    return round(value / Fraction(2) ** exponent) * Fraction(2) ** exponent


@pytest.mark.parametrize("seed", range(4))
def test_shares_are_rounded_once(seed):
    """Of any terms of 24 bits, such as no exponential is; half of them so that halves come up."""
    rng = np.random.default_rng(seed)
    for number in range(40):
        bits = (24, 3)[number % 2]
        terms = np.ldexp(rng.integers(0, 1 << bits, 256).astype(float),
                         rng.integers(0, (40, 3, 500)[number % 3] + 1, 256))
        factor = int(rng.choice([1, 2, 65535, 255, rng.integers(1, 65536)]))
        values = rng.integers(-128, 128, int(rng.choice([1, 2, 3, 17])))
        own = [Fraction(terms[value - values.max() + 255]) for value in values]
        total = Fraction(0)
        for term in own:
            total = rounded(total + term)
        expected = [round(term * factor / total) if total else 0 for term in own]
        np.testing.assert_array_equal(reference.shares(values, terms, factor), expected)


def test_terms_of_a_row_add_up_to_less_than_the_largest_float():
    for length in (1, 2, 197, 4096):
        for scale in (0.001, 0.1, 3.0):
            terms = reference.exponentials(scale, length)
            assert (np.diff(terms) >= 0).all()
            assert np.float64(terms[-1]) * length < np.finfo(np.float32).max / 100
            assert np.isfinite(terms).all() and terms[-1] > 1e30
