"""Batch normalization that the optimizer leaves: part of a fully connected layer, or a convolution
of its own."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .unused import drop_unused

__all__ = ["convolve", "fold_into_gemm"]


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
        scale, shift = _scale_and_shift(node, constants)
        names = [f"{node.output[0]}_{part}" for part in ("weights", "bias")]
        for name, values in zip(names, (scale.reshape(-1, 1, 1, 1), shift)):
            graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
        node.CopyFrom(helper.make_node(
            "Conv", [node.input[0], *names], [node.output[0]], name=node.name,
            group=len(scale), kernel_shape=[1, 1]))
    drop_unused(graph)


def fold_into_gemm(model: onnx.ModelProto) -> None:
    """Puts, in place, batch normalization behind a Gemm into its weights and bias."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(value.name for value in graph.output)
    for node in list(graph.node):
        gemm = makers.get(node.input[0])
        if (node.op_type != "BatchNormalization" or gemm is None or gemm.op_type != "Gemm"
                or uses[gemm.output[0]] > 1 or len(node.output) > 1
                or any(name not in constants for name in (*node.input[1:], *gemm.input[1:]))):
            continue
        given = {each.name: helper.get_attribute_value(each) for each in gemm.attribute}
        scale, shift = _scale_and_shift(node, constants)
        weights = numpy_helper.to_array(constants[gemm.input[1]]).astype(np.float64)
        bias = numpy_helper.to_array(constants[gemm.input[2]]).astype(np.float64) \
            * given.get("beta", 1.0) if len(gemm.input) > 2 else 0.0
        across = scale[:, None] if given.get("transB") else scale
        names = [f"{node.output[0]}_{part}" for part in ("weights", "bias")]
        for name, values in zip(names, (weights * given.get("alpha", 1.0) * across,
                                        bias * scale + shift)):
            graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
        gemm.CopyFrom(helper.make_node(
            "Gemm", [gemm.input[0], *names], [node.output[0]], name=gemm.name,
            transA=given.get("transA", 0), transB=given.get("transB", 0)))
        graph.node.remove(node)
    drop_unused(graph)


def _scale_and_shift(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) \
        -> tuple[np.ndarray, np.ndarray]:
    """What a batch normalization does: float64 [C] each."""
    gamma, beta, mean, variance = (numpy_helper.to_array(constants[name]).astype(np.float64)
                                   for name in node.input[1:])
    epsilon = next((each.f for each in node.attribute if each.name == "epsilon"), 1e-5)
    scale = gamma / np.sqrt(variance + epsilon)
    return scale, beta - mean * scale
