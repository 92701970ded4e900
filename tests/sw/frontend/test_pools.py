"""Pools and means, from the ONNX node to values that equal onnxruntime's."""

import numpy as np
import pytest
from operator_models import builder, check, end, image

from weft.frontend import partition
from weft.ir import Convolution, Lookup, Pool, PoolKind

# Pools --------------------------------------------------------------------------------------------

WINDOWS = [
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 2, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [3, 2], "ceil_mode": 1, "pads": [1, 1, 0, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [2, 3], "auto_pad": "VALID"}]


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize("attributes", [*WINDOWS, {"kernel_shape": [2, 3], "dilations": [3, 2]}])
def test_max_pool(attributes, rescaled, unsigned):
    b = builder(unsigned=unsigned)
    x = image(b, 5)
    scale, zero = b.initializers["x_conv_scale"], b.initializers["x_conv_zero"]
    end(b, b.node("MaxPool", [x], "pool", **attributes), zero_point=int(zero),
        scale=float(scale) * (0.7 if rescaled else 1))
    layers = check(b)[1:]
    assert [type(layer) for layer in layers] == ([Pool, Lookup] if rescaled else [Pool])
    assert layers[0].kind is PoolKind.MAX


def unfinished(b, x, kind):
    """A result of 6 channels that has no quantization yet, and a scale that it may have."""
    if kind in ("conv", "relu"):
        y = b.conv(x, 6, 6, (3, 3), name="two")
        return (b.node("Relu", [y]) if kind == "relu" else y), None
    if kind == "depthwise":
        return b.conv(x, 1, 6, (3, 3), name="two", group=6), None
    if kind == "add":
        return b.node("Add", [x, b.quantize(b.conv(x, 6, 6))]), None
    if kind == "prelu":
        slopes = np.linspace(-1, 1.3, 6).astype(np.float32)
        return b.node("PRelu", [x, b.constant("slopes", slopes.reshape(6, 1, 1))]), None
    return b.node("Sigmoid", [x]), 1 / 256


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("kind", ["conv", "relu", "depthwise", "add", "prelu", "table"])
def test_max_pool_comes_before_the_quantizer(kind, unsigned):
    b = builder(unsigned=unsigned)
    lowest = 0 if unsigned else -128
    y, scale = unfinished(b, image(b, 6), kind)
    pool = b.node("MaxPool", [y], "pool", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 0, 1])
    end(b, pool, scale=scale, zero_point=lowest if kind in ("relu", "table") else None)
    assert isinstance(check(b)[-1], Pool)


def test_max_pool_of_a_turned_result_that_is_not_quantized_is_the_hosts():
    b = builder()
    y = b.node("Transpose", [b.conv(image(b, 6), 6, 6, name="two")], perm=[0, 1, 3, 2])
    end(b, b.node("MaxPool", [y], "pool", kernel_shape=[2, 2]))
    row = {row.name: row for row in partition(b.build()).placements}["pool"]
    assert row.reason == ("MaxPool 'pool' reads the output of Conv 'two' through a Reshape or "
                          "Transpose, which must have a QuantizeLinear after it")


def test_max_pool_takes_a_relu_into_its_clamp():
    b = builder()
    x = image(b, 5)
    scale = float(b.initializers["x_conv_scale"])
    zero = int(b.initializers["x_conv_zero"])
    pool = b.node("Relu", [b.node("MaxPool", [x], "pool", kernel_shape=[2, 2])], "relu")
    end(b, pool, scale=scale, zero_point=zero)
    assert check(b)[-1].clamp == (zero, 127)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("attributes", WINDOWS)
def test_average_pool(attributes, include, unsigned):
    b = builder(unsigned=unsigned)
    x = image(b, 5)
    scale = float(b.initializers["x_conv_scale"])
    end(b, b.node("AveragePool", [x], "pool", count_include_pad=include, **attributes),
        scale=scale * 0.73)
    layer = check(b)[-1]
    assert isinstance(layer, Pool) and layer.kind is PoolKind.AVERAGE and layer.multiplier is None


@pytest.mark.parametrize("seed", range(8))
def test_global_average_pool(seed):
    # The divisor joins the output's scale first: the order decides the last bit.
    b = builder(seed, unsigned=bool(seed % 2))
    x = image(b, 5)
    scale = b.initializers["x_conv_scale"]
    end(b, b.node("GlobalAveragePool", [x], "pool"), scale=float(scale) / (3 + seed))
    layer = check(b)[-1]
    assert isinstance(layer, Pool) and layer.kernel == (8, 9)
    assert layer.multiplier == float(scale / (b.initializers["pool_scale"] * np.float32(72)))


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize("size", [(8, 9), (1, 1), (300, 1)])
@pytest.mark.parametrize("op", ["GlobalMaxPool", "ReduceMax"])
def test_maximum_of_planes(op, size, rescaled, unsigned):
    b = builder(unsigned=unsigned)
    x = image(b, 5, size)
    axes = {"axes": [2, 3]} if op == "ReduceMax" else {}
    end(b, b.node(op, [x], "top", **axes), zero_point=int(b.initializers["x_conv_zero"]),
        scale=float(b.initializers["x_conv_scale"]) * (0.7 if rescaled else 1))
    layers = check(b)[1:]
    assert [type(layer) for layer in layers] == ([Pool, Lookup] if rescaled else [Pool])
    assert layers[0].kind is PoolKind.MAX and layers[0].kernel == size


def mean(b, x, axes, keepdims=1, opset=17):
    """A ReduceMean with its axes where the version of the operator has them."""
    if opset < 18:
        return b.node("ReduceMean", [x], "mean", axes=axes, keepdims=keepdims)
    return b.node("ReduceMean", [x, b.constant("axes", np.array(axes))], "mean", keepdims=keepdims)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (8, 9), (14, 14)])
@pytest.mark.parametrize("opset, axes, keepdims", [
    (13, [2, 3], 1), (17, [-1, -2], 0), (18, [-2, 3], 1), (20, [3, 2], 0)])
def test_mean_of_planes(opset, axes, keepdims, size, unsigned):
    b = builder(sum(size), unsigned=unsigned, opset=opset)
    x = image(b, 5, size)
    y = b.quantize(mean(b, x, axes, keepdims, opset),
                   scale=float(b.initializers["x_conv_scale"]) * 0.73)
    y = y if keepdims else b.reshape(y, (1, 5, 1, 1))
    end(b, b.conv(y, 5, 3, name="two"))
    layer = check(b, exact=False)[1]
    assert isinstance(layer, Pool) and layer.kernel == size and layer.late_zero


def test_mean_takes_bounds():
    b = builder()
    x = image(b, 5)
    y = b.node("Clip", [mean(b, x, [2, 3]), b.constant("low", np.float32(-0.3)),
                        b.constant("high", np.float32(0.4))], "clip")
    scale = float(b.initializers["x_conv_scale"]) * 0.37
    end(b, y, scale=scale, zero_point=-7)
    assert check(b, exact=False)[-1].clamp == (round(-0.3 / scale) - 7, round(0.4 / scale) - 7)


def test_mean_of_planes_with_channels_last():
    b = builder()
    x = b.node("Transpose", [image(b, 5)], perm=[0, 2, 3, 1])
    end(b, mean(b, x, [1, 2]), scale=float(b.initializers["x_conv_scale"]) * 0.73)
    assert check(b, exact=False)[-1].kernel == (8, 9)


def test_mean_of_rows():
    b = builder()
    x = b.quantize(b.matmul(b.input("x", (1, 6, 10)), 10, 4, name="fc"))
    end(b, mean(b, x, [1], 0), scale=float(b.initializers["fc_scale"]) * 0.73)
    assert check(b, exact=False)[-1].kernel == (6, 1)


def test_integer_pools_need_no_quantizers():
    b = builder()
    image(b, 5)
    b.node("MaxPool", ["x_conv_q"], "pool_q", kernel_shape=[2, 2])
    for part in ("scale", "zero"):
        b.constant(f"pool_{part}", b.initializers[f"x_conv_{part}"])
    end(b, b.conv(b.dequantize("pool"), 5, 4, name="two"))
    assert [type(layer) for layer in check(b)] == [Convolution, Pool, Convolution]
