"""A scale of its own behind a linear enlargement.

onnxruntime's quantizer gives the output of a Resize the scale of its input. Then every 16th value
between two others, or every second one, lies in the middle between two steps, and onnxruntime's
float32 sum decides which of them it becomes: nobody else can tell. With a scale that is 257/256 of
the input's no such value is ever near the middle (256 and 257 have no factor in common), and the
accelerator's integers give what onnxruntime gives. The price is 0.4 % of the resolution. What only
moves values behind it keeps that scale, and the bias of a layer gets the scale that follows.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from .bias import BiasScales

__all__ = ["part_scales"]


_RATIO = np.float64(257) / 256
_FACTORS = (1, 2, 4, 8)
_MOVES = ("Flatten", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_MODES = (b"half_pixel", b"pytorch_half_pixel", b"asymmetric")


def part_scales(model: onnx.ModelProto) -> int:
    """Changes a model in QDQ format in place; returns how many enlargements were in need."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    biases = BiasScales(model)
    changed = 0
    for node in list(_enlargements(model)):
        before = makers.get(node.input[0])
        behind = [each for each in graph.node if node.output[0] in each.input]
        if before is None or before.op_type != "DequantizeLinear" or len(behind) != 1 \
                or behind[0].op_type != "QuantizeLinear":
            continue
        quantizer, = behind
        old = [constants.get(each.input[1]) for each in (before, quantizer)]
        if any(each is None for each in old):
            continue
        first, second = (numpy_helper.to_array(each) for each in old if each is not None)
        if first.size != 1 or not np.array_equal(first, second):
            continue
        name = f"{node.output[0]}_scale_behind"
        scale = numpy_helper.from_array((second * _RATIO).astype(np.float32).reshape(second.shape),
                                        name)
        graph.initializer.append(scale)
        _spread(model, quantizer, scale, biases)
        changed += 1
    return changed


def _spread(model: onnx.ModelProto, quantizer: onnx.NodeProto, scale: onnx.TensorProto,
            biases: BiasScales) -> None:
    """Gives a quantizer and what reads it a scale; those too that had its scale and are behind a
    node that only moves values."""
    old = quantizer.input[1]
    quantizer.input[1] = scale.name
    for reader in model.graph.node:
        if reader.op_type != "DequantizeLinear" or reader.input[0] != quantizer.output[0]:
            continue
        reader.input[1] = scale.name
        biases.follow(reader, numpy_helper.to_array(scale))
        moved = [node.output[0] for node in model.graph.node
                 if node.op_type in _MOVES and node.input[0] == reader.output[0]]
        for behind in model.graph.node:
            if behind.op_type == "QuantizeLinear" and behind.input[0] in moved \
                    and behind.input[1] == old:
                _spread(model, behind, scale, biases)


def _enlargements(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Those that the accelerator could do."""
    nodes = [node for node in model.graph.node if node.op_type == "Resize"
             and _attribute(node, "mode", b"nearest") == b"linear"
             and _attribute(node, "coordinate_transformation_mode", b"half_pixel") in _MODES]
    if not nodes:
        return
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
              for value in (*inferred.input, *inferred.value_info, *inferred.output)}
    for node in nodes:
        small, large = (shapes.get(name, []) for name in (node.input[0], node.output[0]))
        if small and len(small) == len(large) and all(
                size in (factor * side for factor in _FACTORS)
                for size, side in zip(large, small, strict=True)):
            yield node


def _attribute(node: onnx.NodeProto, name: str, default: bytes) -> bytes:
    return next((bytes(each.s) for each in node.attribute if each.name == name), default)
