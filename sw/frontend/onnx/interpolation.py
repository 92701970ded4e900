"""Linear enlargement: every value is repeated, and then averaged with weights."""

from dataclasses import replace

import numpy as np
import onnx

from weft.errors import ModelError
from weft.ir import Graph, Layer, Pads, Pool, PoolKind, Resize, Tensor
from weft.reference.exact import exactness

from .builder import Builder
from .elementwise import plain
from .nodes import attributes, label
from .pools import TOLERATED
from .sizes import enlarged, probe_plane, whole_factors
from .values import Pending, Quantized, Value, View
from .windows import image, real_input

__all__ = ["interpolate"]


_MODES = ("asymmetric", "half_pixel", "pytorch_half_pixel")
_CLOSE = 1e-4   # of a plane of values from 0 to 1: what float32 may do to it


def interpolate(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """A Resize of mode linear, by factors for which float32 holds all coordinates and weights."""
    data = plain(node, real_input(builder, node))
    plane = image(node, data).view
    target_shape = builder.shape(node, node.output[0])
    factors = whole_factors(node, data.view.shape, target_shape)
    mode = attributes(node).get("coordinate_transformation_mode", "half_pixel")
    if mode not in _MODES or any(factor & factor - 1 for factor in factors):
        raise ModelError(f"{label(node)} interpolates by {'x'.join(map(str, factors))} in "
                         f"coordinate_transformation_mode {mode}; only {', '.join(_MODES)} by "
                         f"powers of 2 have the same exact weights everywhere")
    axes = [_axis(mode, factor) for factor in (*factors, 1)[:2]]
    weights = axes[0][0], axes[1][0]
    (_, top, bottom), (_, left, right) = axes
    values = np.random.default_rng(0).random((1, 1, *data.view.shape[2:]), np.float32)
    expected = _average(enlarged(values, factors), axes)
    if not np.allclose(probe_plane(builder, node, values, expected.shape), expected, rtol=0,
                       atol=_CLOSE):
        raise ModelError(f"{label(node)} has attributes or scales with which it does not "
                         f"interpolate by {'x'.join(map(str, factors))}")
    tensor, stage = builder.place(node, data.source, plane.reshape(plane.shape[1:]))
    channels, height, width = (*target_shape[1:], 1)[:3]
    output = (channels, height, width)
    sizes = (height // plane.shape[2], width // plane.shape[3])

    def make(name: str, target: Quantized, pending: Pending) -> Layer:
        inner = f"{name}@enlarged"
        layer = Pool(name=builder.name(node), op=builder.op(node), input=inner, output=name,
                     kind=PoolKind.AVERAGE, kernel=(len(weights[0]), len(weights[1])),
                     pads=Pads(top, left, bottom, right), weights=weights,
                     clamp=builder.bounds(pending.clip, target))
        proof = exactness(Graph(name="", layers=(layer,), inputs=(), outputs=(), tensors={
            each: Tensor(name=each, shape=output, scale=quantized.scale,
                         zero_point=quantized.zero_point)
            for each, quantized in ((inner, data.source), (name, target))}), layer)
        assert proof is not None
        if proof.differing > proof.checked * TOLERATED:
            raise ModelError(f"{label(node)} is interpolated in float32 by onnxruntime: "
                             f"{proof.differing} of {proof.checked} sums may come out "
                             f"differently on the accelerator")
        builder.add_step(Resize(name=f"{layer.name}/enlarged", op=layer.op, input=tensor,
                                output=inner, factors=sizes), pending.stage,
                         replace(data.source, name=inner), output)
        return layer

    return Pending(node=node, stage=stage, shape=output, view=View(target_shape), make=make)


def _axis(mode: str, factor: int) -> tuple[tuple[int, ...], int, int]:
    """Weights of repeated values for each output of one axis, and the padding in front of them and
    behind: together they are those of the two inputs that an output lies between."""
    if mode == "asymmetric":
        return (1,) * factor, 0, factor - 1
    if factor == 1:
        return (1,), 0, 0
    return (1, *[2] * (factor - 1), 1), factor // 2, factor // 2


def _average(plane: np.ndarray, axes: list[tuple[tuple[int, ...], int, int]]) -> np.ndarray:
    """The interpolation of an enlarged plane [1, 1, H] or [1, 1, H, W], in float64."""
    result, weight = plane.astype(np.float64), np.ones(plane.shape)
    for axis, (weights, before, after) in enumerate(axes[:plane.ndim - 2], 2):
        pads = [(before, after) if each == axis else (0, 0) for each in range(plane.ndim)]
        result, weight = (np.lib.stride_tricks.sliding_window_view(
            np.pad(each, pads), len(weights), axis) @ np.array(weights, np.float64)
            for each in (result, weight))
    return np.asarray(result / weight)
