"""Functions behind convolutions become tables of these."""

import numpy as np
import pytest
from graph_builder import GraphBuilder
from pysim_device import PysimDevice
from sw_programs import equal, fields_of

from weft import reference
from weft.compiler.folding import fold_lookups
from weft.compiler.verify import verify
from weft.hw.isa.commands import Engine
from weft.hw.isa.presets import PRESETS
from weft.ir import Convolution
from weft.runtime.device.functional import FunctionalDevice

TINY = PRESETS["tiny"]


def builder(size=(8, 6, 6), seed=0):
    return GraphBuilder(np.random.default_rng(seed), size)


def test_a_function_that_alone_reads_a_convolution_is_its_table():
    b = builder()
    first = b.lookup(b.conv("x", 8))
    graph = b.graph(b.lookup(b.conv(first, 12, kernel=(3, 3))))
    folded, origins = fold_lookups(graph, TINY)
    assert [type(layer) for layer in verify(folded).layers] == [Convolution, Convolution]
    assert origins == (0, 2)
    assert set(folded.tensors) == {"x", first, graph.layers[-1].output}
    x = np.random.default_rng(1).integers(-128, 128, (8, 6, 6), dtype=np.int8)
    expected, found = (reference.run(each, {"x": x}) for each in (graph, folded))
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name])


def test_a_function_stays_a_layer_where_it_does_not_fit():
    b = builder()
    twice = b.conv("x", 8)                      # read twice
    output = b.conv("x", 8)                     # read by the host as well
    graph = b.graph(b.sum(b.lookup(twice), b.lookup(twice)), output, b.lookup(output),
                    b.lookup("x"))              # of no convolution
    folded, origins = fold_lookups(graph, TINY)
    assert folded is graph and origins == tuple(range(len(graph.layers)))


def test_without_tables_in_the_drain_nothing_is_folded():
    b = builder()
    graph = b.graph(b.lookup(b.conv("x", 8)))
    folded, origins = fold_lookups(graph, TINY.replace(drain_lookup=False))
    assert folded is graph and origins == (0, 1)


@pytest.mark.parametrize("config", [TINY, PRESETS["base"]], ids=lambda c: c.name)
def test_a_folded_function_takes_no_vector_command(config):
    rng = np.random.default_rng(2)
    b = builder((20, 7, 5))
    graph = b.graph(b.lookup(b.conv(b.lookup(b.conv("x", 13, kernel=(3, 3))), 18)))
    program = equal(graph, config, rng)
    assert fields_of(program, Engine.VECTOR) == []
    assert sorted({fields["table"] for fields in fields_of(program, Engine.MATRIX)}) == [1, 2]
    assert [len(layer.commands) > 0 for layer in program.layers] == [True, False, True, False]


def test_more_functions_than_tables_take_turns():
    rng = np.random.default_rng(3)
    b, tensor = builder(), "x"
    for _ in range(7):
        tensor = b.lookup(b.conv(tensor, 8))
    program = equal(b.graph(tensor), TINY.replace(vector_tables=2), rng)
    assert len(fields_of(program, Engine.MATRIX)) >= 7


def test_without_a_vector_engine_functions_behind_convolutions_still_run():
    b = builder()
    graph = b.graph(b.lookup(b.conv("x", 8)))
    equal(graph, TINY.replace(vector_taps=0), np.random.default_rng(4))


def test_a_tensor_that_is_kept_is_made_without_the_function():
    rng = np.random.default_rng(5)
    b = builder()
    equal(b.graph(b.conv(b.lookup(b.conv("x", 8)), 8)), TINY, rng, keep_tensors=True)


def test_a_group_has_the_tables_of_its_layers():
    # Planes that do not fit on chip: depth first, each layer with a table.
    rng = np.random.default_rng(6)
    b = builder((4, 40, 40))
    inner = b.lookup(b.conv("x", 16))
    graph = b.graph(b.lookup(b.conv(inner, 4)))
    config = TINY.replace(activation_bytes=12 * 1024)
    program = equal(graph, config, rng)
    matrix = fields_of(program, Engine.MATRIX)
    assert len(matrix) > 4 and {fields["table"] for fields in matrix} == {1, 2}


WORDS = TINY.replace(requant_lanes=4)   # results come as words


@pytest.mark.parametrize("make", [FunctionalDevice, PysimDevice])
def test_functions_of_each_channel_behind_a_convolution(make):
    rng = np.random.default_rng(7)
    b = builder((5, 4, 3))
    first = b.lookup(b.conv("x", 7), by_channel=True)
    graph = b.graph(b.lookup(b.conv(first, 8, kernel=(3, 3), pads=(1, 1, 1, 1)), by_channel=True))
    program = equal(graph, WORDS, rng, make=make)
    assert fields_of(program, Engine.VECTOR) == []
    matrix = fields_of(program, Engine.MATRIX)
    # Two channel blocks, which have tables of their own; the last ones behind the first ones.
    assert [(fields["col_tiles"], fields["table"]) for fields in matrix] == [
        (1, 1), (1, 2), (1, 3), (1, 4)]


def test_functions_of_each_channel_take_the_vector_engine_where_tables_are_too_many():
    b = builder()
    few, many = (b.lookup(b.conv("x", channels), by_channel=True) for channels in (8, 9))
    for config, folded in ((WORDS, [few]), (TINY, []), (WORDS.replace(cols=8), []),
                           (WORDS.replace(vector_taps=0), []),
                           (WORDS.replace(vector_tables=6), [few, many])):
        found, _ = fold_lookups(b.graph(few, many), config)
        assert [layer.output for layer in found.layers if layer.function] == folded


def test_a_group_has_the_tables_of_all_its_channel_blocks():
    rng = np.random.default_rng(8)
    b = builder((4, 40, 40))
    inner = b.lookup(b.conv("x", 8), by_channel=True)
    graph = b.graph(b.lookup(b.conv(inner, 8), by_channel=True))
    config = WORDS.replace(activation_bytes=12 * 1024)
    for tables in (4, 16):
        equal(graph, config.replace(vector_tables=tables), rng)


def test_a_deep_convolution_has_a_table_for_each_column_tile():
    rng = np.random.default_rng(9)
    b = builder((600, 2, 2))
    graph = b.graph(b.lookup(b.conv("x", 8, kernel=(3, 3), pads=(1, 1, 1, 1)), by_channel=True))
    program = equal(graph, WORDS.replace(weight_bytes=16 * 1024), rng)
    matrix = fields_of(program, Engine.MATRIX)
    assert {fields["table"] for fields in matrix if not fields["keep"]} == {1, 2}
    assert any(fields["keep"] for fields in matrix)
