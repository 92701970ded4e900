"""Initializers that no node reads any more."""

import onnx

__all__ = ["drop_unused"]


def drop_unused(graph: onnx.GraphProto) -> None:
    """Takes them out of the graph, in place."""
    used = {name for node in graph.node for name in node.input}
    used |= {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
