"""Makes a case that fails smaller, for as long as it still fails."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from fuzz.networks.cases import Case
from fuzz.networks.graphs import FloatGraph
from fuzz.networks.nodes import Node, Unfit

__all__ = ["shrink", "size"]


_PLAIN = Node("", "", ())


def shrink(case: Case, fails: Callable[[Case], bool], *, attempts: int = 300) -> Case:
    """The smallest case found by taking away one thing at a time that ``fails`` too.

    Parameters
    ----------
    case : :class:`Case`
        One that fails.
    fails : callable
        Whether a case does.
    attempts : :class:`int`
        Calls of it, at most.
    """
    tried: set[str] = set()
    progress = True
    while progress:
        progress = False
        for smaller in _smaller(case):
            key = repr(smaller.to_dict())
            if key in tried or size(smaller) >= size(case):
                continue
            if len(tried) == attempts:
                return case
            tried.add(key)
            if fails(smaller):
                case, progress = smaller, True
                break
    return case


def size(case: Case) -> tuple[int, ...]:
    """By which cases are compared: nodes and ends first, then everything that is not plain, then
    all numbers together."""
    graph = case.graph
    options = sum(getattr(node, name) != value for node in graph.nodes
                  for name, value in vars(_PLAIN).items() if name not in ("name", "op", "inputs"))
    plain = Case(graph=graph, config=case.config)
    options += graph.signal
    options += sum(getattr(case, name) != getattr(plain, name) for name in (
        "memories", "keep_tensors", "grain", "latency", "stall_probability", "per_channel",
        "unsigned", "reduce_range", "operators", "exported", "dynamic",
        "tflite"))
    numbers = sum(sum(shape) for shape in graph.shapes.values()) + sum(
        sum((*node.kernel, *node.strides, *node.dilations, *node.factors)) for node in graph.nodes)
    return (len(graph.nodes) + len(graph.inputs) + len(graph.outputs), case.batch, options,
            len(case.memories), numbers)


def _smaller(case: Case) -> Iterator[Case]:
    """Cases with less, the boldest steps first."""
    for make in _graphs(case.graph):
        try:
            yield replace(case, graph=make().pruned())
        except Unfit:
            continue
    yield from (replace(case, batch=batch) for batch in range(1, case.batch))
    plain = Case(graph=case.graph, config=case.config)
    for name in ("stall_probability", "latency", "memories", "keep_tensors", "grain",
                 "reduce_range", "operators", "exported", "dynamic", "tflite", "unsigned",
                 "per_channel"):
        yield replace(case, **{name: getattr(plain, name)})
    for name in case.memories:
        yield replace(case, memories={key: value for key, value in case.memories.items()
                                      if key != name})


def _graphs(graph: FloatGraph) -> Iterator[Callable[[], FloatGraph]]:
    nodes = graph.nodes
    if graph.signal:
        yield lambda: replace(graph, signal=False)
    # Half of the network, or one output of several.
    for node in nodes[:-1]:
        yield lambda name=node.name: replace(graph, outputs=(name,))
    for output in graph.outputs:
        yield lambda name=output: replace(
            graph, outputs=tuple(each for each in graph.outputs if each != name))
    # What a node makes comes from one of its inputs, or from outside.
    for node in nodes:
        for source in node.inputs:
            yield lambda node=node, source=source: _without(graph, node, source)
        if len(graph.shapes[node.name]) == 3:
            for entry in (*graph.inputs, f"i{node.name}"):
                yield lambda node=node, entry=entry: _without(graph, node, entry)
    for name, shape in graph.inputs.items():
        for axis, length in enumerate(shape):
            for less in _less(length):
                changed = (*shape[:axis], less, *shape[axis + 1:])
                yield lambda name=name, changed=changed: replace(
                    graph, inputs={**graph.inputs, name: changed})
    for node in nodes:
        for options in _options(node, graph):
            yield lambda node=node, options=options: replace(graph, nodes=tuple(
                replace(each, **options) if each is node else each for each in nodes))


def _without(graph: FloatGraph, gone: Node, source: str) -> FloatGraph:
    """The network with ``source`` in the place of a node; it becomes an input, if it is new."""
    inputs = dict(graph.inputs)
    if source not in graph.shapes:
        inputs[source] = graph.shapes[gone.name]

    def change(name: Any) -> Any:
        return source if name == gone.name else name

    nodes = [replace(node, inputs=tuple(map(change, node.inputs)), filters=change(node.filters))
             for node in graph.nodes if node is not gone]
    outputs = dict.fromkeys(map(change, graph.outputs))
    return replace(graph, inputs=inputs, nodes=tuple(nodes), outputs=tuple(
        name for name in outputs if name not in inputs))


def _less(number: int) -> list[int]:
    return sorted({1, number // 2, number - 1} - {0, number}) if number > 1 else []


def _options(node: Node, graph: FloatGraph) -> Iterator[dict[str, Any]]:
    plain = vars(_PLAIN)
    for name in ("group", "dilations", "strides", "pads", "count_pads", "bias", "bounds"):
        if getattr(node, name) != plain[name]:
            yield {name: plain[name]}
    if node.kernel != _PLAIN.kernel:
        yield {"kernel": (1, 1), "pads": (0, 0, 0, 0)}
    for name in ("kernel", "factors"):
        pair = getattr(node, name)
        if name == "kernel" or node.op in ("Resize", "ConvTranspose"):
            for axis in (0, 1):
                for less in _less(pair[axis]):
                    yield {name: (*pair[:axis], less, *pair[axis + 1:])}
    if node.op in ("Conv", "Gemm"):
        if isinstance(node.filters, str):
            yield {"filters": graph.shapes[node.name][0]}
        else:
            yield from ({"filters": less} for less in _less(node.filters))
