from collections import Counter

import numpy as np
import onnx
import pytest
from frontend_checks import check, divided, operators, refused, rng_of
from models import (
    QdqBuilder,
    assert_plan_is_golden,
    conv_model,
    float_cnn,
    quantize_model,
    random_inputs,
    run_plan,
)
from onnx import helper, numpy_helper
from places import MODELS

from weft import reference
from weft.frontend import load_graph, partition
from weft.frontend.onnx.values import View
from weft.reference.golden import GoldenSession, cpu_is_exact, to_int8

exact_cpu = pytest.mark.skipif(not cpu_is_exact(), reason=cpu_is_exact().reason or "exact")
real_models = pytest.mark.skipif(not MODELS.is_dir(), reason="needs ../shared/models")


# Real and quantized networks ----------------------------------------------------------------------

@real_models
@exact_cpu
def test_resnet8_up_to_the_first_add_is_onnxruntime_in_every_layer():
    whole = onnx.load(MODELS / "ic_resnet8_int8.onnx")
    add = next(node for node in whole.graph.node if node.op_type == "Add")
    inferred = onnx.shape_inference.infer_shapes(whole)
    part = onnx.utils.Extractor(inferred).extract_model(["input_1"], list(add.input))
    before, graph, _ = divided(part)
    assert [layer.op for layer in graph.layers] == ["Conv"] * 3
    assert operators(before) == ["Transpose", "QuantizeLinear"]
    plan = partition(part)
    with np.load(MODELS / "ic_resnet8_int8.npz") as archive:
        for image in archive["input"]:
            assert_plan_is_golden(plan, {"input_1": image[None]})


@real_models
@exact_cpu
@pytest.mark.parametrize("name, kinds", [
    ("ic_resnet8_int8", {"Convolution": 10, "Add": 3, "Pool": 1}),
    ("kws_dscnn_int8", {"Convolution": 6, "Depthwise": 4, "Pool": 1})])
def test_real_network_is_onnxruntime_in_every_layer_of_every_image(name, kinds):
    _, graph, after = divided(MODELS / f"{name}.onnx")
    assert Counter(type(layer).__name__ for layer in graph.layers) == kinds
    assert operators(after) == ["DequantizeLinear", "Softmax"]
    plan = partition(MODELS / f"{name}.onnx")
    entry, = (info.name for info in plan.model.inputs)
    with np.load(MODELS / f"{name}.npz") as archive:
        for image, output in zip(archive["input"], archive["output"], strict=True):
            inputs = {entry: image[None]}
            assert_plan_is_golden(plan, inputs)
            values, _ = run_plan(plan, inputs)
            np.testing.assert_array_equal(values[plan.model.outputs[0].name][0], output)


@exact_cpu
@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_statically_quantized_network_is_onnxruntime(per_channel, unsigned):
    rng = rng_of()
    model = quantize_model(rng, float_cnn(rng), per_channel=per_channel, unsigned=unsigned)
    before, graph, after = divided(model)
    assert [layer.name for layer in graph.layers] == ["conv1", "conv2", "conv3", "fc1", "fc2"]
    assert graph.layers[3].weights.shape == (10, 6, 3, 3)
    assert operators(before) == ["QuantizeLinear"]
    assert "Softmax" in operators(after)


@exact_cpu
def test_relu_of_a_symmetric_quantizer_is_folded():
    # Its Relu and Clip keep a quantization of their own, here of the same scale.
    rng = rng_of()
    model = quantize_model(rng, float_cnn(rng), extra_options={"ActivationSymmetric": True})
    graph = check(model)
    assert [layer.clamp[0] for layer in graph.layers] == [0, 0, -128, 0, -128]


# Layers -------------------------------------------------------------------------------------------

def test_convolution_is_taken_over_as_it_is():
    model = conv_model(rng_of(), strides=[2, 1], pads=[0, 1, 2, 3], dilations=[1, 2])
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    graph = check(model)
    layer, = graph.layers
    assert (layer.name, layer.op, layer.input, layer.output) == ("conv", "Conv", "x_q", "conv_q")
    assert (layer.strides, layer.pads, layer.dilations) == ((2, 1), (0, 1, 2, 3), (1, 2))
    assert layer.clamp == (-128, 127)
    np.testing.assert_array_equal(layer.weights, values["conv_w"])
    np.testing.assert_array_equal(layer.bias, values["conv_b"])
    np.testing.assert_array_equal(
        layer.multiplier, values["x_scale"] * values["conv_ws"] / values["conv_scale"])
    tensor = graph.tensors["x_q"]
    assert tensor.shape == (3, 6, 6) and tensor.order is None and not tensor.unsigned
    assert tensor.scale == values["x_scale"] and tensor.zero_point == values["x_zero"]
    edge, = graph.outputs
    assert (edge.name, edge.shape, edge.tensor) == ("conv_q", (1, 4, 3, 6), "conv_q")


def test_unsigned_activations_move_into_the_int8_domain():
    model = conv_model(rng_of(), unsigned=True)
    zero, = (numpy_helper.to_array(tensor) for tensor in model.graph.initializer
             if tensor.name == "x_zero")
    tensor = check(model).tensors["x_q"]
    assert tensor.unsigned and tensor.zero_point == int(zero) - 128


def test_unsigned_weights_move_into_the_int8_domain():
    model = conv_model(rng_of(), unsigned=True, unsigned_weights=True)
    stored, = (numpy_helper.to_array(tensor) for tensor in model.graph.initializer
               if tensor.name == "conv_w")
    layer, = check(model).layers
    np.testing.assert_array_equal(layer.weights, stored.astype(int) - 128)


def test_missing_bias_is_zero():
    layer, = check(conv_model(rng_of(), bias=False)).layers
    assert layer.bias.dtype == np.int32 and not layer.bias.any()


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
@pytest.mark.parametrize("size, kernel, strides", [
    ((6, 7), (3, 3), [1, 1]), ((6, 7), (2, 4), [2, 2]), ((9, 5), (4, 1), [3, 2])])
def test_auto_pad_is_onnxruntimes(auto_pad, size, kernel, strides):
    check(conv_model(rng_of(), size=size, kernel=kernel, strides=strides, auto_pad=auto_pad))


@pytest.mark.parametrize("trans_b", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_gemm_weights_may_lie_either_way(trans_b, per_channel):
    b = QdqBuilder(rng_of(), per_channel=per_channel)
    b.output(b.quantize(b.gemm(b.input("x", (1, 20)), 20, 7, trans_b=trans_b)))
    assert check(b.build()).layers[0].weights.shape == (7, 20, 1, 1)


def test_gemm_may_transpose_its_input():
    b = QdqBuilder(rng_of())
    b.output(b.quantize(b.gemm(b.input("x", (20, 1)), 20, 7, transA=1)))
    check(b.build())


@pytest.mark.parametrize("turned", [False, True])
def test_constant_added_to_matmul_is_its_bias(turned):
    b = QdqBuilder(rng_of())
    matmul = b.matmul(b.input("x", (1, 20)), 20, 7, name="fc")
    bias = b.bias("fc", b.initializers["x_scale"] * b.initializers["fc_ws"])
    scale = b._spread[matmul] / 40
    added = b.node("Add", [bias, matmul] if turned else [matmul, bias])
    b.output(b.quantize(added, scale=scale))
    layer, = check(b.build()).layers
    assert layer.op == "MatMul"
    np.testing.assert_array_equal(layer.bias, b.initializers["fc_b"])


def test_matmul_over_rows_is_a_convolution_over_pixels():
    b = QdqBuilder(rng_of())
    x = b.quantize(b.matmul(b.input("x", (1, 9, 20)), 20, 7))
    b.output(b.quantize(b.matmul(x, 7, 5)))
    graph = check(b.build())
    assert [layer.weights.shape for layer in graph.layers] == [(7, 20, 1, 1), (5, 7, 1, 1)]
    assert graph.tensors[graph.layers[1].output].shape == (5, 9, 1)
    assert graph.inputs[0].gather is not None and graph.outputs[0].gather is not None


def test_weights_may_be_quantized_in_the_graph():
    # What quantization-aware training exports: float weights, then Q and DQ.
    model = conv_model(rng_of())
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    real = constants["conv_w"] * constants["conv_ws"].reshape(-1, 1, 1, 1)
    model.graph.initializer.append(numpy_helper.from_array(real.astype(np.float32), "conv_wf"))
    for index, tensor in enumerate(model.graph.initializer):
        if tensor.name == "conv_w":
            del model.graph.initializer[index]
            break
    model.graph.node.insert(0, helper.make_node(
        "QuantizeLinear", ["conv_wf", "conv_ws", "conv_wz"], ["conv_w"], axis=0))
    layer, = check(model).layers
    np.testing.assert_array_equal(layer.weights, constants["conv_w"])


def test_weights_may_come_from_constant_nodes_and_views():
    b = QdqBuilder(rng_of())
    x = b.input("x", (1, 3, 6, 6))
    weights, _ = b.weights("c", (3, 3, 3, 4), 3)
    turned = b.node("Transpose", [weights], perm=[3, 2, 0, 1])
    stored = b.initializers.pop("c_w")
    b.nodes.insert(0, helper.make_node("Constant", [], ["c_w"],
                                       value=numpy_helper.from_array(stored)))
    conv = b.node("Conv", [x, turned], "c")
    b.output(b.quantize(conv))
    layer, = check(b.build()).layers
    np.testing.assert_array_equal(layer.weights, stored.transpose(3, 2, 0, 1))


# Bounds -------------------------------------------------------------------------------------------

def bounded_model(op, low, high, *, zero_point, separate=False):
    b = QdqBuilder(rng_of())
    layer = b.conv(b.input("x", (1, 3, 8, 8)), 3, 6, (3, 3), name="conv")
    scale = b._spread["conv"] / 40
    if separate:
        layer = b.quantize(layer, scale=scale, zero_point=zero_point)
    inputs = [layer]
    if op == "Clip":
        inputs += [b.constant("low", np.float32(low * scale)),
                   b.constant("high", np.float32(high * scale))]
    bounded = b.node(op, inputs, "bound")
    b.output(b.quantize(bounded, scale=scale, zero_point=zero_point))
    return b.build()


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("op, low, high, zero_point, clamp", [
    ("Relu", 0, 0, -128, (-128, 127)),
    ("Relu", 0, 0, -20, (-20, 127)),
    ("Clip", -3.4, 30.6, 5, (2, 36)),
    ("Clip", 0, 1000, -60, (-60, 127)),
    ("Clip", 7, -9, 0, (-9, -9)),
])
def test_bounds_become_the_clamp(op, low, high, zero_point, clamp, separate):
    before, graph, _ = partition(bounded_model(op, low, high, zero_point=zero_point,
                                               separate=separate)).segments
    layer, = graph.layers
    assert layer.clamp == clamp and layer.output == "bound_q"
    assert set(graph.tensors) == {"x_q", "bound_q"}

    # onnxruntime may compute such a layer in float32. Without the bounds it does not, so: clamping
    # its values must be what we compute, and quantization must not care about the order.
    free = bounded_model("Identity", 0, 0, zero_point=zero_point)
    inputs = random_inputs(rng_of(), free)
    golden = to_int8(GoldenSession(free, tensors=["bound_q"]).run(inputs)["bound_q"])[0]
    host = before.program.load().run(inputs)
    got = reference.run(graph, {"x_q": graph.enter(graph.inputs[0], host["x_q"])})["bound_q"]
    if cpu_is_exact():
        np.testing.assert_array_equal(got, np.clip(golden, *clamp))
        assert (golden < clamp[0]).any() or clamp[0] == -128


@pytest.mark.parametrize("seed", range(5))
def test_quantization_and_bounds_may_change_places(seed):
    rng = rng_of(seed)
    scale, zero = float(np.float32(rng.random())), int(rng.integers(-128, 128))
    x = (rng.standard_normal(10000) * 100 * scale).astype(np.float32)
    low, high = np.sort(rng.standard_normal(2) * 60 * scale).astype(np.float32)
    bounded = reference.quantize(np.clip(x, low, high), scale, zero)
    q_low, q_high = (int(reference.quantize(bound, scale, zero)) for bound in (low, high))
    np.testing.assert_array_equal(
        bounded, np.clip(reference.quantize(x, scale, zero), q_low, q_high))


@exact_cpu
def test_separate_relu_is_onnxruntime():
    check(bounded_model("Relu", 0, 0, zero_point=-20, separate=True))


def test_clip_bounds_may_be_attributes_of_an_old_opset():
    b = QdqBuilder(rng_of(), opset=10, per_channel=False)
    conv = b.conv(b.input("x", (1, 3, 8, 8)), 3, 6, (3, 3), name="conv")
    scale = b._spread["conv"] / 40
    clip = b.node("Clip", [conv], min=0.0, max=float(20.2 * scale))
    b.output(b.quantize(clip, scale=scale, zero_point=-20))
    assert load_graph(b.build()).layers[0].clamp == (-20, 0)


# Views --------------------------------------------------------------------------------------------

def test_views_compose():
    rng = rng_of()
    x = rng.random((2, 3, 4))
    view = View(x.shape).transpose((2, 0, 1)).reshape((6, 4)).transpose((1, 0))
    y = x.transpose(2, 0, 1).reshape(6, 4).transpose(1, 0)
    np.testing.assert_array_equal(x.reshape(-1)[view.array()], y)
    back = view.inverse(x.shape)
    np.testing.assert_array_equal(y.reshape(-1)[back.array()], x)
    assert view.through(View(x.shape)) is view
    assert view.through(back).indices is None and back.through(view).indices is None
    assert View.of(np.arange(6).reshape(2, 3)).indices is None
    assert view.same(view.reshape((2, 12)).reshape((4, 6))) and not view.same(View((4, 6)))


@pytest.mark.parametrize("seed", range(6))
def test_fully_connected_layer_sees_through_any_views(seed):
    rng = rng_of(seed)
    b = QdqBuilder(rng, unsigned=bool(seed % 2))
    y = b.quantize(b.conv(b.input("x", (1, 3, 6, 8)), 3, 8, (3, 3), name="conv"))
    shapes = [(1, 8, 4, 6), (1, 8, 24), (8, 1, 12, 2), (1, 192), (1, 4, 6, 8), (16, 3, 2, 2)]
    for _ in range(4):
        shape = shapes[rng.integers(len(shapes))]
        y = b.reshape(y, shape)
        y = b.node("Transpose", [y], perm=rng.permutation(len(shape)).tolist())
        if rng.random() < 0.3:
            y = b.quantize(y, scale=b.initializers["conv_scale"],
                           zero_point=b.initializers["conv_zero"])
    y = b.reshape(y, (1, 192))
    y = b.quantize(b.gemm(y, 192, 10))
    b.output(b.quantize(b.gemm(y, 10, 4)))
    graph = check(b.build(), seed=seed)
    assert [layer.weights.shape[1:] for layer in graph.layers] == [(3, 3, 3), (8, 4, 6), (10, 1, 1)]


def test_views_before_the_quantization_reorder_the_output():
    b = QdqBuilder(rng_of())
    conv = b.conv(b.input("x", (1, 3, 6, 7)), 3, 5, (3, 3), name="conv")
    turned = b.node("Transpose", [conv], "turned", perm=[0, 2, 3, 1])
    b.output(b.quantize(b.reshape(turned, (1, 20, 5))))
    graph = check(b.build())
    edge, = graph.outputs
    assert edge.shape == (1, 20, 5) and edge.gather is not None
    assert graph.tensors[edge.tensor].shape == (5, 4, 5)
    assert graph.tensors[edge.tensor].order is not None


def test_views_on_the_input_reorder_it():
    b = QdqBuilder(rng_of())
    x = b.node("Transpose", [b.input("x", (1, 6, 7, 3))], perm=[0, 3, 1, 2])
    b.output(b.quantize(b.conv(x, 3, 5, (3, 3))))
    graph = check(b.build())
    assert graph.inputs[0].shape == (1, 6, 7, 3) and graph.inputs[0].gather is not None


def test_views_between_quantize_and_dequantize_are_seen_through():
    b = QdqBuilder(rng_of())
    b.quantize(b.conv(b.input("x", (1, 3, 6, 7)), 3, 5, (3, 3), name="conv"))
    turned = b.node("Transpose", ["conv_q"], "turned_q", perm=[0, 2, 3, 1])
    assert turned == "turned_q"
    for part in ("scale", "zero"):
        b.constant(f"turned_{part}", b.initializers[f"conv_{part}"])
    b.nodes = [node for node in b.nodes if node.output[0] != "conv_d0"]
    y = b.reshape(b.dequantize("turned"), (1, 100))
    b.output(b.quantize(b.gemm(y, 100, 4)))
    check(b.build())


def test_transpose_between_convolutions_is_refused():
    b = QdqBuilder(rng_of())
    y = b.quantize(b.conv(b.input("x", (1, 3, 6, 6)), 3, 4, (3, 3), name="one"))
    y = b.node("Transpose", [y], perm=[0, 1, 3, 2])
    b.output(b.quantize(b.conv(y, 4, 4, name="two")))
    refused(b.build(), "Conv 'two' reads 'one_q' through a Reshape or Transpose that changes its "
                       "order on the accelerator")


def test_one_input_in_two_orders_enters_twice():
    b = QdqBuilder(rng_of())
    x = b.input("x", (1, 4, 4, 4))
    b.output(b.quantize(b.conv(x, 4, 3, name="straight")))
    b.output(b.quantize(b.conv(b.node("Transpose", [x], perm=[0, 3, 1, 2]), 4, 3, name="turned")))
    before, graph, _ = divided(b.build())
    assert [edge.name for edge in graph.inputs] == ["x_q", "x_q"]
    assert [edge.tensor for edge in graph.inputs] == ["x_q", "x_q@1"]
    assert [value.name for value in before.graph.output] == ["x_q"]
