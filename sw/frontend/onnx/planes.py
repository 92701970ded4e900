"""Layers that move values or summarize windows: pools, padding, concatenation, enlargement."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np
import onnx

from weft.errors import ModelError
from weft.ir import NO_PADS, Concat, Layer, Lookup, Pads, Pool, PoolKind, Resize, Selection
from weft.reference.exact import Quantization, average_constants
from weft.reference.golden import GoldenSession

from .affine import by_channel, channel_axis
from .builder import Builder
from .elementwise import layout_of, plain
from .moves import moved, moved_input
from .nodes import BrokenModel, attributes, label
from .values import Constant, Dequantized, Pending, Quantized, Value, View
from .windows import Window, image, known, like, of_planes, real_input, window

__all__ = ["average_pool", "concat", "global_average_pool", "global_max_pool", "max_pool", "pad",
           "reduce_max", "reduce_mean", "resize"]


# Pools --------------------------------------------------------------------------------------------

_MAX_ATTRIBUTES = ("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order",
                   "strides")


def max_pool(builder: Builder, node: onnx.NodeProto) -> Value | None:
    if len(list(filter(None, node.output))) > 1:
        raise ModelError(f"{label(node)} has a second output, the indices, which is not supported")
    before = _unfinished(builder, node)
    if before is not None:
        return _max_pool_of_pending(builder, node, before)
    read = moved_input(builder, node)
    data = image(node, read)
    if data.pads != NO_PADS and data.source.zero_point != -128:
        # The zeros of the padding would be larger than negative values.
        raise ModelError(f"{label(node)} reads the output of a Pad with zeros, of a tensor that "
                         f"has values below zero")
    given = of_planes(read, known(node, *_MAX_ATTRIBUTES))
    kernel = _kernel(node, given)
    geometry = window(node, given, data.view.shape[2:], kernel, data.pads)
    tensor, stage = builder.place(node, data.source, data.view.reshape(data.view.shape[1:]))
    output = (data.view.shape[1], *geometry.output)

    def make(name: str, target: Quantized, pending: Pending) -> Layer:
        def pool(output: str, clamp: tuple[int, int]) -> Pool:
            return _maximum(builder, node, kernel, geometry, tensor, output, clamp)
        return builder.keep_scale(pool, name, data.source, target, pending)

    return moved(builder, node, Pending(node=node, stage=stage, shape=output,
                                         view=like(read, View((1, *output))), make=make),
                  data.source)


def global_max_pool(builder: Builder, node: onnx.NodeProto) -> Value | None:
    read = plain(node, moved_input(builder, node))
    data = image(node, read)
    known(node)
    _, channels, height, width = data.view.shape
    tensor, stage = builder.place(node, data.source, data.view.reshape(data.view.shape[1:]))
    return _whole_maximum(builder, node, read, tensor, stage, (channels, height, width),
                          like(read, View((1, channels, 1, 1))))


def reduce_max(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """Maxima of whole planes."""
    read = plain(node, moved_input(builder, node))
    tensor, stage, plane = _whole_planes(builder, node, read)
    return _whole_maximum(builder, node, read, tensor, stage, plane,
                          View(builder.shape(node, node.output[0])))


def _whole_maximum(builder: Builder, node: onnx.NodeProto, read: Dequantized, tensor: str,
                   stage: int, plane: tuple[int, int, int], view: View) -> Value:
    channels, height, width = plane

    def make(name: str, target: Quantized, pending: Pending) -> Layer:
        def pool(output: str, clamp: tuple[int, int]) -> Pool:
            return _maximum(builder, node, (height, width), Window(output=(1, 1)), tensor, output,
                            clamp)
        return builder.keep_scale(pool, name, read.source, target, pending)

    return moved(builder, node, Pending(node=node, stage=stage, shape=(channels, 1, 1), view=view,
                                        make=make), read.source)


def _maximum(builder: Builder, node: onnx.NodeProto, kernel: tuple[int, int], geometry: Window,
             tensor: str, output: str, clamp: tuple[int, int]) -> Pool:
    return Pool(name=builder.name(node), op=builder.op(node), input=tensor, output=output,
                kind=PoolKind.MAX, kernel=kernel, strides=geometry.strides, pads=geometry.pads,
                dilations=geometry.dilations, clamp=clamp)


def _unfinished(builder: Builder, node: onnx.NodeProto) -> Pending | None:
    """What a node reads, if it is a result that has no quantization yet."""
    value = builder.value(node.input[0])
    if isinstance(value, Pending):
        return value
    if not isinstance(value, Dequantized) or not value.nodes or len(value.view.shape) != 4 \
            or value.view.shape[0] != 1:
        return None
    axis = channel_axis(builder, value)
    if axis is not None:
        return by_channel(builder, value, axis)
    _, channels, height, width = value.view.shape
    last = value.nodes[-1]
    tensor, stage = builder.place(node, value.source, value.view.reshape(value.view.shape[1:]))

    def make(name: str, target: Quantized, pending: Pending) -> Lookup:
        return Lookup(name=builder.name(last), op=builder.op(last), input=tensor, output=name,
                      table=builder.table(value, target))

    return Pending(node=last, stage=stage, shape=(channels, height, width),
                   view=View(value.view.shape), make=make)


def _max_pool_of_pending(builder: Builder, node: onnx.NodeProto, before: Pending) -> Pending:
    """The maxima of a result that is quantized only behind them. Quantization never falls where
    values grow, so it commutes with a maximum: the result is quantized first."""
    shape = before.view.shape
    if shape != (1, *before.shape) or before.view.indices is not None:
        raise ModelError(f"{label(node)} reads the output of {label(before.node)} through a "
                         f"Reshape or Transpose, which must have a QuantizeLinear after it")
    given = known(node, *_MAX_ATTRIBUTES)
    kernel = _kernel(node, given)
    geometry = window(node, given, shape[2:], kernel)
    output = (shape[1], *geometry.output)

    def make(name: str, target: Quantized, pending: Pending) -> Pool:
        inner = f"{name}@{builder.name(before.node)}"
        builder.add_step(before.make(inner, target, before), pending.stage, target, before.shape)
        return _maximum(builder, node, kernel, geometry, inner, name,
                        builder.bounds(pending.clip, target))

    return Pending(node=node, stage=before.stage, shape=output, view=View((1, *output)), make=make)


def _kernel(node: onnx.NodeProto, given: dict[str, list[int]]) -> tuple[int, int]:
    kernel = given.get("kernel_shape", [])
    if len(kernel) != 2 or min(kernel) < 1:
        raise BrokenModel(f"{label(node)} must have a kernel_shape of two sizes, "
                          f"not {list(kernel)}")
    return kernel[0], kernel[1]


# Share of sums of an average whose result may depend on how onnxruntime rounds its float32 sum.
# Where scales make many sums end in one half the host must do it; for the rest see `exactness`.
_TOLERATED = 1 / 500

# Beyond it, more sums than that may differ, and to count them takes long.
_MOST_TAPS = 1024


def _average(builder: Builder, node: onnx.NodeProto, data: Dequantized, layer: Pool,
             stage: int, output: tuple[int, int, int], view: View) -> Pending:
    def make(name: str, target: Quantized, pending: Pending) -> Pool:
        if pending.clip.active and not layer.late_zero:
            # onnxruntime then averages in float32, and in another order.
            raise ModelError(f"{label(node)} must have a QuantizeLinear after it, "
                             f"not {pending.clip.node}")
        scale = np.float32(data.source.scale) \
            / (np.float32(target.scale) * np.float32(layer.kernel[0] * layer.kernel[1]))
        if not 2.0 ** -32 <= scale < 256:
            raise ModelError(f"{label(node)}: input scale / output scale / {layer.kernel[0]} / "
                             f"{layer.kernel[1]} must be from 2^-32 to 256, not {scale:g}")
        if layer.multiplier is None:
            taps = layer.kernel[0] * layer.kernel[1]
            if taps > _MOST_TAPS:
                raise ModelError(f"{label(node)} adds up {taps} values in float32; at most "
                                 f"{_MOST_TAPS} are supported, or sums may come out differently "
                                 f"on the accelerator")
            proof = average_constants(*(Quantization(each.scale, each.zero_point, each.unsigned)
                                        for each in (data.source, target)),
                                      None, taps, taps, (-128, 127), layer.late_zero)[1]
            if proof.differing > proof.checked * _TOLERATED:
                raise ModelError(f"{label(node)} is added up in float32 by onnxruntime: "
                                 f"{proof.differing} of {proof.checked} sums may come out "
                                 f"differently on the accelerator")
            return replace(layer, output=name, clamp=builder.bounds(pending.clip, target))
        return replace(layer, output=name, multiplier=float(scale))

    return Pending(node=node, stage=stage, shape=output, view=view, make=make)


def average_pool(builder: Builder, node: onnx.NodeProto) -> Value | None:
    read = real_input(builder, node)
    data = image(node, read)
    given = of_planes(read, known(node, "auto_pad", "ceil_mode", "count_include_pad", "dilations",
                                  "kernel_shape", "pads", "strides"))
    if any(value != 1 for value in given.get("dilations", ())):
        raise ModelError(f"{label(node)} has dilations {given['dilations']}; only 1 is supported")
    kernel = _kernel(node, given)
    geometry = window(node, given, data.view.shape[2:], kernel, data.pads)
    tensor, stage = builder.place(node, data.source, data.view.reshape(data.view.shape[1:]))
    counted = geometry.pads if given.get("count_include_pad", 0) else data.pads
    layer = Pool(name=builder.name(node), op=builder.op(node), input=tensor, output="",
                 kind=PoolKind.AVERAGE, kernel=kernel, strides=geometry.strides,
                 pads=geometry.pads, count_pads=counted)
    output = (data.view.shape[1], *geometry.output)
    return _average(builder, node, data, layer, stage, output, like(read, View((1, *output))))


def global_average_pool(builder: Builder, node: onnx.NodeProto) -> Value | None:
    read = plain(node, real_input(builder, node))
    data = image(node, read)
    known(node)
    _, channels, height, width = data.view.shape
    tensor, stage = builder.place(node, data.source, data.view.reshape(data.view.shape[1:]))
    layer = Pool(name=builder.name(node), op=builder.op(node), input=tensor, output="",
                 kind=PoolKind.AVERAGE, kernel=(height, width), multiplier=0.0)
    return _average(builder, node, data, layer, stage, (channels, 1, 1),
                    like(read, View((1, channels, 1, 1))))


def reduce_mean(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """A mean over whole planes, for which onnxruntime has no integer kernel: it adds up real values
    in an order that depends on the layout it chose."""
    data = plain(node, real_input(builder, node))
    tensor, stage, (channels, height, width) = _whole_planes(builder, node, data)
    layer = Pool(name=builder.name(node), op=builder.op(node), input=tensor, output="",
                 kind=PoolKind.AVERAGE, kernel=(height, width), late_zero=True)
    return _average(builder, node, data, layer, stage, (channels, 1, 1),
                    View(builder.shape(node, node.output[0])))


def _whole_planes(builder: Builder, node: onnx.NodeProto, data: Dequantized) \
        -> tuple[str, int, tuple[int, int, int]]:
    """The tensor [C, H, W] whose planes are what a node reduces, the stage that makes it, and its
    shape."""
    reduced = _axes(builder, node, len(data.view.shape))
    shape, source = data.view.shape, data.source
    kept = [axis for axis in range(len(shape)) if axis not in reduced]
    if len(reduced) not in (1, 2):
        raise ModelError(f"{label(node)} reduces the axes {reduced} of {len(shape)}; only height "
                         f"and width are supported")
    channels = prod(shape[axis] for axis in kept)
    height, width = (*(shape[axis] for axis in reduced), 1)[:2]
    if source.accelerated and source.layout.shape[0] == channels:
        height, width = source.layout.shape[1:]
    want = data.view.transpose((*kept, *reduced)).reshape((channels, height, width))
    if source.accelerated and not source.layout.same(want):
        raise ModelError(f"{label(node)} reduces the axes {reduced}, which are not height and "
                         f"width on the accelerator")
    tensor, stage = builder.place(node, source, want)
    return tensor, stage, (channels, height, width)


def _axes(builder: Builder, node: onnx.NodeProto, rank: int) -> list[int]:
    """The axes over which a node reduces, in ascending order, counted from the front."""
    given = known(node, "axes", "keepdims", "noop_with_empty_axes")
    axes: Sequence[int] = given.get("axes", ())
    if len(node.input) > 1 and node.input[1]:
        array = builder.array(node.input[1])
        if array is None:
            raise ModelError(f"{label(node)} must have constant axes")
        axes = array.reshape(-1).tolist()
    if any(not -rank <= axis < rank for axis in axes):
        raise BrokenModel(f"{label(node)} must have axes from {-rank} to {rank - 1}, "
                          f"not {list(axes)}")
    if not axes and not given.get("noop_with_empty_axes", 0):
        axes = range(rank)
    return sorted({axis % rank for axis in axes})


# Padding, enlargement, concatenation --------------------------------------------------------------

def pad(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """Zeros around a plane, left to the layers that read it; or channels of zeros."""
    data = plain(node, real_input(builder, node))
    given = known(node, "mode", "pads", "value")
    mode = given.get("mode", "constant")
    if mode != "constant":
        raise ModelError(f"{label(node)} has mode {mode}; only constant is supported")
    fill = given.get("value", 0.0)
    if len(node.input) > 2 and node.input[2]:
        value = builder.array(node.input[2])
        if value is None:
            raise ModelError(f"{label(node)} must pad with a constant")
        fill = float(value.reshape(-1)[0])
    if fill != 0:
        raise ModelError(f"{label(node)} pads with {fill:g}; only 0 is supported")
    shape = data.view.shape
    amounts = builder.array(node.input[1]) if len(node.input) > 1 else np.array(given["pads"])
    axes = builder.array(node.input[3]) if len(node.input) > 3 and node.input[3] \
        else np.arange(len(shape))
    if amounts is None or axes is None:
        raise ModelError(f"{label(node)} must have constant pads and axes")
    before, after = np.zeros(len(shape), int), np.zeros(len(shape), int)
    before[axes], after[axes] = amounts.reshape(2, -1)
    others = np.arange(len(shape)) != 1
    if len(shape) == 4 and shape[0] == 1 and not (before | after)[others].any() \
            and min(before[1], after[1]) >= 0 < before[1] + after[1]:
        return _more_channels(builder, node, data, int(before[1]), int(after[1]))
    if len(shape) not in (3, 4) or before[:2].any() or after[:2].any() \
            or min(*before, *after) < 0:
        raise ModelError(f"{label(node)} has pads {amounts.tolist()}; only pads of at least 0 on "
                         f"height and width, or on channels alone, are supported")
    top, left, bottom, right = (int(each) for side in (before, after)
                                for each in (*side[2:], 0)[:2])
    return replace(data, pads=Pads(top, left, bottom, right))


def _more_channels(builder: Builder, node: onnx.NodeProto, data: Dequantized, before: int,
                   after: int) -> Pending:
    """Channels of zeros around those of [1, C, H, W] data."""
    _, count, height, width = data.view.shape
    tensor, stage = builder.place(node, data.source, data.view.reshape((count, height, width)))
    channels = np.pad(np.arange(count), (before, after), constant_values=-1)
    shape = (len(channels), height, width)

    def widen(output: str, clamp: tuple[int, int]) -> Layer:
        return Selection.of(channels, count, name=builder.name(node), op=builder.op(node),
                            input=tensor, output=output, clamp=clamp)

    def make(name: str, target: Quantized, pending: Pending) -> Layer:
        return builder.keep_scale(widen, name, data.source, target, pending)

    return Pending(node=node, stage=stage, shape=shape, view=View((1, *shape)), make=make)


def resize(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """Enlargement by whole factors, where it repeats every value."""
    data = plain(node, moved_input(builder, node))
    plane = image(node, data).view
    shape, target_shape = data.view.shape, builder.shape(node, node.output[0])
    given = attributes(node)
    mode = given.get("mode", "nearest")
    if mode != "nearest":
        raise ModelError(f"{label(node)} has mode {mode}; only nearest is supported")
    factors = [large // small for large, small in zip(target_shape, shape, strict=True)]
    if factors[:2] != [1, 1] or [size * factor for size, factor
                                 in zip(shape, factors, strict=True)] != list(target_shape):
        raise ModelError(f"{label(node)} makes {list(target_shape)} of {list(shape)}; only whole "
                         f"factors on height and width are supported")
    if not _repeats(builder, node, shape[2:], factors[2:]):
        raise ModelError(
            f"{label(node)} has coordinate_transformation_mode "
            f"{given.get('coordinate_transformation_mode', 'half_pixel')} and nearest_mode "
            f"{given.get('nearest_mode', 'round_prefer_floor')}, which here do not repeat every "
            f"value {'x'.join(map(str, factors[2:]))} times")
    tensor, stage = builder.place(node, data.source, plane.reshape(plane.shape[1:]))
    channels, height, width = (*target_shape[1:], 1)[:3]
    output = (channels, height, width)

    def make(name: str, target: Quantized, pending: Pending) -> Layer:
        def enlarge(output: str, clamp: tuple[int, int]) -> Resize | None:
            return Resize(name=builder.name(node), op=builder.op(node), input=tensor,
                          output=output, factors=(height // plane.shape[2],
                                                  width // plane.shape[3])) \
                if clamp == (-128, 127) else None
        return builder.keep_scale(enlarge, name, data.source, target, pending)

    return moved(builder, node, Pending(node=node, stage=stage, shape=output,
                                         view=View(target_shape), make=make), data.source)


def _repeats(builder: Builder, node: onnx.NodeProto, size: tuple[int, ...],
             factors: list[int]) -> bool:
    """Whether a Resize only repeats values, found out by enlarging a plane of counting numbers."""
    plane = np.arange(prod(size), dtype=np.float32).reshape(1, 1, *size)
    expected = plane
    for axis, factor in enumerate(factors, 2):
        expected = expected.repeat(factor, axis)
    probe = onnx.NodeProto()
    probe.CopyFrom(node)
    constants = {}
    for index, name in enumerate(node.input[1:], 1):
        array = builder.array(name) if name else None
        if name and array is None:
            raise ModelError(f"{label(node)} must have constant sizes or scales")
        if array is not None and array.size == expected.ndim and array.dtype == np.int64:
            array = np.array(expected.shape, np.int64)
        if array is not None:
            constants[f"c{index}"] = array
            probe.input[index] = f"c{index}"
    probe.input[0] = "x"
    del probe.output[:]
    probe.output.append("y")
    model = builder.source.probe([probe], {"x": plane}, "y", constants)
    got = GoldenSession(model).run({"x": plane})["y"]
    return np.array_equal(got, expected)


def concat(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """Tensors one behind the other on any axis, if their planes agree on the accelerator."""
    values = [builder.value(name) for name in node.input]
    if any(isinstance(value, Constant) for value in values):
        raise ModelError(f"{label(node)} has a constant among its inputs, which is not supported")
    integers = all(isinstance(value, Quantized) for value in values)
    parts = []
    for value in values:
        if isinstance(value, Quantized) and integers:
            parts.append(Dequantized(value, View(value.shape), exclusive=False))
        elif isinstance(value, Dequantized) and not value.nodes:
            parts.append(plain(node, value))
        else:
            raise ModelError(f"{label(node)} must read quantized activations only")
    if integers and any(not part.source.same_quantization(parts[0].source) for part in parts):
        raise ModelError(f"{label(node)} joins quantized tensors of different scales")
    shape = builder.shape(node, node.output[0])
    axis = attributes(node).get("axis", 1)
    where = np.split(np.arange(int(np.prod(shape))).reshape(shape),
                     np.cumsum([part.view.shape[axis] for part in parts])[:-1], axis)

    # Planes are those of the first tensor on the accelerator; another one of as many pixels can be
    # seen as if it had them.
    there = [part.source.layout.shape[1:] for part in parts if part.source.accelerated]
    tensors, stages, orders = [], [], []
    for part, positions in zip(parts, where, strict=True):
        tensor, stage, layout = builder.anywhere(part.source)
        order = layout_of(part, layout)
        if len(shape) == 4 and shape[0] == 1 and not part.source.accelerated:
            order = View(part.view.shape[1:])
        if there and prod(order.shape[1:]) == prod(there[0]):
            order = order.reshape((order.shape[0], *there[0]))
        tensor, stage = builder.place(node, part.source, order.through(part.view))
        tensors.append(tensor)
        stages.append(stage)
        orders.append(positions.reshape(-1)[order.array()])
    if len({order.shape[1:] for order in orders}) > 1:
        raise ModelError(f"{label(node)} joins planes of different sizes on axis {axis}")
    whole = np.concatenate(orders)

    def make(name: str, target: Quantized, pending: Pending) -> Layer:
        if pending.clip.active:
            raise ModelError(f"{label(node)} must have a QuantizeLinear after it, "
                             f"not {pending.clip.node}")
        sources = tuple(builder.rescaled(node, index, tensor, part.source, target, pending.stage)
                        for index, (tensor, part) in enumerate(zip(tensors, parts, strict=True)))
        return Concat(name=builder.name(node), op=builder.op(node), output=name, sources=sources)

    channels, height, width = whole.shape
    pending = Pending(node=node, stage=max(stages), shape=(channels, height, width),
                      view=View.of(whole).inverse(shape), make=make)
    return moved(builder, node, pending, parts[0].source)
