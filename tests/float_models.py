"""Float ONNX models for tests of quantization."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from weft.digits import MODEL, train

__all__ = ["batch_norm_cnn", "digits_float", "keywords", "recurrent", "spoilt"]


def batch_norm_cnn(*, opset=17, ir_version=8, batch=1, size=16, dead=(), bare=False, inputs=False,
                   layout="nchw", names=True):
    """Two convolutions with batch normalization, pooling, ten classes.

    ``dead`` are channels that batch normalization kills; ``bare`` puts a batch normalization at
    the start, behind no convolution; with ``inputs`` the initializers are inputs too, as in old
    files.
    """
    rng = np.random.default_rng(5)
    nodes, constants = [], {}

    def constant(name, values):
        constants[name] = np.asarray(values, np.float32)
        return name

    def add(op, operands, output, **attributes):
        nodes.append(helper.make_node(op, operands, [output], name=output if names else "",
                                      **attributes))
        return output

    def normalize(x, name, channels, scale):
        return add("BatchNormalization", [
            x, constant(f"{name}_gamma", scale),
            constant(f"{name}_beta", 0.2 + rng.uniform(0.5, 1, channels)),
            constant(f"{name}_mean", 0.1 * rng.standard_normal(channels)),
            constant(f"{name}_var", rng.uniform(0.5, 2, channels))], name)

    shape = (batch, 3, size, size) if layout == "nchw" else (batch, size, size, 3)
    x = "image" if layout == "nchw" else add("Transpose", ["image"], "t", perm=[0, 3, 1, 2])
    if bare:
        x = normalize(x, "bn0", 3, rng.uniform(0.5, 2, 3))
    channels = 3
    for number, filters in ((1, 16), (2, 32)):
        weights = rng.standard_normal((filters, channels, 3, 3)) * np.sqrt(2 / 9 / channels)
        x = add("Conv", [x, constant(f"w{number}", weights)], f"conv{number}", kernel_shape=[3, 3],
                strides=[2, 2], pads=[1] * 4)
        scale = rng.uniform(0.5, 2, filters)
        scale[list(dead)] = [3e-6, 0, 1e-20][:len(dead)]
        x = add("Relu", [normalize(x, f"bn{number}", filters, scale)], f"relu{number}")
        channels = filters
    x = add("Flatten", [add("GlobalAveragePool", [x], "pool")], "flat")
    add("Gemm", [x, constant("w3", 0.3 * rng.standard_normal((10, channels))),
                 constant("b3", 0.1 * rng.standard_normal(10))], "logits", transB=1)
    graph = helper.make_graph(
        nodes, "cnn", [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape),
                       *(helper.make_tensor_value_info(name, TensorProto.FLOAT, values.shape)
                         for name, values in constants.items() if inputs)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (batch, 10))],
        [numpy_helper.from_array(values, name) for name, values in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)],
                             ir_version=ir_version)


def digits_float():
    """The digits network in float32, with the weights that its int8 form stands for."""
    model = onnx.load(MODEL)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    parameters = {}
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in values:
            continue
        integers, scale = values[node.input[0]], values[node.input[1]]
        axis = next((each.i for each in node.attribute if each.name == "axis"), 0)
        shape = [-1 if place == axis else 1 for place in range(integers.ndim)]
        name = node.input[0].removesuffix("_quantized")
        parameters[name] = (integers * scale.reshape(shape)).astype(np.float32)
    return train.to_onnx(parameters)


def keywords():
    """Windows along time: convolutions, pools, a sum, a product and a concatenation; then a fully
    connected layer with batch normalization."""
    rng = np.random.default_rng(6)
    nodes, constants = [], {}

    def add(op, operands, output, **attributes):
        nodes.append(helper.make_node(op, operands, [output], name=output, **attributes))
        return output

    def constant(name, *shape, low=None):
        values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])) if low is None \
            else rng.uniform(low, 1, shape)
        constants[name] = values.astype(np.float32)
        return name

    def normalize(x, name, channels):
        return add("BatchNormalization", [x, *(
            constant(f"{name}_{part}", channels, low=low) for part, low in (
                ("gamma", 0.5), ("beta", -1), ("mean", -1), ("var", 0.5)))], name)

    x = add("Conv", ["features", constant("w1", 16, 10, 3), constant("b1", 16)], "conv1",
            kernel_shape=[3], pads=[2, 1], strides=[2], dilations=[1])
    x = add("Relu", [normalize(x, "bn1", 16)], "relu1")
    y = add("Conv", [x, constant("w2", 16, 1, 3)], "conv2", group=16, pads=[2, 2], dilations=[2])
    x = add("Add", [add("Mul", [y, add("Sigmoid", [y], "gate")], "swish"), x], "sum")
    x = add("Concat", [x, add("MaxPool", [x], "pool", kernel_shape=[3], pads=[1, 1])], "both",
            axis=1)
    x = add("Flatten", [add("GlobalAveragePool", [normalize(x, "bn2", 32)], "mean")], "flat")
    x = add("Gemm", [x, constant("w3", 32, 12), constant("b3", 12)], "fc")
    normalize(x, "scores", 12)
    graph = helper.make_graph(
        nodes, "keywords", [helper.make_tensor_value_info("features", TensorProto.FLOAT,
                                                          (1, 10, 20))],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, (1, 12))],
        [numpy_helper.from_array(values, name) for name, values in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def spoilt(model, name, value):
    """The model with ``value`` as one of the values of a constant."""
    tensor = next(each for each in model.graph.initializer if each.name == name)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[2] = value
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    return model


def recurrent(op, *, values=5, size=6, steps=4, direction="forward", states=False, bias=True,
              outputs=(0, 1, 2), **attributes):
    """An LSTM, GRU or RNN of a signal [1, values, steps]; ``states`` makes the initial ones inputs,
    and ``outputs`` are those of the operator that are the model's."""
    rng = np.random.default_rng([values, size, steps])
    directions = 2 if direction == "bidirectional" else 1
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op] * size
    constants = {"W": rng.standard_normal((directions, gates, values)) * np.sqrt(2 / values),
                 "R": rng.standard_normal((directions, gates, size)) * np.sqrt(1 / size),
                 "B": rng.standard_normal((directions, 2 * gates)) * 0.3}
    state, last = (directions, 1, size), 3 if op == "LSTM" else 2
    given = [f"initial{number}" if states else "" for number in range(last - 1)]
    made = [f"y{number}" if number in outputs else "" for number in range(last)]
    shapes = [(steps, *state), state, state]
    nodes = [helper.make_node("Transpose", ["signal"], ["rows"], name="rows", perm=[2, 0, 1]),
             helper.make_node(op, ["rows", "W", "R", "B" if bias else "", "", *given], made,
                              name="cell", direction=direction, hidden_size=size, **attributes)]
    graph = helper.make_graph(
        nodes, "recurrent",
        [helper.make_tensor_value_info("signal", TensorProto.FLOAT, (1, values, steps)),
         *(helper.make_tensor_value_info(name, TensorProto.FLOAT, state)
           for name in given if name)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
         for name, shape in zip(made, shapes) if name],
        [numpy_helper.from_array(array.astype(np.float32), name)
         for name, array in constants.items() if bias or name != "B"])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
