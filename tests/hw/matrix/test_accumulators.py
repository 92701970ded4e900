"""The accumulators against plain sums."""

import random

import pytest
from stream_bench import make_simulator

from weft.hw.isa.presets import PRESETS
from weft.hw.matrix.accumulators import AccumulatorColumn, Accumulators


def test_two_banks_accumulate_and_drain_side_by_side():
    config = PRESETS["tiny"].replace(accumulator_pixels=16)
    dut = Accumulators(config)
    rng = random.Random(1)
    columns = config.array_columns
    limit = 1 << (config.psum_width - 1)

    # Three tiles in alternating banks; each is drained while the next one accumulates, which
    # takes long enough for it.
    tiles = [(0, 16, 3), (1, 5, 8), (0, 7, 2)]
    events = []  # (bank, pixel, first, psums)
    sums = []
    for bank, pixels, taps in tiles:
        total = [[0] * columns for _ in range(pixels)]
        for tap in range(taps):
            for pixel in range(pixels):
                psums = [rng.randrange(-limit, limit) for _ in range(columns)]
                events.append((bank, pixel, tap == 0, psums))
                total[pixel] = [a + b for a, b in zip(total[pixel], psums, strict=True)]
        sums.append(total)

    async def feed(ctx):
        history = []
        for bank, pixel, first, psums in events:
            ctx.set(dut.i, {"valid": 1, "bank": bank, "pixel": pixel, "first": first})
            history.insert(0, psums)
            for column in range(columns):
                if column < len(history):
                    ctx.set(dut.psums[column], history[column][column])
            await ctx.tick()
        ctx.set(dut.i.valid, 0)
        for number in range(columns):
            for column in range(number + 1, columns):
                ctx.set(dut.psums[column], history[column - number - 1][column])
            await ctx.tick()

    async def drain(ctx):
        start = cycle = 0
        for (bank, pixels, taps), total in zip(tiles, sums, strict=True):
            start += pixels * taps
            # The last pixel went in in cycle `start - 1`.
            while cycle < start - 1 + dut.latency:
                await ctx.tick()
                cycle += 1
            got = []
            for pixel in range(pixels + AccumulatorColumn.DRAIN_LATENCY):
                ctx.set(dut.drain_enable, pixel < pixels)
                ctx.set(dut.drain_bank, bank)
                ctx.set(dut.drain_pixel, pixel % 16)
                if pixel >= AccumulatorColumn.DRAIN_LATENCY:
                    got.append([ctx.get(dut.drain[column]) for column in range(columns)])
                await ctx.tick()
                cycle += 1
            assert got == total

    sim = make_simulator(dut)
    sim.add_testbench(feed)
    sim.add_testbench(drain)
    sim.run()


def test_width_wrong():
    with pytest.raises(ValueError, match=r"^Accumulator width must be at least 21 \(the partial "
                                         r"sum\), not 20$"):
        AccumulatorColumn(psum_width=21, width=20, pixels=16)
