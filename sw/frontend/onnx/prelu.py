"""PRelu with a slope for each channel: a table for positive values, a depthwise layer for negative
ones, and their sum, in which one of the two is always zero. Where slopes have both signs, so that
no bound tells positive values from negative ones, a second table finds the negative ones."""

import numpy as np
import onnx

from weft import reference
from weft.errors import ModelError
from weft.ir import Add, Depthwise, Layer, Lookup

from .builder import Builder
from .elementwise import plain, unary
from .nodes import label
from .tables import scale_table
from .values import Clip, Dequantized, Pending, Quantized, Value, View
from .windows import real_input

__all__ = ["prelu"]


# Neighbours of a multiplier on each side to try.
_ULPS = 24


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
        multiplier = _multipliers(node, slopes, source, target)
        name, op, zero = builder.name(node), builder.op(node), target.zero_point
        above = Lookup(name=f"{name}/above", op=op, input=tensor, output=f"{output}@above",
                       table=scale_table(source, target, Clip(low=0.0)))
        read, clamp = tensor, (zero, 127) if (slopes <= 0).all() else (-128, zero)
        if (slopes < 0).any() and (slopes > 0).any():
            negative = Lookup(name=f"{name}/negative", op=op, input=tensor,
                              output=f"{output}@negative",
                              table=scale_table(source, source, Clip(high=0.0)))
            builder.add_step(negative, pending.stage, source, plane)
            read, clamp = negative.output, (-128, 127)
        below = Depthwise(
            name=f"{name}/below", op=op, input=read, output=f"{output}@below",
            weights=np.sign(slopes).astype(np.int8)[:, None, None],
            bias=np.zeros(plane[0], np.int32), multiplier=multiplier, clamp=clamp)
        for layer in (above, below):
            builder.add_step(layer, pending.stage, target, plane)
        return Add(name=name, op=op, a=above.output, b=below.output, output=output,
                   clamp=builder.bounds(pending.clip, target))

    return Pending(node=node, stage=stage, shape=plane, view=View(shape), make=make)


def _multipliers(node: onnx.NodeProto, slopes: np.ndarray, source: Quantized,
                 target: Quantized) -> np.ndarray:
    """float32 [C]: with them a requantization makes of all negative values what onnxruntime
    does."""
    values = np.arange(-128, min(source.zero_point, 128)).astype(np.int8)
    real = reference.dequantize(values, source.scale, source.zero_point)
    sums = values.astype(np.int32) - source.zero_point
    around = np.arange(-_ULPS, _ULPS + 1)
    around = around[np.argsort(np.abs(around), kind="stable")]
    result = np.ones(len(slopes), np.float32)
    for channel, slope in enumerate(slopes):
        wanted = reference.quantize(real * slope, target.scale, target.zero_point)
        ratio = np.float32(abs(float(slope)) * source.scale / target.scale)
        if not slope or not values.size:
            continue
        if not 2.0 ** -32 <= ratio < 256:
            raise ModelError(f"{label(node)}: slope x input scale / output scale must be from "
                             f"2^-32 to 256 in size, not {ratio:g}")
        tried = (ratio.view(np.int32) + around).astype(np.int32).view(np.float32)
        signed = np.tile(sums * int(np.sign(slope)), (len(tried), 1))
        made = reference.requantize(signed, tried, target.zero_point)
        exact = np.flatnonzero((made == wanted).all(axis=1))
        if not exact.size:
            raise ModelError(f"{label(node)} rounds ties in channel {channel} as no multiplier of "
                             f"the accelerator does")
        result[channel] = tried[exact[0]]
    return result
