"""Functions of one value, looked up on the way of the results that they change."""

from collections import Counter
from dataclasses import replace

from weft.hw.isa.config import AcceleratorConfig
from weft.ir import (
    Add,
    Affine,
    ChannelSum,
    Convolution,
    Depthwise,
    Function,
    Graph,
    Layer,
    Lookup,
    MatMul,
    Multiply,
    Pool,
    Selection,
)

__all__ = ["fold_lookups"]


def _can_look_up(config: AcceleratorConfig, layer: Layer | None, lookup: Lookup) -> bool:
    """Whether results of a layer can go through a table: those of the vector engine through any,
    those of the array through one for all channels; or for each, if a column tile makes a word, and
    half of the tables are enough. Layers that write to several places in turn are left alone; and
    so is a selection, which may cost nothing at all, if it stays one."""
    match layer:
        case Selection():
            return False
        case Convolution() if lookup.table.ndim > 1:
            blocks = -(-len(lookup.table) // config.word_lanes)
            return (config.drain_lane_tables and config.cols == config.rows
                    and 2 * blocks <= config.drain_tables)
        case Convolution() | MatMul():
            return config.drain_tables > 0 and lookup.table.ndim == 1
    return isinstance(layer, Add | Affine | ChannelSum | Depthwise | Multiply | Pool)


def fold_lookups(graph: Graph, config: AcceleratorConfig, *,
                 keep: bool = False) -> tuple[Graph, tuple[int, ...]]:
    """The graph with each :class:`Lookup` as the function of the layer that it reads, if nobody
    else reads that and results of such a layer can go through its table.

    Parameters
    ----------
    keep : :class:`bool`
        Every tensor of the graph is made: a layer is computed once without the function, for the
        tensor in between, and once with it.

    Returns
    -------
    :class:`Graph`
    :class:`tuple` of :class:`int`
        For each of its layers, the index of the layer of ``graph`` that it belongs to.
    """
    uses = Counter(name for layer in graph.layers for name in layer.inputs)
    uses.update(edge.tensor for edge in graph.outputs)
    makers = {layer.output: layer for layer in graph.layers}
    folded: dict[str, Lookup] = {}  # by the tensor in between
    for layer in graph.layers:
        if isinstance(layer, Lookup) and uses[layer.input] == 1 \
                and _can_look_up(config, makers.get(layer.input), layer):
            folded[layer.input] = layer
    if not folded:
        return graph, tuple(range(len(graph.layers)))

    layers: list[Layer] = []
    origins: list[int] = []
    for index, layer in enumerate(graph.layers):
        if layer.output in folded:
            if keep:
                layers.append(layer)
                origins.append(index)
            lookup = folded[layer.output]
            layer = replace(layer, output=lookup.output, function=Function(
                before=graph.tensors[lookup.input], table=lookup.table))
        elif isinstance(layer, Lookup) and layer.input in folded:
            continue
        layers.append(layer)
        origins.append(index)
    gone = () if keep else folded
    return (replace(graph, layers=tuple(layers), tensors={
        name: tensor for name, tensor in graph.tensors.items() if name not in gone}),
        tuple(origins))
