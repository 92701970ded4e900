"""Loads of weights are cut where what they overwrite is free at different times."""

import numpy as np
import pytest
from graphs import GraphBuilder
from sw_programs import equal

from weft.compiler.assembly.pieces import cut_loads
from weft.compiler.ops import Address, Buffer, Lowered, Op, Region, Space
from weft.hw.isa.commands import Engine, Memory, Opcode
from weft.hw.isa.presets import PRESETS

BASE = PRESETS["base"]
ROW = BASE.weight_row_bytes


def load(name, rows):
    """Constant, and its load."""
    source = Buffer(name=name, space=Space.EXTERNAL, size=rows * ROW, layer=name)
    target = Buffer(name=name, space=Space.WEIGHT, size=rows, layer=name)
    return target, Op(
        opcode=Opcode.LOAD, layer=0, text=name,
        fields={"memory": Memory.WEIGHT, "lines": 1, "address": Address(source), "stride": 0,
                "units": rows, "local_address": Address(target), "local_stride": 0},
        reads=(Region.whole(source),), writes=(Region.whole(target),))


def use(buffer, start, stop):
    return Op(opcode=Opcode.MATRIX, layer=0, text="", fields={},
              reads=(Region(buffer, start, stop),), writes=())


def cut(ops, placed):
    """Units of the pieces of the last load, in order."""
    lowered = cut_loads(Lowered(ops=tuple(ops), external=(), slots={}, placed=placed), BASE)
    pieces = [op for op in lowered.ops if op.text.startswith("new")]
    start = 0
    for op in pieces:
        (source,), (target,) = op.reads, op.writes
        assert target.start == start == op.fields["local_address"].offset
        assert source.start == start * ROW == op.fields["address"].offset
        assert target.stop - start == op.fields["units"]
        assert source.stop == target.stop * ROW
        start = target.stop
    assert start == pieces[-1].writes[0].buffer.size
    return [op.fields["units"] for op in pieces]


def test_piece_for_each_place_that_is_free_at_its_own_time():
    one, load_one = load("one", 400)
    two, load_two = load("two", 600)
    new, load_new = load("new", 1000)
    # What is read in parts is free in parts; rows 300 and on are read to the end.
    ops = [load_one, load_two, use(one, 0, 400), use(two, 0, 300), use(two, 200, 600), load_new]
    assert cut(ops, {one: 100, two: 500, new: 200}) == [300, 200, 400, 100]
    assert cut(ops, {one: 100, two: 500, new: 500}) == [200, 400, 400]
    # Nobody was there.
    assert cut(ops, {one: 0, two: 400, new: 1000}) == [1000]
    # What one command read last is one place.
    assert cut([*ops[:-1], use(one, 0, 400), load_new], {one: 0, two: 400, new: 0}) == \
        [400, 200, 400]
    assert cut([load_one, use(one, 0, 100), use(one, 0, 400), load_new], {one: 0, new: 0}) == \
        [400, 600]


def test_pieces_are_worth_a_command():
    one, load_one = load("one", 400)
    new, load_new = load("new", 500)
    ops = [load_one, use(one, 0, 1), use(one, 10, 400), load_new]
    assert cut(ops, {one: 0, new: 0}) == [400, 100]
    assert cut(ops, {one: 0, new: 390}) == [500]


@pytest.mark.parametrize("seed", range(3))
def test_layers_with_pieces_equal_the_reference(seed):
    rng = np.random.default_rng(seed)
    builder = GraphBuilder(rng, (48, 5, 4))
    x = builder.input
    for filters in rng.integers(20, 90, 8):
        x = builder.conv(x, int(filters), kernel=(3, 1), pads=(1, 0, 1, 0))
    program = equal(builder.graph(x), PRESETS["tiny"].replace(weight_bytes=20000), rng)
    pieces = [info.text for info in program.infos
              if info.engine is Engine.LOAD and " weights" in info.text and " rows " in info.text]
    assert len(pieces) > 3
