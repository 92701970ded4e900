"""Softmax: the share of each value in a row."""

from math import prod

import onnx

from weft import reference
from weft.errors import ModelError
from weft.ir import Softmax

from .builder import Builder
from .elementwise import plain
from .nodes import label, opset
from .products import channels_first
from .values import Pending, Quantized, Value, View
from .windows import known, real_input

__all__ = ["softmax"]


_LONGEST = 32768        # row of which the table is known to be that of onnxruntime
_LARGEST = 65535        # factor that the hardware has
_TAIL = {"DequantizeLinear", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze",
         "Transpose", "Unsqueeze"}
_LAST_AXIS = 13         # the opset since which rows are along one axis, the last by default


def softmax(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """Shares of rows along the last axis; all other axes but the one before the last are heads. One
    whose result nothing but outputs of the model come from is the host's."""
    if _is_last(builder, node):
        return None
    data = plain(node, real_input(builder, node))
    shape = data.view.shape
    default = -1 if opset(builder.source.model) >= _LAST_AXIS else 1
    if known(node, "axis").get("axis", default) % len(shape) != len(shape) - 1:
        raise ModelError(f"{label(node)} is not along the last axis")
    length = shape[-1]
    if length > _LONGEST:
        raise ModelError(f"{label(node)} has rows of {length} values; at most {_LONGEST} are "
                         f"supported")
    if builder.uses(node.output[0]) > 1:    # then onnxruntime computes it in real numbers
        raise ModelError(f"{label(node)} must be read by a QuantizeLinear alone")
    heads, rows = prod(shape[:-2]), prod(shape[-2:-1])
    source, stage = builder.place(node, data.source,
                                  channels_first(data.view, heads, rows, length))

    def make(name: str, target: Quantized, pending: Pending) -> Softmax:
        factor = reference.softmax_factor(target.scale)
        if not 1 <= factor <= _LARGEST:
            raise ModelError(f"{label(node)} has an output scale of {target.scale:g}; one from "
                             f"{1 / _LARGEST:.1g} to 1 is supported")
        if target.unsigned != data.source.unsigned:     # as above
            raise ModelError(f"{label(node)} must have the same type in front and behind")
        if pending.clip.active:
            raise ModelError(f"{label(node)} has bounds behind it, which is not supported")
        return Softmax(name=builder.name(node), op=builder.op(node), input=source, output=name,
                       heads=heads, factor=factor,
                       table=reference.exponentials(data.source.scale, length))

    made = View((heads, length, rows)).transpose((0, 2, 1)).reshape(shape)
    return Pending(node=node, stage=stage, shape=(heads * length, rows, 1), view=made, make=make)


def _is_last(builder: Builder, node: onnx.NodeProto) -> bool:
    """Whether all that comes behind a node quantizes, dequantizes, or moves elements."""
    reached = set(node.output)
    for later in builder.nodes:     # in order
        if not reached.isdisjoint(later.input):
            if later.op_type not in _TAIL:
                return False
            reached.update(later.output)
    return True
