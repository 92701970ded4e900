"""Functions of one value, however many layers a model makes of them, as one table each.

Hard-swish, for one, comes as a HardSigmoid and a product with its own input, or as a sum, a clamp,
a quotient and a product. Whatever only depends on one int8 value is a table of 256 results.
"""

from dataclasses import replace

import numpy as np

from weft import reference
from weft.ir import Add, Graph, Layer, Lookup, Multiply

__all__ = ["merge_functions"]


_VALUES = np.arange(-128, 128, dtype=np.int8)


def merge_functions(graph: Graph) -> tuple[Graph, dict[str, str]]:
    """The same graph, with one :class:`Lookup` in place of all layers between a tensor and a
    function of its values alone, unless what is in between is needed too.

    Returns
    -------
    :class:`Graph`
    :class:`dict`
        For each layer that is gone, by name, the name of a layer that does its work.
    """
    functions = _functions(graph)
    needed = {edge.tensor for edge in graph.outputs}
    needed.update(name for layer in graph.layers if layer.output not in functions
                  for name in layer.inputs)
    layers: list[Layer] = []
    gone: dict[str, str] = {}
    used: dict[str, str] = {}       # by output of a layer that is gone: who does its work
    for layer in reversed(graph.layers):
        if layer.output not in functions:
            layers.append(layer)
        elif layer.output in needed:
            source, table = functions[layer.output]
            layers.append(Lookup(name=layer.name, op=layer.op, output=layer.output, input=source,
                                 table=table))
            used.update((name, layer.name) for name in layer.inputs if name not in needed)
        else:
            gone[layer.name] = used[layer.output]
            used.update((name, used[layer.output]) for name in layer.inputs if name not in needed)
    kept = {name for layer in layers for name in (layer.output, *layer.inputs)}
    return replace(graph, layers=tuple(layers[::-1]), tensors={
        name: tensor for name, tensor in graph.tensors.items() if name in kept}), gone


def _functions(graph: Graph) -> dict[str, tuple[str, np.ndarray]]:
    """For each tensor that is one, of which tensor it is a function, and its table, int8 [256], or
    tables, int8 [C, 256]."""
    found: dict[str, tuple[str, np.ndarray]] = {}

    def table(layer: Layer) -> tuple[str, np.ndarray] | None:
        operands = [found.get(name, (name, _VALUES)) for name in layer.inputs]
        sources = {source for source, _ in operands}
        if not isinstance(layer, Add | Multiply | Lookup) or len(sources) != 1:
            return None
        if len({graph.tensors[name].shape for name in (layer.output, *layer.inputs)}) != 1:
            return None
        tables = [values for _, values in operands]
        shape = np.broadcast_shapes(*(values.shape for values in tables), (
            layer.table.shape if isinstance(layer, Lookup) else (256,)))
        values = {name: np.broadcast_to(values, shape).reshape(-1, 1, 256)
                  for name, values in zip(layer.inputs, tables, strict=True)}
        return sources.pop(), reference.compute(graph, layer, values).reshape(shape)

    for layer in graph.layers:
        result = table(layer)
        if result is not None:
            found[layer.output] = result
    return found
