"""What the front end leaves to the host in front of, behind and round the accelerator."""

import numpy as np
import onnx
from frontend_checks import check, divided, operators, rng_of
from models import QdqBuilder, conv_model, random_inputs, run_plan
from onnx import TensorProto, helper

from weft.frontend import load_graph, partition

# Host parts ---------------------------------------------------------------------------------------

def test_integer_inputs_and_outputs_leave_nothing_to_the_host():
    b = QdqBuilder(rng_of())
    b.constant("x_scale", np.float32(0.1))
    b.constant("x_zero", np.int8(3))
    b._inputs.append(helper.make_tensor_value_info("x_q", TensorProto.INT8, (1, 3, 5, 5)))
    b.quantize(b.conv(b.dequantize("x"), 3, 4, name="conv"))
    b.output("conv_q", TensorProto.INT8)
    before, _, after = divided(b.build())
    assert before is None and after is None


def test_several_inputs_and_outputs():
    b = QdqBuilder(rng_of())
    one = b.quantize(b.conv(b.input("a", (1, 3, 5, 5)), 3, 4, name="one"))
    b.quantize(b.conv(b.input("b", (1, 2, 6, 5)), 2, 4, name="two"))
    b.output(one)
    b.output("two_q", TensorProto.INT8)
    _, graph, after = divided(b.build())
    assert [edge.name for edge in graph.inputs] == ["a_q", "b_q"]
    assert [edge.name for edge in graph.outputs] == ["one_q", "two_q"]
    assert [value.name for value in after.graph.output] == [one]


def test_inner_tensor_may_be_an_output():
    b = QdqBuilder(rng_of())
    one = b.quantize(b.conv(b.input("x", (1, 3, 5, 5)), 3, 4, name="one"))
    b.output(one)
    b.output(b.quantize(b.conv(one, 4, 4, name="two")))
    assert [edge.tensor for edge in check(b.build()).outputs] == ["one_q", "two_q"]


def test_real_valued_layer_at_the_end_stays_with_the_host():
    b = QdqBuilder(rng_of())
    y = b.quantize(b.conv(b.input("x", (1, 3, 5, 5)), 3, 4, name="one"))
    b.output(b.conv(y, 4, 6, name="two"))
    plan = partition(b.build())
    _, graph, after = plan.segments
    assert [layer.name for layer in graph.layers] == ["one"]
    assert after.program.proto.graph.node[-1].name == "two"
    inputs = random_inputs(rng_of(), plan.model.proto)
    values, _ = run_plan(plan, inputs)
    np.testing.assert_allclose(values["two"], plan.model.golden().run(inputs)["two"], rtol=1e-5)


def test_float_tail_stays_with_the_host():
    b = QdqBuilder(rng_of())
    y = b.quantize(b.conv(b.input("x", (1, 3, 5, 5)), 3, 4, name="one"))
    y = b.node("Flatten", [b.node("GlobalAveragePool", [y])])
    b.output(b.node("Gemm", [y, b.constant("w", np.ones((4, 2), np.float32))]))
    _, graph, after = partition(b.build()).segments
    assert [layer.name for layer in graph.layers] == ["one"]
    assert operators(after.program.proto)[-1] == "Gemm"


def test_operators_outside_the_layers_stay_with_the_host():
    b = QdqBuilder(rng_of())
    b._inputs.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, ("n", 10, 10, 3)))
    x = b.node("Mul", ["image", b.constant("gain", np.float32(0.5))])
    x = b.node("Transpose", [x], perm=[0, 3, 1, 2])
    x = b.node("MaxPool", [b.quantize(x, scale=0.05)], kernel_shape=[2, 2], strides=[2, 2])
    y = b.quantize(b.conv(b.quantize(x, scale=0.05), 3, 4, (3, 3)))
    y = b.node("GlobalAveragePool", [y])
    y = b.quantize(b.node("Flatten", [y]), scale=1.0)
    b.output(b.node("Softmax", [y]))
    before, graph, after = divided(b.build())
    assert operators(before) == ["Mul", "Transpose", "QuantizeLinear"]
    assert [layer.op for layer in graph.layers] == ["MaxPool", "QuantizeLinear", "Conv",
                                                    "GlobalAveragePool"]
    assert operators(after) == ["DequantizeLinear", "Softmax"]


def test_path_round_the_accelerator_reaches_the_host_part_after_it():
    b = QdqBuilder(rng_of())
    x = b.input("x", (1, 3, 5, 5))
    y = b.quantize(b.conv(x, 3, 3))
    b.output(b.node("Add", [y, "x"]))
    _, graph, after = divided(b.build())
    assert sorted(value.name for value in after.graph.input) == [
        graph.outputs[0].name, "x"]


def test_symbolic_batch_is_one():
    b = QdqBuilder(rng_of())
    y = b.quantize(b.conv(b.input("x", ("batch", 3, 6, 6)), 3, 4, (3, 3)))
    # The shape is computed in the graph, as exporters do.
    shape = b.node("Shape", [y])
    batch = b.node("Gather", [shape, b.constant("zero", np.int64(0))])
    batch = b.node("Unsqueeze", [batch, b.constant("axis", np.array([0]))])
    shape = b.node("Concat", [batch, b.constant("rest", np.array([-1]))], axis=0)
    flat = b.node("Reshape", [y, shape])
    b.output(b.quantize(b.gemm(flat, 64, 5)))
    assert check(b.build()).inputs[0].shape == (1, 3, 6, 6)
    plan = partition(b.build())
    assert plan.model.proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


def test_unused_layers_are_left_out():
    b = QdqBuilder(rng_of())
    x = b.input("x", (1, 3, 6, 6))
    b.node("Sigmoid", [b.quantize(b.conv(x, 3, 4, name="dead"))])
    b.output(b.quantize(b.conv(x, 3, 4, name="alive")))
    assert [layer.name for layer in check(b.build()).layers] == ["alive"]


def test_onnxruntimes_own_quantizers_are_the_standard_ones():
    model = conv_model(rng_of())
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.domain = "com.microsoft"
    check(model)


def test_model_may_be_a_path(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(conv_model(rng_of()), path)
    assert load_graph(path).name == "net.onnx" == load_graph(str(path)).name
    onnx.save(conv_model(rng_of()), path, save_as_external_data=True, location="weights.bin",
              size_threshold=0)
    assert len(load_graph(path).layers) == 1


def test_given_model_is_left_as_it_was():
    model = conv_model(rng_of())
    before = model.SerializeToString()
    load_graph(model)
    assert model.SerializeToString() == before
