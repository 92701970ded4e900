"""PRelu with a slope for each channel: a table for each."""

import numpy as np
import onnx

from weft import reference
from weft.ir import Layer, Lookup

from .builder import Builder
from .elementwise import plain, unary
from .tables import scale_table
from .values import Dequantized, Pending, Quantized, Value, View
from .windows import real_input

__all__ = ["prelu"]


def prelu(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """A function of one value, or one for each channel."""
    slope = builder.array(node.input[1])
    value = builder.value(node.input[0])
    if slope is None or slope.size == 1 or not isinstance(value, Dequantized) or value.nodes:
        return unary(builder, node)
    data = plain(node, real_input(builder, node))
    shape, source = data.view.shape, data.source
    inner = (1,) * (len(shape) - 2)
    if len(shape) not in (2, 3, 4) or shape[0] != 1 or slope.size != shape[1] \
            or slope.shape[-1 - len(inner):] != (shape[1], *inner):
        return unary(builder, node)
    slopes = slope.reshape(-1).astype(np.float32)
    channels, height, width = (*shape[1:], 1, 1)[:3]
    plane = (channels, height, width)
    tensor, stage = builder.place(node, source, data.view.reshape(plane))

    def make(output: str, target: Quantized, pending: Pending) -> Layer:
        tables = np.clip(_tables(slopes, source, target), *builder.bounds(pending.clip, target))
        return Lookup(name=builder.name(node), op=builder.op(node), input=tensor, output=output,
                      table=tables)

    return Pending(node=node, stage=stage, shape=plane, view=View(shape), make=make)


def _tables(slopes: np.ndarray, source: Quantized, target: Quantized) -> np.ndarray:
    """int8 [C, 256]: what onnxruntime makes of all values, from that of -128 on."""
    values = np.arange(-128, 128).astype(np.int8)
    real = reference.dequantize(values, source.scale, source.zero_point)
    below = reference.quantize(real * slopes[:, None], target.scale, target.zero_point)
    return np.where(values < source.zero_point, below, scale_table(source, target))
