"""Functions of one value with constants for each channel: sums, products and BatchNormalization.

onnxruntime makes a table for each channel, of all 256 values; the layer has the constants with
which the accelerator makes the same, or where there are none the tables.
"""

from dataclasses import replace
from math import prod

import numpy as np
import onnx

from weft import reference
from weft.errors import ModelError
from weft.ir import Affine, Layer, Lookup

from .builder import Builder
from .elementwise import layout_of, plain
from .nodes import label
from .tables import MOVES, channel_tables
from .values import Constant, Dequantized, Pending, Quantized, QuantizedConstant, Value
from .windows import real_input

__all__ = ["batch_normalization", "by_channel", "channel_axis"]


def batch_normalization(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """With constants, a linear function of each value."""
    data = plain(node, real_input(builder, node))
    if len(list(filter(None, node.output))) > 1:
        raise ModelError(f"{label(node)} is for training, which is not supported")
    if any(builder.array(name) is None for name in node.input[1:]):
        raise ModelError(f"{label(node)} must have constant parameters")
    return replace(data, nodes=(*data.nodes, node), bounded=False, exclusive=False)


def channel_axis(builder: Builder, value: Dequantized) -> int | None:
    """The axis along which constants of what changes a value differ; :py:`None` if none do."""
    axes = {axis for node in value.nodes if node.op_type not in MOVES for name in node.input
            for axis in _axes(builder, node, name, len(value.view.shape))}
    if not axes:
        return None
    node = value.nodes[-1]
    if len(axes) > 1:
        raise ModelError(f"{label(node)} ends functions whose constants differ along the axes "
                         f"{sorted(axes)}; only one is supported")
    if any(node.op_type in MOVES for node in value.nodes):
        raise ModelError(f"{label(node)} ends functions of each channel with a Reshape or "
                         f"Transpose among them")
    return axes.pop()


def _axes(builder: Builder, node: onnx.NodeProto, name: str, rank: int) -> list[int]:
    """The axes along which a constant of a node differs, in a tensor of ``rank`` dimensions."""
    value = builder.value(name) if name else None
    if not isinstance(value, Constant | QuantizedConstant):
        return []
    if node.op_type == "BatchNormalization":
        return [1]
    shape = builder.array(name).shape      # type: ignore[union-attr]
    return [rank - len(shape) + axis for axis, size in enumerate(shape) if size > 1]


def by_channel(builder: Builder, value: Dequantized, axis: int) -> Pending:
    """The functions of a value whose constants differ along an axis, as a layer."""
    shape, source, node = value.view.shape, value.source, value.nodes[-1]
    turned = value.view.transpose((axis, *(each for each in range(len(shape)) if each != axis)))
    height, width = (shape[2:] if axis == 1 and len(shape) == 4 else
                     (turned.array().size // shape[axis], 1))
    tensor, stage, layout = builder.anywhere(source, turned.reshape((shape[axis], height, width)))
    order = layout_of(value, layout)
    # Not np.unravel_index, which numpy 2.4 gets wrong for large arrays with three axes.
    along = order.array().reshape(layout.shape[0], -1) // prod(shape[axis + 1:]) % shape[axis]
    if (along != along[:, :1]).any():
        raise ModelError(f"{label(node)} has constants that differ within channels of the "
                         f"accelerator")
    channels = along[:, 0]
    plane = (layout.shape[0], layout.shape[1], layout.shape[2])

    def make(output: str, target: Quantized, pending: Pending) -> Layer:
        name, op = builder.name(node), builder.op(node)

        def fit() -> tuple[np.ndarray, tuple[int, int], tuple[np.ndarray, ...]]:
            tables = channel_tables(builder.source, builder.value, value, target, axis)[channels]
            clamp = int(tables.min()), int(tables.max())
            return tables, clamp, reference.affine_constants(tables, clamp)

        key = tuple(each.output[0] for each in value.nodes), target.name, channels.tobytes()
        tables, clamp, (factor, bias, scale, differing) = builder.source.once(key, fit)
        if (tables == tables[0]).all():
            return Lookup(name=name, op=op, input=tensor, output=output, table=tables[0])
        if differing.any():  # not linear, or with ties that no constants break as float32 does
            return Lookup(name=name, op=op, input=tensor, output=output, table=tables)
        return Affine(name=name, op=op, input=tensor, output=output, factor=factor, bias=bias,
                      scale=scale, clamp=clamp)

    return Pending(node=node, stage=stage, shape=plane, view=order.inverse(shape), make=make)
