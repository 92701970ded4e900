import pytest
from primitives import simulate

from weft.boards.ecp5.memory import ECP5Memories
from weft.hw.memory.registered import RegisteredMemory

# Depths are powers of 2, because the addresses are random.
SHAPES = [
    {"depth": 16, "width": 45},
    {"depth": 512, "width": 40, "granularity": 8},
    {"depth": 1024, "width": 24, "granularity": 8},
    {"depth": 2048, "width": 16, "granularity": 8},
    {"depth": 4096, "width": 12, "granularity": 6},
    {"depth": 8192, "width": 3},
    {"depth": 16384, "width": 2, "granularity": 1},
]


@pytest.mark.parametrize("shapes", [SHAPES[::3], pytest.param(SHAPES, marks=pytest.mark.slow)])
def test_blocks_keep_what_the_portable_memory_keeps(tmp_path, shapes):
    simulate([(RegisteredMemory(**shape), RegisteredMemory(**shape)) for shape in shapes],
             ECP5Memories(), tmp_path, "ecp5.v", cycles=2000)


def test_a_memory_deeper_than_a_block_is_left_to_synthesis():
    assert ECP5Memories().get_registered_memory(RegisteredMemory(depth=16385, width=8)) is None
