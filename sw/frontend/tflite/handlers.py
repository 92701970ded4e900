"""The table of operators: what each becomes on the accelerator.

A handler takes the builder and an operator and returns what is known of its output; where it leaves
the operator to the host, it raises a ModelError that says why.
"""

from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np

from weft.errors import ModelError
from weft.frontend.placing import Quantized
from weft.frontend.views import View
from weft.ir import NO_PADS, Concat, Lookup, Pads, Pool, PoolKind, Resize, Selection

from . import inputs, kernels, layers, moves
from .builder import Builder, Constant, Padded, Value, image_order
from .file import Operator, label
from .functions import FUNCTIONS, table
from .interpolation import check_planes, enlarged_axis
from .prelu import channel_prelu
from .rules import Rule

__all__ = ["HANDLERS"]


Handler = Callable[[Builder, Operator], Value]


def _image(builder: Builder, operator: Operator, source: Quantized) -> tuple[str, int]:
    """The tensor of an input of shape [1, H, W, C], and the stage that makes it."""
    if len(source.shape) != 4 or source.shape[0] != 1:
        raise ModelError(f"{label(operator)} has an input of shape {list(source.shape)}; only "
                         f"[1, H, W, C] is supported on the accelerator")
    return builder.place(operator, source, image_order(source.shape))


def _padded_input(builder: Builder, operator: Operator) -> tuple[Quantized, Pads]:
    value = builder.values[inputs.data(operator, 0).name]
    if isinstance(value, Padded):
        return value.inner, value.pads
    return builder.activation(operator), NO_PADS


def _output_image(operator: Operator) -> View:
    return image_order(operator.outputs[0].shape)


# Windows and matrices -----------------------------------------------------------------------------

def _convolution(builder: Builder, operator: Operator) -> Value:
    source, pads = _padded_input(builder, operator)
    names = layers.Names(output=operator.outputs[0].name)
    layer = layers.convolution(operator, builder.rule, names, pads)
    tensor, stage = _image(builder, operator, source)
    return builder.add(operator, replace(layer, input=tensor), stage, _output_image(operator))


def _depthwise(builder: Builder, operator: Operator) -> Value:
    """One that makes several channels of each reads a tensor in which each is there as often."""
    source, pads = _padded_input(builder, operator)
    names = layers.Names(output=operator.outputs[0].name)
    layer = layers.depthwise(operator, builder.rule, names, pads)
    times = layers.multiplier_of_depth(operator)
    tensor, stage = _image(builder, operator, source)
    if times > 1:
        _, height, width, count = source.shape
        repeated = f"{names.output}@repeated"
        builder.add_step(
            Selection.of(np.arange(count).repeat(times), count, name=f"{operator.name}/repeat",
                         op=operator.op, input=tensor, output=repeated),
            stage, source, (count * times, height, width))
        tensor = repeated
    return builder.add(operator, replace(layer, input=tensor), stage, _output_image(operator))


def _pool(builder: Builder, operator: Operator) -> Value:
    names = layers.Names(output=operator.outputs[0].name)
    layer = layers.pool(operator, builder.rule, names)
    tensor, stage = _image(builder, operator, builder.activation(operator))
    return builder.add(operator, replace(layer, input=tensor), stage, _output_image(operator))


def _mean(builder: Builder, operator: Operator) -> Value:
    source, target = builder.activation(operator), builder.target(operator)
    if len(source.shape) != 4 or layers.reduced_axes(operator) != (1, 2):
        raise ModelError(f"{label(operator)} averages over the axes "
                         f"{list(layers.reduced_axes(operator))} of {len(source.shape)}; only "
                         f"height and width are supported on the accelerator")
    layer = layers.mean(operator, builder.rule, layers.Names(output=target.name))
    tensor, stage = _image(builder, operator, source)
    return builder.add(operator, replace(layer, input=tensor), stage,
                       View((source.shape[3], 1, 1)))


def _fully_connected(builder: Builder, operator: Operator) -> Value:
    """One row covers a whole tensor, in whatever order it lies there; several are pixels."""
    weights = layers.summary(operator)[0]
    source = builder.activation(operator)
    filters, features = weights.shape
    rows = prod(source.shape) // features
    names = layers.Names(output=operator.outputs[0].name)
    if rows == 1:
        order = image_order(source.shape) if len(source.shape) == 4 else None
        tensor, stage, layout = builder.anywhere(source, order)

        def arrange(matrix: np.ndarray) -> np.ndarray:
            columns = layout.flat()
            ordered = matrix if columns is None else matrix[:, columns]
            return np.ascontiguousarray(ordered).reshape(filters, *layout.shape)

        layer = layers.fully_connected(operator, builder.rule, names, arrange)
        return builder.add(operator, replace(layer, input=tensor), stage, View((filters, 1, 1)))
    plane = source.layout.shape[1:] \
        if source.accelerated and source.layout.shape[0] == features else (rows, 1)
    layer = layers.fully_connected(operator, builder.rule, names,
                                   lambda matrix: matrix.reshape(filters, features, 1, 1))
    view = View(source.shape).reshape((rows, features)).transpose((1, 0))
    tensor, stage = builder.place(operator, source, view.reshape((features, *plane)))
    result = View((rows, filters)).transpose((1, 0)).reshape((filters, *plane))
    return builder.add(operator, replace(layer, input=tensor), stage, result)


# Elements -----------------------------------------------------------------------------------------

def _pair(builder: Builder, operator: Operator) -> Value:
    values = [builder.values[inputs.data(operator, index).name] for index in (0, 1)]
    if any(isinstance(value, Constant) for value in values):
        return _with_constant(builder, operator, values)
    if operator.op == "SUB" and builder.rule is Rule.ONNXRUNTIME:
        raise ModelError(f"{label(operator)} has no rule of onnxruntime; it is rounded as TFLite "
                         f"does")
    a, b = (builder.activation(operator, index) for index in (0, 1))
    shape = operator.outputs[0].shape
    if a.shape == b.shape:
        leader, other = (a, b) if a.accelerated or not b.accelerated else (b, a)
        tensors = {id(leader): builder.anywhere(leader)}
        tensor, stage, order = tensors[id(leader)]
        second, later = builder.place(operator, other, order)
        first, second = (tensor, second) if leader is a else (second, tensor)
        stage = max(stage, later)
    else:
        whole, other = (a, b) if a.shape == shape else (b, a)
        channels = whole.shape[-1] if whole.shape else 0
        if len(shape) != 4 or whole.shape != shape or shape[0] != 1 \
                or other.shape not in ((1, 1, 1, channels), (channels,)) \
                or (operator.op == "SUB" and whole is b):
            raise ModelError(f"{label(operator)} combines shapes {list(a.shape)} and "
                             f"{list(b.shape)}; only equal shapes, and one value for each channel "
                             f"that is added to all pixels of another tensor, taken off it or "
                             f"multiplied with it, are supported on the accelerator")
        order = image_order(shape)
        first, stage = builder.place(operator, whole, order)
        second, later = builder.place(operator, other,
                                      View(other.shape).reshape((channels, 1, 1)))
        if whole is b:
            first, second = second, first
        stage = max(stage, later)
    layer = layers.pair(operator, builder.rule, first, second, operator.outputs[0].name)
    proof = layers.pair_proof(operator, layer)
    if proof is not None and not proof.exact:
        raise ModelError(f"{label(operator)} has sums of which TFLite rounds halves either way: "
                         f"{proof} on the accelerator")
    return builder.add(operator, layer, stage, order)


def _with_constant(builder: Builder, operator: Operator, values: list[Value]) -> Value:
    """With one constant for all elements, or for each channel, it is a function of one value."""
    which = [isinstance(value, Constant) for value in values].index(False) \
        if not all(isinstance(value, Constant) for value in values) else 0
    constant = inputs.constant(operator, 1 - which, "values")
    source = builder.activation(operator, which)
    shape = operator.outputs[0].shape
    of_channels = len(shape) == 4 and shape[0] == 1 and constant.size == constant.shape[-1] \
        and constant.size == shape[3] if constant.shape else False
    if (constant.size != 1 and not of_channels) or source.shape != shape:
        raise ModelError(f"{label(operator)} has a constant of {constant.size} values; only one "
                         f"value for all elements, or for each channel, is supported on the "
                         f"accelerator")
    every = np.arange(-128, 128).astype(np.int8)[:, None]
    pair = [every, every]
    pair[1 - which] = constant.reshape(1, -1)
    results = kernels.elements(operator, builder.rule, pair).T
    if constant.size == 1:
        return _look_up(builder, operator, source, results[0])
    tensor, stage = _image(builder, operator, source)
    layer = Lookup(name=operator.name, op=operator.op, input=tensor,
                   output=operator.outputs[0].name, table=np.ascontiguousarray(results))
    return builder.add(operator, layer, stage, _output_image(operator))


def _look_up(builder: Builder, operator: Operator, source: Quantized,
             results: np.ndarray) -> Value:
    tensor, stage, layout = builder.anywhere(source)
    layer = Lookup(name=operator.name, op=operator.op, input=tensor,
                   output=operator.outputs[0].name, table=results)
    return builder.add(operator, layer, stage, layout)


def _function(builder: Builder, operator: Operator) -> Value:
    source, target = builder.activation(operator), builder.target(operator)
    if operator.op == "PRELU" and inputs.constant(operator, 1, "slopes").size != 1:
        return channel_prelu(builder, operator)
    if source.shape != target.shape:
        raise ModelError(f"{label(operator)} must make {list(source.shape)}, "
                         f"not {list(target.shape)}")
    return _look_up(builder, operator, source,
                    table(operator, inputs.data(operator, 0), operator.outputs[0]))


# Moves --------------------------------------------------------------------------------------------

def _view(builder: Builder, operator: Operator) -> Value:
    source, target = builder.activation(operator), builder.target(operator)
    if prod(target.shape) != prod(source.shape) or not target.same_quantization(source):
        raise ModelError(f"{label(operator)} must make {prod(source.shape)} values of its input's "
                         f"scale and zero point, not {list(target.shape)}")
    return builder.renamed(operator, source, View(source.shape).reshape(target.shape))


def _transpose(builder: Builder, operator: Operator) -> Value:
    source, target = builder.activation(operator), builder.target(operator)
    view = View(source.shape).transpose(moves.permutation(operator))
    if view.shape != target.shape or not target.same_quantization(source):
        raise ModelError(f"{label(operator)} must make {list(view.shape)} of its input's scale and "
                         f"zero point, not {list(target.shape)}")
    return builder.renamed(operator, source, view)


def _concatenation(builder: Builder, operator: Operator) -> Value:
    """On any axis, if planes agree on the accelerator."""
    sources = [builder.activation(operator, index) for index in range(len(operator.inputs))]
    target = builder.target(operator)
    if operator.options["FusedActivationFunction"] != "NONE" \
            or not all(each.same_quantization(target) for each in sources):
        raise ModelError(f"{label(operator)} must join tensors of its output's scale and zero "
                         f"point, without a fused activation")
    shape, axis = target.shape, operator.options["Axis"]
    if not -len(shape) <= axis < len(shape) or any(len(each.shape) != len(shape)
                                                   for each in sources):
        raise ModelError(f"{label(operator)} must join tensors of {len(shape)} dimensions on one "
                         f"of them, not on {axis}")
    ends = np.cumsum([each.shape[axis] for each in sources])
    where = np.split(np.arange(prod(shape)).reshape(shape), ends[:-1], axis)
    tensors, stages, orders = [], [], []
    for source, positions in zip(sources, where, strict=True):
        if positions.shape != source.shape:
            raise ModelError(f"{label(operator)} must make {list(positions.shape)} of its parts, "
                             f"not {list(source.shape)}")
        tensor, stage, layout = builder.anywhere(source)
        tensors.append(tensor)
        stages.append(stage)
        orders.append(positions.reshape(-1)[layout.array()])
    if len({order.shape[1:] for order in orders}) > 1:
        raise ModelError(f"{label(operator)} joins planes of different sizes on axis {axis}")
    layer = Concat(name=operator.name, op=operator.op, output=target.name, sources=tuple(tensors))
    return builder.add(operator, layer, max(stages), View.of(np.concatenate(orders)))


def _pad(builder: Builder, operator: Operator) -> Value:
    """Left to convolutions that read it; for other readers, a step that moves values."""
    source = builder.activation(operator)
    pairs, fill = moves.padding(operator)
    if len(source.shape) != 4 or source.shape[0] != 1 or any(pairs[0]) or any(pairs[3]) \
            or fill != source.zero_point:
        raise ModelError(f"{label(operator)} pads by {pairs} with {fill}; only height and width, "
                         f"with the zero point, are supported on the accelerator")
    pads = Pads(pairs[1][0], pairs[2][0], pairs[1][1], pairs[2][1])
    readers = builder.readers[operator.outputs[0].name]
    if all(each is not None and each.op in ("CONV_2D", "DEPTHWISE_CONV_2D") for each in readers):
        return Padded(source, pads)
    tensor, stage = _image(builder, operator, source)
    channels = source.shape[3]
    layer = Selection.of(np.arange(channels), channels, name=operator.name, op=operator.op,
                         input=tensor, output=operator.outputs[0].name)
    return builder.add(operator, replace(layer, pads=pads), stage, _output_image(operator))


def _resize(builder: Builder, operator: Operator) -> Value:
    """Enlargement by whole factors, where it repeats every value."""
    source, target = builder.activation(operator), builder.target(operator)
    tensor, stage = _image(builder, operator, source)
    factors = []
    for axis in (1, 2):
        size, wanted = source.shape[axis], target.shape[axis]
        indices = moves.resized_indices(operator, axis)
        if wanted % size or not np.array_equal(indices, np.arange(size).repeat(wanted // size)):
            raise ModelError(f"{label(operator)} makes {list(target.shape)} of "
                             f"{list(source.shape)}; only whole factors that repeat every value "
                             f"are supported on the accelerator")
        factors.append(wanted // size)
    if not target.same_quantization(source):
        raise ModelError(f"{label(operator)} must keep scale and zero point")
    layer = Resize(name=operator.name, op=operator.op, input=tensor, output=target.name,
                   factors=(factors[0], factors[1]))
    return builder.add(operator, layer, stage, _output_image(operator))


def _interpolate(builder: Builder, operator: Operator) -> Value:
    """Enlargement by powers of 2: every value is repeated, and averaged with weights."""
    source, target = builder.activation(operator), builder.target(operator)
    check_planes(operator)
    if builder.rule is Rule.ONNXRUNTIME:
        raise ModelError(f"{label(operator)} interpolates integers, as onnxruntime does not")
    down, across = (enlarged_axis(operator, axis) for axis in (1, 2))
    tensor, stage = _image(builder, operator, source)
    channels, height, width = _output_image(operator).shape
    inner = f"{target.name}@enlarged"
    builder.add_step(
        Resize(name=f"{operator.name}/enlarged", op=operator.op, input=tensor, output=inner,
               factors=(down.factor, across.factor)), stage, source, (channels, height, width))
    layer = Pool(name=operator.name, op=operator.op, input=inner, output=target.name,
                 kind=PoolKind.AVERAGE, kernel=(len(down.weights), len(across.weights)),
                 pads=Pads(down.before, across.before, down.after, across.after),
                 weights=(down.weights, across.weights), rounding=builder.rule.rounding)
    return builder.add(operator, layer, stage, _output_image(operator))


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(FUNCTIONS, _function),
    **dict.fromkeys(kernels.VIEWS, _view),
    "ADD": _pair,
    "AVERAGE_POOL_2D": _pool,
    "CONCATENATION": _concatenation,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "MAX_POOL_2D": _pool,
    "MEAN": _mean,
    "MUL": _pair,
    "SUB": _pair,
    "PAD": _pad,
    "PADV2": _pad,
    "RESIZE_BILINEAR": _interpolate,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "TRANSPOSE": _transpose,
}
"""By operator; the host runs all others that there is a kernel for."""
