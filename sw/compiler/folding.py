"""Functions behind convolutions, looked up on the way from the array to the activation memory."""

from collections import Counter
from dataclasses import replace

from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Convolution, Function, Graph, Layer, Lookup, Selection

__all__ = ["fold_lookups"]


def fold_lookups(graph: Graph, config: AcceleratorConfig, *,
                 keep: bool = False) -> tuple[Graph, tuple[int, ...]]:
    """The graph with each :class:`Lookup` as the function of the convolution that it reads, if
    nobody else reads that and the accelerator has tables there.

    Parameters
    ----------
    keep : :class:`bool`
        Every tensor of the graph is made: a convolution is computed once without the function, for
        the tensor in between, and once with it.

    Returns
    -------
    :class:`Graph`
    :class:`tuple` of :class:`int`
        For each of its layers, the index of the layer of ``graph`` that it belongs to.
    """
    uses = Counter(name for layer in graph.layers for name in layer.inputs)
    uses.update(edge.tensor for edge in graph.outputs)
    makers = {layer.output: layer for layer in graph.layers}
    folded: dict[str, Lookup] = {}  # by output of the convolution
    for layer in graph.layers:
        if isinstance(layer, Lookup) and uses[layer.input] == 1:
            # A selection may cost nothing at all, if it stays one.
            maker = makers.get(layer.input)
            if isinstance(maker, Convolution) and not isinstance(maker, Selection):
                folded[layer.input] = layer
    if not folded or not config.drain_tables:
        return graph, tuple(range(len(graph.layers)))

    layers: list[Layer] = []
    origins: list[int] = []
    for index, layer in enumerate(graph.layers):
        lookup = folded.get(layer.output)
        if lookup is not None and isinstance(layer, Convolution):
            if keep:
                layers.append(layer)
                origins.append(index)
            layer = replace(layer, output=lookup.output, function=Function(
                zero_point=graph.tensors[lookup.input].zero_point, table=lookup.table))
        elif isinstance(layer, Lookup) and layer.input in folded:
            continue
        layers.append(layer)
        origins.append(index)
    gone = () if keep else folded
    return (replace(graph, layers=tuple(layers), tensors={
        name: tensor for name, tensor in graph.tensors.items() if name not in gone}),
        tuple(origins))
