"""Where the channels of every tensor lie in its words, for a given graph.

Maps begin at tensors whose layers can write anywhere, as convolutions can. The map of a
concatenation follows from those of its sources, that of another name for a tensor from that of the
tensor, and an element-wise layer ties those of its operands and its result together. A product of
two tensors needs each of its heads in words of its own, and so does what works on rows.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Alias, Concat, Convolution, Graph, Layer, MatMul, RowLayer, Selection
from weft.ir.layout import ChannelMap

__all__ = ["choose", "gathered", "resolve"]


def resolve(graph: Graph, config: AcceleratorConfig, wanted: Mapping[str, ChannelMap]) \
        -> tuple[dict[str, ChannelMap], int | None]:
    """Maps of all tensors; or the index of a layer whose own clashes with another.

    Parameters
    ----------
    wanted : :class:`dict`
        Maps of tensors, unless a layer determines them.
    """
    find = _tied(graph)
    groups: dict[str, ChannelMap] = {}

    def map_of(name: str) -> ChannelMap:
        return groups.get(find(name)) or ChannelMap((graph.tensors[name].shape[0],))

    def made(layer: Layer) -> ChannelMap:
        sources = [map_of(name) for name in layer.inputs]
        if isinstance(layer, Alias):
            assert layer.order is not None
            return sources[0].permuted(layer.order)
        return _shortest(config, ChannelMap.side_by_side(sources))

    # By number of channels, which never falls from source to result. In the order of execution a
    # source could take its map from a later concatenation.
    derived = sorted(((index, layer) for index, layer in enumerate(graph.layers)
                      if _derives(layer)),
                     key=lambda item: graph.tensors[item[1].output].shape[0])
    fixed = {find(layer.output) for _, layer in derived}
    for index, layer in enumerate(graph.layers):
        for name, channels in _heads(graph, layer):
            channels = _shortest(config, channels)
            if groups.setdefault(find(name), channels) != channels:
                return {}, index
    for name, channels in wanted.items():
        if find(name) not in fixed:
            groups.setdefault(find(name), channels)
    for index, layer in derived:
        channels = made(layer)
        if groups.setdefault(find(layer.output), channels) != channels:
            return {}, index
    for index, layer in derived:    # a source may have got its map only then
        if made(layer) != map_of(layer.output):
            return {}, index
    return {name: map_of(name) for name in graph.tensors}, None


def _shortest(config: AcceleratorConfig, channels: ChannelMap) -> ChannelMap:
    """The map, as one segment where that says the same."""
    return ChannelMap((channels.channels,)) if channels.plain(config) else channels


def _heads(graph: Graph, layer: Layer) -> Iterator[tuple[str, ChannelMap]]:
    """The maps that a product of two tensors, or what works on rows, asks for."""
    if isinstance(layer, MatMul | RowLayer):
        for name in (*layer.inputs, layer.output):
            count = graph.tensors[name].shape[0]
            yield name, ChannelMap((count // layer.heads,) * layer.heads)


def _derives(layer: Layer) -> bool:
    """Whether the map of a layer's result follows from those of its sources, and is another."""
    return isinstance(layer, Concat) or (isinstance(layer, Alias) and layer.order is not None)


def _tied(graph: Graph) -> Callable[[str], str]:
    """For each tensor one of all those that must have its map, because an element-wise layer reads
    or makes them together."""
    parents = {name: name for name in graph.tensors}

    def find(name: str) -> str:
        while parents[name] != name:
            parents[name] = name = parents[parents[name]]
        return name

    for layer in graph.layers:
        if not isinstance(layer, Convolution | MatMul | RowLayer) and not _derives(layer):
            for name in layer.inputs:
                parents[find(name)] = find(layer.output)
    return find


def choose(graph: Graph, config: AcceleratorConfig,
           channels: dict[str, ChannelMap]) -> dict[str, ChannelMap]:
    """The maps once each selection has put its channels where they cost least; where another layer
    determines their places they stay."""
    wanted: dict[str, ChannelMap] = {}
    for layer in graph.layers:
        if isinstance(layer, Selection):
            lanes = channels[layer.input].lanes(config)[layer.channels]
            lanes[layer.channels < 0] = lanes.max()     # zeros come from anywhere
            more = wanted | {layer.output: gathered(lanes, config.word_lanes)}
            found, conflict = resolve(graph, config, more)
            if conflict is None:
                wanted, channels = more, found
    return channels


def gathered(lanes: np.ndarray, word: int) -> ChannelMap:
    """A map for channels that are copied from ``lanes``: in as few words of ``word`` lanes as they
    need, each from few words, one near the other.

    Parameters
    ----------
    lanes : int64 [channels]
    word : :class:`int`
    """
    order = np.argsort(lanes, kind="stable")
    blocks = lanes[order] // word
    count = len(lanes)
    spare = -count % word
    segments: list[int] = []
    start = 0
    while start < count:
        # Leave lanes free, as long as there are some, where that spares a word to read.
        sizes = range(min(word, count - start), max(0, word - spare - 1), -1) or (count - start,)
        size = min(sizes, key=lambda size: blocks[start + size - 1] - blocks[start]
                   + (start + size < count and blocks[start + size - 1] == blocks[start + size]))
        segments.append(size)
        spare -= word - size
        start += size
    if all(size == word for size in segments[:-1]):
        segments = [count]
    return ChannelMap.of(tuple(segments), order.tolist())
