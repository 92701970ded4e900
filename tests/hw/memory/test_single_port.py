# amaranth: UnusedElaboratable=no
import random
import re

import pytest
from stream_bench import make_simulator

from weft.hw.memory.single_port import SinglePortMemory


def test_a_word_is_read_or_parts_of_it_are_written():
    dut = SinglePortMemory(depth=16, word_bytes=3)
    rng = random.Random(1)

    async def testbench(ctx):
        words = [0] * 16
        expected = None  # nothing is known of what follows a write
        for _ in range(500):
            address, data = rng.randrange(16), rng.getrandbits(24)
            enable, write = rng.random() < 0.8, rng.choice([0, rng.getrandbits(3)])
            for name, value in (("address", address), ("enable", enable), ("write", write),
                                ("write_data", data)):
                ctx.set(getattr(dut, name), value)
            await ctx.tick()
            if enable:
                mask = sum(0xFF << 8 * lane for lane in range(3) if write >> lane & 1)
                expected = None if write else words[address]
                words[address] = words[address] & ~mask | data & mask
            if expected is not None:
                assert ctx.get(dut.read_data) == expected

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize("arguments, message", [
    ({"depth": 1, "word_bytes": 4}, "Depth must be an integer of at least 2, not 1"),
    ({"depth": 8, "word_bytes": 0}, "Word bytes must be a positive integer, not 0"),
])
def test_wrong_parameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SinglePortMemory(**arguments)
