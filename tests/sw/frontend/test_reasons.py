"""Why a node stays with the host, or a model is none."""

import numpy as np
import pytest
from models import QdqBuilder
from onnx import TensorProto, helper
from partition_models import between, check, rng_of, rows

from weft.errors import ModelError
from weft.frontend import partition
from weft.ir import Where
from weft.reference.golden import GoldenSession

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
