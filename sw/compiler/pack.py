"""The first layer: windows are packed into words before they reach the accelerator.

An image has one or three channels, and a word has room for sixteen. Where a convolution is all
that reads an input, the host can lay the taps of a kernel row, or those of the whole kernel, side
by side as channels, and the array is as busy as in any other layer.
"""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from weft import layout
from weft.config import AcceleratorConfig
from weft.ir import Convolution, Graph, Layer

__all__ = ["Packing", "Packed", "pack"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Packing:
    """How an input is laid out anew.

    Parameters
    ----------
    gather : int64 [C, H, W]
        For each value of the new tensor, the flat index of the old one; -1 for padding.
    zero_point : :class:`int`
        Value of the padding.
    """

    gather: np.ndarray
    zero_point: int

    def apply(self, values: np.ndarray) -> np.ndarray:
        """The new int8 [C, H, W] tensor of the old one."""
        padded = np.append(values.reshape(-1), np.int8(self.zero_point))
        return np.ascontiguousarray(padded[self.gather])


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed:
    """A graph whose inputs suit the array.

    Attributes
    ----------
    graph : :class:`Graph`
        With the tensors' old names.
    packings : :class:`dict`
        By name, of the inputs that are no longer what they were.
    """

    graph: Graph
    packings: dict[str, Packing]


def pack(graph: Graph, config: AcceleratorConfig) -> Packed:
    """Packs the windows of the inputs for which that is cheaper.

    The estimate is for a frame that begins with nothing: cycles to load the input, and those of
    the array for the layer.
    """
    uses = Counter(name for layer in graph.layers for name in layer.inputs)
    uses.update(edge.tensor for edge in graph.outputs)
    inputs = {edge.tensor for edge in graph.inputs}
    tensors = dict(graph.tensors)
    layers: list[Layer] = []
    packings: dict[str, Packing] = {}
    for layer in graph.layers:
        if isinstance(layer, Convolution) and layer.input in inputs and uses[layer.input] == 1:
            source = tensors[layer.input]
            layer, packing = _pack_layer(graph, layer, config)
            if packing is not None:
                channels, height, width = packing.gather.shape
                tensors[source.name] = replace(source, shape=(channels, height, width))
                packings[source.name] = packing
        layers.append(layer)
    return Packed(graph=replace(graph, tensors=tensors, layers=tuple(layers)), packings=packings)


def _pack_layer(graph: Graph, layer: Convolution,
                config: AcceleratorConfig) -> tuple[Layer, Packing | None]:
    outputs, channels, kernel_h, kernel_w = layer.weights.shape
    _, height, width = graph.tensors[layer.input].shape
    _, out_h, out_w = graph.tensors[layer.output].shape
    columns = layout.col_tiles(config, outputs)

    def cost(inputs: int, pixels: int, taps: int) -> float:
        blocks = layout.channel_blocks(config, inputs)
        return (pixels * blocks * config.word_bytes / config.axi_bytes
                + out_h * out_w * taps * blocks * columns)

    plain = cost(channels, height * width, kernel_h * kernel_w)
    by_row = cost(channels * kernel_w, height * out_w, kernel_h)
    whole = cost(channels * kernel_h * kernel_w, out_h * out_w, 1)
    if plain <= min(by_row, whole):
        return layer, None
    rows = by_row <= whole  # only the taps of a kernel row

    x = _taps(out_w, kernel_w, layer.strides[1], layer.dilations[1], layer.pads[1], width)
    y = (np.arange(height)[None] if rows else
         _taps(out_h, kernel_h, layer.strides[0], layer.dilations[0], layer.pads[0], height))
    # Kernel row, kernel column, channel, y, x
    place = y[:, None, None, :, None] * width + x[None, :, None, None, :]
    place = place + np.arange(channels)[None, None, :, None, None] * (height * width)
    outside = (y < 0)[:, None, None, :, None] | (x < 0)[None, :, None, None, :]
    gather = np.where(outside, -1, place)
    gather = gather.reshape(-1, *gather.shape[3:])
    zero_point = graph.tensors[layer.input].zero_point
    weights = layer.weights.transpose(0, 2, 3, 1)  # channels last
    if rows:
        weights = weights.reshape(outputs, kernel_h, -1, 1).transpose(0, 2, 1, 3)
        layer = replace(layer, strides=(layer.strides[0], 1), dilations=(layer.dilations[0], 1),
                        pads=(layer.pads[0], 0, layer.pads[2], 0),
                        weights=np.ascontiguousarray(weights))
    else:
        layer = replace(layer, strides=(1, 1), dilations=(1, 1), pads=(0, 0, 0, 0),
                        weights=np.ascontiguousarray(weights.reshape(outputs, -1, 1, 1)))
    return layer, Packing(gather=gather, zero_point=zero_point)


def _taps(out: int, kernel: int, stride: int, dilation: int, before: int,
          size: int) -> np.ndarray:
    """int64 [kernel, out]: coordinate of every tap, -1 where it is outside."""
    at = (np.arange(out) * stride - before)[None] + (np.arange(kernel) * dilation)[:, None]
    return np.where((at >= 0) & (at < size), at, -1)
