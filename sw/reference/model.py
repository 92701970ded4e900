"""A graph without a model around it, as a model of its own."""

from collections.abc import Iterable, Mapping

import numpy as np

from weft import reference
from weft.ir import Edge, Graph, Partition, TensorInfo

__all__ = ["GraphModel", "whole"]


def whole(graph: Graph) -> Partition:
    """A graph as all there is to run: what its edges exchange are inputs and outputs."""
    return Partition(name=graph.name, model=GraphModel(graph), segments=(graph,))


class GraphModel:
    """A :class:`weft.ir.Model` of one graph, whose golden values are the reference's.

    Parameters
    ----------
    graph : :class:`weft.ir.Graph`
    """

    def __init__(self, graph: Graph):
        self._graph = graph
        self.inputs = self._describe(graph.inputs)
        self.outputs = self._describe(graph.outputs)
        self.states: dict[str, str] = {}
        self.tensors = frozenset(tensor.name for tensor in graph.tensors.values())

    def quantization(self, name: str) -> tuple[float, int] | None:
        """That of the edge's tensor."""
        return next(((tensor.scale, tensor.zero_point + 128 * tensor.unsigned)
                     for edge in (*self._graph.inputs, *self._graph.outputs) if edge.name == name
                     for tensor in [self._graph.tensors[edge.tensor]]), None)

    def golden(self, tensors: Iterable[str] = ()) -> "GraphGolden":
        """The reference of the graph."""
        return GraphGolden(self._graph, tensors)

    def _describe(self, edges: Iterable[Edge]) -> tuple[TensorInfo, ...]:
        # The host may hand on one tensor in several orders.
        return tuple({edge.name: TensorInfo(name=edge.name, shape=edge.shape,
                                            dtype=self._graph.tensors[edge.tensor].dtype)
                      for edge in edges}.values())


class GraphGolden:
    """A :class:`weft.ir.Golden` of one graph, in numpy."""

    name = "the reference"
    caveats: tuple[str, ...] = ()

    def __init__(self, graph: Graph, tensors: Iterable[str]):
        self._graph = graph
        self._wanted = frozenset(tensors)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs and chosen tensors by name, for inputs by name."""
        graph = self._graph
        values = reference.run(graph, {edge.tensor: graph.enter(edge, inputs[edge.name])
                                       for edge in graph.inputs})
        found = {tensor.name: tensor.to_model(values[key])
                 for key, tensor in graph.tensors.items() if tensor.name in self._wanted}
        return found | {edge.name: graph.leave(edge, values[edge.tensor])
                        for edge in graph.outputs}
