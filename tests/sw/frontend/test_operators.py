"""Every operator of the accelerator, from the ONNX node to values that equal onnxruntime's."""

import numpy as np
import pytest
from models import QdqBuilder, assert_plan_is_golden, random_inputs
from onnx import TensorProto, helper

from weft.frontend import annotate, partition
from weft.ir import (
    Add,
    Alias,
    Concat,
    Convolution,
    Depthwise,
    Interleave,
    Lookup,
    Multiply,
    Pool,
    PoolKind,
    Resize,
    Selection,
    Where,
)
from weft.reference.golden import cpu_is_exact


def rng_of(seed=0):
    return np.random.default_rng([seed, 21])


def builder(seed=0, **options):
    return QdqBuilder(rng_of(seed), **options)


def check(b, *, seed=0, graphs=1, exact=True):
    """Builds the model, compares it with onnxruntime, and returns the layers."""
    plan = partition(b.build())
    assert len(plan.graphs) == graphs
    if cpu_is_exact():
        assert_plan_is_golden(plan, random_inputs(rng_of(seed), plan.model.proto), exact=exact)
    return [layer for graph in plan.graphs for layer in graph.layers]


def image(b, channels=4, size=(8, 9), name="x"):
    """An input, and a convolution of it, so that the accelerator makes the tensor."""
    x = b.input(name, (1, 3, *size))
    return b.quantize(b.conv(x, 3, channels, name=f"{name}_conv"))


def end(b, x, *, scale=None, **options):
    b.output(b.quantize(x, scale=scale, **options))


# Convolutions -------------------------------------------------------------------------------------

@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("attributes", [
    {}, {"strides": [2, 2], "pads": [0, 0, 1, 1]}, {"dilations": [2, 1], "pads": [2, 1, 2, 1]},
    {"auto_pad": "SAME_LOWER", "strides": [2, 1]}])
def test_depthwise_convolution(attributes, unsigned):
    b = builder(unsigned=unsigned)
    y = image(b, 24)
    end(b, b.conv(y, 1, 24, (3, 3), name="dw", group=24, **attributes))
    _, layer = check(b)
    assert isinstance(layer, Depthwise) and layer.weights.shape == (24, 3, 3)
    np.testing.assert_array_equal(layer.weights, b.initializers["dw_w"][:, 0])


@pytest.mark.parametrize("channels, filters, group", [(6, 12, 6), (8, 12, 4), (6, 3, 3), (4, 4, 1)])
def test_groups_become_a_dense_convolution(channels, filters, group):
    b = builder()
    y = image(b, channels)
    end(b, b.conv(y, channels // group, filters, (3, 3), name="grouped", group=group))
    plan = partition(b.build())
    _, layer = check(b)
    assert isinstance(layer, Convolution) and layer.groups == group
    assert layer.weights.shape == (filters, channels, 3, 3)
    output = plan.graphs[0].tensors[layer.output]
    assert layer.macs(output) == filters * (channels // group) * 9 * 6 * 7


def test_macs_are_those_of_the_model():
    b = builder()
    y = b.quantize(b.conv(image(b, 24), 1, 24, (3, 3), name="dw", group=24))
    end(b, b.node("Relu", [y]), scale=9.0)
    graph, = partition(b.build()).graphs
    assert [layer.macs(graph.tensors[layer.output]) for layer in graph.layers] == [
        24 * 3 * 8 * 9, 24 * 9 * 6 * 7, 0]


# Two tensors --------------------------------------------------------------------------------------

@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_residual_add(turned, unsigned):
    b = builder(unsigned=unsigned)
    x = image(b)
    y = b.quantize(b.conv(x, 4, 4, name="two"))
    end(b, b.node("Add", [y, x] if turned else [x, y], "sum"))
    layer = check(b)[-1]
    assert isinstance(layer, Add)
    assert (layer.a, layer.b) == (("two_q", "x_conv_q") if turned else ("x_conv_q", "two_q"))


@pytest.mark.parametrize("op, low, high", [("Relu", 0, 0), ("Clip", -3.4, 50.2)])
def test_add_takes_bounds_into_its_clamp(op, low, high):
    b = builder()
    x = image(b)
    y = b.quantize(b.conv(x, 4, 4, name="two"))
    total = b.node("Add", [x, y], "sum")
    scale = 2 * float(b.initializers["two_scale"])
    bounds = [] if op == "Relu" else [b.constant("low", np.float32(low * scale)),
                                      b.constant("high", np.float32(high * scale))]
    end(b, b.node(op, [total, *bounds], "bound"), scale=scale, zero_point=-128)
    layer, = (layer for layer in partition(b.build()).graphs[0].layers if isinstance(layer, Add))
    assert layer.clamp == ((-128, 127) if op == "Relu" else (-128, -78))
    check(b)


def test_relu_of_an_add_behind_a_quantizer_is_folded():
    b = builder()
    x = image(b)
    total = b.quantize(b.node("Add", [x, b.quantize(b.conv(x, 4, 4, name="two"))], "sum"),
                       scale=0.2, zero_point=3)
    end(b, b.node("Relu", [total], "relu"), scale=0.2, zero_point=3)
    layer = check(b)[-1]
    assert isinstance(layer, Add) and layer.clamp == (3, 127) and layer.output == "relu_q"


def test_add_of_two_inputs():
    b = builder()
    x, y = b.input("x", (1, 4, 5, 6)), b.input("y", (1, 4, 5, 6))
    end(b, b.node("Add", [x, y], "sum"))
    layer, = check(b)
    assert isinstance(layer, Add)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_sum_with_a_value_for_each_channel(turned, unsigned):
    b = builder(unsigned=unsigned)
    x = image(b)
    pair = [x, b.quantize(b.node("GlobalAveragePool", [x], "g"))]
    end(b, b.node("Add", pair[::-1] if turned else pair, "sum"))
    layer = check(b)[-1]
    assert isinstance(layer, Add) and (layer.a, layer.b) == ("x_conv_q", "g_q")


def test_add_of_a_plane_and_a_vector_sends_the_vector_through_the_host():
    b = builder()
    y = b.reshape(image(b, 4, (2, 3)), (1, 24))
    total = b.node("Add", [y, b.quantize(b.gemm(b.input("z", (1, 5)), 5, 24, name="fc"))], "sum")
    end(b, b.gemm(b.quantize(total), 24, 3))
    layers = check(b, graphs=2)
    assert isinstance(layers[2], Add) and layers[2].inputs == ("x_conv_q", "fc_q@1")


@pytest.mark.parametrize("unsigned", [False, True])
def test_product_of_two_tensors(unsigned):
    b = builder(unsigned=unsigned)
    x = image(b)
    y = b.quantize(b.conv(x, 4, 4, name="y"))
    end(b, b.node("Mul", [x, y], "product"), scale=float(b.initializers["x_conv_scale"]))
    layer = check(b)[-1]
    assert isinstance(layer, Multiply) and (layer.a, layer.b) == ("x_conv_q", "y_q")


@pytest.mark.parametrize("unsigned", [False, True])
def test_product_with_its_own_function_is_one_table(unsigned):
    b = builder(unsigned=unsigned)
    x = image(b)
    y = b.quantize(b.node("Sigmoid", [x], "gate"), scale=1 / 256)
    end(b, b.node("Mul", [x, y], "swish"), scale=float(b.initializers["x_conv_scale"]))
    _, layer = check(b)
    assert isinstance(layer, Lookup) and (layer.op, layer.input) == ("Mul", "x_conv_q")


@pytest.mark.parametrize("turned", [False, True])
def test_product_with_one_factor_for_each_channel(turned):
    # Squeeze and excite.
    b = builder()
    x = image(b, 6)
    scale = float(b.initializers["x_conv_scale"])
    y = b.quantize(b.node("GlobalAveragePool", [x], "squeeze"), scale=scale / 2)
    y = b.quantize(b.conv(y, 6, 6, name="excite"))
    y = b.quantize(b.node("HardSigmoid", [y], "gate"), scale=1 / 256)
    end(b, b.node("Mul", [y, x] if turned else [x, y], "scaled"), scale=scale)
    layer = check(b)[-1]
    assert isinstance(layer, Multiply) and (layer.a, layer.b) == ("x_conv_q", "gate_q")


# Functions of one value ---------------------------------------------------------------------------

@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("op, attributes", [
    ("Sigmoid", {}), ("Tanh", {}), ("HardSwish", {}), ("HardSigmoid", {"alpha": 0.25}),
    ("Elu", {"alpha": 0.5}), ("LeakyRelu", {"alpha": 0.1}), ("Erf", {}), ("Abs", {}), ("Neg", {}),
    ("Softplus", {}), ("Selu", {}), ("Exp", {}), ("Celu", {}), ("Sign", {}), ("Gelu", {}),
    ("Gelu", {"approximate": "tanh"}), ("Mish", {}), ("Relu", {}), ("ThresholdedRelu", {}),
    ("Acos", {}), ("Acosh", {}), ("Asin", {}), ("Asinh", {}), ("Atan", {}), ("Atanh", {}),
    ("Cos", {}), ("Cosh", {}), ("Sin", {}), ("Sinh", {}), ("Tan", {})])
def test_function_of_one_value_is_a_table(op, attributes, unsigned):
    b = builder(unsigned=unsigned, opset=20)
    x = b.quantize(b.conv(b.input("x", (1, 3, 8, 8)), 3, 16, name="conv"), scale=0.05)
    end(b, b.node(op, [x], "f", **attributes), scale=0.04)
    _, layer = check(b)
    assert isinstance(layer, Lookup) and (layer.name, layer.op) == ("f", op)
    assert layer.table.shape == (256,) and layer.table.dtype == np.int8


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Pow", "Mod"])
def test_one_constant_for_all_elements_is_a_table(op, turned, quantized, unsigned):
    b = builder(unsigned=unsigned)
    x = b.quantize(b.conv(b.input("x", (1, 3, 8, 8)), 3, 16, name="conv"), scale=0.05,
                   zero_point=100)
    if quantized:
        b.constant("k_scale", np.float32(0.02))
        b.constant("k_zero", np.uint8(3) if unsigned else np.int8(3))
        b.constant("k_q", np.array([57], np.uint8 if unsigned else np.int8))
        constant = b.node("DequantizeLinear", ["k_q", "k_scale", "k_zero"], "k")
    else:
        constant = b.constant("k", np.float32(1.7))
    if op == "Pow":
        x = b.quantize(b.node("Abs", [x], "positive"), scale=0.05)
    end(b, b.node(op, [constant, x] if turned else [x, constant], "f",
                  **({"fmod": 1} if op == "Mod" else {})), scale=0.1)
    layer = check(b)[-1]
    assert isinstance(layer, Lookup) and layer.op == op


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("sign", [1, -1, [1, -1, 1, -1, 1]])
@pytest.mark.parametrize("seed", range(6))
def test_prelu_with_a_slope_for_each_channel(seed, sign, unsigned):
    # All values in all channels: the input is what the layer reads.
    b = builder(seed, unsigned=unsigned)
    x = b.input("x", (1, 5, 16, 17))
    slope = np.float32(sign) * np.array([0.26, 0.013, 0, *rng_of(seed).random(2)], np.float32)
    y = b.node("PRelu", [x, b.constant("k", slope.reshape((1, 5, 1, 1) if seed % 2 else
                                                          (5, 1, 1)))], "prelu")
    b.output(b.quantize(y, scale=float(b.initializers["x_scale"]) * (0.9, 0.7, 1.3)[seed % 3]))
    plan = partition(b.build())
    layer, = plan.graphs[0].layers
    assert isinstance(layer, Lookup) and layer.table.shape == (5, 256)
    every = (np.arange(16 * 17) % 256 - float(b.initializers["x_zero"]) - 128 * (not unsigned)) \
        * float(b.initializers["x_scale"])
    inputs = {"x": np.broadcast_to(every.reshape(1, 1, 16, 17), (1, 5, 16, 17))
              .astype(np.float32)}
    if cpu_is_exact():
        assert_plan_is_golden(plan, inputs, exact=False)


def test_prelu_with_ties_that_float32_breaks_either_way():
    b = builder()
    x = image(b, 5)
    y = b.node("PRelu", [x, b.constant("k", np.full((5, 1, 1), 0.25, np.float32))], "prelu")
    end(b, y, scale=float(b.initializers["x_conv_scale"]))
    assert isinstance(check(b)[-1], Lookup)


def test_prelu_of_a_vector():
    b = builder()
    x = b.quantize(b.gemm(b.input("x", (1, 10)), 10, 7, name="fc"))
    slope = b.constant("k", rng_of().standard_normal(7).astype(np.float32))
    end(b, b.gemm(b.quantize(b.node("PRelu", [x, slope], "prelu"), scale=0.05), 7, 3, name="last"))
    assert check(b, exact=False)[1].table.shape == (7, 256)


def test_prelu_takes_bounds():
    b = builder()
    y = b.node("PRelu", [image(b, 5), b.constant("k", np.full((5, 1, 1), 0.3, np.float32))])
    y = b.node("Clip", [y, b.constant("low", np.float32(-1)), b.constant("high", np.float32(2))])
    end(b, b.conv(b.quantize(y, scale=0.05, zero_point=3), 5, 4, name="two"))
    table = check(b, exact=False)[1].table
    assert (table.min(), table.max()) == (-17, 43)


def test_chain_of_nodes_is_one_table():
    b = builder()
    x = b.quantize(b.conv(b.input("x", (1, 3, 8, 8)), 3, 16, name="conv"), scale=0.05)
    half = b.constant("half", np.float32(0.5))
    y = b.node("Erf", [b.node("Mul", [x, b.constant("r", np.float32(0.7071))])])
    y = b.node("Add", [y, b.constant("one", np.ones((1, 1, 1), np.float32))])
    y = b.reshape(b.node("Mul", [b.node("Mul", [x, y]), half], "gelu"), (1, 16, 64))
    end(b, b.node("Relu", [y], "relu"), scale=0.03)
    layers = check(b)
    assert [type(layer) for layer in layers] == [Convolution, Lookup]


def test_square_of_a_tensor_is_a_table():
    b = builder()
    x = b.quantize(b.conv(b.input("x", (1, 3, 8, 8)), 3, 16, name="conv"), scale=0.05)
    end(b, b.node("Mul", [x, x], "square"), scale=0.2)
    assert isinstance(check(b)[-1], Lookup)


@pytest.mark.parametrize("unsigned", [False, True])
def test_another_scale_alone_is_a_table(unsigned):
    b = builder(unsigned=unsigned)
    x = b.quantize(b.conv(b.input("x", (1, 3, 8, 8)), 3, 16, name="conv"), scale=0.05)
    other = b.reshape(x, (1, 16, 64))
    b.output(x)
    end(b, other, scale=0.03)
    assert [type(layer) for layer in check(b)] == [Convolution, Lookup]


def test_relu_with_other_readers_is_a_table():
    b = builder()
    x = b.quantize(b.conv(b.input("x", (1, 3, 8, 8)), 3, 4, name="one"), scale=1.0, zero_point=0)
    b.output(x)
    y = b.quantize(b.node("Relu", [x], "relu"), scale=1.0, zero_point=0)
    end(b, b.conv(y, 4, 4, name="two"))
    _, layer, _ = check(b)
    assert isinstance(layer, Lookup)
    np.testing.assert_array_equal(layer.table, np.maximum(np.arange(-128, 128), 0))


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


# Concat, Pad, Resize ------------------------------------------------------------------------------

@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("rescaled", [False, True])
def test_concat(rescaled, unsigned):
    b = builder(unsigned=unsigned)
    x = image(b, 5)
    scale, zero = b.initializers["x_conv_scale"], int(b.initializers["x_conv_zero"])
    y = b.quantize(b.conv(x, 5, 3, name="two"), scale=float(scale), zero_point=zero)
    end(b, b.node("Concat", [x, y, x], "joined", axis=1), zero_point=zero,
        scale=float(scale) * (0.8 if rescaled else 1))
    layers = check(b)
    joined = layers[-1]
    assert isinstance(joined, Concat) and len(joined.sources) == 3
    assert joined.sources[0] == joined.sources[2]
    assert [type(layer) for layer in layers[2:]] == ([Lookup] * 2 if rescaled else []) + [Concat]


def test_concat_of_an_input_and_a_layer():
    b = builder()
    x = b.input("x", (1, 3, 8, 9))
    y = b.quantize(b.conv(x, 3, 4, name="one"), scale=float(b.initializers["x_scale"]),
                   zero_point=int(b.initializers["x_zero"]))
    joined = b.quantize(b.node("Concat", [y, x], "joined", axis=-3),
                        scale=float(b.initializers["x_scale"]),
                        zero_point=int(b.initializers["x_zero"]))
    end(b, b.conv(joined, 7, 2, (3, 3), name="two"))
    assert [type(layer) for layer in check(b)] == [Convolution, Concat, Convolution]


def test_concat_of_channels_last():
    b = builder()
    x = image(b, 5)
    y = b.quantize(b.conv(x, 5, 3, name="two"))
    turned = [b.node("Transpose", [value], perm=[0, 2, 3, 1]) for value in (x, y)]
    joined = b.quantize(b.node("Concat", turned, "joined", axis=3), scale=0.1)
    back = b.node("Transpose", [joined], perm=[0, 3, 1, 2])
    end(b, b.conv(back, 8, 2, (3, 3), name="three"))
    assert isinstance(check(b)[-1], Convolution)


def test_concat_of_vectors():
    b = builder()
    x = b.input("x", (1, 10))
    parts = [b.quantize(b.gemm(x, 10, size)) for size in (4, 7)]
    end(b, b.gemm(b.quantize(b.node("Concat", parts, "joined", axis=1), scale=0.1), 11, 3))
    check(b)


def padded_model(opset, pads, quantized, *more):
    b = builder(opset=opset)
    x = image(b, 5)
    scale, zero = float(b.initializers["x_conv_scale"]), int(b.initializers["x_conv_zero"])
    y = b.node("Pad", [x, b.constant("pads", np.array(pads)), *(
        b.constant(f"more{index}", value) for index, value in enumerate(more))], "padded")
    if quantized:
        y = b.quantize(y, scale=scale, zero_point=zero)
    b.output(b.quantize(b.conv(y, 5, 4, (3, 3), name="two", pads=[0, 1, 0, 0])))
    end(b, b.node("AveragePool", [y], "mean", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), scale=scale)
    return b


@pytest.mark.parametrize("unsigned", [False, True])
def test_pad_is_left_to_the_layers_that_read_it(unsigned):
    b = padded_model(13, [0, 0, 1, 0, 0, 0, 2, 3], True)
    layers = {layer.name: layer for layer in check(b)}
    assert layers["two"].pads == (1, 1, 2, 3)
    assert layers["mean"].pads == (2, 1, 3, 4) and layers["mean"].count_pads == (1, 0, 2, 3)


def test_pad_may_name_its_axes():
    # onnxruntime 1.31 cannot run this one: it moves the axes of the Pad and then loses them.
    b = padded_model(18, [1, 0, 2, 3], True, np.float32(0), np.array([2, -1]))
    plan = partition(b.build())
    layers = {layer.name: layer for layer in plan.graphs[0].layers}
    assert layers["two"].pads == (1, 1, 2, 3)


def test_pad_without_quantizers_is_folded_and_what_onnxruntime_makes_of_it_noted():
    plan = annotate(partition(padded_model(13, [0, 0, 1, 0, 0, 0, 2, 3], False).build()))
    rows = {row.name: row for row in plan.placements}
    for name in ("two", "mean"):
        assert rows[name].where is Where.ACCELERATOR
        assert rows[name].note == "onnxruntime computes it in float32, and may round differently"
    assert rows["x_conv"].note == ""
    layers = {layer.name: layer for layer in plan.graphs[0].layers}
    assert layers["two"].pads == (1, 1, 2, 3)


def test_pad_before_a_maximum_of_values_from_zero():
    b = builder()
    x = b.quantize(b.node("Relu", [b.conv(b.input("x", (1, 3, 8, 9)), 3, 4, name="one")], "relu"),
                   scale=10.0, zero_point=-128)
    y = b.node("Pad", [x, b.constant("pads", np.array([0, 0, 0, 0, 0, 0, 1, 1]))], "padded")
    end(b, b.node("MaxPool", [y], "pool", kernel_shape=[3, 3], strides=[2, 2]), scale=10.0,
        zero_point=-128)
    assert check(b)[-1].pads == (0, 0, 1, 1)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize("before, after", [(0, 3), (2, 0), (1, 16)])
def test_pad_of_channels(before, after, rescaled, unsigned):
    b = builder(unsigned=unsigned)
    x = image(b, 5)
    scale, zero = float(b.initializers["x_conv_scale"]), int(b.initializers["x_conv_zero"])
    wide = b.node("Pad", [x, b.constant("p", np.array([0, before, 0, 0, 0, after, 0, 0]))], "wide")
    wide = b.quantize(wide, scale=scale * (1.3 if rescaled else 1), zero_point=zero)
    other = b.quantize(b.conv(x, 5, 5 + before + after, name="two"))
    end(b, b.node("Add", [wide, other]), scale=1.0)
    layers = check(b)
    assert layers[1].channels.tolist() == [-1] * before + [*range(5)] + [-1] * after


@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize("mode, nearest, factors", [
    ("asymmetric", "floor", (2, 2)), ("asymmetric", "floor", (3, 1)),
    ("half_pixel", "round_prefer_floor", (2, 2)), ("half_pixel", "round_prefer_ceil", (2, 3)),
    ("pytorch_half_pixel", "round_prefer_floor", (2, 4))])
def test_resize(mode, nearest, factors, rescaled):
    b = builder()
    x = image(b, 5)
    scale, zero = float(b.initializers["x_conv_scale"]), int(b.initializers["x_conv_zero"])
    scales = b.constant("factors", np.array([1, 1, *factors], np.float32))
    y = b.node("Resize", [x, "", scales], "large", mode="nearest", nearest_mode=nearest,
               coordinate_transformation_mode=mode)
    y = b.quantize(y, scale=scale * (0.7 if rescaled else 1), zero_point=zero)
    end(b, b.conv(y, 5, 2, name="two"))
    layers = check(b)
    layer = layers[1]
    assert isinstance(layer, Resize) and layer.factors == factors
    assert len(layers) == 3 + rescaled


def test_resize_to_a_size_computed_from_shapes():
    b = builder()
    x = image(b, 5)
    shape = b.node("Shape", [x])
    twice = b.node("Mul", [b.node("Slice", [shape, b.constant("two", np.array([2])),
                                            b.constant("four", np.array([4]))]),
                           b.constant("by", np.array([2, 2]))])
    size = b.node("Concat", [b.constant("head", np.array([1, 5])), twice], axis=0)
    y = b.node("Resize", [x, "", "", size], "large", mode="nearest",
               coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    end(b, y, scale=float(b.initializers["x_conv_scale"]),
        zero_point=int(b.initializers["x_conv_zero"]))
    assert isinstance(check(b)[-1], Resize)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize("mode, block, channels", [("DCR", 2, 12), ("CRD", 2, 12), ("CRD", 3, 9),
                                                   ("DCR", 1, 5)])
def test_depth_to_space(mode, block, channels, rescaled, unsigned):
    b = builder(unsigned=unsigned)
    y = b.node("DepthToSpace", [image(b, channels)], "large", blocksize=block, mode=mode)
    y = quantized_like(b, b.node("Relu", [y], "relu"), factor=0.7 if rescaled else 1)
    end(b, b.conv(y, channels // block ** 2, 4, name="two"))
    layers = check(b, exact=False)
    assert sum(isinstance(layer, Selection) for layer in layers) == block ** 2
    assert any(isinstance(layer, Interleave) for layer in layers)


# Some channels -----------------------------------------------------------------------------------

def split(b, x, sizes, axis=1):
    """A Split of version 13, and what it makes."""
    names = [f"piece{index}" for index in range(len(sizes))]
    b.nodes.append(helper.make_node("Split", [x, b.constant("sizes", np.array(sizes))], names,
                                    name="split", axis=axis))
    return names


def quantized_like(b, x, name="x_conv", factor=1.0):
    return b.quantize(x, scale=float(b.initializers[f"{name}_scale"]) * factor,
                      zero_point=int(b.initializers[f"{name}_zero"]))


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("sizes, size", [
    ((1, 1), (1, 1)), ((8, 8), (5, 7)), ((3, 1, 9), (8, 9)), ((16, 17), (1, 4))])
def test_split_of_channels(sizes, size, unsigned):
    b = builder(sum(sizes), unsigned=unsigned)
    pieces = split(b, image(b, sum(sizes), size), sizes)
    for index, piece in enumerate(pieces):
        end(b, b.conv(quantized_like(b, piece), sizes[index], 3, name=f"last{index}"))
    layers = check(b, exact=False)
    chosen = [layer for layer in layers if isinstance(layer, Selection)]
    assert [layer.name for layer in chosen] == [f"split/{index}" for index in range(len(sizes))]
    assert [len(layer.weights) for layer in chosen] == list(sizes)


def test_split_takes_a_scale_and_bounds():
    b = builder()
    first, second = split(b, image(b, 7), (3, 4))
    end(b, b.conv(quantized_like(b, first, factor=0.7), 3, 3, name="one"))
    bounded = b.node("Relu", [second], "relu")
    end(b, b.conv(quantized_like(b, bounded), 4, 3, name="two"))
    layers = {layer.name: layer for layer in check(b, exact=False)}
    assert isinstance(layers["split/0"], Selection)
    assert isinstance(layers["split/0/scale"], Lookup)
    assert layers["split/1"].clamp == (int(b.initializers["x_conv_zero"]), 127)


@pytest.mark.parametrize("start, end_, axis, step, chosen", [
    (2, 6, 1, 1, [2, 3, 4, 5]), (-3, 100, -3, 1, [6, 7, 8]), (8, -100, 1, -3, [8, 5, 2]),
    (0, 9, 1, 2, [0, 2, 4, 6, 8])])
def test_slice_of_channels(start, end_, axis, step, chosen):
    b = builder()
    x = image(b, 9)
    y = b.node("Slice", [x, *(b.constant(name, np.array([value])) for name, value in
                              (("s", start), ("e", end_), ("a", axis), ("t", step)))], "cut")
    end(b, b.conv(quantized_like(b, y), len(chosen), 3, name="two"))
    layer = check(b, exact=False)[1]
    assert isinstance(layer, Selection)
    np.testing.assert_array_equal(layer.weights[:, :, 0, 0], np.eye(9)[chosen])


@pytest.mark.parametrize("axis, indices, chosen", [
    (1, [3, 0, 8], [3, 0, 8]), (-3, [-1], [8]), (1, [[5, 4], [3, 2]], [5, 4, 3, 2])])
def test_gather_of_channels(axis, indices, chosen):
    b = builder()
    y = b.node("Gather", [image(b, 9), b.constant("i", np.array(indices))], "some", axis=axis)
    if np.ndim(indices) > 1:
        y = b.reshape(quantized_like(b, y), (1, len(chosen), 8, 9))
    end(b, b.conv(quantized_like(b, y), len(chosen), 3, name="two"))
    layer = check(b, exact=False)[1]
    assert isinstance(layer, Selection) and layer.channels.tolist() == chosen


# Some rows and columns ---------------------------------------------------------------------------

def cut(b, x, starts, ends, axes, steps, name="cut"):
    """A Slice."""
    return b.node("Slice", [x, *(b.constant(f"{name}_{part}", np.array(values)) for part, values in
                                 zip("seat", (starts, ends, axes, steps), strict=True))], name)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("starts, ends, axes, steps, size", [
    ([2], [6], [2], [1], (4, 9)), ([-3], [100], [3], [1], (8, 3)), ([1], [8], [2], [3], (3, 9)),
    ([3, 1], [8, 9], [2, 3], [2, 4], (3, 2)), ([7], [8], [-2], [1], (1, 9)),
    ([4], [5], [3], [1], (8, 1))])
def test_slice_of_planes(starts, ends, axes, steps, size, unsigned):
    b = builder(unsigned=unsigned)
    y = cut(b, image(b, 9), starts, ends, axes, steps)
    bounded = b.node("Relu", [y], "relu")
    end(b, b.conv(quantized_like(b, bounded), 9, 3, name="two"))
    layer = check(b, exact=False)[1]
    assert isinstance(layer, Pool) and layer.kernel == (1, 1)
    assert layer.strides[0] in (1, *steps) and min(layer.pads) < 0


def test_slice_of_planes_and_channels_at_once():
    b = builder()
    y = cut(b, image(b, 9), [1, 2, 0], [8, 7, 9], [1, 2, 3], [2, 2, 1])
    end(b, b.conv(quantized_like(b, y, factor=0.8), 4, 3, name="two"))
    assert [type(layer) for layer in check(b, exact=False)[1:4]] == [Pool, Selection, Lookup]


def test_split_of_rows_and_a_pixel():
    b = builder()
    top, bottom = split(b, image(b, 9), (3, 5), axis=2)
    row = b.node("Gather", [quantized_like(b, bottom), b.constant("four", np.array(4))], "row",
                 axis=2)
    pixel = b.node("Gather", [quantized_like(b, row), b.constant("last", np.array([-1]))], "pixel",
                   axis=2)
    end(b, b.conv(quantized_like(b, top), 9, 3, name="two"))
    end(b, b.conv(b.reshape(quantized_like(b, pixel), (1, 9, 1, 1)), 9, 3, name="three"))
    assert sum(isinstance(layer, Pool) for layer in check(b, exact=False)) == 4


def test_pixels_of_a_signal_in_another_order():
    b = builder()
    x = quantized_like(b, b.node("Relu", [image(b, 7, (1, 5))], "relu"))
    flat = b.reshape(x, (1, 7, 5))
    pixels = [quantized_like(b, cut(b, flat, [at], [at + 1], [2], [1], f"cut{at}"))
              for at in (3, 0, 4, 4 - 3)]
    joined = b.node("Concat", pixels, "joined", axis=2)
    end(b, b.conv(b.reshape(quantized_like(b, joined), (1, 7, 4, 1)), 7, 3, (2, 1), name="two"))
    layers = check(b, exact=False)
    stack, = (layer for layer in layers if isinstance(layer, Interleave))
    assert stack.factors == (4, 1) and len(stack.sources) == 4


@pytest.mark.parametrize("unsigned", [False, True])
def test_channels_of_integers_need_no_quantizers(unsigned):
    b = builder(unsigned=unsigned)
    image(b, 9)
    for name in split(b, "x_conv_q", (4, 5)):
        end(b, b.conv(dequantized_like(b, name), 4 if name == "piece0" else 5, 3))
    kept = b.node("Gather", ["x_conv_q", b.constant("i", np.array([7, 1]))], "kept", axis=1)
    first = b.node("Slice", ["x_conv_q", *(b.constant(name, np.array([value])) for name, value in (
        ("s", 0), ("e", 2), ("a", 1)))], "first")
    both = b.node("Concat", [kept, first], "both", axis=1)
    end(b, b.conv(dequantized_like(b, both), 4, 3))
    layers = check(b, exact=False)
    assert sum(isinstance(layer, Selection) for layer in layers) == 4


def dequantized_like(b, x, name="x_conv"):
    """The real values of integers that are quantized as another tensor is."""
    y = b.node("DequantizeLinear", [x, f"{name}_scale", f"{name}_zero"], f"{x}_real")
    b._scales[y] = b.initializers[f"{name}_scale"]
    return y


def shuffled(b, x, channels, groups, size=(8, 9)):
    """Channels of groups dealt out in turn."""
    y = b.reshape(x, (1, groups, channels // groups, *size))
    return b.reshape(b.node("Transpose", [y], perm=[0, 2, 1, 3, 4]), (1, channels, *size))


def test_split_of_shuffled_channels():
    b = builder()
    for index, piece in enumerate(split(b, shuffled(b, image(b, 12), 12, 2), (6, 6))):
        end(b, b.conv(quantized_like(b, piece), 6, 3, name=f"last{index}"))
    layers = [layer for layer in check(b, exact=False) if isinstance(layer, Selection)]
    assert len(layers) == 2
    np.testing.assert_array_equal(layers[1].weights[:, :, 0, 0],
                                  np.eye(12)[[3, 9, 4, 10, 5, 11]])


def test_shuffled_channels_are_one_layer_for_all_that_read_them():
    b = builder()
    y = shuffled(b, image(b, 12), 12, 3)
    end(b, b.conv(y, 12, 3, name="dense"))
    end(b, b.conv(y, 1, 12, (3, 3), name="dw", group=12))
    assert [type(layer) for layer in check(b)] == [Convolution, Alias, Convolution, Depthwise]


def test_shuffled_channels_are_read_now_and_later():
    b = builder()
    x = b.quantize(shuffled(b, image(b, 12), 12, 3), scale=float(b.initializers["x_conv_scale"]),
                   zero_point=int(b.initializers["x_conv_zero"]))
    y = b.quantize(b.conv(x, 12, 12, name="now"))
    y = b.quantize(b.node("Softmax", [y], "odd", axis=1), scale=1 / 256)
    y = b.quantize(b.conv(y, 12, 12, name="late"))
    end(b, b.node("Add", [b.quantize(b.conv(x, 12, 12, name="again")), y], "sum"))
    end(b, b.conv(x, 12, 4, name="last"))
    check(b, graphs=2, exact=False)


def test_identity_and_dropout_vanish():
    b = builder()
    x = b.node("Dropout", [b.node("Identity", [image(b)])])
    end(b, b.conv(x, 4, 4, name="two"))
    assert [type(layer) for layer in check(b)] == [Convolution, Convolution]


def test_integer_outputs_of_all_kinds():
    b = builder()
    x = image(b)
    total = b.quantize(b.node("Add", [x, x], "double"), scale=0.5)
    b.quantize(b.node("GlobalAveragePool", [total], "mean"), scale=0.3)
    b.output("mean_q", TensorProto.INT8)
    b.output("double_q", TensorProto.INT8)
    check(b)
