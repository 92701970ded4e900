"""Selections that are not copied: those who read them take the channels from where they are."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from weft.hw.isa.config import AcceleratorConfig
from weft.ir import NO_PADS, Alias, Concat, Convolution, Graph, Layer, Selection
from weft.ir.layout import ChannelMap

__all__ = ["join_pieces", "read_through", "view_pieces"]


_Origins = tuple[int, ...]


def join_pieces(graph: Graph, origins: _Origins, *, keep: bool) -> tuple[Graph, _Origins]:
    """The graph with a tensor in the place of all its pieces, one behind the other in a
    concatenation. A tensor that another concatenation has as well would only be copied as a whole.

    Parameters
    ----------
    origins : :class:`tuple` of :class:`int`
        As in :class:`~weft.compiler.channel_layout.ChannelLayout`.
    keep : :class:`bool`
        Leave selections that nobody reads any more.
    """
    makers = {layer.output: layer for layer in graph.layers}
    times = Counter(name for layer in graph.layers if isinstance(layer, Concat)
                    for name in layer.sources)
    layers: list[Layer] = []
    for layer in graph.layers:
        if isinstance(layer, Concat):
            sources: list[str] = []
            rest = list(layer.sources)
            while rest:
                whole, count = _whole(graph, makers, rest)
                if whole is None or times[whole]:
                    whole, count = rest[0], 1
                else:
                    times[whole] += 1
                sources.append(whole)
                del rest[:count]
            layer = replace(layer, sources=tuple(sources))
        layers.append(layer)
    return _without_idle(replace(graph, layers=tuple(layers)), origins, keep)


def _plain(graph: Graph, layer: Layer | None) -> bool:
    """Whether a layer does nothing but to select channels: it may have bounds, or padding."""
    if not isinstance(layer, Selection):
        return False
    source, target = graph.tensors[layer.input], graph.tensors[layer.output]
    assert (source.scale, source.zero_point) == (target.scale, target.zero_point)
    return layer.clamp == (-128, 127) and layer.pads == NO_PADS


def _whole(graph: Graph, makers: Mapping[str, Layer],
           sources: list[str]) -> tuple[str | None, int]:
    """The tensor whose pieces are the first of ``sources``, and how many these are."""
    first = makers.get(sources[0])
    if not isinstance(first, Selection):
        return None, 0
    found = 0
    for number, name in enumerate(sources, 1):
        piece = makers.get(name)
        if not isinstance(piece, Selection) or not _plain(graph, piece) \
                or piece.input != first.input:
            return None, 0
        expected = np.arange(found, found + len(piece.weights))
        if not np.array_equal(piece.channels, expected):
            return None, 0
        found += len(piece.weights)
        if found == graph.tensors[first.input].shape[0]:
            return first.input, number
    return None, 0


def read_through(graph: Graph, origins: _Origins, config: AcceleratorConfig,
                 channels: Mapping[str, ChannelMap], *, keep: bool) -> tuple[Graph, _Origins]:
    """The graph with convolutions that read the input of a selection in place of its output, where
    they all together take no more steps of the array than with the copy.

    Parameters
    ----------
    channels : :class:`dict`
        Where the channels of each tensor would lie.
    keep
        As in :func:`join_pieces`.
    """
    outputs = {edge.tensor for edge in graph.outputs}
    through: dict[str, Selection] = {}
    for layer in graph.layers:
        if not isinstance(layer, Selection) or not _plain(graph, layer) \
                or layer.output in outputs:
            continue
        readers = [each for each in graph.layers if layer.output in each.inputs]
        chosen = layer.channels[layer.channels >= 0]
        if not readers or len(set(chosen.tolist())) < len(chosen) or layer.input in through \
                or any(type(each) is not Convolution for each in readers):
            continue
        plain = [each for each in readers if isinstance(each, Convolution)]
        copied = sum(_steps(graph, config, each, channels) for each in (layer, *plain))
        direct = sum(_steps(graph, config, _direct(each, layer), channels) for each in plain)
        if direct <= copied:
            through[layer.output] = layer
    layers = tuple(_direct(layer, through[layer.input])
                   if isinstance(layer, Convolution) and layer.input in through else layer
                   for layer in graph.layers)
    return _without_idle(replace(graph, layers=layers), origins, keep)


def view_pieces(graph: Graph, config: AcceleratorConfig,
                channels: Mapping[str, ChannelMap]) -> Graph:
    """The graph with another name for whole words of a tensor in the place of a selection that
    copies them. Words that a concatenation has as well lie with the others of it: they are copied.

    Parameters
    ----------
    channels
        As in :func:`read_through`.
    """
    joined = {name for layer in graph.layers if isinstance(layer, Concat) for name in layer.sources}
    for layer in reversed(graph.layers):
        if isinstance(layer, Alias) and layer.output in joined:
            joined.add(layer.input)
    outputs = {edge.tensor for edge in graph.outputs}

    def viewed(layer: Layer) -> Layer:
        if not isinstance(layer, Selection) or not _plain(graph, layer) \
                or layer.output in joined | outputs:
            return layer
        count, first = len(layer.weights), int(layer.channels[0])
        stop, source = first + count, channels[layer.input]
        if not np.array_equal(layer.channels, np.arange(first, stop)) or first < 0 \
                or first % config.word_lanes \
                or (stop % config.word_lanes and stop < source.channels) \
                or not source.plain(config) or not channels[layer.output].plain(config):
            return layer
        return Alias(name=layer.name, op=layer.op, input=layer.input, output=layer.output,
                     first=first)

    return replace(graph, layers=tuple(map(viewed, graph.layers)))


def _direct(layer: Convolution, selection: Selection) -> Convolution:
    """A convolution with weights for the input of the selection that it reads. Channels of zeros
    are of no account, and neither is their padding."""
    outputs, _, *kernel = layer.weights.shape
    weights = np.zeros((outputs, selection.weights.shape[1], *kernel), layer.weights.dtype)
    there = selection.channels >= 0
    weights[:, selection.channels[there]] = layer.weights[:, there]
    return replace(layer, input=selection.input, weights=weights)


def _steps(graph: Graph, config: AcceleratorConfig, layer: Convolution,
           channels: Mapping[str, ChannelMap]) -> int:
    """Steps of the array, times pixels: each output word reads the words from the first to the
    last one that it depends on."""
    used: np.ndarray = np.any(layer.weights, axis=(2, 3))
    used = channels[layer.input].spread(config, used.T).T
    used = channels[layer.output].spread(config, used)
    words = used.reshape(-1, config.word_lanes, used.shape[1] // config.word_lanes,
                         config.word_lanes)
    spans = 0
    for present in np.any(words, axis=(1, 3)):
        where = np.flatnonzero(present)
        spans += int(where[-1] - where[0]) + 1 if where.size else 1
    _, height, width = graph.tensors[layer.output].shape
    taps = layer.weights.shape[2] * layer.weights.shape[3]
    return spans * taps * max(height * width, config.pe_rows)


def _without_idle(graph: Graph, origins: _Origins, keep: bool) -> tuple[Graph, _Origins]:
    """The graph without selections that nobody reads."""
    if keep:
        return graph, origins
    read = {name for layer in graph.layers for name in layer.inputs}
    read |= {edge.tensor for edge in graph.outputs}
    left = [(layer, origin) for layer, origin in zip(graph.layers, origins, strict=True)
            if not isinstance(layer, Selection) or layer.output in read]
    made = graph.given | {layer.output for layer, _ in left}
    return (replace(graph, layers=tuple(layer for layer, _ in left), tensors={
                name: tensor for name, tensor in graph.tensors.items() if name in made}),
            tuple(origin for _, origin in left))
