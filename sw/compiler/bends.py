"""Functions of small planes that are linear on both sides of a bend, as sums of two tensors.

A function that differs from channel to channel, as a PRelu does, takes a table for each channel,
and all of them travel to the chip for each frame. Where planes are small that takes longer than to
compute the function: the maximum and the sum that it is made of.
"""

from dataclasses import replace

from weft import reference
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.limits import TABLE_ENTRIES
from weft.ir import ChannelSum, Graph, Layer, Lookup, Pool, PoolKind, Tensor

from .planning.loop_order import layer_cycles

__all__ = ["bend_lookups"]


_GAIN = 2       # how much longer tables must take, as another engine loads them meanwhile


def bend_lookups(graph: Graph, config: AcceleratorConfig) -> tuple[Graph, tuple[int, ...]]:
    """The graph with sums for such functions, where their tables do not all stay on chip and take
    longer. A batch keeps tables, as its frames share them.

    Returns
    -------
    :class:`Graph`
    :class:`tuple` of :class:`int`
        For each of its layers, the index of the layer of ``graph`` that it belongs to.
    """
    tables = sum(-(-len(layer.table) // config.word_lanes) for layer in graph.layers
                 if isinstance(layer, Lookup) and layer.table.ndim > 1)
    if not config.vector or graph.frames > 1 or tables <= config.vector_tables:
        return graph, tuple(range(len(graph.layers)))
    layers: list[Layer] = []
    origins: list[int] = []
    tensors = dict(graph.tensors)
    for index, layer in enumerate(graph.layers):
        made = [layer]
        if isinstance(layer, Lookup) and layer.table.ndim > 1:
            made = _bent(graph, config, layer, tensors) or made
        layers += made
        origins += [index] * len(made)
    return replace(graph, layers=tuple(layers), tensors=tensors), tuple(origins)


def _bent(graph: Graph, config: AcceleratorConfig, layer: Lookup,
          tensors: dict[str, Tensor]) -> list[Layer]:
    """Layers in the place of a function, whose tensors are added to ``tensors``; none if tables are
    as good, or it has no bend at zero."""
    source = graph.tensors[layer.input]
    load = TABLE_ENTRIES * max(1, config.word_bytes // config.axi_bytes)
    _, height, width = source.shape
    if _GAIN * height * width > load:  # far from it, so the search is spared
        return []
    found = reference.bend_constants(layer.table, source.zero_point)
    if found is None:
        return []
    added: list[Tensor] = []

    def tensor(what: str) -> str:
        added.append(replace(source, name=f"{layer.output} {what}"))
        return added[-1].name

    layers: list[Layer] = []
    first = layer.input
    if found.mirrored:
        first = tensor("distance")
        layers.append(Lookup(name=layer.name, op=layer.op, input=layer.input, output=first,
                             table=found.distance))
    second = tensor("below")
    layers += [
        Pool(name=layer.name, op=layer.op, input=layer.input, output=second, kind=PoolKind.MAX,
             kernel=(1, 1), clamp=(-128, found.at)),
        ChannelSum(name=layer.name, op=layer.op, output=layer.output, a=first, b=second,
                   first=found.first, second=found.second, bias=found.bias, scale=found.scale,
                   zero=found.zero, clamp=found.clamp)]
    made = replace(graph, tensors=graph.tensors | {each.name: each for each in added})
    if _GAIN * sum(layer_cycles(config, made, each, 1) for each in layers) > load:
        return []
    tensors.update((each.name, each) for each in added)
    return layers
