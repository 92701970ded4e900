"""Operators that only move values, and so may read a quantized tensor itself."""

from dataclasses import replace

import onnx

from .builder import Builder
from .values import Dequantized, Pending, Quantized, Value, View
from .windows import real_input

__all__ = ["moved", "moved_input"]


def moved_input(builder: Builder, node: onnx.NodeProto) -> Dequantized:
    """The activation that a node reads, quantized or not."""
    value = builder.value(node.input[0])
    if isinstance(value, Quantized):
        return Dequantized(value, View(value.shape), exclusive=False)
    return real_input(builder, node)


def moved(builder: Builder, node: onnx.NodeProto, pending: Pending, source: Quantized,
          output: int = 0) -> Value:
    """An output of a node: quantized if its input was."""
    if not isinstance(builder.value(node.input[0]), Quantized):
        return pending
    target = replace(source, name=node.output[output], shape=pending.view.shape, tensor=None,
                     placed={}, sole=True)
    return builder.finish(pending, target)
