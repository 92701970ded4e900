"""Functions with a bend become sums of two tensors, where their tables take longer to load."""

import numpy as np
import pytest
from graph_builder import GraphBuilder
from sw_programs import equal, fields_of

from weft import compiler, reference
from weft.compiler.bends import bend_lookups
from weft.compiler.verify import verify
from weft.hw.isa.commands import Engine, Memory, VectorOp
from weft.hw.isa.presets import PRESETS
from weft.ir import ChannelSum, Lookup, Pool

BASE, SMALL, TINY = PRESETS["base"], PRESETS["small"], PRESETS["tiny"]


def bent_graph(seed=0, size=(80, 3, 4), slopes=(-0.9, 0.9)):
    b = GraphBuilder(np.random.default_rng(seed), size)
    return b.graph(b.conv(b.prelu(b.conv(b.input, size[0]), slopes=slopes), 5))


def kinds(graph):
    return [type(layer) for layer in graph.layers[1:-1]]


@pytest.mark.parametrize(("slopes", "layers"), [
    ((-0.9, 0.9), [Pool, ChannelSum]), ((-0.9, 1.9), [Lookup, Pool, ChannelSum]),
    ((-1.9, 1.9), [Lookup])])
def test_layers_in_the_place_of_a_function(slopes, layers):
    graph = bent_graph(slopes=slopes)
    bent, origins = bend_lookups(graph, BASE)
    assert kinds(verify(bent)) == layers
    assert origins == (0, *[1] * len(layers), 2)
    x = np.random.default_rng(1).integers(-128, 128, graph.tensors["x"].shape, dtype=np.int8)
    expected, found = (reference.run(each, {"x": x}) for each in (graph, bent))
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize(("graph", "config"), [
    (bent_graph(size=(64, 3, 4)), BASE),            # four tables, which stay on chip
    (bent_graph(size=(80, 12, 12)), BASE),          # quicker by tables
    (compiler.batch(bent_graph(), 2), BASE),        # frames share them
    (bent_graph(), BASE.replace(vector_taps=0, vector_lines=0)),
], ids=["few", "large", "batch", "none"])
def test_tables_stay(graph, config):
    bent, origins = bend_lookups(graph, config)
    assert bent is graph or kinds(bent) == [Lookup]
    assert origins == tuple(range(len(graph.layers)))


@pytest.mark.parametrize("config", [TINY, SMALL, BASE, BASE.replace(vector_taps=2, vector_lines=0)],
                         ids=["tiny", "small", "base", "two-taps"])
@pytest.mark.parametrize("slopes", [(-1.9, 0.9), (-0.9, 1.9)], ids=["plain", "mirrored"])
def test_a_bent_function_equals_its_tables(config, slopes):
    rng = np.random.default_rng(2)
    graph = bent_graph(seed=3, slopes=slopes)
    program = equal(graph, config, rng)
    assert VectorOp.ADD.value in {fields["op"] for fields in fields_of(program, Engine.VECTOR)}
    assert Memory.LANE_TABLE.value not in {
        fields.get("memory") for fields in fields_of(program, Engine.LOAD)}
    equal(graph, config, rng, keep_tensors=True)


def test_a_function_behind_goes_through_its_table():
    b = GraphBuilder(np.random.default_rng(4), (80, 3, 3))
    graph = b.graph(b.lookup(b.prelu(b.conv(b.input, 80))))
    program = equal(graph, BASE, np.random.default_rng(5))
    add, = {fields["table"] for fields in fields_of(program, Engine.VECTOR)
            if fields["op"] == VectorOp.ADD.value}
    assert add


def test_operands_that_lie_apart_take_a_command_for_each_block():
    # The input is a part of a larger tensor, whose planes are of the same size, and the maximum is
    # not: each block has constants of its own.
    b = GraphBuilder(np.random.default_rng(6), (80, 6, 3))
    graph = b.graph(b.prelu(b.prelu(b.sum(b.conv(b.input, 80), b.conv(b.input, 80)))))
    config = TINY.replace(activation_bytes=4096)
    equal(graph, config, np.random.default_rng(7))
