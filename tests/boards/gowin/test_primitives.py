"""What goes into the blocks of a Gowin FPGA, against the portable descriptions."""

import pytest
from primitives import simulate

from weft.boards.gowin.primitives import GowinMemories, GowinMultipliers
from weft.errors import ToolError
from weft.hw.isa.array import ArrayShape
from weft.hw.isa.element import ElementType
from weft.hw.lib.multiplier import Multiplier
from weft.hw.matrix.systolic_array import SystolicArray
from weft.hw.memory.registered import RegisteredMemory


class Platform(GowinMultipliers):
    def __init__(self, blocks, **reserved):
        self.multiplier_blocks = blocks
        self.reserved_blocks = reserved


# And how many blocks of 9 x 9 bits a product of such factors takes.
SHAPES = [
    ({"a_width": 9, "b_width": 9}, 1),
    ({"a_width": 9, "b_width": 9, "latency": 3}, 1),
    ({"a_width": 9, "b_width": 9, "latency": 5}, 1),
    ({"a_width": 2, "b_width": 18}, 2),
    ({"a_width": 18, "b_width": 18, "latency": 4}, 2),
    ({"a_width": 26, "b_width": 25, "latency": 4}, 8),
    ({"a_width": 26, "b_width": 25, "latency": 5}, 8),
    ({"a_width": 33, "b_width": 33, "latency": 6}, 8),
    ({"a_width": 12, "b_width": 30, "latency": 5}, 8),
]


def test_blocks_multiply_as_the_portable_multiplier_does(tmp_path):
    platform = Platform(blocks=100)
    pairs = [(Multiplier(**shape), Multiplier(**shape)) for shape, _blocks in SHAPES]

    simulate(pairs, platform, tmp_path, "gowin.v")

    counts = platform.multiplier_report["other"]
    assert counts == {"blocks": sum(blocks for _, blocks in SHAPES), "in blocks": len(SHAPES)}


def test_a_multiplier_of_another_latency_is_noticed(tmp_path):
    pair = Multiplier(a_width=9, b_width=9), Multiplier(a_width=9, b_width=9, latency=3)

    with pytest.raises(ToolError, match="outputs differ, or a cell is misused"):
        simulate([pair], Platform(blocks=1), tmp_path, "gowin.v", cycles=40)


def test_an_array_multiplies_in_blocks_as_the_portable_one_does(tmp_path):
    shape = ArrayShape(rows=4, cols=2, fip=True, activation=ElementType(8), weight=ElementType(8))
    platform = Platform(blocks=6, array=6)

    simulate([[SystolicArray(shape) for _ in range(2)]], platform, tmp_path, "gowin.v", settle=40,
             cycles=2000)

    assert platform.multiplier_report["array"] == {"blocks": 6, "in blocks": 6}


def test_a_wide_product_leaves_the_blocks_of_the_array_alone():
    platform = Platform(blocks=9, array=2)
    for _ in range(2):
        platform.get_multiplier(Multiplier(a_width=26, b_width=25, latency=5, role="requantize"))
    for _ in range(8):
        platform.get_multiplier(Multiplier(a_width=9, b_width=9, role="vector"))

    assert platform.multiplier_report == {
        "requantize": {"in LUTs": 2}, "vector": {"blocks": 7, "in blocks": 7, "in LUTs": 1}}


# Depths are powers of 2, because the addresses are random.
MEMORIES = [
    {"depth": 16, "width": 45},
    {"depth": 512, "width": 40, "granularity": 8},
    {"depth": 1024, "width": 24, "granularity": 8},
    {"depth": 2048, "width": 16, "granularity": 8},
    {"depth": 4096, "width": 12, "granularity": 6},
    {"depth": 8192, "width": 3},
    {"depth": 16384, "width": 2, "granularity": 1},
]


def test_blocks_keep_what_the_portable_memory_keeps(tmp_path):
    simulate([(RegisteredMemory(**shape), RegisteredMemory(**shape)) for shape in MEMORIES],
             GowinMemories(), tmp_path, "gowin.v", cycles=2000)


def test_a_memory_deeper_than_a_block_is_left_to_synthesis():
    assert GowinMemories().get_registered_memory(RegisteredMemory(depth=16385, width=8)) is None
