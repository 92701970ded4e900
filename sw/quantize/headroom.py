"""Room in the int32 sums of a quantized model.

Batch normalization that has killed a channel leaves weights near zero beside a bias. The scale of
the bias is that of the weights times that of the input, so it fills int32, and the sum does not
fit any more. What the bias takes is made small again: the channel's weights, which are next to
nothing, get a larger scale.
"""

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["make_room"]


_BIAS_BITS = 30     # half of int32 for the bias, the other half for products


def make_room(model: onnx.ModelProto) -> int:
    """Changes a model in QDQ format in place; returns how many channels were in need."""
    graph = model.graph
    makers = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    changed = 0
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm") or len(node.input) < 3:
            continue
        parts = [makers.get(name) for name in node.input[1:3]]
        if any(part is None or readers[part.output[0]] > 1 or readers[part.input[0]] > 1
               or any(name not in constants for name in part.input) for part in parts):
            continue
        weight, bias = (part for part in parts if part is not None)
        values = _get(constants[bias.input[0]]).astype(np.int64)
        over = np.abs(values) > 1 << _BIAS_BITS
        if not over.any():
            continue
        changed += int(over.sum())
        # A factor of 2 is exact in the scales. One scale of all weights grows for all.
        scales = _get(constants[weight.input[1]])
        factor = np.where(over, np.float32(2), np.float32(1))
        if scales.size == 1:
            factor[:] = 2
        filters = _get(constants[weight.input[0]])
        axis = _channel_axis(node)
        shape = [-1 if position == axis else 1 for position in range(filters.ndim)]
        _set(constants[weight.input[0]],
             np.rint(filters / factor.reshape(shape)).astype(filters.dtype))
        _set(constants[bias.input[0]], np.rint(values / factor).astype(np.int32))
        for part in (weight, bias):
            old = _get(constants[part.input[1]])
            _set(constants[part.input[1]],
                 old * (factor.max() if old.size == 1 else factor).astype(old.dtype))
    return changed


def _channel_axis(node: onnx.NodeProto) -> int:
    """Of a layer's weights, the axis of its output channels."""
    transposed = any(each.name == "transB" and each.i for each in node.attribute)
    return 1 if node.op_type == "Gemm" and not transposed else 0


def _get(tensor: onnx.TensorProto) -> np.ndarray:
    return numpy_helper.to_array(tensor)


def _set(tensor: onnx.TensorProto, values: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
