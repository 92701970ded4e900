"""Where the channels of every tensor go, so that concatenations cost nothing.

The sources of a :class:`Concat` are written side by side from the start, each from the first lane
of a word, and whoever reads the result knows where its channels are. Element-wise layers keep the
places of their channels, convolutions can read and write them anywhere.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Concat, Convolution, Graph, Interleave, Layer, Tensor
from weft.ir.layout import ChannelMap

__all__ = ["Home", "ChannelLayout", "lay_out_channels"]


@dataclass(frozen=True)
class Home:
    """A tensor lies in that of ``root``, from channel block ``block`` on."""
    root: str
    block: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelLayout:
    """A graph, and where each channel of its tensors lies.

    Attributes
    ----------
    graph : :class:`Graph`
        With copies where they cannot be avoided.
    origins : :class:`tuple` of :class:`int`
        For each of its layers, the index of the layer of the original graph that it belongs to.
    channels : :class:`dict`
        Channel map of every tensor.
    homes : :class:`dict`
        :class:`Home` of every tensor.
    kept : :class:`set`
        Outputs of the original layers.
    """

    graph: Graph
    origins: tuple[int, ...]
    channels: dict[str, ChannelMap]
    homes: dict[str, Home]
    kept: frozenset[str]


def lay_out_channels(graph: Graph, config: AcceleratorConfig) -> ChannelLayout:
    """Finds a channel map and a home for every tensor.

    A tensor that is a source of two concatenations, or twice of one, is copied; so is the result
    of one that meets a tensor of another map in an element-wise layer. A copy is a convolution
    with the identity, which is exact.

    Raises
    ------
    ValueError
        If the shapes of a concatenation do not fit: a mistake of the front end.
    """
    kept = frozenset(layer.output for layer in graph.layers)
    graph, origins = _copy_shared_sources(graph)
    while True:
        channels, conflict = _resolve(graph, config)
        if conflict is None:
            break
        graph, origins = _copy_result(graph, origins, conflict)

    homes = {name: Home(name, 0) for name in graph.tensors}
    for layer in reversed(graph.layers):
        if isinstance(layer, Concat):
            home = homes[layer.output]
            block = home.block
            for source in layer.sources:
                homes[source] = Home(home.root, block)
                block += channels[source].blocks(config)
    return ChannelLayout(graph=graph, origins=origins, channels=channels, homes=homes, kept=kept)


def _copy(layer: Layer, tensor: Tensor, number: int) -> tuple[Convolution, Tensor]:
    """A layer that copies a tensor, and the copy."""
    count = tensor.shape[0]
    copy = replace(tensor, name=f"{tensor.name} copy {number}")
    return Convolution(
        name=layer.name, op=layer.op, input=tensor.name, output=copy.name,
        weights=np.eye(count, dtype=np.int8)[:, :, None, None], bias=np.zeros(count, np.int32),
        multiplier=np.ones(count, np.float32)), copy


def _copy_shared_sources(graph: Graph) -> tuple[Graph, tuple[int, ...]]:
    layers: list[Layer] = []
    origins: list[int] = []
    tensors = dict(graph.tensors)
    times: Counter[str] = Counter()
    for index, layer in enumerate(graph.layers):
        if isinstance(layer, Concat):
            sources = []
            for name in layer.sources:
                if times[name]:
                    copy, tensor = _copy(layer, tensors[name], times[name])
                    layers.append(copy)
                    origins.append(index)
                    tensors[tensor.name] = tensor
                    sources.append(tensor.name)
                else:
                    sources.append(name)
                times[name] += 1
            layer = replace(layer, sources=tuple(sources))
        layers.append(layer)
        origins.append(index)
    return replace(graph, layers=tuple(layers), tensors=tensors), tuple(origins)


def _copy_result(graph: Graph, origins: tuple[int, ...],
                 at: int) -> tuple[Graph, tuple[int, ...]]:
    """A copy of the result of the concatenation with index ``at``, for element-wise layers."""
    layer = graph.layers[at]
    copy, tensor = _copy(layer, graph.tensors[layer.output], 0)
    layers = [*graph.layers[:at + 1], copy]
    for later in graph.layers[at + 1:]:
        if not isinstance(later, Convolution | Concat):
            changed: dict[str, Any] = {name: tensor.name for name in ("input", "a", "b")
                                       if getattr(later, name, None) == layer.output}
            if isinstance(later, Interleave):
                changed["sources"] = tuple(tensor.name if name == layer.output else name
                                           for name in later.sources)
            later = replace(later, **changed)
        layers.append(later)
    return (replace(graph, layers=tuple(layers),
                    tensors={**graph.tensors, tensor.name: tensor}),
            (*origins[:at + 1], origins[at], *origins[at + 1:]))


def _resolve(graph: Graph,
             config: AcceleratorConfig) -> tuple[dict[str, ChannelMap], int | None]:
    """Maps of all tensors; or the index of a concatenation that clashes with another."""
    # Tensors that must have one map: what goes into an element-wise layer, and what comes out.
    parents = {name: name for name in graph.tensors}

    def find(name: str) -> str:
        while parents[name] != name:
            parents[name] = name = parents[parents[name]]
        return name

    for layer in graph.layers:
        if not isinstance(layer, Convolution | Concat):
            for name in layer.inputs:
                parents[find(name)] = find(layer.output)

    groups: dict[str, ChannelMap] = {}
    # By number of channels, which only grows from source to result. In the order of execution a
    # source could take its map from a later concatenation.
    concats = sorted(((index, layer) for index, layer in enumerate(graph.layers)
                      if isinstance(layer, Concat)),
                     key=lambda item: graph.tensors[item[1].output].shape[0])
    for index, layer in concats:
        segments: list[int] = []
        for source in layer.sources:
            channels = groups.get(find(source))
            segments += channels.segments if channels else [graph.tensors[source].shape[0]]
        channels = ChannelMap(tuple(segments))
        if channels.plain(config):
            channels = ChannelMap((channels.channels,))
        group = find(layer.output)
        if groups.setdefault(group, channels) != channels:
            return {}, index
    return {name: groups.get(find(name), ChannelMap((tensor.shape[0],)))
            for name, tensor in graph.tensors.items()}, None
