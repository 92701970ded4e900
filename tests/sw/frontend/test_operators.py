"""Convolutions, sums, products and functions of one value, from the ONNX node to values that equal
onnxruntime's."""

import numpy as np
import pytest
from models import assert_plan_is_golden
from onnx import TensorProto
from operator_models import builder, check, end, image, rng_of

from weft.frontend import partition
from weft.ir import Add, Convolution, Depthwise, Lookup, Multiply
from weft.reference.golden import cpu_is_exact

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
