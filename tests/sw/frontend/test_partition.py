"""Which nodes run on the host, in which segment, and for which reason."""

import re

import numpy as np
import onnx
import pytest
from models import QdqBuilder, random_inputs, run_plan
from onnx import TensorProto, helper, numpy_helper
from partition_models import between, check, rng_of, rows

from weft.errors import ModelError
from weft.frontend import load_graph, partition
from weft.ir import Graph, HostPart, Where


def kinds(plan):
    return "".join("A" if isinstance(segment, Graph) else "h" for segment in plan.segments)


# Segments -----------------------------------------------------------------------------------------

def test_host_runs_an_operator_between_two_graphs():
    plan = check(between(lambda b, x: b.node("Softmax", [x], "odd", axis=1)))
    assert kinds(plan) == "hAhAh"
    assert [graph.name for graph in plan.graphs] == ["network part 1", "network part 2"]
    assert plan.segments[2].inputs == ("one_q",) and plan.segments[2].outputs == ("odd_q",)
    assert [node.op_type for node in plan.segments[2].program.proto.graph.node] == [
        "DequantizeLinear", "Softmax", "QuantizeLinear"]
    table = rows(plan)
    assert (table["one"].where, table["one"].segment, table["one"].layer) == (
        Where.ACCELERATOR, 1, "one")
    assert (table["odd"].where, table["odd"].segment, table["odd"].layer) == (Where.HOST, 2, "")
    assert (table["two"].where, table["two"].segment, table["two"].reason) == (
        Where.ACCELERATOR, 3, "")
    assert table["one_q"].layer == "one" and table["odd_q"].where is Where.HOST


def test_placements_name_every_node_that_depends_on_an_input():
    model = between(lambda b, x: b.node("Softmax", [x], "odd", axis=1))
    plan = check(model)
    constant = {"one_wd", "one_bd", "two_wd", "two_bd"}
    assert [row.name for row in plan.placements] == [
        node.name for node in model.graph.node if node.name not in constant]
    for row in plan.placements:
        segment = plan.segments[row.segment]
        assert isinstance(segment, Graph if row.where is Where.ACCELERATOR else HostPart)
        assert bool(row.reason) == (row.where is Where.HOST)
        if isinstance(segment, Graph):
            assert row.layer in [layer.name for layer in segment.layers]


def test_tensor_goes_round_a_host_part():
    b = QdqBuilder(rng_of())
    x = b.quantize(b.conv(b.input("x", (1, 3, 6, 6)), 3, 4, name="one"))
    y = b.quantize(b.node("Softmax", [x], "odd", axis=1), scale=1 / 256)
    y = b.quantize(b.conv(y, 4, 4, name="two"))
    b.output(b.quantize(b.node("Add", [x, y], "sum")))
    plan = check(b.build())
    assert kinds(plan) == "hAhAh"
    assert [edge.name for edge in plan.graphs[1].inputs] == ["odd_q", "one_q"]


def test_host_part_hands_real_values_on_to_a_later_one():
    b = QdqBuilder(rng_of())
    image = b.node("Exp", ["x"], "gain")
    x = b.quantize(b.conv(b.input("x", (1, 3, 6, 6)), 3, 3, name="one"))
    y = b.quantize(b.conv(b.quantize(b.node("Softmax", [x], "odd", axis=1), scale=1 / 256), 3, 3))
    b.output(b.node("Mul", [y, image], "last"))
    plan = check(b.build())
    assert kinds(plan) == "hAhAh"
    assert "gain" in plan.segments[0].outputs and "gain" in plan.segments[-1].inputs


def test_two_branches_share_their_segments():
    b = QdqBuilder(rng_of())
    outputs = []
    for name in ("left", "right"):
        x = b.quantize(b.conv(b.input(name, (1, 3, 6, 6)), 3, 4, name=f"{name}1"))
        x = b.quantize(b.node("Softmax", [x], f"{name}_odd", axis=1), scale=1 / 256)
        outputs.append(b.quantize(b.conv(x, 4, 4, name=f"{name}2")))
    b.output(b.quantize(b.node("Add", outputs, "sum")))
    plan = check(b.build())
    assert kinds(plan) == "hAhAh" and [len(graph.layers) for graph in plan.graphs] == [2, 3]


def test_host_brings_a_tensor_into_another_order():
    plan = check(between(lambda b, x: b.node("Transpose", [x], "odd", perm=[0, 1, 3, 2]),
                         quantize=False))
    # Nothing to compute on the host: the order changes on the way in.
    assert kinds(plan) == "hAAh"
    row = rows(plan)["odd"]
    assert row.where is Where.HOST and row.reason == (
        "Conv 'two' reads 'one_q' through a Reshape or Transpose that changes its order on the "
        "accelerator")
    assert plan.graphs[1].inputs[0].name == "one_q"
    assert plan.graphs[1].inputs[0].gather is not None


def test_lone_layers_between_host_nodes_stay_with_the_host():
    def odd(b, x):
        y = b.quantize(b.node("Softmax", [x], "first", axis=1), scale=1 / 256)
        y = b.quantize(b.node("Sigmoid", [y], "lonely"), scale=1 / 256)
        return b.node("Softmax", [y], "second", axis=1)
    plan = check(between(odd, last=False))
    assert kinds(plan) == "hAh"
    assert rows(plan)["lonely"].reason == (
        "Sigmoid 'lonely' stands between nodes of the host, without a convolution that would be "
        "worth leaving it for")


def test_parts_with_hardly_any_work_stay_with_the_host():
    b = QdqBuilder(rng_of())
    x = b.quantize(b.conv(b.input("x", (1, 3, 18, 18)), 3, 16, (3, 3), name="one"))
    for name, channels, filters, kernel, stride in (
            ("two", 16, 8, 1, 1), ("128", 8, 1, 1, 4), ("256", 1, 16, 1, 1),
            ("15360", 16, 60, 1, 1), ("1920", 60, 2, 1, 1), ("1024", 2, 32, 1, 1)):
        x = b.quantize(b.node("Softmax", [x], f"odd_{name}", axis=1), scale=1 / 256)
        x = b.quantize(b.conv(x, channels, filters, (kernel, kernel), name=name,
                              strides=[stride, stride]))
    b.output(x)
    plan = check(b.build())
    # 1 % of all multiply-accumulates are 1620: the three smallest parts have 1408.
    assert kinds(plan) == "hAhAhAhAh"
    table = rows(plan)
    assert [name for name in ("one", "two", "128", "256", "15360", "1920", "1024")
            if table[name].where is Where.HOST] == ["128", "256", "1024"]
    assert table["256"].reason == (
        "Conv '256' stands between nodes of the host, in a part with 0.16 % of the model's "
        "multiply-accumulates: not worth leaving the host for")


def test_model_without_a_convolution_is_accelerated():
    b = QdqBuilder(rng_of())
    x = b.input("x", (1, 4, 6, 6))
    b.output(b.quantize(b.node("Sigmoid", [x], "gate"), scale=1 / 256))
    plan = check(b.build())
    assert kinds(plan) == "hAh" and rows(plan)["gate"].where is Where.ACCELERATOR


def test_nothing_but_integers_needs_no_host():
    b = QdqBuilder(rng_of())
    b.constant("x_scale", np.float32(0.1))
    b.constant("x_zero", np.int8(3))
    b._inputs.append(helper.make_tensor_value_info("x_q", TensorProto.INT8, (1, 3, 5, 5)))
    b.quantize(b.conv(b.dequantize("x"), 3, 4, name="conv"))
    b.output("conv_q", TensorProto.INT8)
    plan = check(b.build())
    assert kinds(plan) == "A" and {row.where for row in plan.placements} == {Where.ACCELERATOR}


def test_input_that_is_an_output_is_left_alone():
    b = QdqBuilder(rng_of())
    x = b.input("x", (1, 3, 6, 6))
    b.output(b.quantize(b.conv(x, 3, 4, name="one")))
    b._outputs.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 6, 6)))
    plan = partition(b.build())
    values, _ = run_plan(plan, random_inputs(rng_of(), plan.model.proto))
    assert "x" in values and kinds(plan) == "hAh"


def test_float_layers_stay_with_the_host():
    b = QdqBuilder(rng_of())
    x = b.quantize(b.conv(b.input("x", (1, 3, 6, 6)), 3, 4, name="one"))
    y = b.node("Conv", [x, b.constant("w", rng_of().random((4, 4, 1, 1), np.float32))], "real")
    b.output(b.quantize(b.conv(b.quantize(y, scale=0.5), 4, 4, name="two")))
    plan = check(b.build(), exact=False)
    assert kinds(plan) == "hAhAh"
    assert rows(plan)["real"].reason == ("Conv 'real' has float32 weights; they must be int8 or "
                                         "uint8 behind a DequantizeLinear")


def test_tensor_without_elements_stays_with_the_host():
    b = QdqBuilder(rng_of())
    x = b.input("x", (1, 3, 4, 4))
    nothing = b.node("Slice", [x, *(b.constant(name, np.array([value])) for name, value in
                                    (("start", 0), ("end", 0), ("axis", 1)))], "nothing")
    for name, source in (("gate", x), ("odd", nothing)):
        b.output(b.quantize(b.node("Sigmoid", [b.quantize(source, scale=1 / 64)], name),
                            scale=1 / 256))
    found = rows(check(b.build()))
    assert found["gate"].where is Where.ACCELERATOR and found["odd"].where is Where.HOST
    assert found["odd"].reason == ("Tensor 'nothing_q' must have sizes of at least 1 on the "
                                   "accelerator, not 1x0x4x4")


def test_reshape_that_loses_values_stays_with_the_host():
    plan = partition(between(
        lambda b, x: b.node("Reshape", [x, b.constant("shape", np.array([1, 100]))], "odd"),
        last=False))
    assert rows(plan)["odd"].reason == "Reshape 'odd' must give 144 values, as it reads, not 1x100"


def test_load_graph_names_what_divides_the_model_wrong():
    model = between(lambda b, x: b.node("Softmax", [x], "odd", axis=1))
    with pytest.raises(ModelError, match=r"^Softmax 'odd' is not along the last axis$"):
        load_graph(model)


# QOperator format ---------------------------------------------------------------------------------

def qlinear(op, domain, inputs, constants, shape=(1, 4, 6, 6), **attributes):
    """A QLinearConv 'one', and an integer operator 'odd' of its result."""
    rng = rng_of()
    initial = {"s": np.float32(0.1), "z": np.uint8(128), "wz": np.int8(0), "big": np.float32(3),
               "w": rng.integers(-127, 128, (4, 3, 1, 1)).astype(np.int8), **constants}
    nodes = [helper.make_node("QLinearConv", ["x", "s", "z", "w", "s", "wz", "big", "z"], ["one"],
                              name="one"),
             helper.make_node(op, inputs, ["y"], name="odd", domain=domain, **attributes)]
    graph = helper.make_graph(
        nodes, "network", [helper.make_tensor_value_info("x", TensorProto.UINT8, (1, 3, 6, 6))],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in initial.items()])
    return helper.make_model(graph, ir_version=8, opset_imports=[
        helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)])


@pytest.mark.parametrize("op, inputs, attributes, shape", [
    ("QLinearAdd", ["one", "big", "z", "one", "big", "z", "big", "z"], {}, (1, 4, 6, 6)),
    ("QLinearMul", ["one", "big", "z", "one", "s", "z", "big", "z"], {}, (1, 4, 6, 6)),
    ("QLinearSigmoid", ["one", "s", "z", "s", "z"], {}, (1, 4, 6, 6)),
    ("QLinearLeakyRelu", ["one", "big", "z", "big", "z"], {"alpha": 0.2}, (1, 4, 6, 6)),
    ("QLinearGlobalAveragePool", ["one", "big", "z", "big", "z"], {}, (1, 4, 1, 1)),
    ("QLinearAveragePool", ["one", "big", "z", "big", "z"], {"kernel_shape": [2, 2]},
     (1, 4, 5, 5)),
    ("QLinearConcat", ["s", "z", "one", "big", "z", "one", "big", "z"], {"axis": 1},
     (1, 8, 6, 6)),
])
def test_integer_operators_are_accelerated(op, inputs, attributes, shape):
    if op == "QLinearSigmoid":
        inputs = ["one", "big", "z", "s", "z"]
    model = qlinear(op, "com.microsoft", inputs, {}, shape, **attributes)
    if op == "QLinearMul":
        model.graph.node[1].input[4] = "big"
    plan = check(model)
    assert [(row.name, row.op, row.where) for row in plan.placements] == [
        ("one", "QLinearConv", Where.ACCELERATOR), ("odd", op, Where.ACCELERATOR)]
    assert plan.graphs[0].layers[-1].op == op
    assert plan.model.proto.graph.node[0].op_type == "QLinearConv"


def test_integer_matrix_product_is_accelerated():
    matrix = rng_of().integers(-127, 128, (6, 5)).astype(np.int8)
    # A zero point of its own: onnxruntime's exact kernels without VNNI need one for each weight.
    plan = check(qlinear("QLinearMatMul", "", ["one", "big", "z", "m", "s", "mz", "big", "z"],
                         {"m": matrix, "mz": np.int8(0)}, (1, 4, 6, 5)))
    # Rows of a plane are not its channels: the host turns them.
    assert kinds(plan) == "AA" and rows(plan)["odd"].where is Where.ACCELERATOR


@pytest.mark.parametrize("op, inputs, attributes, shape, reason", [
    ("QLinearSoftmax", ["one", "big", "z", "s", "z"], {"axis": 1, "opset": 13}, (1, 4, 6, 6),
     "com.microsoft.QLinearSoftmax 'odd' is not supported on the accelerator"),
    ("QLinearGlobalAveragePool", ["one", "big", "z", "big", "z"], {"channels_last": 1},
     (1, 1, 1, 6),
     "com.microsoft.QLinearGlobalAveragePool 'odd' has channels_last 1; only 0 is supported"),
])
def test_integer_operator_on_the_host(op, inputs, attributes, shape, reason):
    plan = check(qlinear(op, "com.microsoft", inputs, {}, shape, **attributes))
    row = rows(plan)["odd"]
    assert (row.where, row.op, row.reason) == (Where.HOST, op, reason)


def test_given_model_is_left_as_it_was():
    model = qlinear("QLinearSigmoid", "com.microsoft", ["one", "big", "z", "s", "z"], {})
    before = model.SerializeToString()
    plan = partition(model)
    assert model.SerializeToString() == before
    assert [node.op_type for node in plan.model.proto.graph.node] == [
        "QLinearConv", "QLinearSigmoid"]
    assert re.fullmatch("network", plan.name)
    onnx.checker.check_model(plan.model.proto)
