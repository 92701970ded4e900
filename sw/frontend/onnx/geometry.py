"""The geometry of a window that slides over a plane.

A signal, [1, C, L], is a plane of one column: the accelerator divides planes into tiles of rows.
"""

from dataclasses import dataclass
from typing import Any

import onnx

from weft import reference
from weft.ir import NO_PADS, Pads

from .nodes import BrokenModel, label

__all__ = ["Window", "of_planes", "window"]


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


def of_planes(shape: tuple[int, ...], given: dict[str, Any]) -> dict[str, Any]:
    """Attributes of a window over a tensor; over a signal, which has 3 dimensions, as those of one
    over a plane of one column."""
    if len(shape) != 3:
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
