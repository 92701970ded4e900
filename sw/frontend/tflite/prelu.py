"""PRELU with a slope for each channel: a table for positive values, a depthwise layer for negative
ones, and their sum, in which one of the two is always zero."""

import numpy as np

from weft import reference
from weft.errors import ModelError
from weft.frontend.placing import Quantized
from weft.ir import Add, Depthwise, Lookup

from . import inputs
from .builder import Builder, Value, image_order
from .file import Operator, label
from .functions import EVERY, scaled
from .rules import Rule

__all__ = ["channel_prelu"]


def channel_prelu(builder: Builder, operator: Operator) -> Value:
    """The output of an operator with several slopes."""
    source, target = builder.activation(operator), builder.target(operator)
    slopes = _slopes(builder, operator, source)
    channels, plane = len(slopes), source.shape[1:3]
    tensor, stage = builder.place(operator, source, image_order(source.shape))
    sx, sy = np.float32(source.scale), np.float32(target.scale)
    alpha = inputs.data(operator, 1)
    multiplier, shift = (np.broadcast_to(each, (channels,)).copy() for each in
                         reference.quantized_multiplier(sx * np.float32(alpha.scale) / sy))
    positive = scaled(np.maximum(EVERY.astype(np.int64) - source.zero_point, 0), sx / sy)

    name, op, output = operator.name, operator.op, target.name
    above = Lookup(
        name=f"{name}/above", op=op, input=tensor, output=f"{output}@above",
        table=np.clip(positive + target.zero_point, -128, 127).astype(np.int8))
    negative = Lookup(
        name=f"{name}/negative", op=op, input=tensor, output=f"{output}@negative",
        table=np.minimum(EVERY, source.zero_point).astype(np.int8))
    below = Depthwise(
        name=f"{name}/below", op=op, input=negative.output, output=f"{output}@below",
        weights=slopes[:, None, None], bias=np.zeros(channels, np.int32),
        multiplier=np.full(channels, sx * np.float32(alpha.scale) / sy, np.float32),
        rounding=builder.rule.rounding, fixed_point=(multiplier, shift))
    for layer, scale in ((negative, source), (above, target), (below, target)):
        builder.add_step(layer, stage, scale, (channels, plane[0], plane[1]))
    # Of three equal scales, a sum in fixed point is exact.
    both = Add(name=name, op=op, a=above.output, b=below.output, output=output,
               rounding=builder.rule.rounding)
    return builder.add(operator, both, stage, image_order(source.shape))


def _slopes(builder: Builder, operator: Operator, source: Quantized) -> np.ndarray:
    """int8 [C]."""
    tensor = inputs.quantized(operator, inputs.data(operator, 1), "alpha")
    values = inputs.constant(operator, 1, "slopes")
    shape = source.shape
    if len(shape) != 4 or shape[0] != 1 or values.size != shape[3] \
            or values.shape[-1:] != shape[3:] or operator.outputs[0].shape != shape:
        raise ModelError(f"{label(operator)} has slopes {list(values.shape)} for {list(shape)}; "
                         f"only one for all, or one for each channel, is supported on the "
                         f"accelerator")
    slopes = values.reshape(-1).astype(np.int64) - tensor.zero_point
    if builder.rule is Rule.ONNXRUNTIME or np.abs(slopes).max() > 127:
        raise ModelError(f"{label(operator)} has slopes that do not fit into 8 bits without their "
                         f"zero point, or another rule than TFLite's: the accelerator lacks it")
    return slopes.astype(np.int8)
