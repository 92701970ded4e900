"""A model in QDQ format as the float model that it was."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .recurrent import RECURRENT
from .unused import drop_unused

__all__ = ["is_partly_float", "without_quantizers"]


def is_partly_float(model: onnx.ModelProto) -> bool:
    """Whether a model has layers that onnxruntime's quantizer leaves as they are, and ours does
    not."""
    return any(node.op_type in RECURRENT for node in model.graph.node)


def without_quantizers(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without its QuantizeLinear and DequantizeLinear: weights become what their bytes
    stand for, activations pass as they are."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    same: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        inputs = [same.get(name, name) for name in node.input]
        if node.op_type == "DequantizeLinear" and all(name in constants for name in node.input):
            axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
            values = _real(*(constants[name] for name in node.input), axis=axis)
            graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            same[node.output[0]] = inputs[0]
        else:
            nodes.append(node)
            node.input[:] = inputs
    nodes += [helper.make_node("Identity", [same[value.name]], [value.name], name=value.name)
              for value in graph.output if value.name in same]
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unused(graph)
    del graph.value_info[:]
    return result


def _real(values: np.ndarray, scale: np.ndarray, zero: np.ndarray | None = None, *,
          axis: int) -> np.ndarray:
    shape = [1] * values.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    centred = values.astype(np.int64) - (0 if zero is None else zero.astype(np.int64).reshape(
        shape if zero.size > 1 else ()))
    return np.asarray(centred.astype(np.float32) * scale.reshape(shape if scale.size > 1 else ()),
                      np.float32)
