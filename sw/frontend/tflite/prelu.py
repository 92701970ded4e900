"""PRELU with a slope for each channel: a table for each."""

import numpy as np

from weft.errors import ModelError
from weft.frontend.placing import Quantized
from weft.ir import Lookup

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
    tensor, stage = builder.place(operator, source, image_order(source.shape))
    sx, sy = np.float32(source.scale), np.float32(target.scale)
    alpha = inputs.data(operator, 1)
    centred = EVERY.astype(np.int64) - source.zero_point
    below = np.stack([scaled(centred * slope, sx * np.float32(alpha.scale) / sy)
                      for slope in slopes])
    result = np.where(centred >= 0, scaled(centred, sx / sy), below) + target.zero_point
    layer = Lookup(name=operator.name, op=operator.op, input=tensor, output=target.name,
                   table=np.clip(result, -128, 127).astype(np.int8))
    return builder.add(operator, layer, stage, image_order(source.shape))


def _slopes(builder: Builder, operator: Operator, source: Quantized) -> np.ndarray:
    """int64 [C]."""
    tensor = inputs.quantized(operator, inputs.data(operator, 1), "alpha")
    values = inputs.constant(operator, 1, "slopes")
    shape = source.shape
    if len(shape) != 4 or shape[0] != 1 or values.size != shape[3] \
            or values.shape[-1:] != shape[3:] or operator.outputs[0].shape != shape:
        raise ModelError(f"{label(operator)} has slopes {list(values.shape)} for {list(shape)}; "
                         f"only one for all, or one for each channel, is supported on the "
                         f"accelerator")
    if builder.rule is Rule.ONNXRUNTIME:
        raise ModelError(f"{label(operator)} has another rule than TFLite's: with slopes for each "
                         f"channel it is not supported on the accelerator")
    return np.asarray(values.reshape(-1).astype(np.int64) - tensor.zero_point)
