import random

import pytest
from amaranth.lib import data
from stream_bench import make_simulator, stream_put, stream_sink, stream_source, stream_watch

from weft.hw.lib.register_slice import RegisterSlice


@pytest.mark.parametrize("stalls", [(0, 0), (0.5, 0), (0, 0.5), (0.6, 0.6)])
def test_keeps_order_under_stalls(stalls):
    rng = random.Random(1)
    sent = [rng.randrange(1 << 12) for _ in range(200)]
    got = []
    dut = RegisterSlice(shape=data.StructLayout({"low": 5, "high": 7}))
    sim = make_simulator(dut)
    sim.add_testbench(stream_source(
        dut.i, [{"low": n & 31, "high": n >> 5} for n in sent], stall=stalls[0], seed=1))
    sim.add_testbench(stream_sink(dut.o, got, len(sent), stall=stalls[1], seed=2))
    sim.add_testbench(stream_watch(dut.o), background=True)
    sim.run()
    assert [n.low | n.high << 5 for n in got] == sent


def test_passes_a_payload_in_every_cycle_one_cycle_later():
    dut = RegisterSlice(shape=8)
    got = []

    async def testbench(ctx):
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.i.valid, 1)
        for number in range(20):
            ctx.set(dut.i.payload, number)
            assert ctx.get(dut.i.ready)
            await ctx.tick()
            assert ctx.get(dut.o.valid)
            got.append(ctx.get(dut.o.payload))

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()
    assert got == list(range(20))


def test_ready_does_not_follow_the_other_side_in_the_same_cycle():
    dut = RegisterSlice(shape=8)

    async def testbench(ctx):
        await stream_put(ctx, dut.i, 1)
        await stream_put(ctx, dut.i, 2)
        assert not ctx.get(dut.i.ready)
        ctx.set(dut.o.ready, 1)
        assert not ctx.get(dut.i.ready)
        await ctx.tick()
        assert ctx.get(dut.i.ready)

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()
