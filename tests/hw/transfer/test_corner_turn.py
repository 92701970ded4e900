import numpy as np
import pytest
from amaranth.hdl import Value
from stream_bench import make_simulator

from weft.hw.transfer.corner_turn import CornerTurn


@pytest.mark.parametrize("size, stall", [(2, 0.0), (4, 0.0), (4, 0.5), (6, 0.3), (16, 0.0)])
def test_lanes_of_a_block_leave_as_the_next_one_enters(size, stall):
    rng = np.random.default_rng(size)
    blocks = rng.integers(0, 256, (5, size, size))     # [block][word][lane]
    dut = CornerTurn(size)
    found = []

    async def testbench(ctx):
        for block in [*blocks, blocks[0]]:
            for number in reversed(range(size)):
                while rng.random() < stall:
                    await ctx.tick()
                ctx.set(dut.i, [int(value) for value in block[number]])
                ctx.set(dut.last, number == 0)
                ctx.set(dut.step, 1)
                bits = ctx.get(Value.cast(dut.o))
                found.append([bits >> 8 * lane & 0xff for lane in range(size)])
                await ctx.tick()
                ctx.set(dut.step, 0)

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()
    # Lane k of all words, the last lane first.
    expected = [block[:, lane] for block in blocks for lane in reversed(range(size))]
    np.testing.assert_array_equal(found[size:], expected)


def test_a_block_has_two_words_at_least():
    with pytest.raises(ValueError, match=r"^Size must be at least 2, not 1$"):
        CornerTurn(1)
