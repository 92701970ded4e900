"""Batch normalization that follows no convolution, as a convolution of its own."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["convolve"]


def convolve(model: onnx.ModelProto) -> None:
    """Replaces, in place, what the optimizer has left of batch normalization on images: it becomes
    a depthwise convolution of one pixel, which the accelerator runs."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    ranks = {value.name: len(value.type.tensor_type.shape.dim)
             for value in (*graph.input, *graph.value_info, *graph.output)}
    for node in graph.node:
        if (node.op_type != "BatchNormalization" or ranks.get(node.input[0]) != 4
                or len(node.output) > 1 or any(name not in constants for name in node.input[1:])):
            continue
        gamma, beta, mean, variance = (numpy_helper.to_array(constants[name]).astype(np.float64)
                                       for name in node.input[1:])
        epsilon = next((each.f for each in node.attribute if each.name == "epsilon"), 1e-5)
        scale = gamma / np.sqrt(variance + epsilon)
        names = [f"{node.output[0]}_{part}" for part in ("weights", "bias")]
        for name, values in zip(names, (scale.reshape(-1, 1, 1, 1), beta - mean * scale)):
            graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
        node.CopyFrom(helper.make_node(
            "Conv", [node.input[0], *names], [node.output[0]], name=node.name,
            group=len(scale), kernel_shape=[1, 1]))
    used = {name for node in graph.node for name in node.input}
    used |= {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
