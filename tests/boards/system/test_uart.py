# amaranth: UnusedElaboratable=no
import random
import re

import pytest
from stream_bench import make_simulator, stream_put, stream_source

from weft.boards.system.uart import UartReceiver, UartTransmitter, uart_divisor
from weft.hw.isa.config import ConfigError

CLOCK = 1e-6  # of the simulator


async def send_bits(ctx, wire, bits, seconds):
    for bit in bits:
        ctx.set(wire, bit)
        await ctx.delay(seconds)


def frame(byte, stop=1):
    return [0, *(byte >> n & 1 for n in range(8)), stop]


def receive(dut, sender):
    """Bytes, and None for each error, that come while ``sender`` sends."""
    got = []

    async def watch(ctx):
        async for _clk, _rst, data, valid, error in ctx.tick().sample(
                dut.o_data, dut.o_valid, dut.o_error):
            assert not (valid and error)
            if valid:
                got.append(data)
            if error:
                got.append(None)

    async def send(ctx):
        ctx.set(dut.rx, 1)
        await ctx.delay(10.3 * CLOCK)
        await sender(ctx)
        await ctx.delay(20 * CLOCK)

    sim = make_simulator(dut)
    sim.add_testbench(send)
    sim.add_testbench(watch, background=True)
    sim.run()
    return got


@pytest.mark.parametrize("divisor", [4, 5, 8, 33])
@pytest.mark.parametrize("mismatch", [-0.02, 0, 0.02])
@pytest.mark.parametrize("gap", [0, 3])
def test_receives_with_gaps_at_a_baud_rate_that_is_off(divisor, mismatch, gap):
    rng = random.Random(f"{divisor} {mismatch} {gap}")
    sent = [0x00, 0xFF, 0x55, *(rng.randrange(256) for _ in range(60))]
    dut = UartReceiver(divisor=divisor)
    bit = divisor * CLOCK / (1 + mismatch)

    async def sender(ctx):
        for byte in sent:
            await send_bits(ctx, dut.rx, frame(byte), bit)
            await ctx.delay(rng.random() * gap * bit)

    assert receive(dut, sender) == sent


def test_a_low_stop_bit_is_an_error_and_a_cut_line_but_one():
    dut = UartReceiver(divisor=8)

    async def sender(ctx):
        await send_bits(ctx, dut.rx, frame(0x12), 8 * CLOCK)
        await send_bits(ctx, dut.rx, [0] * 100, 8 * CLOCK)
        await send_bits(ctx, dut.rx, [1] * 2, 8 * CLOCK)
        await send_bits(ctx, dut.rx, frame(0x34), 8 * CLOCK)

    assert receive(dut, sender) == [0x12, None, 0x34]


def test_a_spike_is_no_start_bit():
    dut = UartReceiver(divisor=16)

    async def sender(ctx):
        await send_bits(ctx, dut.rx, [0, 1], 3 * CLOCK)
        await ctx.delay(100 * CLOCK)
        await send_bits(ctx, dut.rx, frame(0x5A), 16 * CLOCK)

    assert receive(dut, sender) == [0x5A]


@pytest.mark.parametrize("divisor", [4, 7])
@pytest.mark.parametrize("stall", [0, 0.9])
def test_transmits_every_bit_for_the_same_time(divisor, stall):
    rng = random.Random(divisor)
    sent = [rng.randrange(256) for _ in range(20)]
    dut = UartTransmitter(divisor=divisor)
    levels = []

    async def watch(ctx):
        async for _clk, _rst, level in ctx.tick().sample(dut.tx):
            levels.append(level)

    async def source(ctx):
        await stream_source(dut.i, sent, stall=stall)(ctx)
        await ctx.tick().repeat(12 * divisor)

    sim = make_simulator(dut)
    sim.add_testbench(source)
    sim.add_testbench(watch, background=True)
    sim.run()

    got, at, gaps = [], 0, []
    while 0 in levels[at:]:
        start = levels.index(0, at)
        gaps.append(start - at)
        bits = [levels[start + n * divisor:start + (n + 1) * divisor] for n in range(10)]
        assert all(len(set(bit)) == 1 for bit in bits)
        assert bits[9][0] == 1
        got.append(sum(bit[0] << n for n, bit in enumerate(bits[1:9])))
        at = start + 10 * divisor
    assert got == sent
    if not stall:
        assert set(gaps[1:]) == {0}


def test_transmitter_takes_nothing_while_it_sends():
    dut = UartTransmitter(divisor=4)

    async def testbench(ctx):
        await stream_put(ctx, dut.i, 0xA5)
        for _ in range(39):
            assert not ctx.get(dut.i.ready)
            await ctx.tick()
        assert ctx.get(dut.i.ready)

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize("clock_hz, baud, divisor", [
    (100e6, 3_000_000, 33), (12e6, 3_000_000, 4), (25e6, 115_200, 217)])
def test_divisor_is_the_nearest(clock_hz, baud, divisor):
    assert uart_divisor(clock_hz=clock_hz, baud=baud) == divisor


@pytest.mark.parametrize("clock_hz, baud, message", [
    (25e6, 3_000_000, "Baud must be within 2 % of the clock over a whole number, not 3000000: "
                      "25000000 Hz / 8 is 3125000"),
    (8e6, 3_000_000, "Baud must be at most 2000000, a quarter of the clock, not 3000000"),
])
def test_divisor_wrong(clock_hz, baud, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        uart_divisor(clock_hz=clock_hz, baud=baud)


@pytest.mark.parametrize("kind", [UartReceiver, UartTransmitter])
def test_component_divisor_wrong(kind):
    with pytest.raises(ValueError, match=r"^Divisor must be at least 4, not 3$"):
        kind(divisor=3)
