"""Float ONNX models for tests of quantization."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from weft.digits import MODEL, train

__all__ = ["batch_norm_cnn", "digits_float", "spoilt"]


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


def spoilt(model, name, value):
    """The model with ``value`` as one of the values of a constant."""
    tensor = next(each for each in model.graph.initializer if each.name == name)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[2] = value
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    return model
