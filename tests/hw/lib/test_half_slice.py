import random

import pytest
from stream_bench import make_simulator, stream_put, stream_sink, stream_source, stream_watch

from weft.hw.lib.half_slice import HalfSlice


@pytest.mark.parametrize("width", [1, 64, 65, 500])
@pytest.mark.parametrize("stalls", [(0, 0), (0.5, 0), (0, 0.5), (0.6, 0.6)])
def test_keeps_order_under_stalls(width, stalls):
    rng = random.Random(width)
    sent = [rng.getrandbits(width) for _ in range(100)]
    got = []
    dut = HalfSlice(shape=width)
    sim = make_simulator(dut)
    sim.add_testbench(stream_source(dut.i, sent, stall=stalls[0], seed=1))
    sim.add_testbench(stream_sink(dut.o, got, stall=stalls[1], seed=2), background=True)
    sim.add_testbench(stream_watch(dut.o), background=True)

    async def drain(ctx):  # a payload that came out twice would be there by then
        while len(got) < len(sent):
            await ctx.tick()
        await ctx.tick().repeat(20)

    sim.add_testbench(drain)
    sim.run()
    assert got == sent


def test_passes_a_payload_in_every_second_cycle_one_cycle_later():
    dut = HalfSlice(shape=65)

    async def testbench(ctx):
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.i.valid, 1)
        for number in range(20):
            assert ctx.get(dut.i.ready) and not ctx.get(dut.o.valid)
            ctx.set(dut.i.payload, number << 60)
            await ctx.tick()
            assert not ctx.get(dut.i.ready) and ctx.get(dut.o.valid)
            ctx.set(dut.i.payload, 1)
            assert ctx.get(dut.o.payload) == number << 60
            await ctx.tick()

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()


def test_ready_does_not_follow_the_other_side_in_the_same_cycle():
    dut = HalfSlice(shape=8)

    async def testbench(ctx):
        await stream_put(ctx, dut.i, 1)
        assert not ctx.get(dut.i.ready)
        ctx.set(dut.o.ready, 1)
        assert not ctx.get(dut.i.ready)
        await ctx.tick()
        assert ctx.get(dut.i.ready)

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()
