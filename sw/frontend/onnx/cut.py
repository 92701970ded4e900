"""Taking a part out of a model, as a model of its own."""

from collections.abc import Iterable

import onnx
from onnx import helper

from .nodes import implicit_inputs
from .source import Source

__all__ = ["ancestors", "cut"]


def ancestors(source: Source, outputs: Iterable[str], stop: Iterable[str] = ()) \
        -> tuple[list[onnx.NodeProto], set[str]]:
    """Nodes that ``outputs`` need, in the file's order, and every tensor on the way.

    The walk does not go past the tensors in ``stop``, nor past graph inputs and initializers.
    """
    seen = set(outputs)
    stops = set(stop)
    nodes = []
    # The checker has made sure that the file is in topological order.
    for node in reversed(source.model.graph.node):
        if any(name in seen and name not in stops for name in node.output):
            nodes.append(node)
            seen.update(implicit_inputs(node))
    return nodes[::-1], seen


def cut(source: Source, inputs: Iterable[str], outputs: Iterable[str], name: str) \
        -> onnx.ModelProto:
    """The part of a model between ``inputs`` and ``outputs``.

    Graph inputs from which a path leads round ``inputs`` become inputs as well.
    """
    stops = list(inputs)
    ends = list(outputs)
    nodes, seen = ancestors(source, ends, stops)
    made = {name for node in nodes for name in node.output}
    graph = source.model.graph
    entries = [entry for entry in stops if entry in seen]
    entries += [value.name for value in source.inputs
                if value.name in seen and value.name not in entries]
    part = helper.make_graph(
        nodes, name,
        [source.value_info(entry) for entry in entries],
        [source.value_info(end) for end in ends],
        [tensor for tensor in graph.initializer if tensor.name in seen and tensor.name not in made],
        value_info=[value for value in graph.value_info
                    if value.name in made and value.name not in ends])
    model = helper.make_model(part, opset_imports=source.model.opset_import,
                              ir_version=source.model.ir_version)
    return model
