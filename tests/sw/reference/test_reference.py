import numpy as np
import pytest
from models import QdqBuilder, assert_plan_is_golden, conv_model, random_inputs

from weft import reference
from weft.errors import InputError
from weft.frontend import load_graph, partition
from weft.reference import windows
from weft.reference.golden import cpu_is_exact

exact_cpu = pytest.mark.skipif(not cpu_is_exact(), reason=cpu_is_exact().reason or "exact")


def conv2d_by_loops(x, weights, strides, pads, dilations, in_zero):
    """The definition, one product at a time."""
    filters, channels, kernel_h, kernel_w = weights.shape
    height, width = x.shape[1:]
    out_h = (height + pads[0] + pads[2] - dilations[0] * (kernel_h - 1) - 1) // strides[0] + 1
    out_w = (width + pads[1] + pads[3] - dilations[1] * (kernel_w - 1) - 1) // strides[1] + 1
    acc = np.zeros((filters, out_h, out_w), np.int64)
    for n, y, z, c, i, j in np.ndindex(filters, out_h, out_w, channels, kernel_h, kernel_w):
        row = y * strides[0] + i * dilations[0] - pads[0]
        column = z * strides[1] + j * dilations[1] - pads[1]
        if 0 <= row < height and 0 <= column < width:
            acc[n, y, z] += (int(x[c, row, column]) - in_zero) * int(weights[n, c, i, j])
    return acc


@pytest.mark.parametrize("seed", range(6))
def test_conv2d_is_the_sum_of_products(seed):
    rng = np.random.default_rng(seed)
    channels, filters = rng.integers(1, 5, 2)
    kernel = rng.integers(1, 4, 2)
    strides, dilations = rng.integers(1, 4, (2, 2)).tolist()
    pads = tuple(rng.integers(0, 4, 4).tolist())
    x = rng.integers(-128, 128, (channels, *rng.integers(7, 10, 2))).astype(np.int8)
    weights = rng.integers(-128, 128, (filters, channels, *kernel)).astype(np.int8)
    zero = int(rng.integers(-128, 128))
    acc = reference.conv2d(x, weights, strides=strides, pads=pads, dilations=dilations,
                           in_zero=zero)
    assert acc.dtype == np.int32
    np.testing.assert_array_equal(
        acc, conv2d_by_loops(x, weights, strides, pads, dilations, zero))


def test_conv2d_gives_the_same_when_rows_are_split(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (5, 13, 11)).astype(np.int8)
    weights = rng.integers(-128, 128, (3, 5, 3, 3)).astype(np.int8)
    whole = reference.conv2d(x, weights, strides=(2, 1), pads=(1, 0, 2, 1), in_zero=3)
    monkeypatch.setattr(windows, "_WINDOW_BYTES", 1)
    split = reference.conv2d(x, weights, strides=(2, 1), pads=(1, 0, 2, 1), in_zero=3)
    np.testing.assert_array_equal(whole, split)


def test_conv2d_is_exact_at_the_extremes():
    x = np.full((2048, 3, 3), -128, np.int8)
    weights = np.full((1, 2048, 3, 3), -128, np.int8)
    acc = reference.conv2d(x, weights, in_zero=127)
    assert acc.item() == 255 * 128 * 9 * 2048


def test_conv2d_wrong_shapes():
    weights = np.zeros((1, 3, 3, 3), np.int8)
    with pytest.raises(InputError, match=r"^Input must have shape \[3, H, W\] to match the "
                                         r"weights, not \[2, 4, 4\]$"):
        reference.conv2d(np.zeros((2, 4, 4), np.int8), weights)
    with pytest.raises(InputError, match=r"^Kernel 3x3 must fit into the padded input of shape "
                                         r"\[3, 2, 4\]$"):
        reference.conv2d(np.zeros((3, 2, 4), np.int8), weights)


def test_requantize_rounds_half_to_even():
    acc = np.array([[1, 3, 5, -1, -3, -5]], np.int32)
    got = reference.requantize(acc, np.array([0.5], np.float32), 10)
    np.testing.assert_array_equal(got, [[10, 12, 12, 10, 8, 8]])


def test_requantize_rounds_large_accumulators_to_float32_first():
    # 2^24 + 1 lies between two float32 values and becomes 2^24: then the product is 2.5 exactly
    # and goes to the even 2, where exact arithmetic would have gone up to 3.
    acc = np.array([[(1 << 24) + 1]], np.int32)
    scale = np.array([2.5 / (1 << 24)], np.float32)
    assert np.rint(float(acc.item()) * float(scale.item())) == 3
    assert reference.requantize(acc, scale, 0).item() == 2


def test_requantize_saturates_and_clamps():
    acc = np.array([[-(1 << 31), (1 << 31) - 1, 0, 30]], np.int32)
    scale = np.array([1.0], np.float32)
    np.testing.assert_array_equal(reference.requantize(acc, scale, -20), [[-128, 127, -20, 10]])
    np.testing.assert_array_equal(reference.requantize(acc, scale, -20, (-20, 5)),
                                  [[-20, 5, -20, 5]])


def test_multiplier_rounds_after_each_operation():
    rng = np.random.default_rng(0)
    sx, sw = rng.random(2000).astype(np.float32), rng.random(2000).astype(np.float32)
    sy = np.float32(0.0371)
    got = reference.multiplier(sx, sw, float(sy))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, (sx * sw) / sy)
    # Another order is another number, or the test would show nothing.
    assert (got != sx * (sw / sy)).any()


def test_quantize_divides_rounds_to_even_and_saturates():
    x = np.array([0.25, 0.75, -0.25, 1e9, -1e9, np.inf, -np.inf], np.float32)
    np.testing.assert_array_equal(reference.quantize(x, 0.5, 3), [3, 5, 3, 127, -128, 127, -128])
    np.testing.assert_array_equal(reference.quantize(x, 0.5, 3, unsigned=True),
                                  [3, 5, 3, 255, 0, 255, 0])


def test_quantize_does_not_multiply_by_the_reciprocal():
    scale = np.float32(0.1)
    halves = (np.arange(-120, 120, dtype=np.float32) + np.float32(0.5)) * scale
    x = np.concatenate([halves, np.nextafter(halves, np.float32(-np.inf)),
                        np.nextafter(halves, np.float32(np.inf))])
    by_reciprocal = np.rint(x * (np.float32(1) / scale))
    got = reference.quantize(x, float(scale), 0)
    np.testing.assert_array_equal(got, np.rint(x / scale))
    assert (got != by_reciprocal).any()


def test_dequantize_undoes_quantize():
    q = np.arange(-128, 128).astype(np.int8)
    for scale, zero in ((0.013, -7), (3.0, 127), (1e-6, -128)):
        real = reference.dequantize(q, scale, zero)
        assert real.dtype == np.float32
        np.testing.assert_array_equal(reference.quantize(real, scale, zero), q)


def random_conv(seed):
    """A random convolution; every third is deep, with few pixels."""
    rng = np.random.default_rng([seed, 1])
    kernel = rng.integers(1, 8, 2).tolist()
    dilations = rng.integers(1, 4, 2).tolist() if seed % 2 else [1, 1]
    pads = rng.integers(0, 4, 4).tolist() if seed % 4 else [0, 0, 0, 0]
    window = [dilation * (taps - 1) + 1 for dilation, taps in zip(dilations, kernel, strict=True)]
    size = [int(max(1, span - pads[axis] - pads[axis + 2]) + rng.integers(0, 9))
            for axis, span in enumerate(window)]
    return conv_model(
        rng, channels=int(rng.integers(1, 71)), filters=int(rng.integers(1, 71)),
        size=tuple(size), kernel=tuple(kernel), strides=rng.integers(1, 4, 2).tolist(), pads=pads,
        dilations=dilations, unsigned=bool(seed & 4), per_channel=bool(seed & 8),
        bias=seed % 7 != 0)


@exact_cpu
@pytest.mark.parametrize("seed", range(40))
def test_random_convolution_is_onnxruntime_byte_for_byte(seed):
    model = random_conv(seed)
    assert_plan_is_golden(partition(model), random_inputs(np.random.default_rng(seed), model))


@exact_cpu
@pytest.mark.parametrize("seed", range(12))
def test_random_fully_connected_layer_is_onnxruntime_byte_for_byte(seed):
    rng = np.random.default_rng([seed, 2])
    b = QdqBuilder(rng, unsigned=bool(seed & 1), per_channel=bool(seed & 2))
    features, filters = (int(value) for value in rng.integers(1, 600, 2))
    x = b.input("x", (1, features))
    layer = b.matmul(x, features, filters) if seed % 3 == 0 else b.gemm(
        x, features, filters, trans_b=bool(seed & 4), bias=seed % 5 != 0)
    b.output(b.quantize(layer))
    model = b.build()
    assert_plan_is_golden(partition(model), random_inputs(rng, model))


def small_graph():
    return load_graph(conv_model(np.random.default_rng(0)))


def test_run_returns_every_tensor_in_int8():
    graph = small_graph()
    values = reference.run(graph, {"x_q": np.zeros((3, 6, 6), np.int8)})
    assert {name: (value.shape, value.dtype) for name, value in values.items()} == {
        "x_q": ((3, 6, 6), np.int8), "conv_q": ((4, 4, 4), np.int8)}


def test_run_wrong_inputs():
    graph = small_graph()
    with pytest.raises(InputError, match=r"^Input 'x_q' must be given$"):
        reference.run(graph, {})
    with pytest.raises(InputError, match=r"^Input 'x_q' must be int8 \[3, 6, 6\], "
                                         r"not float64 \[3, 6, 5\]$"):
        reference.run(graph, {"x_q": np.zeros((3, 6, 5))})


def test_bias_wraps_like_an_int32_accumulator():
    graph = small_graph()
    layer = graph.layers[0]
    layer.bias[:] = np.iinfo(np.int32).max
    source, target = graph.tensors["x_q"], graph.tensors["conv_q"]
    x = np.full((3, 6, 6), 127 if source.zero_point < 0 else -128, np.int8)
    acc = reference.conv2d(x, layer.weights, in_zero=source.zero_point)
    wrapped = (acc.astype(np.int64) + layer.bias[:, None, None]).astype(np.int32)
    assert (wrapped < 0).any()
    np.testing.assert_array_equal(
        reference.convolution(layer, x, source, target),
        reference.requantize(wrapped, layer.multiplier, target.zero_point))
