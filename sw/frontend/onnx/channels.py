"""Some channels, rows and columns of a tensor: Split, Slice and Gather."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from weft.errors import ModelError
from weft.ir import Layer, Pads, Pool, PoolKind, Selection

from .builder import Builder
from .elementwise import plain
from .moves import moved, moved_input
from .nodes import BrokenModel, attributes, label
from .values import Dequantized, Pending, Quantized, Value, View

__all__ = ["cut", "gather", "split"]


def split(builder: Builder, node: onnx.NodeProto) -> tuple[Value, ...] | None:
    """Pieces one behind the other, each a layer of its own."""
    data = plain(node, moved_input(builder, node))
    given, shape = attributes(node), data.view.shape
    axis = given.get("axis", 0)
    if not -len(shape) <= axis < len(shape):
        raise BrokenModel(f"{label(node)} has axis {axis} of a tensor of shape {list(shape)}")
    # The sizes of the outputs are known, whichever way the node states them.
    if not all(node.output):
        raise ModelError(f"{label(node)} has an output without a name, which is not supported")
    sizes = [builder.shape(node, name)[axis] for name in node.output]
    if sum(sizes) != shape[axis]:
        raise BrokenModel(f"{label(node)} splits {shape[axis]} values into {sizes}")
    pieces = np.split(data.view.array(), np.cumsum(sizes)[:-1], axis)
    return tuple(_select(builder, node, data, piece, index) for index, piece in enumerate(pieces))


def cut(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """A Slice."""
    data = plain(node, moved_input(builder, node))
    given, rank = attributes(node), len(data.view.shape)
    starts, ends, axes, steps = (
        _integers(builder, node, given, index, name)
        for index, name in enumerate(("starts", "ends", "axes", "steps"), 1))
    if starts is None or ends is None:
        raise BrokenModel(f"{label(node)} must have starts and ends")
    axes = axes or list(range(len(starts)))
    steps = steps or [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps \
            or any(not -rank <= axis < rank for axis in axes):
        raise BrokenModel(f"{label(node)} has starts {starts}, ends {ends}, axes {axes} and steps "
                          f"{steps}, which do not fit")
    ranges = [slice(None)] * rank
    for axis, *bounds in zip(axes, starts, ends, steps, strict=True):
        ranges[axis] = slice(*bounds)
    return _select(builder, node, data, data.view.array()[tuple(ranges)])


def gather(builder: Builder, node: onnx.NodeProto) -> Value | None:
    data = plain(node, moved_input(builder, node))
    axis, shape = attributes(node).get("axis", 0), data.view.shape
    indices = builder.array(node.input[1])
    if indices is None:
        raise ModelError(f"{label(node)} must have constant indices")
    if not -len(shape) <= axis < len(shape) or not indices.size \
            or not -shape[axis] <= indices.min() <= indices.max() < shape[axis]:
        raise BrokenModel(f"{label(node)} takes {indices.reshape(-1).tolist()} on axis {axis} of a "
                          f"tensor of shape {list(shape)}")
    return _select(builder, node, data, np.take(data.view.array(), indices, axis))


def _integers(builder: Builder, node: onnx.NodeProto, given: dict[str, Any], index: int,
              name: str) -> list[int] | None:
    """An input of a node that older versions have as an attribute; :py:`None` if it has neither."""
    if len(node.input) > index and node.input[index]:
        array = builder.array(node.input[index])
        if array is None:
            raise ModelError(f"{label(node)} must have constant {name}")
        return [int(value) for value in array.reshape(-1)]
    return list(given[name]) if name in given else None


def _select(builder: Builder, node: onnx.NodeProto, data: Dequantized,
            piece: np.ndarray, index: int = 0) -> Value:
    """Output ``index`` of a node: the elements ``piece``, flat indices into the quantized tensor,
    in the shape they have."""
    source = data.source
    if not piece.size:
        raise ModelError(f"{label(node)} takes no values, which is not supported")
    name = builder.name(node) + (f"/{index}" if len(node.output) > 1 else "")
    order = View(data.view.shape[1:]) if len(data.view.shape) == 4 else None
    tensor, stage, layout = builder.anywhere(source, order and order.through(data.view))
    count, height, width = layout.shape
    # Where they lie on the accelerator, by channel and place in the plane.
    channel, place = np.divmod(layout.inverse(source.shape).array().reshape(-1)[piece],
                               height * width)
    first = np.full(count, channel.size)
    first[channel.reshape(-1)[::-1]] = np.arange(channel.size)[::-1]
    # As the model has them, so that no layer reorders them.
    chosen = first.argsort(kind="stable")[:np.count_nonzero(first < channel.size)]
    if np.bincount(piece.reshape(-1)).max(initial=0) > 1:
        raise ModelError(f"{label(node)} takes values more than once, which is not supported")
    part = _PlanePart.of(np.unique(place), height, width)
    if part is None or piece.size != len(chosen) * part.size:
        raise ModelError(f"{label(node)} takes parts of planes that are no rows and columns at "
                         f"even distances, the same of each channel; only those are supported")
    number = np.zeros(count, np.int64)
    number[chosen] = np.arange(len(chosen))
    shape = (len(chosen), len(part.rows), len(part.columns))

    def crop(output: str, clamp: tuple[int, int]) -> Layer:
        return Pool(name=name, op=builder.op(node), input=tensor, output=output, clamp=clamp,
                    kind=PoolKind.MAX, kernel=(1, 1), strides=part.strides, pads=part.pads)

    def select(output: str, clamp: tuple[int, int]) -> Layer:
        whole = tensor
        if part.size != height * width:
            whole = f"{output}/part"
            builder.add_step(crop(whole, (-128, 127)), stage, source, (count, *shape[1:]))
        return Selection.of(chosen, count, name=name, op=builder.op(node), input=whole,
                            output=output, clamp=clamp)

    def make(output: str, target: Quantized, pending: Pending) -> Layer:
        return builder.keep_scale(crop if len(chosen) == count and part.size != height * width
                                  else select, output, source, target, pending)

    return moved(builder, node, Pending(
        node=node, stage=stage, shape=shape, make=make,
        view=View.of(number[channel] * part.size + part.number(place))), source, index)


@dataclass(frozen=True, kw_only=True)
class _PlanePart:
    """Rows and columns of a plane, the same of every channel."""

    rows: range
    columns: range
    plane: tuple[int, int]

    @classmethod
    def of(cls, places: np.ndarray, height: int, width: int) -> "_PlanePart | None":
        """The part that consists of these places of a plane, each once, if there is one."""
        rows, columns = (_evenly(np.unique(each)) for each in np.divmod(places, width))
        if rows is None or columns is None or places.size != len(rows) * len(columns):
            return None
        return cls(rows=rows, columns=columns, plane=(height, width))

    @property
    def size(self) -> int:
        """Pixels."""
        return len(self.rows) * len(self.columns)

    @property
    def strides(self) -> tuple[int, int]:
        """From row to row and from column to column."""
        return self.rows.step, self.columns.step

    @property
    def pads(self) -> Pads:
        """What is left out around it, as negative padding."""
        height, width = self.plane
        return Pads(-self.rows.start, -self.columns.start, self.rows[-1] + 1 - height,
                    self.columns[-1] + 1 - width)

    def number(self, place: np.ndarray) -> np.ndarray:
        """Of each of these places of the plane, its number in the part."""
        y, x = np.divmod(place, self.plane[1])
        return np.asarray((y - self.rows.start) // self.rows.step * len(self.columns)
                          + (x - self.columns.start) // self.columns.step)


def _evenly(values: np.ndarray) -> range | None:
    """Ascending numbers as a range, if they lie at even distances."""
    numbers: list[int] = values.tolist()
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    even = range(numbers[0], numbers[-1] + 1, step)
    return even if numbers == list(even) else None
