"""Weights that are no numbers: they would make every scale one that is none."""

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from weft.errors import ModelError
from weft.errors.text import printable
from weft.frontend.onnx.nodes import label

__all__ = ["check_finite"]


_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE})

_BOUNDS = frozenset({"Clip", "Max", "Min", "Pad", "Where"})
"""Operators for which an infinite constant has a meaning."""


def check_finite(model: onnx.ModelProto, name: str) -> None:
    """Refuses constants that are NaN or infinite.

    Raises
    ------
    ModelError
        It names the first such tensor, and the node that reads it.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        value = next((each for each in node.attribute if each.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            constants[node.output[0]] = value.t
    for node in graph.node:
        for key in node.input:
            if key not in constants or constants[key].data_type not in _FLOATS:
                continue
            values = numpy_helper.to_array(constants[key])
            wrong = np.isnan(values) if node.op_type in _BOUNDS else ~np.isfinite(values)
            if wrong.any():
                raise ModelError(
                    f"{label(node)} of {name} must have finite weights: {wrong.sum()} of "
                    f"{values.size} values of '{printable(key)}' are not, such as "
                    f"{values[wrong][0]}")
