"""Layers that move values: padding, enlargement."""

from dataclasses import replace
from math import prod

import numpy as np
import onnx

from weft.errors import ModelError
from weft.ir import Layer, Pads, Resize, Selection

from .builder import Builder
from .elementwise import plain
from .interpolation import interpolate
from .moves import moved, moved_input
from .nodes import attributes, label
from .sizes import enlarged, probe_plane, whole_factors
from .values import Dequantized, Pending, Quantized, Value, View
from .windows import image, known, real_input

__all__ = ["pad", "resize"]


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
    """Enlargement by whole factors, where it repeats every value, or interpolates."""
    given = attributes(node)
    mode = given.get("mode", "nearest")
    if mode == "linear":
        return interpolate(builder, node)
    if mode != "nearest":
        raise ModelError(f"{label(node)} has mode {mode}; only nearest and linear are supported")
    data = plain(node, moved_input(builder, node))
    plane = image(node, data).view
    shape, target_shape = data.view.shape, builder.shape(node, node.output[0])
    factors = whole_factors(node, shape, target_shape)
    plain_numbers = np.arange(prod(shape[2:]), dtype=np.float32).reshape(1, 1, *shape[2:])
    expected = enlarged(plain_numbers, factors)
    if not np.array_equal(probe_plane(builder, node, plain_numbers, expected.shape), expected):
        raise ModelError(
            f"{label(node)} has coordinate_transformation_mode "
            f"{given.get('coordinate_transformation_mode', 'half_pixel')} and nearest_mode "
            f"{given.get('nearest_mode', 'round_prefer_floor')}, which here do not repeat every "
            f"value {'x'.join(map(str, factors))} times")
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
