"""One scale for what a recurrent layer computes in each of its time steps."""

import numpy as np
import onnx
from onnx import numpy_helper

from .bias import BiasScales

__all__ = ["Steps", "share_scales"]


Steps = tuple[tuple[str, ...], ...]
"""Groups of tensors: what a recurrent layer computes in each of its time steps."""


def share_scales(model: onnx.ModelProto, steps: Steps) -> None:
    """Gives, in place, the tensors of each group of a model in QDQ format the range of all of
    them."""
    if not steps:
        return
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    quantizers = {node.input[0]: node for node in model.graph.node
                  if node.op_type == "QuantizeLinear"}
    changed: dict[str, np.ndarray] = {}
    for group in steps:
        names = {tuple(quantizers[name].input[1:3]) for name in group if name in quantizers}
        ranges = [(numpy_helper.to_array(constants[scale]), numpy_helper.to_array(constants[zero]))
                  for scale, zero in names]
        if not ranges:
            continue
        kind = ranges[0][1].dtype
        info = np.iinfo(kind)
        # Zero is in the range of each.
        low, high = (extreme((bound - int(zero)) * np.float64(scale) for scale, zero in ranges)
                     for extreme, bound in ((min, info.min), (max, info.max)))
        scale = np.float32((high - low) / (int(info.max) - int(info.min)))
        zero = np.clip(np.rint(info.min - low / scale), info.min, info.max).astype(kind)
        for pair in names:
            for name, value in zip(pair, (np.asarray(scale), np.asarray(zero)), strict=True):
                constants[name].CopyFrom(numpy_helper.from_array(value, name))
            changed[pair[0]] = np.asarray(scale)
    biases = BiasScales(model)
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[1] in changed:
            biases.follow(node, changed[node.input[1]])
