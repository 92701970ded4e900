"""A graph with rows for columns: every plane transposed, and every kernel.

Tiles are rows, and a row of a wide plane takes many words: of one with 80 columns and 480 channels
a sixth of the chip, though there are but 6 of them. Transposed, the same plane has short rows, so
that lines of them fit. The host transposes what it writes and reads.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from weft.ir import (
    Alias,
    Convolution,
    Depthwise,
    Graph,
    Interleave,
    Layer,
    Pads,
    Pool,
    Resize,
    Tensor,
)

__all__ = ["transpose", "wide"]


def wide(graph: Graph) -> bool:
    """Whether the planes of a graph have more columns than rows, on the whole."""
    shapes = [graph.tensors[layer.output].shape for layer in graph.layers]
    return sum(width - height for _, height, width in shapes) > 0


def transpose(graph: Graph) -> Graph | None:
    """The graph with all its planes transposed, under the same names.

    It is :py:`None` if a layer depends on how pixels follow each other: an :class:`Alias` with
    planes of another height and width.
    """
    if any(isinstance(layer, Alias) and not _symmetric(graph.tensors, layer)
           for layer in graph.layers):
        return None
    tensors = {name: replace(tensor, shape=(channels, width, height))
               for name, tensor in graph.tensors.items()
               for channels, height, width in (tensor.shape,)}
    return replace(graph, tensors=tensors, layers=tuple(map(_layer, graph.layers)),
                   constants={name: _planes(values) for name, values in graph.constants.items()})


def _symmetric(tensors: Mapping[str, Tensor], layer: Alias) -> bool:
    """Whether the pixels of an alias follow each other alike in both directions."""
    before, after = (tensors[name].shape[1:] for name in (layer.input, layer.output))
    return before == after or (1 in before and 1 in after)


def _layer(layer: Layer) -> Layer:
    match layer:
        case Convolution():
            return replace(layer, weights=_planes(layer.weights), strides=layer.strides[::-1],
                           dilations=layer.dilations[::-1], pads=_pads(layer.pads))
        case Depthwise():
            return replace(layer, weights=_planes(layer.weights), strides=layer.strides[::-1],
                           dilations=layer.dilations[::-1], pads=_pads(layer.pads))
        case Pool():
            return replace(layer, kernel=layer.kernel[::-1], strides=layer.strides[::-1],
                           dilations=layer.dilations[::-1], pads=_pads(layer.pads),
                           count_pads=_pads(layer.count_pads),
                           weights=layer.weights and layer.weights[::-1])
        case Resize():
            return replace(layer, factors=layer.factors[::-1])
        case Interleave(factors=(rows, columns)):
            return replace(layer, factors=(columns, rows), sources=tuple(
                layer.sources[row * columns + column]
                for column in range(columns) for row in range(rows)))
    return layer


def _planes(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values.swapaxes(-1, -2))


def _pads(pads: Pads) -> Pads:
    return Pads(top=pads.left, left=pads.top, bottom=pads.right, right=pads.bottom)
