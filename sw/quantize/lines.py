"""Convolutions and pools along a line, as those of images one pixel high."""

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["make_planes"]


_WINDOWS = frozenset({"AveragePool", "BatchNormalization", "Conv", "GlobalAveragePool",
                      "GlobalMaxPool", "MaxPool"})
_ELEMENTWISE = frozenset({
    "Add", "Clip", "Dropout", "Elu", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",
    "Mul", "Relu", "Sigmoid", "Softplus", "Sub", "Tanh"})
_AXIS = 2   # that of the new height: [N, C, L] is [N, C, 1, L]


def make_planes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with windows over [N, C, L] turned into windows over [N, C, 1, L], which the
    accelerator has; the same model where there are none.

    What works element by element between them is done on planes, too, so that nothing stands
    between a convolution and its activation.
    """
    graph = model.graph
    ranks = {value.name: len(value.type.tensor_type.shape.dim)
             for value in (*graph.input, *graph.value_info, *graph.output)}
    if not any(node.op_type in _WINDOWS and ranks.get(node.input[0]) == 3 for node in graph.node):
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _Planes(result, ranks).convert()
    del result.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(result, strict_mode=True)


class _Planes:
    def __init__(self, model: onnx.ModelProto, ranks: dict[str, int]):
        self._graph = model.graph
        self._ranks = ranks
        self._constants = {tensor.name: tensor for tensor in self._graph.initializer}
        self._nodes: list[onnx.NodeProto] = []
        self._planes: dict[str, str] = {}   # the plane of a line
        self._lines: set[str] = set()       # lines that have a plane, and are there themselves
        self._axes = "height_axis"
        self._graph.initializer.append(numpy_helper.from_array(np.array([_AXIS]), self._axes))

    def convert(self) -> None:
        for node in list(self._graph.node):
            if node.op_type in _WINDOWS and self._ranks.get(node.input[0]) == 3 \
                    and len(node.output) == 1:
                self._window(node)
            elif self._elementwise(node):
                self._replace(node, range(len(node.input)))
            else:
                self._need(node.input)
                self._nodes.append(node)
        self._need(value.name for value in self._graph.output)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)

    def _elementwise(self, node: onnx.NodeProto) -> bool:
        axis = next((each.i for each in node.attribute if each.name == "axis"), 0)
        if node.op_type not in _ELEMENTWISE and (node.op_type, axis) != ("Concat", 1):
            return False
        varying = [name for name in node.input if name and name not in self._constants]
        single = all(np.prod(self._constants[name].dims) == 1
                     for name in node.input if name in self._constants)
        return len(node.output) == 1 and single and bool(varying) \
            and all(name in self._planes for name in varying)

    def _window(self, node: onnx.NodeProto) -> None:
        name = node.input[0]
        if name not in self._planes:
            self._planes[name] = f"{name}_plane"
            self._lines.add(name)
            self._nodes.append(helper.make_node("Unsqueeze", [name, self._axes],
                                                [self._planes[name]], name=self._planes[name]))
        for each in node.attribute:
            if each.name in ("kernel_shape", "strides", "dilations"):
                each.ints.insert(0, 1)
            elif each.name == "pads":
                each.ints[:] = [0, each.ints[0], 0, each.ints[1]]
        if node.op_type == "Conv":
            self._weights(node)
        self._replace(node, [0])

    def _weights(self, node: onnx.NodeProto) -> None:
        tensor = self._constants.get(node.input[1])
        plane = f"{node.input[1]}_plane"
        if tensor is None:
            self._nodes.append(helper.make_node("Unsqueeze", [node.input[1], self._axes], [plane]))
        elif plane not in self._constants:
            values = np.expand_dims(numpy_helper.to_array(tensor), _AXIS)
            self._constants[plane] = numpy_helper.from_array(values, plane)
            self._graph.initializer.append(self._constants[plane])
        node.input[1] = plane

    def _replace(self, node: onnx.NodeProto, inputs: Iterable[int]) -> None:
        for index in inputs:
            node.input[index] = self._planes.get(node.input[index], node.input[index])
        self._planes[node.output[0]] = f"{node.output[0]}_plane"
        node.output[0] = self._planes[node.output[0]]
        self._nodes.append(node)

    def _need(self, names: Iterable[str]) -> None:
        """Makes lines of planes, where one is read."""
        for name in names:
            if name in self._planes and name not in self._lines:
                self._lines.add(name)
                self._nodes.append(helper.make_node(
                    "Squeeze", [self._planes[name], self._axes], [name], name=f"{name}_line"))
