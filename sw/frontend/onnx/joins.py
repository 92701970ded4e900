"""Concatenation: tensors one behind the other, activations and constants."""

from math import prod

import numpy as np
import onnx

from weft.errors import ModelError
from weft.ir import Add, Concat, Interleave, Layer, Padding, Pads

from .builder import Builder
from .elementwise import layout_of, plain
from .moves import moved
from .nodes import attributes, label
from .tables import scale_table
from .values import Constant, Dequantized, Pending, Quantized, Value, View

__all__ = ["concat"]


_WINDOWS = frozenset({"AveragePool", "Conv", "MaxPool"})


def concat(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """Tensors one behind the other on any axis, if on the accelerator that is one of channels, of
    rows or of columns, or if their planes agree there. Constants lie as the activations do."""
    parts = _parts(builder, node)
    shape = builder.shape(node, node.output[0])
    axis = attributes(node).get("axis", 1) % len(shape)
    ends = np.cumsum([part.view.shape[axis] for part in parts])
    where = np.split(np.arange(prod(shape)).reshape(shape), ends[:-1], axis)
    orders = _orders(builder, parts)
    constant = [part.source.values is not None for part in parts]

    leader = next((number for number, part in enumerate(parts) if part.source.accelerated),
                  constant.index(False))
    places = where[leader].reshape(-1)[orders[leader].array()]
    whole, dimension = _extended(places, prod(shape[axis + 1:]), shape[axis],
                                 range(ends[leader] - parts[leader].view.shape[axis], ends[leader]))
    planes = {order.shape[1:] for order in orders}
    single = all(part.view.shape[axis] == 1 for part in parts)
    if dimension and (len(planes) > 1 or any(constant)
                      or (not single and _slid_over(builder, node))):
        return _join_planes(builder, node, parts, _pieces(whole, where, ends, dimension), whole,
                            dimension)
    if dimension == 0:
        own = _pieces(whole, where, ends, 0)
        orders = [piece if known else order
                  for known, piece, order in zip(constant, own, orders, strict=True)]
        planes = {order.shape[1:] for order in orders}
    if len(planes) > 1:
        raise ModelError(f"{label(node)} joins planes of different sizes on axis {axis}")

    tensors, stages = _placed(builder, node, parts, orders)
    positions = [each.reshape(-1)[order.array()]
                 for each, order in zip(where, orders, strict=True)]
    # Single pixels, joined on an axis on which none of them has more than one value: a signal.
    count = len(parts)
    stacked = count > 1 and single \
        and {order.shape for order in orders} == {(len(positions[0]), 1, 1)} \
        and len(positions[0]) > 1

    def make(name: str, target: Quantized, pending: Pending) -> Layer:
        _no_bounds(node, pending)
        sources = tuple(builder.rescaled(node, index, tensor, part.source, target, pending.stage)
                        for index, (tensor, part) in enumerate(zip(tensors, parts, strict=True)))
        if stacked:
            return Interleave(name=builder.name(node), op=builder.op(node), output=name,
                              sources=sources, factors=(count, 1))
        return Concat(name=builder.name(node), op=builder.op(node), output=name, sources=sources)

    joined = np.concatenate(positions, 1 if stacked else 0)
    channels, height, width = joined.shape
    pending = Pending(node=node, stage=max(stages), shape=(channels, height, width),
                      view=View.of(joined).inverse(shape), make=make)
    return moved(builder, node, pending, parts[0].source)


def _slid_over(builder: Builder, node: onnx.NodeProto) -> bool:
    """Whether a window slides over what a node makes, and its planes are to lie as they are."""
    names = [node.output[0]]
    for name in names:      # which grows
        for reader in builder.nodes:
            if name in reader.input:
                if reader.op_type in _WINDOWS:
                    return True
                if reader.op_type in ("QuantizeLinear", "DequantizeLinear"):
                    names += reader.output
    return False


def _parts(builder: Builder, node: onnx.NodeProto) -> list[Dequantized]:
    """What a node joins."""
    values = [builder.value(name) for name in node.input]
    if any(isinstance(value, Constant) for value in values):
        raise ModelError(f"{label(node)} has a constant among its inputs that is not quantized, "
                         f"which is not supported")
    integers = all(isinstance(value, Quantized) for value in values)
    parts = []
    for name, value in zip(node.input, values, strict=True):
        known = builder.constant_operand(node, name)
        if known is not None:
            parts.append(known)
        elif isinstance(value, Quantized) and integers:
            parts.append(Dequantized(value, View(value.shape), exclusive=False))
        elif isinstance(value, Dequantized) and not value.nodes:
            parts.append(plain(node, value))
        else:
            raise ModelError(f"{label(node)} must read quantized activations only")
    if integers and any(not part.source.same_quantization(parts[0].source) for part in parts):
        raise ModelError(f"{label(node)} joins quantized tensors of different scales")
    if any(part.source.values is not None for part in parts) \
            and len({part.source.unsigned for part in parts}) > 1:
        raise ModelError(f"{label(node)} joins int8 and uint8 values, one of them a constant")
    return parts


def _orders(builder: Builder, parts: list[Dequantized]) -> list[View]:
    """[C, H, W] of each part as it lies on the accelerator, or would lie there."""
    # Planes are those of the first tensor on the accelerator; another one of as many pixels can be
    # seen as if it had them.
    there = [part.source.layout.shape[1:] for part in parts if part.source.accelerated]
    orders = []
    for part in parts:
        if part.source.values is not None:
            layout = builder.usual_order(part.source.shape)
        else:
            layout = builder.anywhere(part.source)[2]
        order = layout_of(part, layout)
        if len(part.view.shape) == 4 and part.view.shape[0] == 1 and not part.source.accelerated:
            order = View(part.view.shape[1:])
        if there and prod(order.shape[1:]) == prod(there[0]):
            order = order.reshape((order.shape[0], *there[0]))
        orders.append(order)
    return orders


def _placed(builder: Builder, node: onnx.NodeProto, parts: list[Dequantized],
            orders: list[View]) -> tuple[list[str], list[int]]:
    """Tensors of parts in these orders, and the stages that make them."""
    placed = [builder.place(node, part.source, order.through(part.view))
              for part, order in zip(parts, orders, strict=True)]
    return [tensor for tensor, _ in placed], [stage for _, stage in placed]


def _no_bounds(node: onnx.NodeProto, pending: Pending) -> None:
    if pending.clip.active:
        raise ModelError(f"{label(node)} must have a QuantizeLinear after it, "
                         f"not {pending.clip.node}")


# Rows and columns ---------------------------------------------------------------------------------

def _extended(places: np.ndarray, step: int, total: int,
              part: range) -> tuple[np.ndarray, int | None]:
    """How the result lies if it is to lie as one of its parts does, and the dimension along which
    the parts then follow each other; :py:`None` if there is none.

    Parameters
    ----------
    places : int64 [C, H, W]
        Flat indices of the elements of the part in the result.
    step, total : :class:`int`
        The axis of the result: distance of its elements, and their number.
    part : :class:`range`
        Those of the part.
    """
    for seen in (places, places.reshape(len(places), -1, 1)):
        at = seen // step % total
        for dimension in range(3):
            if seen.shape[dimension] == len(part) \
                    and (np.moveaxis(at, dimension, -1) == np.array(part)).all():
                steps = np.arange(total).reshape(
                    [total if each == dimension else 1 for each in range(3)]) * step
                return seen.take([0], dimension) - part.start * step + steps, dimension
    return places, None


def _pieces(whole: np.ndarray, where: list[np.ndarray], ends: np.ndarray,
            dimension: int) -> list[View]:
    """The parts of a result that lies as ``whole`` does: [C, H, W] of each."""
    pieces = np.split(whole, ends[:-1], dimension)
    return [View.of(np.searchsorted(each.reshape(-1), piece))
            for each, piece in zip(where, pieces, strict=True)]


def _join_planes(builder: Builder, node: onnx.NodeProto, parts: list[Dequantized],
                 orders: list[View], whole: np.ndarray, dimension: int) -> Value:
    """Rows below each other, or columns side by side: a sum of planes with zeros in the place of
    what the others have, all in one scale, which is exact. All constants are one of its terms."""
    channels, height, width = whole.shape
    shape = builder.shape(node, node.output[0])
    ends = np.cumsum([order.shape[dimension] for order in orders])
    spans = [range(end - order.shape[dimension], end)
             for end, order in zip(ends.tolist(), orders, strict=True)]
    active = [number for number, part in enumerate(parts) if part.source.values is None]
    tensors, stages = _placed(builder, node, [parts[number] for number in active],
                              [orders[number] for number in active])

    def constant(target: Quantized) -> np.ndarray:
        values = np.full(whole.shape, target.zero_point, np.int8)
        for part, order, span in zip(parts, orders, spans, strict=True):
            if part.source.values is not None:
                known = part.source.values.reshape(-1)[order.through(part.view).array()]
                np.moveaxis(values, dimension, 0)[span.start:span.stop] = np.moveaxis(
                    scale_table(part.source, target)[known.astype(int) + 128], dimension, 0)
        return values

    def make(name: str, target: Quantized, pending: Pending) -> Layer:
        _no_bounds(node, pending)
        own, op, terms = builder.name(node), builder.op(node), []
        for number, tensor in zip(active, tensors, strict=True):
            span = spans[number]
            around = (span.start, whole.shape[dimension] - span.stop)
            terms.append(f"{name}@{number}")
            builder.add_step(Padding.of(
                channels, Pads(around[0], 0, around[1], 0) if dimension == 1 else
                Pads(0, around[0], 0, around[1]), name=f"{own}/{number}", op=op,
                input=builder.rescaled(node, number, tensor, parts[number].source, target,
                                       pending.stage), output=terms[-1]),
                pending.stage, target, (channels, height, width))
        if len(active) < len(parts):
            terms.append(f"{name}@constant")
            builder.add_constant(terms[-1], target, constant(target))
        while len(terms) > 2:
            joined = f"{name}@{len(terms)} terms"
            builder.add_step(Add(name=own, op=op, a=terms[0], b=terms[1], output=joined),
                             pending.stage, target, (channels, height, width))
            terms[:2] = [joined]
        return Add(name=own, op=op, a=terms[0], b=terms[1], output=name)

    pending = Pending(node=node, stage=max(stages), shape=(channels, height, width),
                      view=View.of(whole).inverse(shape), make=make)
    return moved(builder, node, pending, parts[0].source)
