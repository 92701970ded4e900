"""What works on rows of values: the share of each value, and layer normalization."""

from math import prod

import numpy as np
import onnx

from weft import reference
from weft.errors import ModelError
from weft.hw.isa.limits import NORMALIZED_LANES
from weft.ir import Normalization, Softmax

from .builder import Builder
from .elementwise import plain
from .nodes import label, opset
from .products import channels_first, lies_so
from .tables import MOVES
from .values import Dequantized, Pending, Quantized, Value, View
from .windows import known, real_input

__all__ = ["layer_normalization", "softmax"]


_EPSILON = 1e-5         # of a LayerNormalization that has none
_LONGEST = 32768        # row of which the table is known to be that of onnxruntime
_LARGEST = 65535        # factor that the hardware has
_TAIL = {*MOVES, "DequantizeLinear", "QuantizeLinear"}
_LAST_AXIS = 13         # the opset since which rows are along one axis, the last by default


def softmax(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """Shares of rows along the last axis. One whose result nothing but outputs of the model come
    from is the host's."""
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
    _quantized_alone(builder, node)     # else onnxruntime computes it in real numbers
    heads = _heads(data)
    rows = prod(shape[:-1]) // heads
    source, stage = builder.place(node, data.source,
                                  channels_first(data.view, heads, rows, length))

    def make(name: str, target: Quantized, pending: Pending) -> Softmax:
        factor = reference.softmax_factor(target.scale)
        if not 1 <= factor <= _LARGEST:
            raise ModelError(f"{label(node)} has an output scale of {target.scale:g}; one from "
                             f"{1 / _LARGEST:.1g} to 1 is supported")
        if target.unsigned != data.source.unsigned:     # as above
            raise ModelError(f"{label(node)} must have the same type in front and behind")
        _unbounded(node, pending)
        return Softmax(name=builder.name(node), op=builder.op(node), input=source, output=name,
                       heads=heads, factor=factor,
                       table=reference.exponentials(data.source.scale, length))

    made = View((heads, length, rows)).transpose((0, 2, 1)).reshape(shape)
    return Pending(node=node, stage=stage, shape=(heads * length, rows, 1), view=made, make=make)


def _heads(data: Dequantized) -> int:
    """How many rows lie beside each other, as channels of one pixel: as many as do so already, or
    all axes of rows but the last one."""
    *outer, length = data.view.shape
    heads = data.source.layout.shape[0] // length if data.source.accelerated else 0
    if heads and prod(outer) % heads == 0 and lies_so(
            data.source, channels_first(data.view, heads, prod(outer) // heads, length)):
        return heads
    return prod(outer[:-1])


def layer_normalization(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """Normalized rows along the last axis; all other axes are rows."""
    data = plain(node, real_input(builder, node))
    shape = data.view.shape
    given = known(node, "axis", "epsilon", "stash_type")
    if given.get("axis", -1) % len(shape) != len(shape) - 1:
        raise ModelError(f"{label(node)} is not along the last axis alone")
    if given.get("stash_type", 1) != 1:
        raise ModelError(f"{label(node)} must have a stash_type of 1, not {given['stash_type']}")
    if len(list(filter(None, node.output))) > 1:
        raise ModelError(f"{label(node)} has a second output, which is not supported")
    length, rows = shape[-1], prod(shape[:-1])
    scale = _row(builder, node, 1, length)
    shift = _row(builder, node, 2, length) if len(node.input) > 2 and node.input[2] \
        else np.zeros(length, np.float32)
    if length % NORMALIZED_LANES:
        raise ModelError(f"{label(node)} has rows of {length} values: onnxruntime adds up those "
                         f"behind the last multiple of {NORMALIZED_LANES} in another order")
    _quantized_alone(builder, node)
    source, stage = builder.place(node, data.source, channels_first(data.view, 1, rows, length))

    def make(name: str, target: Quantized, pending: Pending) -> Normalization:
        _unbounded(node, pending)
        layer = Normalization(
            name=builder.name(node), op=builder.op(node), input=source, output=name, scale=scale,
            shift=shift, epsilon=float(np.float32(given.get("epsilon", _EPSILON))))
        unsafe = reference.out_of_bounds(layer, data.source.scale, target.scale)
        if unsafe:
            raise ModelError(f"{label(node)} has {unsafe}")
        return layer

    made = View((length, rows)).transpose((1, 0)).reshape(shape)
    return Pending(node=node, stage=stage, shape=(length, rows, 1), view=made, make=make)


def _row(builder: Builder, node: onnx.NodeProto, index: int, length: int) -> np.ndarray:
    """A constant with a float32 value for each of a row."""
    values = builder.array(node.input[index])
    if values is None or values.dtype != np.float32:
        raise ModelError(f"{label(node)} must have constant float32 parameters")
    if values.shape != (length,):
        raise ModelError(f"{label(node)} must have {length} values of each parameter, not the "
                         f"shape {list(values.shape)}")
    return values


def _quantized_alone(builder: Builder, node: onnx.NodeProto) -> None:
    if builder.uses(node.output[0]) > 1:
        raise ModelError(f"{label(node)} must be read by a QuantizeLinear alone")


def _unbounded(node: onnx.NodeProto, pending: Pending) -> None:
    if pending.clip.active:
        raise ModelError(f"{label(node)} has bounds behind it, which is not supported")


def _is_last(builder: Builder, node: onnx.NodeProto) -> bool:
    """Whether all that comes behind a node quantizes, dequantizes, or moves elements."""
    reached = set(node.output)
    for later in builder.nodes:     # in order
        if not reached.isdisjoint(later.input):
            if later.op_type not in _TAIL:
                return False
            reached.update(later.output)
    return True
