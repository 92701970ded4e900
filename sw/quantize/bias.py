"""Biases of layers whose input gets another scale."""

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["BiasScales"]


class BiasScales:
    """The layers of a model in QDQ format that have a bias: its scale has to be that of the input
    times that of the weights.

    Parameters
    ----------
    model : :class:`onnx.ModelProto`
        Its initializers are changed in place.
    """

    def __init__(self, model: onnx.ModelProto):
        nodes = model.graph.node
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._makers = {node.output[0]: node for node in nodes
                        if node.op_type == "DequantizeLinear"}
        self._uses: dict[str, int] = {}
        self._layers: dict[str, list[onnx.NodeProto]] = {}
        for node in nodes:
            for name in node.input:
                self._uses[name] = self._uses.get(name, 0) + 1
            if node.op_type in ("Conv", "ConvTranspose", "Gemm") and len(node.input) > 2:
                self._layers.setdefault(node.input[0], []).append(node)

    def follow(self, dequantizer: onnx.NodeProto, scale: np.ndarray) -> None:
        """Gives the layers behind a dequantizer, which has ``scale`` now, a bias to match."""
        for layer in self._layers.get(dequantizer.output[0], ()):
            weight, bias = (self._makers.get(name) for name in layer.input[1:3])
            if weight is None or bias is None or self._uses[layer.input[2]] > 1 or any(
                    name not in self._constants
                    for name in (weight.input[1], *bias.input[:2])):
                continue
            values, before = (numpy_helper.to_array(self._constants[name])
                              for name in bias.input[:2])
            behind = (scale * numpy_helper.to_array(
                self._constants[weight.input[1]])).reshape(before.shape)
            scaled = np.rint(values * (before.astype(np.float64) / behind)).astype(values.dtype)
            for name, array in zip(bias.input[:2], (scaled, behind), strict=True):
                self._constants[name].CopyFrom(numpy_helper.from_array(array, name))
