import random

import pytest
from amaranth.hdl import Value
from stream_bench import make_simulator

from weft.hw.bus.axi import Response
from weft.hw.bus.read_arbiter import ReadArbiter

ADDRESS = ("arid", "araddr", "arlen", "arsize", "arburst")
DATA = ("rid", "rdata", "rresp", "rlast")


def random_fields(rng, port, names):
    return {name: rng.randrange(1 << len(Value.cast(getattr(port, name)))) for name in names}


def put(ctx, port, fields):
    for name, value in fields.items():
        ctx.set(Value.cast(getattr(port, name)), value)


def get(ctx, port, names):
    return {name: ctx.get(Value.cast(getattr(port, name))) for name in names}


@pytest.mark.parametrize("stall", [0, 0.6])
@pytest.mark.parametrize("pause", [(0.7, 0.7), (0.95, 0), (0, 0.5)])
def test_every_address_goes_out_once_and_stays_until_it_is_taken(pause, stall):
    """Against a model in Python: who has the bus keeps it, else the first reader goes first."""
    rng = random.Random(f"{pause} {stall}")
    dut = ReadArbiter(data_width=64, addr_width=32)
    cycles = 400

    async def testbench(ctx):
        offered = [None, None]
        holder = None
        taken = [0, 0]
        for _ in range(cycles):
            for number in range(2):
                if offered[number] is None and rng.random() >= pause[number]:
                    offered[number] = random_fields(rng, dut.axi, ADDRESS)
                    put(ctx, dut.readers[number], offered[number])
                ctx.set(dut.readers[number].arvalid, offered[number] is not None)
            ready = rng.random() >= stall
            ctx.set(dut.axi.arready, ready)
            if holder is None and any(offered):
                holder = 0 if offered[0] else 1
            assert ctx.get(dut.axi.arvalid) == (holder is not None)
            for number in range(2):
                if offered[number] is not None:
                    assert ctx.get(dut.readers[number].arready) == (ready and number == holder)
            if holder is not None:
                assert get(ctx, dut.axi, ADDRESS) == offered[holder]
                if ready:
                    taken[holder] += 1
                    offered[holder] = None
                    holder = None
            await ctx.tick()
        assert all(taken) or 0 in pause

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()


def test_the_second_reader_keeps_the_bus_although_the_first_comes():
    dut = ReadArbiter(data_width=32, addr_width=16)

    async def testbench(ctx):
        put(ctx, dut.readers[0], {"araddr": 0x100, "arid": 0})
        put(ctx, dut.readers[1], {"araddr": 0x200, "arid": 1, "arvalid": 1})
        assert ctx.get(dut.axi.araddr) == 0x200
        await ctx.tick()
        ctx.set(dut.readers[0].arvalid, 1)
        for _ in range(3):
            assert (ctx.get(dut.axi.araddr), ctx.get(dut.axi.arid)) == (0x200, 1)
            assert not ctx.get(dut.readers[0].arready)
            await ctx.tick()
        ctx.set(dut.axi.arready, 1)
        assert ctx.get(dut.readers[1].arready)
        await ctx.tick()
        # The first is next, although the second has another address at once.
        assert (ctx.get(dut.axi.araddr), ctx.get(dut.axi.arid)) == (0x100, 0)
        assert ctx.get(dut.readers[0].arready)
        assert not ctx.get(dut.readers[1].arready)

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()


def test_beats_go_to_both_readers_as_they_are():
    rng = random.Random(1)
    dut = ReadArbiter(data_width=128, addr_width=32)

    async def testbench(ctx):
        for number in range(30):
            beat = random_fields(rng, dut.axi, DATA) | {"rresp": number % len(Response),
                                                        "rvalid": number // 2 % 2}
            put(ctx, dut.axi, beat)
            assert ctx.get(dut.axi.rready)
            for reader in dut.readers:
                assert get(ctx, reader, beat) == beat
            await ctx.tick()

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()
