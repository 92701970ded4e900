"""What convolutions and pools share: the planes that windows slide over."""

from dataclasses import replace
from typing import Any

import onnx

from weft.errors import ModelError

from .builder import Builder
from .nodes import attributes, label
from .values import Dequantized, Pending, View

__all__ = ["image", "known", "like", "real_input"]


def real_input(builder: Builder, node: onnx.NodeProto) -> Dequantized:
    """The activation that a layer reads."""
    value = builder.value(node.input[0])
    if isinstance(value, Dequantized):
        if value.nodes:
            raise ModelError(f"{label(node)} reads the output of {label(value.nodes[-1])}, which "
                             f"must have a QuantizeLinear after it")
        return value
    if isinstance(value, Pending):
        raise ModelError(f"{label(node)} reads the output of {label(value.node)}, which must have "
                         f"a QuantizeLinear after it")
    raise ModelError(f"{label(node)} must read an activation behind a DequantizeLinear")


def known(node: onnx.NodeProto, *names: str) -> dict[str, Any]:
    """Attributes of a node; an error if one is not among ``names``."""
    given = attributes(node)
    for name, value in given.items():
        if name not in names:
            raise ModelError(f"{label(node)} has the attribute {name} {value}, which is not "
                             f"supported")
    return given


def image(node: onnx.NodeProto, data: Dequantized) -> Dequantized:
    """``data`` of shape [1, C, H, W] or [1, C, L], as [1, C, H, W]."""
    shape = data.view.shape
    if len(shape) not in (3, 4):
        raise ModelError(f"{label(node)} has an input of {len(shape)} dimensions; only 3 and 4 are "
                         f"supported")
    if shape[0] != 1:
        raise ModelError(f"{label(node)} has a batch of {shape[0]}; only a batch of 1 is supported")
    return replace(data, view=data.view.reshape((*shape, 1)[:4]))


def like(data: Dequantized, view: View) -> View:
    """``view`` of shape [1, C, H, W] with as many dimensions as ``data``, a plane or a signal, has:
    the inverse of :func:`image`."""
    return view.reshape(view.shape[:len(data.view.shape)])
