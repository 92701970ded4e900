"""Functions of one value become one table, and the values stay what they were."""

import numpy as np
import pytest

from weft import reference
from weft.frontend.functions import merge_functions
from weft.ir import Add, Edge, Graph, Layer, Lookup, Multiply, Pool, PoolKind, Tensor

SHAPE = (3, 5, 7)


def lookup(rng, name, source):
    return Lookup(name=name, op="Sin", input=source, output=f"{name}.out",
                  table=rng.integers(-128, 128, 256).astype(np.int8))


def pair(kind, name, a, b):
    return kind(name=name, op=kind.__name__, a=a, b=b, output=f"{name}.out")


def graph_of(rng: np.random.Generator, layers: list[Layer], outputs: list[str]) -> Graph:
    names = {"x", *(name for layer in layers for name in (layer.output, *layer.inputs))}
    tensors = {name: Tensor(name=name, shape=SHAPE, scale=float(rng.uniform(0.01, 0.1)),
                            zero_point=int(rng.integers(-128, 128))) for name in sorted(names)}
    return Graph(name="functions", tensors=tensors, layers=tuple(layers),
                 inputs=(Edge(name="x", shape=(1, *SHAPE), tensor="x"),),
                 outputs=tuple(Edge(name=name, shape=(1, *SHAPE), tensor=name)
                               for name in outputs))


def check_equal(rng: np.random.Generator, graph: Graph) -> tuple[Graph, dict[str, str]]:
    merged, gone = merge_functions(graph)
    inputs = {"x": rng.integers(-128, 128, SHAPE).astype(np.int8)}
    before, after = reference.run(graph, inputs), reference.run(merged, inputs)
    for edge in graph.outputs:
        assert (before[edge.tensor] == after[edge.tensor]).all()
    names = {layer.name for layer in merged.layers}
    assert {layer.name for layer in graph.layers} == names | set(gone) and not names & set(gone)
    assert set(gone.values()) <= names
    assert set(merged.tensors) == {"x", *(layer.output for layer in merged.layers)}
    return merged, gone


def test_gate_of_its_own_input_is_one_table():
    rng = np.random.default_rng(1)
    graph = graph_of(rng, [lookup(rng, "gate", "x"), pair(Multiply, "product", "x", "gate.out")],
                     ["product.out"])
    merged, gone = check_equal(rng, graph)
    (layer,) = merged.layers
    assert isinstance(layer, Lookup) and (layer.name, layer.input) == ("product", "x")
    assert gone == {"gate": "product"}


def test_what_is_needed_in_between_stays():
    rng = np.random.default_rng(2)
    pool = Pool(name="pool", op="MaxPool", input="gate.out", output="pool.out",
                kind=PoolKind.MAX, kernel=(1, 1))
    graph = graph_of(rng, [lookup(rng, "gate", "x"), pool, lookup(rng, "next", "gate.out"),
                           pair(Add, "sum", "next.out", "x"), pair(Add, "twice", "sum.out",
                                                                   "sum.out")],
                     ["pool.out", "twice.out", "sum.out"])
    merged, gone = check_equal(rng, graph)
    assert [layer.name for layer in merged.layers] == ["gate", "pool", "sum", "twice"]
    assert gone == {"next": "sum"}
    assert all(layer.inputs == ("x",) for layer in merged.layers if layer.name != "pool")


def test_functions_of_two_tensors_stay_apart():
    rng = np.random.default_rng(3)
    pool = Pool(name="pool", op="MaxPool", input="x", output="pool.out", kind=PoolKind.MAX,
                kernel=(1, 1))
    graph = graph_of(rng, [pool, lookup(rng, "a", "x"), pair(Add, "sum", "a.out", "pool.out")],
                     ["sum.out"])
    merged, gone = check_equal(rng, graph)
    assert [type(layer) for layer in merged.layers] == [Pool, Lookup, Add] and not gone


def test_factor_of_a_channel_is_no_function():
    rng = np.random.default_rng(4)
    graph = graph_of(rng, [pair(Multiply, "product", "x", "x")], ["product.out"])
    narrow = Tensor(name="x", shape=(3, 1, 1), scale=0.1, zero_point=0)
    graph = Graph(name="broadcast", tensors={**graph.tensors, "x": narrow}, layers=graph.layers,
                  inputs=graph.inputs, outputs=graph.outputs)
    merged, _ = merge_functions(graph)
    assert isinstance(merged.layers[0], Multiply)


@pytest.mark.parametrize("seed", range(20))
def test_random_functions(seed):
    rng = np.random.default_rng(seed)
    known, layers = ["x"], []
    for index in range(int(rng.integers(1, 9))):
        a, b = rng.choice(known, 2)
        kind = rng.integers(3)
        layers.append(lookup(rng, f"l{index}", a) if kind == 0
                      else pair((Add, Multiply)[kind - 1], f"l{index}", a, b))
        known.append(layers[-1].output)
    outputs = sorted({layers[-1].output, *rng.choice(known[1:], 2)})
    used = set(outputs)
    for layer in reversed(layers):      # no layer that nothing needs
        if layer.output in used:
            used.update(layer.inputs)
    graph = graph_of(rng, [layer for layer in layers if layer.output in used], outputs)
    merged, _ = check_equal(rng, graph)
    assert all(isinstance(layer, Lookup) and layer.inputs == ("x",) for layer in merged.layers)
    assert len(merged.layers) == len(outputs)
