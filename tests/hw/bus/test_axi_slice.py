import random

import pytest
from amaranth.hdl import Value
from stream_bench import make_simulator

from weft.hw.bus.axi_slice import AxiSlice

CHANNELS = {"ar": False, "aw": False, "w": False, "r": True, "b": True}


def _fields(dut, channel):
    return {name: len(Value.cast(getattr(dut.i, name))) for name in dut.i.signature.members
            if name.startswith(channel) and name[len(channel):] not in ("valid", "ready")}


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_channel_keeps_order_under_stalls(channel):
    rng = random.Random(channel)
    dut = AxiSlice(data_width=64, addr_width=20, id_width=3)
    source, target = (dut.o, dut.i) if CHANNELS[channel] else (dut.i, dut.o)
    fields = _fields(dut, channel)
    sent = [{name: rng.randrange(1 << width) for name, width in fields.items()}
            for _ in range(100)]
    got = []

    async def give(ctx):
        for item in sent:
            while rng.random() < 0.4:
                await ctx.tick()
            for name, value in item.items():
                ctx.set(Value.cast(getattr(source, name)), value)
            ctx.set(getattr(source, f"{channel}valid"), 1)
            while True:
                ready = ctx.get(getattr(source, f"{channel}ready"))
                await ctx.tick()
                if ready:
                    break
            ctx.set(getattr(source, f"{channel}valid"), 0)

    async def take(ctx):
        while len(got) < len(sent):
            ready = rng.random() < 0.6
            ctx.set(getattr(target, f"{channel}ready"), ready)
            if ready and ctx.get(getattr(target, f"{channel}valid")):
                got.append({name: ctx.get(Value.cast(getattr(target, name))) for name in fields})
            await ctx.tick()

    sim = make_simulator(dut)
    sim.add_testbench(give)
    sim.add_testbench(take)
    sim.run()
    assert got == sent


def test_nothing_passes_in_the_same_cycle():
    dut = AxiSlice(data_width=32, addr_width=16)

    async def testbench(ctx):
        for channel, back in CHANNELS.items():
            source, target = (dut.o, dut.i) if back else (dut.i, dut.o)
            ctx.set(getattr(source, f"{channel}valid"), 1)
            assert ctx.get(getattr(source, f"{channel}ready"))
            assert not ctx.get(getattr(target, f"{channel}valid"))
        await ctx.tick()
        for channel, back in CHANNELS.items():
            source, target = (dut.o, dut.i) if back else (dut.i, dut.o)
            assert ctx.get(getattr(target, f"{channel}valid"))

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()
