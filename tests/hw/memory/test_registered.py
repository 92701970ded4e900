# amaranth: UnusedElaboratable=no
import random
import re

import pytest
from stream_bench import make_simulator

from weft.hw.memory.registered import RegisteredMemory


def test_data_come_two_cycles_after_their_address_and_parts_are_written_alone():
    dut = RegisteredMemory(depth=16, width=24, granularity=8)
    rng = random.Random(1)

    async def testbench(ctx):
        rows = [0] * 16
        row = 0
        for _ in range(500):
            read, write = rng.sample(range(16), 2)
            data, enable = rng.getrandbits(24), rng.getrandbits(3)
            reading = rng.random() < 0.7
            ctx.set(dut.read_address, read)
            ctx.set(dut.read_enable, reading)
            ctx.set(dut.write_address, write)
            ctx.set(dut.write_data, data)
            ctx.set(dut.write_enable, enable)
            await ctx.tick()
            expected = row
            if reading:
                row = rows[read]
            mask = sum(0xFF << 8 * part for part in range(3) if enable >> part & 1)
            rows[write] = rows[write] & ~mask | data & mask
            assert ctx.get(dut.read_data) == expected

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize("arguments, message", [
    ({"depth": 0, "width": 8}, "Depth must be a positive integer, not 0"),
    ({"depth": 8, "width": "8"}, "Width must be a positive integer, not '8'"),
    ({"depth": 8, "width": 20, "granularity": 8},
     "Granularity must divide the width (20), not 8"),
])
def test_wrong_parameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        RegisteredMemory(**arguments)
