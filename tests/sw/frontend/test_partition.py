"""Which nodes run on the host, in which segment, and for which reason."""

import re

import numpy as np
import onnx
import pytest
from models import QdqBuilder, assert_plan_is_golden, random_inputs, run_plan
from onnx import TensorProto, helper, numpy_helper

from weft.errors import ModelError
from weft.frontend import load_graph, partition
from weft.ir import Graph, HostPart, Where
from weft.reference.golden import GoldenSession, cpu_is_exact


def rng_of(seed=0):
    return np.random.default_rng([seed, 41])


def check(model, *, exact=True):
    """The plan of a model, compared with onnxruntime."""
    plan = partition(model)
    if cpu_is_exact():
        assert_plan_is_golden(plan, random_inputs(rng_of(), plan.model.proto), exact=exact)
    return plan


def kinds(plan):
    return "".join("A" if isinstance(segment, Graph) else "h" for segment in plan.segments)


def rows(plan):
    return {row.name: row for row in plan.placements}


def between(odd, *, channels=4, size=(6, 6), opset=17, scale=0.1, unsigned=False, quantize=True,
            last=True):
    """Conv 'one', what ``odd`` adds to its result, and Conv 'two'."""
    b = QdqBuilder(rng_of(), opset=opset, unsigned=unsigned)
    x = b.quantize(b.conv(b.input("x", (1, 3, *size)), 3, channels, name="one"), scale=0.2,
                   zero_point=7)
    y = odd(b, x)
    if quantize:
        b._spread.pop(y, None)
        y = b.quantize(y, scale=scale, zero_point=5)
    if last:
        b.output(b.quantize(b.conv(y, channels, 3, name="two"), scale=30.0))
    else:
        b.output(y)
    return b.build()


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


# Reasons ------------------------------------------------------------------------------------------

def resize(b, x, scales=(1, 1, 2, 2), **attributes):
    return b.node("Resize", [x, "", b.constant("scales", np.array(scales, np.float32))], "odd",
                  **attributes)


def pad(b, x, pads=(0, 0, 1, 1, 0, 0, 1, 1), value=0.0, **attributes):
    return b.node("Pad", [x, b.constant("pads", np.array(pads)),
                          b.constant("value", np.float32(value))], "odd", **attributes)


def second_max_output(b, x):
    b.nodes.append(helper.make_node("MaxPool", [x], ["odd", "indices"], name="odd",
                                    kernel_shape=[2, 2]))
    b.output("indices", TensorProto.INT64)
    return "odd"


def joined_with_constant(b, x):
    return b.node("Concat", [x, b.constant("k", np.zeros((1, 4, 1, 6), np.float32))], "odd",
                  axis=2)


def relu_after_average(b, x):
    return b.node("Relu", [b.node("AveragePool", [x], "odd", kernel_shape=[2, 2])], "relu")


REASONS = {
    "log_softmax": (
        lambda b, x: b.node("LogSoftmax", [x], "odd"),
        "LogSoftmax 'odd' is not supported on the accelerator"),
    "reduce_mean": (
        lambda b, x: b.node("ReduceMean", [x], "odd", axes=[3]),
        "ReduceMean 'odd' reduces the axes [3], which are not height and width on the "
        "accelerator"),
    "reduce_mean_with_ties": (
        lambda b, x: b.node("ReduceMean", [b.quantize(b.node("Relu", [x], "r"), scale=0.1)], "odd",
                            axes=[2, 3]),
        "ReduceMean 'odd' is added up in float32 by onnxruntime: 155 of 9181 sums may come out "
        "differently on the accelerator"),
    "gather_of_uneven_columns": (
        lambda b, x: b.node("Gather", [x, b.constant("i", np.array([2, 3, 5]))], "odd", axis=3),
        "Gather 'odd' takes parts of planes that are no rows and columns at even distances, the "
        "same of each channel; only those are supported"),
    "gather_of_a_channel_twice": (
        lambda b, x: b.node("Gather", [x, b.constant("i", np.array([2, 1, 2, 0]))], "odd", axis=1),
        "Gather 'odd' takes values more than once, which is not supported"),
    "max_pool_indices": (
        second_max_output,
        "MaxPool 'odd' has a second output, the indices, which is not supported"),
    "average_pool_with_relu": (
        relu_after_average, "AveragePool 'odd' must have a QuantizeLinear after it, not Relu "
                            "'relu'"),
    "mul_of_a_plane": (
        lambda b, x: b.node("Mul", [x, b.constant("k", np.ones((6, 6), np.float32))], "odd"),
        "Mul 'odd' has the constant 'k' of shape [6, 6]; only one value for all elements or for "
        "each channel is supported"),
    "prelu_per_row": (
        lambda b, x: b.node("PRelu", [x, b.constant("k", np.ones((6, 1), np.float32))], "odd"),
        "PRelu 'odd' has constants that differ within channels of the accelerator"),
    "sub_of_two_tensors": (
        lambda b, x: b.node("Sub", [x, b.quantize(b.node("Sigmoid", [x], "g"), scale=1 / 256)],
                            "odd"),
        "Sub 'odd' combines 'one_q' with 'g_q'; only Add and Mul of two tensors, each with a "
        "QuantizeLinear after it, are supported"),
    "add_with_broadcast_of_a_column": (
        lambda b, x: b.node("Add", [x, b.quantize(
            b.node("AveragePool", [x], "g", kernel_shape=[1, 6]))], "odd"),
        "Add 'odd' combines shapes [1, 4, 6, 6] and [1, 4, 6, 1]; only equal shapes, and one "
        "value for each channel, are supported"),
    "mul_with_broadcast_of_a_row": (
        lambda b, x: b.node("Mul", [x, b.quantize(
            b.node("AveragePool", [x], "g", kernel_shape=[6, 1]))], "odd"),
        "Mul 'odd' combines shapes [1, 4, 6, 6] and [1, 4, 1, 6]; only equal shapes, and one "
        "value for each channel, are supported"),
    "add_of_a_real_value": (
        lambda b, x: b.node("Add", [b.node("Sigmoid", [x], "g"), b.quantize(
            b.node("Tanh", [x], "t"), scale=1 / 128)], "odd"),
        "Add 'odd' reads the output of Sigmoid 'g', which must have a QuantizeLinear after it"),
    "sigmoid_of_a_real_convolution": (
        lambda b, x: b.node("Sigmoid", [b.conv(x, 4, 4, name="real")], "odd"),
        "Sigmoid 'odd' reads the output of Conv 'real', which must have a QuantizeLinear after "
        "it"),
    "resize_linear": (
        lambda b, x: resize(b, x, mode="linear", coordinate_transformation_mode="align_corners"),
        "Resize 'odd' interpolates by 2x2 in coordinate_transformation_mode align_corners; only "
        "asymmetric, half_pixel, pytorch_half_pixel by powers of 2 have the same exact weights "
        "everywhere"),
    "resize_cubic": (
        lambda b, x: resize(b, x, mode="cubic"),
        "Resize 'odd' has mode cubic; only nearest and linear are supported"),
    "resize_that_does_not_repeat": (
        lambda b, x: resize(b, x, mode="nearest", nearest_mode="floor",
                            coordinate_transformation_mode="half_pixel"),
        "Resize 'odd' has coordinate_transformation_mode half_pixel and nearest_mode "
        "floor, which here do not repeat every value 2x2 times"),
    "resize_by_a_fraction": (
        lambda b, x: resize(b, x, (1, 1, 1.5, 2), mode="nearest"),
        "Resize 'odd' makes [1, 4, 9, 12] of [1, 4, 6, 6]; only whole factors on height and width "
        "are supported"),
    "resize_down": (
        lambda b, x: resize(b, x, (1, 1, 0.5, 0.5), mode="nearest"),
        "Resize 'odd' makes [1, 4, 3, 3] of [1, 4, 6, 6]; only whole factors on height and width "
        "are supported"),
    "pad_reflect": (
        lambda b, x: pad(b, x, mode="reflect"),
        "Pad 'odd' has mode reflect; only constant is supported"),
    "pad_with_a_value": (
        lambda b, x: pad(b, x, value=1.5), "Pad 'odd' pads with 1.5; only 0 is supported"),
    "pad_below_zero": (
        lambda b, x: pad(b, x, (0, 0, -1, 0, 0, 0, 0, 0)),
        "Pad 'odd' has pads [0, 0, -1, 0, 0, 0, 0, 0]; only pads of at least 0 on height and "
        "width, or on channels alone, are supported"),
    "concat_with_a_constant": (
        joined_with_constant,
        "Concat 'odd' has a constant among its inputs that is not quantized, which is not "
        "supported"),
    "concat_of_a_real_value": (
        lambda b, x: b.node("Concat", [x, b.node("Sigmoid", [x], "g")], "odd", axis=2),
        "Concat 'odd' must read quantized activations only"),
    "clip_with_computed_bounds": (
        lambda b, x: b.node("Clip", [x, b.node("ReduceMin", [x], "low", keepdims=0)], "odd"),
        "Clip 'odd' works on real values of the host"),
    "convolution_with_computed_weights": (
        lambda b, x: b.node("Conv", [x, b.quantize(b.reshape(
            b.node("AveragePool", [x], "g", kernel_shape=[3, 6]), (4, 4, 1, 1)))], "odd"),
        "Conv 'odd' must have constant weights; it multiplies two activations"),
    "convolution_of_a_sigmoid": (
        lambda b, x: b.conv(b.node("Sigmoid", [x], "g"), 4, 4, name="odd"),
        "Conv 'odd' reads the output of Sigmoid 'g', which must have a QuantizeLinear after it"),
    "transpose_of_a_pad": (
        lambda b, x: b.node("Transpose", [b.node(
            "Pad", [x, b.constant("p", np.array([0, 0, 1, 1, 0, 0, 1, 1]))], "padded")], "odd",
            perm=[0, 1, 3, 2]),
        "Transpose 'odd' reads the output of a Pad; only convolutions and pools do so on the "
        "accelerator"),
    "max_of_a_pad_among_negative_values": (
        lambda b, x: b.node("MaxPool", [b.node(
            "Pad", [x, b.constant("p", np.array([0, 0, 1, 1, 0, 0, 1, 1]))], "padded")], "odd",
            kernel_shape=[2, 2]),
        "MaxPool 'odd' reads the output of a Pad with zeros, of a tensor that has values below "
        "zero"),
}


@pytest.mark.parametrize("name", REASONS)
def test_reason_is_given(name):
    odd, reason = REASONS[name]
    row = rows(check(between(odd), exact=False))["odd"]
    assert (row.where, row.reason) == (Where.HOST, reason)


def test_pad_that_a_function_reads_is_the_hosts():
    plan = check(between(lambda b, x: b.node("Sigmoid", [pad(b, x)], "f")))
    assert rows(plan)["f"].reason == ("Sigmoid 'f' reads the output of a Pad; only convolutions "
                                      "and pools do so on the accelerator")
    assert rows(plan)["odd"].where is Where.HOST


def attribute_model(op, shape=(1, 4, 6, 6), **attributes):
    b = QdqBuilder(rng_of(), opset=19)
    x = b.quantize(b.conv(b.input("x", (1, 3, 6, 6)), 3, 4, name="one"), scale=0.2)
    if shape != (1, 4, 6, 6):
        x = b.reshape(x, shape)
    if op == "Gemm":
        y = b.gemm(b.reshape(x, (1, 144)), 144, 8, name="odd", **attributes)
    else:
        y = b.node(op, [x], "odd", **attributes)
    b.output(b.quantize(y, scale=1.0))
    return b.build()


@pytest.mark.parametrize("op, attributes, reason", [
    ("AveragePool", {"kernel_shape": [2, 2], "dilations": [2, 1]},
     "AveragePool 'odd' has dilations [2, 1]; only 1 is supported"),
    ("Gemm", {"alpha": 0.5}, "Gemm 'odd' has alpha 0.5; only 1 is supported"),
    ("Gemm", {"beta": 2.0}, "Gemm 'odd' has beta 2; only 1 is supported"),
    ("MaxPool", {"kernel_shape": [2, 2, 2], "shape": (1, 4, 3, 3, 4)},
     "MaxPool 'odd' has an input of 5 dimensions; only 3 and 4 are supported"),
    ("AveragePool", {"kernel_shape": [2, 2], "shape": (2, 2, 6, 6)},
     "AveragePool 'odd' has a batch of 2; only a batch of 1 is supported"),
    ("ReduceMean", {}, "ReduceMean 'odd' reduces the axes [0, 1, 2, 3] of 4; only height and "
                       "width are supported"),
    ("GlobalLpPool", {}, "GlobalLpPool 'odd' is not supported on the accelerator"),
])
def test_attribute_sends_the_node_to_the_host(op, attributes, reason):
    plan = partition(attribute_model(op, **attributes))
    row = rows(plan)["odd"]
    assert (row.where, row.reason) == (Where.HOST, reason)


def test_mean_of_many_values_stays_with_the_host():
    plan = check(between(lambda b, x: b.node("ReduceMean", [x], "odd", axes=[2, 3]),
                         size=(40, 30)), exact=False)
    assert rows(plan)["odd"].reason == (
        "ReduceMean 'odd' adds up 1200 values in float32; at most 1024 are supported, or sums may "
        "come out differently on the accelerator")


def test_average_pool_with_dilations_cannot_run_in_onnxruntime_either():
    with pytest.raises(ModelError, match=r"^onnxruntime cannot load the model: "):
        GoldenSession(attribute_model("AveragePool", kernel_shape=[2, 2], dilations=[2, 1]))


INVALID = r"network is not a valid ONNX model: [^\n]+"


@pytest.mark.parametrize("op, attributes, message", [
    ("MaxPool", {"kernel_shape": [2, 2], "pads": [1, 1]}, INVALID),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2]}, INVALID),
    ("MaxPool", {"kernel_shape": [2, 2], "dilations": [1, 0]}, INVALID),
    ("AveragePool", {"kernel_shape": [2, 2], "auto_pad": "SOMETIMES"},
     r"AveragePool 'odd' must have auto_pad NOTSET, SAME_UPPER, SAME_LOWER or VALID, "
     r"not SOMETIMES"),
    ("MaxPool", {"kernel_shape": [2, 2], "magic": 1}, INVALID),
    ("MaxPool", {"kernel_shape": [9, 9]},
     r"MaxPool 'odd' has a kernel of 9x9, which does not fit into its padded input of 6x6"),
    ("AveragePool", {"strides": [1, 1]}, INVALID),
    ("Concat", {}, INVALID),
])
def test_broken_attribute_wrong(op, attributes, message):
    with pytest.raises(ModelError, match=f"^{message}$"):
        partition(attribute_model(op, **attributes))


def test_convolution_with_wrong_weights_wrong():
    def odd(b, x):
        return b.conv(x, 3, 6, name="odd", group=2)
    with pytest.raises(ModelError, match=r"^Conv 'odd' has weights for 6 input channels, but its "
                                         r"input has 4$"):
        partition(between(odd, last=False))


def test_scales_out_of_proportion_are_the_hosts():
    b = QdqBuilder(rng_of())
    x = b.quantize(b.conv(b.input("x", (1, 3, 6, 6)), 3, 4, name="one"), scale=10.0)
    y = b.quantize(b.node("Sigmoid", [x], "g"), scale=10.0)
    b.output(b.quantize(b.node("Add", [x, y], "odd"), scale=1e-5))
    plan = check(b.build())
    assert rows(plan)["odd"].reason == ("Add 'odd' has input scales 1e+06 times the output scale; "
                                        "the accelerator needs less than 32768")


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
