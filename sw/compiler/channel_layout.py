"""Where the channels of every tensor go, so that views and concatenations cost nothing.

The sources of a :class:`Concat` are written side by side from the start, each from the first lane
of a word, and whoever reads the result knows where its channels are. An :class:`Alias` is where
its tensor is. Element-wise layers keep the places of their channels, convolutions can read and
write them anywhere. So a :class:`Selection` puts channels that come from one word into one word,
and reads few words for each.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from weft.errors import CompileError
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import (
    Alias,
    Concat,
    Convolution,
    Graph,
    Interleave,
    Layer,
    MatMul,
    RowLayer,
    Selection,
    Tensor,
)
from weft.ir.layout import ChannelMap

from .bends import bend_lookups
from .channel_maps import choose, resolve
from .folding import fold_lookups
from .misfit import MisfitError
from .selections import join_pieces, read_through, view_pieces

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


def lay_out_channels(graph: Graph, config: AcceleratorConfig, *,
                     keep_tensors: bool = False) -> ChannelLayout:
    """Finds a channel map and a home for every tensor.

    A tensor that is a source of two concatenations, or twice of one, is copied; so is the result
    of one, or a view with channels in another order, that meets a tensor of another map in an
    element-wise layer. A copy is a convolution with the identity, which is exact; a constant is
    there twice.

    Parameters
    ----------
    keep_tensors : :class:`bool`
        Every tensor of the graph is made, even if nobody reads it.

    Raises
    ------
    ValueError
        If the shapes of a concatenation do not fit: a mistake of the front end.
    MisfitError
        If products of tensors, or layers of rows, divide a tensor into heads in different ways.
    """
    kept = frozenset(layer.output for layer in graph.layers)
    graph, bent = bend_lookups(graph, config)
    graph, folded = fold_lookups(graph, config, keep=keep_tensors)
    origins = tuple(bent[index] for index in folded)
    graph, origins = join_pieces(graph, origins, keep=keep_tensors)
    graph, origins = _copy_shared_sources(graph, origins)
    while True:
        channels, conflict = resolve(graph, config, {})
        if conflict is None:
            break
        if isinstance(graph.layers[conflict], MatMul | RowLayer):
            raise MisfitError({origins[conflict]: CompileError(
                f"Layer {graph.layers[conflict].name!r} divides a tensor into other heads than "
                f"another layer does")})
        if isinstance(graph.layers[conflict], Alias):
            graph, origins = _copy_alias(graph, origins, conflict)
        else:
            graph, origins = _copy_result(graph, origins, conflict)
    channels = choose(graph, config, channels)
    graph, origins = read_through(graph, origins, config, channels, keep=keep_tensors)
    graph = view_pieces(graph, config, channels)

    same = _originals(graph)
    homes = {name: Home(name, 0) for name in graph.tensors}
    for layer in reversed(graph.layers):
        if isinstance(layer, Concat):
            home = homes[same[layer.output]]
            block = home.block
            for source in layer.sources:
                homes[same[source]] = Home(home.root, block)
                block += channels[source].blocks(config)
    for layer in graph.layers:
        if isinstance(layer, Alias):
            home = homes[layer.input]
            homes[layer.output] = Home(home.root, home.block + layer.first // config.word_lanes)
    return ChannelLayout(graph=graph, origins=origins, channels=channels, homes=homes, kept=kept)


def _originals(graph: Graph) -> dict[str, str]:
    """For each tensor the one that it is another name for, or itself."""
    same = {name: name for name in graph.tensors}
    for layer in graph.layers:
        if isinstance(layer, Alias):
            same[layer.output] = same[layer.input]
    return same


def _copy(layer: Layer, tensor: Tensor, number: int) -> tuple[Convolution, Tensor]:
    """A layer that copies a tensor, and the copy."""
    count = tensor.shape[0]
    copy = replace(tensor, name=f"{tensor.name} copy {number}")
    return Convolution(
        name=layer.name, op=layer.op, input=tensor.name, output=copy.name,
        weights=np.eye(count, dtype=np.int8)[:, :, None, None], bias=np.zeros(count, np.int32),
        multiplier=np.ones(count, np.float32)), copy


def _copy_shared_sources(graph: Graph,
                         owners: tuple[int, ...]) -> tuple[Graph, tuple[int, ...]]:
    layers: list[Layer] = []
    origins: list[int] = []
    tensors, constants = dict(graph.tensors), dict(graph.constants)
    times: Counter[str] = Counter()
    same = _originals(graph)
    for index, layer in zip(owners, graph.layers, strict=True):
        if isinstance(layer, Concat):
            sources = []
            for name in layer.sources:
                if times[same[name]]:
                    copy, tensor = _copy(layer, tensors[name], times[same[name]])
                    if name in constants:
                        constants[tensor.name] = constants[name]
                    else:
                        layers.append(copy)
                        origins.append(index)
                    tensors[tensor.name] = tensor
                    sources.append(tensor.name)
                else:
                    sources.append(name)
                times[same[name]] += 1
            layer = replace(layer, sources=tuple(sources))
        layers.append(layer)
        origins.append(index)
    return replace(graph, layers=tuple(layers), tensors=tensors,
                   constants=constants), tuple(origins)


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


def _copy_alias(graph: Graph, origins: tuple[int, ...],
                at: int) -> tuple[Graph, tuple[int, ...]]:
    """A copy in place of the other order of the alias with index ``at``."""
    layer = graph.layers[at]
    assert isinstance(layer, Alias) and layer.order is not None
    source, target = graph.tensors[layer.input], graph.tensors[layer.output]
    copied = replace(target, name=f"{target.name} copy 0", shape=source.shape)
    copy = Selection.of(layer.order, len(layer.order), name=layer.name, op=layer.op,
                        input=layer.input, output=copied.name)
    return (replace(graph, tensors={**graph.tensors, copied.name: copied}, layers=(
                *graph.layers[:at], copy, replace(layer, input=copied.name, order=None),
                *graph.layers[at + 1:])),
            (*origins[:at], origins[at], *origins[at:]))
