"""Transposed convolutions: ordinary ones, whose results are dealt out in turn.

With stride ``s``, the output rows ``q * s + phase`` depend on every ``s``-th kernel row alone, and
on input rows around ``q``: they are a convolution of stride 1. So there is one for each of the
phases of rows and columns, and no multiplication by the zeros between inputs that the definition
speaks of.
"""

from dataclasses import dataclass
from itertools import product
from math import gcd

import numpy as np
import onnx

from weft import reference
from weft.errors import ModelError
from weft.ir import Convolution, Depthwise, Interleave, Layer, Pads

from .builder import Builder
from .convolutions import quantized_bias, quantized_weights
from .elementwise import plain
from .geometry import of_planes
from .nodes import BrokenModel, label
from .values import Constant, Pending, Quantized, Value, View
from .windows import image, known, like, real_input

__all__ = ["conv_transpose"]


@dataclass(frozen=True)
class _Phase:
    """One axis of the convolution that makes the outputs of a phase.

    Parameters
    ----------
    taps : :class:`tuple` of :class:`int` or :py:`None`
        Kernel positions in the order of the inputs they meet; :py:`None` for a weight of zero.
    dilation, before : :class:`int`
        Inputs from tap to tap, and padding in front.
    """

    taps: tuple[int | None, ...]
    dilation: int
    before: int

    def positions(self, size: int) -> int:
        """Outputs over ``size`` inputs without padding behind them."""
        return size + self.before - self.dilation * (len(self.taps) - 1)


def _phases(kernel: int, stride: int, dilation: int, before: int) -> list[_Phase]:
    """The phases of one axis; ``before`` is what the node cuts off in front."""
    # Taps of a phase are that far apart in the kernel, and their inputs in the plane.
    step = dilation // gcd(dilation, stride)
    phases = []
    for phase in range(stride):
        offsets = {(phase + before - tap * dilation) // stride: tap for tap in range(kernel)
                   if (phase + before - tap * dilation) % stride == 0}
        first, last = min([0, *offsets]), max(offsets, default=0)
        if offsets and first not in offsets:
            # All inputs are behind: taps of zero lead there, one by one.
            spaced, step_here = range(first, last + 1), 1
        else:
            spaced, step_here = range(first, last + 1, step), step
        phases.append(_Phase(taps=tuple(offsets.get(offset) for offset in spaced),
                             dilation=step_here, before=-first))
    return phases


def conv_transpose(builder: Builder, node: onnx.NodeProto) -> Value | None:
    """A transposed convolution of one group, or depthwise."""
    read = plain(node, real_input(builder, node))
    data = image(node, read)
    given = of_planes(read.view.shape, known(
        node, "auto_pad", "dilations", "group", "kernel_shape", "output_padding", "pads",
        "strides"))
    if given.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise ModelError(f"{label(node)} has auto_pad {given['auto_pad']}; only NOTSET and VALID "
                         f"are supported")
    _, channels, *size = data.view.shape
    weights, weight_scale = _weights(builder, node, given.get("group", 1), channels)
    depthwise = given.get("group", 1) > 1
    count = len(weights)
    strides, dilations = given.get("strides", [1, 1]), given.get("dilations", [1, 1])
    pads = [0] * 4 if given.get("auto_pad") == "VALID" else given.get("pads", [0] * 4)
    if len(strides) != 2 or len(dilations) != 2 or len(pads) != 4 \
            or min(*strides, *dilations) < 1 or min(pads) < 0:
        raise BrokenModel(f"{label(node)} must have strides and dilations of at least 1 and pads "
                          f"of at least 0, not {strides}, {dilations} and {pads}")
    target_shape = builder.shape(node, node.output[0])
    _, _, out_h, out_w = (*target_shape, 1)[:4]
    axes = [_phases(weights.shape[2 + axis], strides[axis], dilations[axis], pads[axis])
            for axis in (0, 1)]
    # All phases make as many positions: those without padding behind, and those that are asked for.
    plane = [max(-(-length // stride), *(phase.positions(inputs) for phase in phases))
             for length, stride, phases, inputs in zip((out_h, out_w), strides, axes, size,
                                                       strict=True)]
    if len(node.input) > 2 and isinstance(builder.value(node.input[2]), Constant):
        raise ModelError(f"{label(node)} has a real-valued bias; it must be int32 behind a "
                         f"DequantizeLinear of scale input scale x weight scale")
    bias = quantized_bias(builder, node, data.source, weight_scale)
    tensor, stage = builder.place(node, data.source, data.view.reshape(data.view.shape[1:]))
    shape = (count, plane[0], plane[1])

    def convolution(name: str, output: str, down: _Phase, across: _Phase, target: Quantized,
                    pending: Pending) -> Convolution | Depthwise:
        scale = reference.multiplier(data.source.scale, weight_scale, target.scale)
        if not np.isfinite(scale).all():
            raise ModelError(f"{label(node)}: input scale x weight scale / output scale must be "
                             f"finite in float32")
        behind = [length - phase.positions(inputs) for length, phase, inputs
                  in zip(plane, (down, across), size, strict=True)]
        pads = Pads(down.before, across.before, behind[0], behind[1])
        kernel, multiplier = _taps(weights, down, across), np.broadcast_to(scale, (count,)).copy()
        clamp, dilations = builder.bounds(pending.clip, target), (down.dilation, across.dilation)
        if depthwise:
            return Depthwise(name=name, op=builder.op(node), input=tensor, output=output,
                             weights=kernel[:, 0], bias=bias, multiplier=multiplier, pads=pads,
                             dilations=dilations, clamp=clamp, real_sums=True)
        return Convolution(name=name, op=builder.op(node), input=tensor, output=output,
                           weights=kernel, bias=bias, multiplier=multiplier, pads=pads,
                           dilations=dilations, clamp=clamp, real_sums=True,
                           weight_scale=np.broadcast_to(weight_scale, (count,)).astype(np.float32))

    def make(output: str, target: Quantized, pending: Pending) -> Layer:
        name = builder.name(node)
        if list(strides) == [1, 1] and shape == (count, out_h, out_w):
            return convolution(name, output, axes[0][0], axes[1][0], target, pending)
        sources: list[str] = []
        for down, across in product(*axes):
            number = len(sources)
            sources.append(f"{output}@{number}")
            builder.add_step(convolution(f"{name}/{number}", sources[-1], down, across, target,
                                         pending), pending.stage, target, shape)
        return Interleave(name=name, op=builder.op(node), output=output, sources=tuple(sources),
                          factors=(strides[0], strides[1]))

    output = (count, out_h, out_w)
    return Pending(node=node, stage=stage, shape=output, view=like(read, View((1, *output))),
                   make=make)


def _weights(builder: Builder, node: onnx.NodeProto, groups: int,
             channels: int) -> tuple[np.ndarray, np.ndarray]:
    """int8 [N, C, kernel_h, kernel_w], C is 1 for a depthwise one, and a scale for each N."""
    depthwise = groups == channels > 1
    if groups > 1 and not depthwise:
        raise ModelError(f"{label(node)} has group {groups}; only 1 and one for each channel are "
                         f"supported")
    weights, scale = quantized_weights(builder, node, first=0 if depthwise else 1)
    if depthwise and weights.shape[1] != 1:
        raise ModelError(f"{label(node)} has {weights.shape[1]} filters for each channel; only "
                         f"one is supported")
    return weights.reshape((*weights.shape, 1)[:4]), scale


def _taps(weights: np.ndarray, down: _Phase, across: _Phase) -> np.ndarray:
    """The weights of a phase of rows and one of columns, zero where it has none."""
    # A zero row and column behind all others, for taps without a weight.
    padded = np.pad(weights, ((0, 0), (0, 0), (0, 1), (0, 1)))
    rows, columns = ([-1 if tap is None else tap for tap in phase.taps]
                     for phase in (down, across))
    return np.ascontiguousarray(padded[:, :, rows][:, :, :, columns])
