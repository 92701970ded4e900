"""One scale for what a recurrent layer computes in each of its time steps, and for states that go
from one frame to the next."""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from .bias import BiasScales

__all__ = ["Steps", "joined", "share_scales", "tied"]


_VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


Steps = tuple[tuple[str, ...], ...]
"""Groups of tensors: what a recurrent layer computes in each of its time steps."""


def joined(groups: Steps) -> Steps:
    """The groups, those with a tensor in common as one."""
    apart: list[dict[str, None]] = []   # sets that keep their order
    for group in groups:
        members = dict.fromkeys(group)
        for other in [each for each in apart if not members.keys().isdisjoint(each)]:
            members = other | members
            apart.remove(other)
        apart.append(members)
    return tuple(map(tuple, apart))


def tied(model: onnx.ModelProto, states: Mapping[str, str]) -> Steps:
    """Groups of tensors that are to have one scale, as a state goes from one to another: outputs,
    and the inputs that they are, up to where these get a scale."""
    groups = []
    for output, source in states.items():
        names = [source]
        for name in names:      # which grows
            names += [made for node in model.graph.node for made in node.output
                      if node.op_type in _VIEWS and name in node.input]
        groups.append((output, *names))
    return tuple(groups)


def share_scales(model: onnx.ModelProto, steps: Steps) -> None:
    """Gives, in place, the tensors of each group of a model in QDQ format the range of all of
    them."""
    if not steps:
        return
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    # The quantizer's own name for what an output of the model is made of ends like this.
    quantizers = {node.input[0].removesuffix("_QuantizeLinear_Input"): node
                  for node in model.graph.node if node.op_type == "QuantizeLinear"}
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
