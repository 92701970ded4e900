import dataclasses
import traceback

import numpy as np
import pytest
from graph_builder import GraphBuilder
from sw_programs import equal

from weft.compiler import Grain, SplitSearch, compile
from weft.compiler import passes as compiler_passes
from weft.compiler.compilation import Compilation
from weft.compiler.passes import PASSES
from weft.errors import CompileError
from weft.hw.isa.commands import COMMAND_BYTES, Opcode, VectorOp
from weft.hw.isa.encoding import decode
from weft.hw.isa.presets import PRESETS

TINY = PRESETS["tiny"]


def graph_of(size=(8, 16, 16)):
    builder = GraphBuilder(np.random.default_rng(0), size)
    inner = builder.conv("x", 8, kernel=(3, 3), pads=(1, 1, 1, 1))
    return builder.graph(builder.conv(inner, 8, kernel=(3, 3), pads=(1, 1, 1, 1)))


def test_passes_run_in_order_and_one_after_the_other(monkeypatch):
    ran = []

    def watched(each):
        def run(compilation):
            ran.append(each.name)
            each.run(compilation)
        return dataclasses.replace(each, run=run)

    monkeypatch.setattr(compiler_passes, "PASSES", tuple(map(watched, PASSES)))
    compile(graph_of(), TINY)
    assert ran == [each.name for each in PASSES] and len(set(ran)) == len(ran)


def test_what_no_pass_has_found_yet_is_not_there():
    compilation = Compilation(graph_of(), TINY, keep_tensors=False, base=0, search=SplitSearch())
    PASSES[0].run(compilation)
    with pytest.raises(AttributeError, match=r"has no attribute 'packed'$"):
        PASSES[2].run(compilation)


def test_traceback_of_an_error_names_its_pass():
    with pytest.raises(CompileError) as caught:
        compile(graph_of((600, 3, 3)), TINY.replace(weight_bytes=64))
    names = [frame.name for frame in traceback.extract_tb(caught.tb)]
    assert [each.name for each in PASSES if each.run.__name__ in names] == ["plan memory"]


# Splits -------------------------------------------------------------------------------------------

def searched(matrix, effort=0):
    return SplitSearch(grains=(Grain(matrix=matrix, vector=0),), effort=effort)


def test_grain_sets_the_length_of_commands():
    counts = [compile(graph_of(), TINY, search=searched(matrix)).count
              for matrix in (float("inf"), 2000, 0)]
    assert counts == sorted(set(counts))
    # What is not split: the input's load, two layers with two constants each, and the store.
    assert counts[0] == 1 + 2 * 3 + 1


def test_search_finds_a_better_split_than_its_first():
    first, found = (compile(graph_of(), TINY, search=searched(0, effort))
                    for effort in (0, 10_000))
    assert found.count < first.count


def test_result_does_not_depend_on_the_split():
    for matrix in (0, 700):
        equal(graph_of(), TINY, np.random.default_rng(1), search=searched(matrix))


def test_a_product_with_a_factor_of_all_channels_is_split_by_rows():
    """Not by channels, as the layers are that make the factor: the convolution behind it needs all
    channels of a row."""
    builder = GraphBuilder(np.random.default_rng(3), (8, 12, 12))
    x = builder.depthwise(builder.conv("x", 32))
    gate = builder.conv(builder.global_average(x), 32)
    graph = builder.graph(builder.conv(builder.product(x, gate), 8))
    search = SplitSearch(grains=(Grain(matrix=100, vector=100),), effort=0)
    commands = compile(graph, TINY, search=search).commands
    decoded = [decode(commands[at:at + COMMAND_BYTES])
               for at in range(0, len(commands), COMMAND_BYTES)]
    products = [fields for opcode, fields in decoded
                if opcode is Opcode.VECTOR and VectorOp(fields["op"]) is VectorOp.MULTIPLY]
    assert len(products) > 1 and {fields["blocks"] for fields in products} == {32 // TINY.rows}
    convolved = [fields for opcode, fields in decoded
                 if opcode is Opcode.VECTOR and VectorOp(fields["op"]) is VectorOp.CONV]
    assert min(fields["blocks"] for fields in convolved) < 32 // TINY.rows


def test_search_without_grains_wrong():
    with pytest.raises(ValueError, match=r"^Search must have at least one grain, not none$"):
        SplitSearch(grains=())
