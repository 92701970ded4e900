# amaranth: UnusedElaboratable=no
"""The splitter of bursts against a loop that goes beat by beat."""

import random

import pytest
from stream_bench import make_simulator, stream_sink, stream_source, stream_watch

from weft.hw.bus.burst import BurstSplitter


def expected_bursts(address, beats, *, beat_bytes, burst_beats):
    """(address, length, last) of the longest bursts that stay inside 4 KiB."""
    bursts = []
    while beats:
        count = 1
        while count < min(beats, burst_beats) and (address + count * beat_bytes) % 4096:
            count += 1
        beats -= count
        bursts.append((address, count - 1, beats == 0))
        address += count * beat_bytes
    return bursts


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("data_width, burst_beats", [
    (32, 256), (32, 16), (64, 1), (64, 2), (128, 64), (512, 64), (512, 4)])
def test_bursts_are_as_long_as_they_may_be(data_width, burst_beats, stall):
    rng = random.Random(f"{data_width} {burst_beats} {stall}")
    beat_bytes = data_width // 8
    dut = BurstSplitter(data_width=data_width, addr_width=32, burst_beats=burst_beats)
    requests = [(4096 * rng.randrange(1 << 20) - beat_bytes * rng.randrange(1, 2 * burst_beats + 1)
                 + (4096 << 8), rng.choice([rng.randint(1, 4 * burst_beats), burst_beats,
                                            burst_beats + 1, 1]))
                for _ in range(20)]
    requests.append(((1 << 32) - 3 * beat_bytes, 3))
    expected = [burst for address, beats in requests for burst in expected_bursts(
        address, beats, beat_bytes=beat_bytes, burst_beats=burst_beats)]
    bursts = []

    async def finish(ctx):
        assert ctx.get(dut.idle)
        await stream_source(dut.i, [{"address": address, "beats": beats}
                                    for address, beats in requests], stall=stall)(ctx)
        assert not ctx.get(dut.idle)
        await ctx.tick().until(dut.idle)
        assert len(bursts) == len(expected)

    sim = make_simulator(dut)
    sim.add_testbench(finish)
    sim.add_testbench(stream_sink(dut.o, bursts, stall=stall, seed=1), background=True)
    sim.add_testbench(stream_watch(dut.o), background=True)
    sim.run()
    assert [(burst.address, burst.length, burst.last) for burst in bursts] == expected


def test_a_long_request_becomes_a_burst_in_each_period():
    dut = BurstSplitter(data_width=32, addr_width=40, burst_beats=4)
    taken, times = [], []

    async def watch(ctx):
        cycle = 0
        ctx.set(dut.o.ready, 1)
        async for _clk, _rst, takes, valid in ctx.tick().sample(
                dut.i.valid & dut.i.ready, dut.o.valid):
            cycle += 1
            if takes:
                taken.append(cycle)
            if valid:
                times.append(cycle)

    async def feed(ctx):
        await stream_source(dut.i, [{"address": 0xff_ffff_0000, "beats": 36},
                                    {"address": 0, "beats": 4}])(ctx)
        await ctx.tick().repeat(5)

    sim = make_simulator(dut)
    sim.add_testbench(feed)
    sim.add_testbench(watch, background=True)
    sim.run()
    assert times == [taken[0] + BurstSplitter.LATENCY + BurstSplitter.PERIOD * number
                     for number in range(10)]


@pytest.mark.parametrize("data_width, burst_beats, highest", [
    (32, 3, 256), (32, 512, 256), (128, 512, 256), (256, 256, 128), (512, 128, 64), (64, 0, 256)])
def test_lengths_that_the_bus_has_not_are_refused(data_width, burst_beats, highest):
    with pytest.raises(ValueError, match=(
            f"^Burst beats must be a power of 2 between 1 and {highest} at a data width of "
            f"{data_width}, not {burst_beats}$")):
        BurstSplitter(data_width=data_width, addr_width=32, burst_beats=burst_beats)
