"""Planes that are transposed: what they compute, and that it pays where they are wide."""

from itertools import count

import numpy as np
import pytest
from graph_builder import GraphBuilder
from graphs import OPERATORS, operator_graph, random_graph, random_image
from sw_programs import equal

from weft import compiler, reference
from weft.compiler import SplitSearch, passes
from weft.compiler.timing.player import play
from weft.compiler.transpose import transpose, wide
from weft.compiler.verify import verify
from weft.hw.isa.presets import PRESETS
from weft.ir import Alias, Graph

TINY = PRESETS["tiny"]
_QUICK = SplitSearch(effort=0)


def turned(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values.swapaxes(1, 2))


def check(graph: Graph, rng: np.random.Generator) -> bool:
    """Compares a graph with what it is transposed; whether it can be."""
    other = transpose(graph)
    if other is None:
        return False
    verify(other)
    image = random_image(rng, graph)
    expected = reference.run(graph, image)
    found = reference.run(other, {name: turned(values) for name, values in image.items()})
    for layer in graph.layers:
        assert np.array_equal(turned(found[layer.output]), expected[layer.output]), layer
    return True


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_computes_the_same_transposed(operator):
    rng = np.random.default_rng(3)
    assert check(operator_graph(rng, operator), rng) or operator == "regrouped"


def test_random_graphs_compute_the_same_transposed():
    rng = np.random.default_rng(4)
    assert sum(check(random_graph(rng, layers=4), rng) for _ in range(12)) > 7


def viewed(shape: tuple[int, int, int]) -> Graph | None:
    builder = GraphBuilder(np.random.default_rng(0), (4, 6, 1))
    graph = builder.graph(builder.conv("x", 4))
    tensor = graph.tensors[graph.outputs[0].tensor]
    view = Alias(name="view", op="Reshape", input=tensor.name, output="y")
    tensors = {**graph.tensors, "y": type(tensor)(
        name="y", shape=shape, scale=tensor.scale, zero_point=tensor.zero_point)}
    return transpose(Graph(name="g", tensors=tensors, layers=(*graph.layers, view),
                           inputs=graph.inputs, outputs=()))


def test_pixels_must_follow_each_other_alike():
    assert viewed((4, 2, 3)) is None
    graph = viewed((4, 1, 6))
    assert graph is not None and graph.tensors["y"].shape == (4, 6, 1)


# Compiled -----------------------------------------------------------------------------------------

def test_random_graphs_equal_the_reference_when_they_are_compiled_transposed(monkeypatch):
    played = count()    # what is played first is the best
    monkeypatch.setattr(passes, "wide", lambda _graph: True)
    monkeypatch.setattr(passes, "_play", lambda _compilation, _plan: (next(played), 1))
    rng = np.random.default_rng(5)
    config = TINY.replace(activation_bytes=2048)
    found = 0
    for index in range(6):
        graph = random_graph(rng, layers=2, max_size=16)
        program = equal(graph, config, rng, keep_tensors=index % 2 == 0, search=_QUICK)
        found += all(slot.transposed for slot in program.outputs)
    assert found > 1


def wide_chain() -> Graph:
    """Rows that are too long for lines: a plane of four of them just does not fit on chip."""
    builder = GraphBuilder(np.random.default_rng(0), (8, 4, 100))
    tensor = builder.input
    for _ in range(2):
        tensor = builder.conv(tensor, 24)
        tensor = builder.depthwise(tensor, kernel=(5, 5), pads=(2, 2, 2, 2))
        tensor = builder.conv(tensor, 8)
    return builder.graph(tensor)


def test_wide_planes_are_transposed_where_that_is_faster(monkeypatch):
    rng = np.random.default_rng(6)
    graph, config = wide_chain(), TINY.replace(activation_bytes=4096)
    assert wide(graph)
    program = equal(graph, config, rng, keep_tensors=True, search=_QUICK)
    assert all(slot.transposed for slot in (*program.inputs, *program.outputs, *program.kept))
    program = compiler.compile(graph, config, search=_QUICK)
    monkeypatch.setattr(passes, "wide", lambda _graph: False)
    other = compiler.compile(graph, config, search=_QUICK)
    assert not any(slot.transposed for slot in (*other.inputs, *other.outputs))
    cycles = [play(each.commands, config, address=each.command_address).cycles
              for each in (program, other)]
    assert cycles[0] < 0.8 * cycles[1]
