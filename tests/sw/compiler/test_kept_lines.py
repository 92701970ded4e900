"""Tiles that go on with the rows that the vector engine has kept of the tile before."""

from dataclasses import replace

import numpy as np
import pytest
from configs import LINES
from graph_builder import GraphBuilder
from sw_programs import equal, fields_of

from weft.compiler import Grain, ProgramError, SplitSearch, check, compile
from weft.compiler.lowering.kept_lines import KeptLines
from weft.compiler.planning.loop_order import Axis, best_loop_order
from weft.hw.isa.commands import COMMAND_BYTES, Engine, Opcode
from weft.hw.isa.encoding import encode
from weft.hw.isa.presets import PRESETS

TEN = LINES.replace(vector_taps=10, vector_lines=64)
ROWS = SplitSearch(grains=(Grain(matrix=0, vector=0),), effort=0)  # a command for each row


def windows(rng, shape=(6, 9, 7)):
    """Convolutions and maxima of 3x3 and 5x5, one behind the other."""
    builder = GraphBuilder(rng, shape)
    x = builder.input
    for size, stride in ((3, 1), (5, 1), (3, 2)):
        pads = (size // 2,) * 4
        x = builder.depthwise(x, kernel=(size, size), strides=(stride, stride), pads=pads)
        x = builder.max_pool(x, kernel=(size, size), pads=pads)
    return builder.graph(x)


def kept(program):
    return [fields for fields in fields_of(program, Engine.VECTOR) if fields["lines"]]


@pytest.mark.parametrize("lines", [16, 32, 64])
@pytest.mark.parametrize("seed", range(3))
def test_layers_row_by_row_equal_the_reference(lines, seed):
    rng = np.random.default_rng(seed)
    config = TEN.replace(vector_lines=lines)
    program = equal(windows(rng, (int(rng.integers(1, 20)), 9, 7)), config, rng, seed=seed,
                    keep_tensors=True, search=ROWS)
    assert all(not fields["resumes"] or fields["blocks"] * fields["out_inner"] <= lines
               for fields in kept(program))


def test_all_rows_but_the_first_resume():
    program = compile(windows(np.random.default_rng(0)), TEN, search=ROWS)
    first = [fields for fields in kept(program) if not fields["resumes"]]
    assert len(first) == 6
    assert len(kept(program)) == 4 * 9 + 2 * 5


def test_groups_of_layers_resume():
    """A window in the tiles of a group, between which rows are moved and other layers computed."""
    rng = np.random.default_rng(1)
    builder = GraphBuilder(rng, (4, 40, 14))
    x = builder.conv(builder.input, 8)
    for _ in range(2):
        x = builder.conv(builder.depthwise(x, pads=(1, 1, 1, 1)), 8)
    program = equal(builder.graph(x), TEN.replace(activation_bytes=TEN.rows * 400), rng)
    assert any(" keep rows " in info.text for info in program.infos)
    assert sum(not fields["resumes"] for fields in kept(program)) == 2
    assert len(kept(program)) > 40


def test_check_finds_rows_that_are_lost():
    program = compile(windows(np.random.default_rng(0)), TEN, search=ROWS)
    index = next(index for index, info in enumerate(program.infos)
                 if info.engine is Engine.VECTOR)
    fields = kept(program)[0]

    def spoiled(**changes):
        raw = bytearray(program.commands)
        raw[index * COMMAND_BYTES:(index + 1) * COMMAND_BYTES] = encode(
            Opcode.VECTOR, **fields | changes)
        return replace(program, commands=bytes(raw), warm_commands=b"")

    check(spoiled())
    for changes in ({"resumes": 1}, {"quarter": 2}, {"in_zero": fields["in_zero"] ^ 1}):
        with pytest.raises(ProgramError, match=r"goes on with lines that another command has "
                                               r"overwritten$"):
            check(spoiled(**changes))


def test_lines_are_given_in_quarters():
    lines = KeptLines(PRESETS["base"].replace(vector_lines=64))

    def take(run, first, count):
        quarter, resumes, region = lines.take(run, range(first, first + 2), count)
        assert region.start == 16 * quarter
        return quarter, resumes, (region.stop - region.start) // 16

    assert take("a", 0, 17) == (0, False, 2)
    assert take("b", 0, 16) == (2, False, 1)
    assert take("a", 2, 17) == (0, True, 2)
    assert take("b", 4, 16) == (2, False, 1)    # two rows are missing
    assert take(None, 0, 20) == (0, False, 2)   # in the place of a
    assert take("b", 6, 16) == (2, True, 1)
    assert take("a", 4, 17) == (2, False, 2)    # in the place of b
    assert take("c", 0, 65) == (0, False, 4)
    assert take("c", 2, 65) == (0, False, 4)    # there are not as many


def test_a_tile_that_resumes_takes_no_longer_for_its_first_row():
    base = PRESETS["base"]

    def axis(stride=1):
        return Axis(size=32, pitch=1, out=10, out_pitch=1, kernel=5, stride=stride, pad=2)

    def cycles(rows, blocks):
        return best_loop_order(base, axis(), axis(), scaled=True, rows=rows, blocks=blocks).cycles

    assert cycles(2, 3) == 12 * 2 * 3
    assert cycles(2, 0) == 12 * (3 + 3)
    assert cycles(None, 3) == 12 * (3 + 9 * 3)
    assert cycles(2, base.vector_lines) == cycles(2, 0)
