"""Pools: maxima and averages of windows, and of whole planes."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np
import onnx

from weft.errors import ModelError
from weft.ir import NO_PADS, Layer, Lookup, Pool, PoolKind
from weft.reference.exact import Quantization, average_constants

from .affine import by_channel, channel_axis
from .builder import Builder
from .elementwise import plain
from .geometry import Window, of_planes, window
from .moves import moved, moved_input
from .nodes import BrokenModel, label
from .values import Dequantized, Pending, Quantized, Value, View
from .windows import image, known, like, real_input

__all__ = ["TOLERATED", "average_pool", "global_average_pool", "global_max_pool", "max_pool",
           "reduce_max", "reduce_mean"]


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
    given = of_planes(read.view.shape, known(node, *_MAX_ATTRIBUTES))
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


TOLERATED = 1 / 500
"""Share of sums of an average whose result may depend on how onnxruntime rounds its float32 sum.
Where scales make many sums end in one half the host must do it; for the rest see `exactness`."""

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
            if proof.differing > proof.checked * TOLERATED:
                raise ModelError(f"{label(node)} is added up in float32 by onnxruntime: "
                                 f"{proof.differing} of {proof.checked} sums may come out "
                                 f"differently on the accelerator")
            return replace(layer, output=name, clamp=builder.bounds(pending.clip, target))
        return replace(layer, output=name, multiplier=float(scale))

    return Pending(node=node, stage=stage, shape=output, view=view, make=make)


def average_pool(builder: Builder, node: onnx.NodeProto) -> Value | None:
    read = real_input(builder, node)
    data = image(node, read)
    given = of_planes(read.view.shape, known(node, "auto_pad", "ceil_mode", "count_include_pad",
                                             "dilations", "kernel_shape", "pads", "strides"))
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
