"""Linear enlargement: every value is repeated, and then averaged with weights."""

from dataclasses import replace

import numpy as np
import onnx

from weft.errors import ModelError
from weft.frontend.interpolation import EnlargedAxis
from weft.ir import Graph, Layer, Pads, Pool, PoolKind, Resize, Tensor
from weft.reference.exact import exactness

from .builder import Builder
from .elementwise import plain
from .nodes import attributes, label
from .pools import TOLERATED
from .sizes import probe_plane, whole_factors
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
    make_axis = EnlargedAxis.from_the_first if mode == "asymmetric" \
        else EnlargedAxis.between_centres
    axes = [make_axis(factor) for factor in (*factors, 1)[:2]]
    down, across = axes
    values = np.random.default_rng(0).random((1, 1, *data.view.shape[2:]), np.float32)
    expected = values.astype(np.float64)
    for position, axis in enumerate(axes[:len(factors)], 2):
        expected = np.moveaxis(np.tensordot(axis.matrix(values.shape[position]), expected,
                                            (1, position)), 0, position)
    if not np.allclose(probe_plane(builder, node, values, expected.shape), expected, rtol=0,
                       atol=_CLOSE):
        raise ModelError(f"{label(node)} has attributes or scales with which it does not "
                         f"interpolate by {'x'.join(map(str, factors))}")
    tensor, stage = builder.place(node, data.source, plane.reshape(plane.shape[1:]))
    channels, height, width = (*target_shape[1:], 1)[:3]
    output = (channels, height, width)

    def make(name: str, target: Quantized, pending: Pending) -> Layer:
        inner = f"{name}@enlarged"
        layer = Pool(name=builder.name(node), op=builder.op(node), input=inner, output=name,
                     kind=PoolKind.AVERAGE, kernel=(len(down.weights), len(across.weights)),
                     pads=Pads(down.before, across.before, down.after, across.after),
                     weights=(down.weights, across.weights),
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
                                output=inner, factors=(down.factor, across.factor)), pending.stage,
                         replace(data.source, name=inner), output)
        return layer

    return Pending(node=node, stage=stage, shape=output, view=View(target_shape), make=make)
