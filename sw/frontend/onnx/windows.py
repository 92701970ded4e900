"""What convolutions and pools share: the window that slides over a plane.

A signal, [1, C, L], is a plane of one column: the accelerator divides planes into tiles of rows.
"""

from dataclasses import dataclass, replace
from typing import Any

import onnx

from weft import reference
from weft.errors import ModelError
from weft.ir import NO_PADS, Pads

from .builder import Builder
from .nodes import BrokenModel, attributes, label
from .values import Dequantized, Pending, View

__all__ = ["Window", "image", "known", "like", "of_planes", "real_input", "window"]


_ONE_COLUMN = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 0,
               "output_shape": 1}


@dataclass(frozen=True, kw_only=True)
class Window:
    """Strides, pads and dilations as in :class:`weft.ir.Convolution`, and the output's plane.

    ``own_pads`` are those of the node alone, with what ``ceil_mode`` adds.
    """

    output: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: Pads = NO_PADS
    own_pads: Pads = NO_PADS
    dilations: tuple[int, int] = (1, 1)


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


def of_planes(data: Dequantized, given: dict[str, Any]) -> dict[str, Any]:
    """Attributes of a window over ``data``; over a signal, as those of one over a plane of one
    column."""
    if len(data.view.shape) != 3:
        return given
    result = dict(given)
    for name, rest in _ONE_COLUMN.items():
        values = list(given.get(name, ()))
        if values:
            result[name] = [*values, rest]
    pads = list(given.get("pads", ()))
    if pads:    # begins come before ends
        half = len(pads) // 2
        result["pads"] = [*pads[:half], 0, *pads[half:], 0]
    return result


def window(node: onnx.NodeProto, given: dict[str, Any], size: tuple[int, ...],
           kernel: tuple[int, int], before: Pads = NO_PADS) -> Window:
    """The window of a node over a plane of ``size``, to which ``before`` has been added already.

    Understands strides, dilations, pads, auto_pad and ceil_mode; raises a BrokenModel where they
    make no sense.
    """
    strides = tuple(given.get("strides", (1, 1)))
    dilations = tuple(given.get("dilations", (1, 1)))
    pads = tuple(given.get("pads", NO_PADS))
    for name, values, low in (("strides", strides, 1), ("dilations", dilations, 1),
                              ("pads", pads, 0)):
        if len(values) != (4 if name == "pads" else 2) or min(values) < low:
            raise BrokenModel(f"{label(node)} must have {name} of at least {low}, "
                              f"not {list(values)}")
    height, width = (size[axis] + before[axis] + before[axis + 2] for axis in (0, 1))
    spans = [dilation * (taps - 1) + 1 for dilation, taps in zip(dilations, kernel, strict=True)]
    auto_pad = given.get("auto_pad", "NOTSET")
    if auto_pad == "VALID":
        pads = NO_PADS
    elif auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        totals = [max((-(-length // stride) - 1) * stride + span - length, 0)
                  for length, stride, span in zip((height, width), strides, spans, strict=True)]
        smaller, larger = [total // 2 for total in totals], [-(-total // 2) for total in totals]
        first, last = (smaller, larger) if auto_pad == "SAME_UPPER" else (larger, smaller)
        pads = Pads(*first, *last)
    elif auto_pad != "NOTSET":
        raise BrokenModel(f"{label(node)} must have auto_pad NOTSET, SAME_UPPER, SAME_LOWER or "
                         f"VALID, not {auto_pad}")

    output, after = [], []
    for axis, length in enumerate((height, width)):
        start, end, stride = pads[axis], pads[axis + 2], strides[axis]
        count = reference.output_size(length, kernel[axis], stride, start, end, dilations[axis])
        rest = length + start + end - spans[axis]
        if given.get("ceil_mode", 0) and rest >= 0:
            count = -(-rest // stride) + 1
            if (count - 1) * stride >= length + start:
                count -= 1  # a window that would begin behind the input
            end = max(end, (count - 1) * stride + spans[axis] - length - start)
        if count < 1:
            raise BrokenModel(f"{label(node)} has a kernel of {kernel[0]}x{kernel[1]}, which does "
                              f"not fit into its padded input of {height}x{width}")
        output.append(count)
        after.append(end)
    own = Pads(pads[0], pads[1], after[0], after[1])
    return Window(output=(output[0], output[1]), strides=(strides[0], strides[1]), own_pads=own,
                  pads=Pads(*(one + other for one, other in zip(own, before, strict=True))),
                  dilations=(dilations[0], dilations[1]))
