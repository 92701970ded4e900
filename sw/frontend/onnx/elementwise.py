"""Operators that take their inputs element by element: bounds, functions of one value, sums and
products of two tensors."""

from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np
import onnx

from weft.errors import ModelError
from weft.ir import Add, Multiply

from .builder import Builder
from .convolutions import add_bias
from .nodes import attributes, label
from .values import Constant, Dequantized, Pending, Quantized, QuantizedConstant, Value, View

__all__ = ["UNARY", "add", "clip", "layout_of", "multiply", "operands", "plain", "relu",
           "unary"]


UNARY = ("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Cos", "Cosh",
         "Div", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu",
         "Log", "Max", "Min", "Mish", "Mod", "Neg", "PRelu", "Pow", "Reciprocal", "Round", "Selu",
         "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub",
         "Swish", "Tan", "Tanh", "ThresholdedRelu")
"""Operators that may become a table: their results depend on one value, if all other inputs are
single constants."""

# Beyond it, a rule that converts to int32 before it saturates would wrap.
_LARGEST_RATIO = 2.0 ** 15


# Bounds -------------------------------------------------------------------------------------------

def _bounded(builder: Builder, node: onnx.NodeProto, low: float, high: float) -> Value | None:
    value = builder.value(node.input[0])
    if isinstance(value, Pending):
        return replace(value, clip=value.clip.within(low, high, label(node)))
    if isinstance(value, Dequantized):
        plain(node, value)
        return replace(value, clip=value.clip.within(low, high, label(node)),
                       nodes=(*value.nodes, node),
                       exclusive=value.exclusive and builder.uses(node.output[0]) == 1)
    return None


def relu(builder: Builder, node: onnx.NodeProto) -> Value | None:
    return _bounded(builder, node, 0.0, np.inf)


def clip(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """Bounds on real values; or on integers, which leave a tensor fewer bits."""
    given = attributes(node)
    bounds = [given.get("min", -np.inf), given.get("max", np.inf)]
    for index, name in enumerate(node.input[1:3]):
        if name:
            bound = builder.array(name)
            if bound is None:
                raise ModelError(f"{label(node)} must have constant bounds")
            bounds[index] = float(bound.reshape(()))
    value = builder.value(node.input[0])
    if isinstance(value, Quantized):
        if not value.accelerated:
            raise ModelError(f"{label(node)} bounds values that the host quantizes")
        low, high = (int(np.clip(bound - 128 * value.unsigned, -128, 127)) for bound in bounds)
        return builder.clamp_integers(node, value, low, high)
    return _bounded(builder, node, *bounds)


# Functions of one value ---------------------------------------------------------------------------

def plain(node: onnx.NodeProto, data: Dequantized) -> Dequantized:
    """``data``; an error if a padding is still to be made."""
    if any(data.pads):
        raise ModelError(f"{label(node)} reads the output of a Pad; only convolutions and pools do "
                         f"so on the accelerator")
    return data


def unary(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """A function of one quantized value, given as nodes until the output quantization is known."""
    names = list(filter(None, node.input))
    values = [builder.value(name) for name in names]
    reads = [value for value in values if not isinstance(value, Constant | QuantizedConstant)]
    for read in reads:
        if isinstance(read, Pending):
            raise ModelError(f"{label(node)} reads the output of {label(read.node)}, which must "
                             f"have a QuantizeLinear after it")
    data = [value for value in reads if isinstance(value, Dequantized)]
    if not data or len(data) != len(reads):
        return None
    first = plain(node, data[0])
    for other in data[1:]:
        if other.source is not first.source or not other.view.same(first.view):
            raise ModelError(f"{label(node)} combines '{first.source.name}' with "
                             f"'{other.source.name}'; only Add and Mul of two tensors, each with a "
                             f"QuantizeLinear after it, are supported")
    shape = builder.shape(node, node.output[0])
    for name, value in zip(names, values, strict=True):
        if isinstance(value, Constant | QuantizedConstant):
            array = builder.array(name)
            assert array is not None
            if array.size != 1 and (array.size != max(array.shape) or shape != first.view.shape):
                raise ModelError(f"{label(node)} has the constant '{name}' of shape "
                                 f"{list(array.shape)}; only one value for all elements or for "
                                 f"each channel is supported")
    nodes = list(first.nodes)
    nodes += [item for value in data[1:] for item in value.nodes if item not in nodes]
    return Dequantized(first.source, first.view.reshape(shape), nodes=(*nodes, node),
                       bounded=False, exclusive=False)


# Two tensors --------------------------------------------------------------------------------------

def operands(builder: Builder, node: onnx.NodeProto,
             shape: tuple[int, ...] | None = None) -> list[Dequantized]:
    """The activations that a node reads, which must be there as real values, unchanged; or
    constants that are quantized as they are, repeated to ``shape`` if that is given."""
    found = []
    for name in node.input:
        value = builder.value(name)
        known = builder.constant_operand(node, name, shape)
        if known is not None:
            found.append(known)
            continue
        if isinstance(value, Pending):
            raise ModelError(f"{label(node)} reads the output of {label(value.node)}, which must "
                             f"have a QuantizeLinear after it")
        if not isinstance(value, Dequantized):
            raise ModelError(f"{label(node)} must read two activations behind a DequantizeLinear")
        if value.nodes:
            raise ModelError(f"{label(node)} reads the output of {label(value.nodes[-1])}, which "
                             f"must have a QuantizeLinear after it")
        found.append(plain(node, value))
    return found


def _one_value(builder: Builder, node: onnx.NodeProto) -> bool:
    """Whether all that a node reads is one quantized activation and constants."""
    reads = [builder.value(name) for name in node.input]
    sources = {id(value.source) for value in reads if isinstance(value, Dequantized)}
    rest = [value for value in reads
            if not isinstance(value, Dequantized | Constant | QuantizedConstant)]
    return len(sources) == 1 and not rest


def _full_constant(builder: Builder, node: onnx.NodeProto) -> int | None:
    """The number of the operand that is a quantized constant with more values than one for each
    channel, the other one a quantized activation; :py:`None` if it is not so."""
    values = [builder.value(name) for name in node.input]
    number = int(isinstance(values[-1], QuantizedConstant))
    constant, data = values[number], values[1 - number]
    if not isinstance(constant, QuantizedConstant) or not isinstance(data, Dequantized) \
            or data.nodes or builder.shape(node, node.output[0]) != data.view.shape:
        return None
    sizes = (1,) * (len(data.view.shape) - len(constant.shape)) + constant.shape
    axes = [axis for axis, size in enumerate(sizes) if size > 1]
    if len(axes) == 1:
        source = data.source
        layout = source.layout if source.accelerated else next(iter(source.placed.values()), None)
        if layout is None:
            return None
        places = layout_of(data, layout).array().reshape(layout.shape[0], -1)
        along = places // prod(data.view.shape[axes[0] + 1:]) % sizes[axes[0]]
        return None if (along == along[:, :1]).all() else number
    return number if axes else None


def _two_tensors(builder: Builder, node: onnx.NodeProto) -> list[Dequantized] | None:
    """The operands of a node that reads two tensors, one of which may be a constant; :py:`None` if
    it reads one, and constants of which each channel sees one value."""
    if not _one_value(builder, node):
        return operands(builder, node)
    number = _full_constant(builder, node)
    if number is None:
        return None
    shape = builder.shape(node, node.output[0])
    found = operands(builder, node, shape)
    if found[0].source.unsigned != found[1].source.unsigned:
        raise ModelError(f"{label(node)} combines int8 and uint8 values, one of them a constant")
    # One value for a whole row is the second operand for onnxruntime, wherever it stands.
    own = builder.value(node.input[number]).shape       # type: ignore[union-attr]
    last = max(axis for axis, size in enumerate(shape) if size > 1) - len(shape)
    row = len(own) < -last or own[last] == 1
    return found[::-1] if row and number == 0 else found


def layout_of(operand: Dequantized, layout: View) -> View:
    """What a tensor of ``layout`` sees of the real-valued ``operand``."""
    return layout.through(operand.view.inverse(operand.source.shape))


def _aligned(builder: Builder, node: onnx.NodeProto, operands: list[Dequantized]) \
        -> tuple[list[str], int, View]:
    """Tensors of two operands in one order, the stage that makes them, and that order."""
    active = [operand for operand in operands if operand.source.values is None]
    leader = next((operand for operand in active if operand.source.accelerated), active[0])
    order = layout_of(leader, builder.anywhere(leader.source)[2])
    tensors, stages = [], []
    for operand in operands:
        want = order.through(operand.view)
        tensor, stage = builder.place(node, operand.source, want)
        tensors.append(tensor)
        stages.append(stage)
    return tensors, max(stages), order


def _check_ratio(node: onnx.NodeProto, ratio: float) -> None:
    if not ratio < _LARGEST_RATIO:
        raise ModelError(f"{label(node)} has input scales {ratio:.4g} times the output scale; the "
                         f"accelerator needs less than {_LARGEST_RATIO:g}")


def add(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """A bias, a function of one value, or the sum of two tensors. One with a value for each channel
    is the second one for onnxruntime, wherever it stands."""
    biased = add_bias(builder, node)
    if biased is not None:
        return biased
    pair = _two_tensors(builder, node)
    if pair is None:
        return unary(builder, node)
    a, b = pair
    tensors, stage, order, shape = _combined(builder, node, a, b)

    def make(name: str, target: Quantized, pending: Pending) -> Add:
        _check_ratio(node, max(a.source.scale, b.source.scale) / target.scale)
        return Add(name=builder.name(node), op=builder.op(node), a=tensors[0], b=tensors[1],
                   output=name, clamp=builder.bounds(pending.clip, target))

    return _pending(node, stage, order, shape, make)


def multiply(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """A function of one value, or the product of two tensors."""
    pair = _two_tensors(builder, node)
    if pair is None:
        return unary(builder, node)
    a, b = pair
    tensors, stage, order, shape = _combined(builder, node, a, b)

    def make(name: str, target: Quantized, pending: Pending) -> Multiply:
        _check_ratio(node, a.source.scale * b.source.scale / target.scale)
        return Multiply(name=builder.name(node), op=builder.op(node), a=tensors[0], b=tensors[1],
                        output=name, clamp=builder.bounds(pending.clip, target))

    return _pending(node, stage, order, shape, make)


def _combined(builder: Builder, node: onnx.NodeProto, a: Dequantized, b: Dequantized) \
        -> tuple[list[str], int, View, tuple[int, ...]]:
    """As :func:`_aligned`, with the shape of the result; or of a tensor and one value for each of
    its channels, in that order."""
    if a.view.shape == b.view.shape:
        return *_aligned(builder, node, [a, b]), a.view.shape
    whole, vector = (a, b) if prod(a.view.shape) >= prod(b.view.shape) else (b, a)
    shape = whole.view.shape
    if len(shape) not in (3, 4) or vector.view.shape != (1, shape[1], 1, 1)[:len(shape)] \
            or shape[0] != 1:
        raise ModelError(f"{label(node)} combines shapes {list(a.view.shape)} and "
                         f"{list(b.view.shape)}; only equal shapes, and one value for each "
                         f"channel, are supported")
    order = View((*shape[1:], 1)[:3])
    first, stage = builder.place(node, whole.source, order.through(whole.view))
    second, other = builder.place(node, vector.source,
                                  View((shape[1], 1, 1)).through(vector.view))
    return [first, second], max(stage, other), order, shape


def _pending(node: onnx.NodeProto, stage: int, order: View, shape: tuple[int, ...],
             make: Callable[[str, Quantized, Pending], Add | Multiply]) -> Pending:
    channels, height, width = order.shape
    return Pending(node=node, stage=stage, shape=(channels, height, width),
                   view=order.inverse(shape), make=make)
