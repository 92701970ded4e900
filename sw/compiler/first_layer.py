"""The input of the first layer, rearranged by the host: im2col or space-to-depth.

An image has one or three channels, and a word has room for sixteen. Where a convolution is the only
reader of an input, the host can turn some of its pixels into channels, which fills the array: along
either axis all taps of the kernel (im2col), or as many pixels as the stride (space-to-depth).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod

import numpy as np

from weft.errors.limits import TENSOR_ELEMENTS
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Convolution, Graph, Layer, Pads, layout

__all__ = ["Packing", "Packed", "pack"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Packing:
    """How an input is rearranged.

    Parameters
    ----------
    old_shape : (C, H, W)
    rows, columns : int32 [parts, positions]
        For each part of a new position of an axis the old coordinate; -1 for padding.
    zero_point : :class:`int`
        Value of the padding.
    """

    old_shape: tuple[int, int, int]
    rows: np.ndarray
    columns: np.ndarray
    zero_point: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """[C, H, W] of the new tensor."""
        return (self.old_shape[0] * len(self.rows) * len(self.columns), self.rows.shape[1],
                self.columns.shape[1])

    @cached_property
    def gather(self) -> np.ndarray:
        """int32 [C, H, W]: for each value of the new tensor, the flat index of the old one; -1 for
        padding. The largest array of a compilation, made when a frame asks for it."""
        channels, height, width = self.old_shape
        # [part of the row, part of the column, channel, y, x]
        rows, across = self.rows[:, None, None, :, None], self.columns[None, :, None, None, :]
        plane = np.arange(channels, dtype=np.int32)[None, None, :, None, None] * (height * width)
        gather = np.where((rows < 0) | (across < 0), np.int32(-1), rows * width + across + plane)
        return gather.reshape(self.shape)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """The new int8 [C, H, W] tensor of the old one."""
        padded = np.append(values.reshape(-1), np.int8(self.zero_point))
        return np.ascontiguousarray(padded[self.gather])


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed:
    """A graph whose inputs are rearranged for the array.

    Attributes
    ----------
    graph : :class:`Graph`
        With the tensors' old names.
    packings : :class:`dict`
        By name, of the inputs that are no longer what they were.
    """

    graph: Graph
    packings: dict[str, Packing]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Axis:
    """One axis of a convolution whose input is rearranged.

    Attributes
    ----------
    gather : int64 [parts, positions]
        Old coordinate of each part of a new position; -1 for padding.
    taps : int64 [parts, kernel]
        Old tap that each part of a new position is for, by new tap; -1 for none.
    stride, dilation : :class:`int`
    pads : (:class:`int`, :class:`int`)
        Before and after.
    """

    gather: np.ndarray
    taps: np.ndarray
    stride: int = 1
    dilation: int = 1
    pads: tuple[int, int] = (0, 0)


def _axes(size: int, out: int, kernel: int, stride: int, dilation: int,
          pads: tuple[int, int]) -> Iterator[_Axis]:
    """All ways to rearrange an axis: not at all, im2col, space-to-depth."""
    every = np.arange(kernel)
    yield _Axis(gather=np.arange(size)[None], taps=every[None], stride=stride, dilation=dilation,
                pads=pads)
    if kernel > 1:
        yield _Axis(gather=_coordinates(out, kernel, stride, dilation, pads[0], size),
                    taps=every[:, None])
    if 1 < stride < kernel and dilation == 1:
        count = -(-kernel // stride)
        taps = np.arange(count * stride)
        yield _Axis(gather=_coordinates(out + count - 1, stride, stride, 1, pads[0], size),
                    taps=np.where(taps < kernel, taps, -1).reshape(count, stride).T)


def _coordinates(out: int, parts: int, stride: int, dilation: int, before: int,
                 size: int) -> np.ndarray:
    """int64 [parts, out]: coordinate of every part, -1 where it is outside."""
    at = (np.arange(out) * stride - before)[None] + (np.arange(parts) * dilation)[:, None]
    return np.where((at >= 0) & (at < size), at, -1)


def pack(graph: Graph, config: AcceleratorConfig) -> Packed:
    """Rearranges the inputs for which that is faster.

    The estimate is for a frame as a whole: its layers follow the first one, which takes as long as
    its input needs to be loaded or the array for the layer, and all loads are behind each other.
    """
    uses = Counter(name for layer in graph.layers for name in layer.inputs)
    uses.update(edge.tensor for edge in graph.outputs)
    inputs = {edge.tensor for edge in graph.inputs}
    tensors = dict(graph.tensors)
    layers: list[Layer] = []
    packings: dict[str, Packing] = {}
    array, constants = _totals(graph, config)
    for layer in graph.layers:
        if isinstance(layer, Convolution) and layer.input in inputs and uses[layer.input] == 1:
            source = tensors[layer.input]
            layer, packing = _pack_layer(graph, layer, config, array, constants)
            if packing is not None:
                tensors[source.name] = replace(source, shape=packing.shape)
                packings[source.name] = packing
        layers.append(layer)
    return Packed(graph=replace(graph, tensors=tensors, layers=tuple(layers)), packings=packings)


def _totals(graph: Graph, config: AcceleratorConfig) -> tuple[float, float]:
    """Cycles of the array for all layers, and those for the loads of their weights, if these do
    not stay on chip from frame to frame."""
    array = tiles = 0
    for layer in graph.layers:
        if isinstance(layer, Convolution):
            outputs, channels, kernel_h, kernel_w = layer.weights.shape
            _, height, width = graph.tensors[layer.output].shape
            steps = (layout.col_tiles(config, outputs) * layout.channel_blocks(config, channels)
                     * kernel_h * kernel_w)
            array += steps * max(height * width, config.pe_rows)
            tiles += steps
    rows = tiles * config.weight_tile_rows // graph.frames
    if rows <= config.weight_depth:
        rows = 0
    return array, rows * config.weight_row_bytes / config.axi_bytes


def _pack_layer(graph: Graph, layer: Convolution, config: AcceleratorConfig, array: float,
                constants: float) -> tuple[Layer, Packing | None]:
    outputs, channels, kernel_h, kernel_w = layer.weights.shape
    _, height, width = graph.tensors[layer.input].shape
    _, out_h, out_w = graph.tensors[layer.output].shape
    columns = layout.col_tiles(config, outputs)
    top, left, bottom, right = layer.pads

    def cycles(axes: tuple[_Axis, _Axis]) -> tuple[float, float]:
        """Of the load, and of the array."""
        y, x = axes
        blocks = layout.channel_blocks(config, channels * len(y.taps) * len(x.taps))
        load = (y.gather.shape[1] * x.gather.shape[1] * blocks
                * config.word_bytes / config.axi_bytes)
        busy = out_h * out_w * y.taps.shape[1] * x.taps.shape[1] * blocks * columns
        return load, float(busy)

    def cost(axes: tuple[_Axis, _Axis]) -> tuple[float, float]:
        load, busy = cycles(axes)
        frame, loads = max(load, busy) + others, load + constants
        return max(frame, loads), min(frame, loads)

    as_it_is, *packed = product(
        _axes(height, out_h, kernel_h, layer.strides[0], layer.dilations[0], (top, bottom)),
        _axes(width, out_w, kernel_w, layer.strides[1], layer.dilations[1], (left, right)))
    ways = [as_it_is, *(way for way in packed
                        if channels * prod(axis.gather.size for axis in way) <= TENSOR_ELEMENTS)]
    others = array - cycles(as_it_is)[1]
    y, x = min(ways, key=cost)
    if (y, x) == as_it_is:
        return layer, None

    # [output, channel, part of the row, its tap, part of the column, its tap]; index -1 of a tap
    # reads the zeros appended behind the last one.
    padded = np.pad(layer.weights, ((0, 0), (0, 0), (0, 1), (0, 1)))
    weights = padded[:, :, y.taps[:, :, None, None], x.taps[None, None]]
    weights = weights.transpose(0, 2, 4, 1, 3, 5).reshape(outputs, -1, y.taps.shape[1],
                                                          x.taps.shape[1])
    layer = replace(layer, strides=(y.stride, x.stride), dilations=(y.dilation, x.dilation),
                    pads=Pads(y.pads[0], x.pads[0], y.pads[1], x.pads[1]),
                    weights=np.ascontiguousarray(weights))
    return layer, Packing(old_shape=(channels, height, width), rows=y.gather.astype(np.int32),
                          columns=x.gather.astype(np.int32),
                          zero_point=graph.tensors[layer.input].zero_point)
