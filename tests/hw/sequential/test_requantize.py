import numpy as np
import pytest
from requantize_vectors import Group, grouped, product_ties, random_magnitudes
from stream_bench import make_simulator

from weft.hw.sequential.requantize import SerialRequantizer

LONGEST = 68


def check(groups):
    """Feeds all lanes of ``groups`` one after the other."""
    dut = SerialRequantizer()

    async def testbench(ctx):
        for group in groups:
            parameters = [int(value) for value, _width in group.parameters()]
            ctx.set(dut.out_zero, group.zero)
            ctx.set(dut.clamp_min, group.clamp[0])
            ctx.set(dut.clamp_max, group.clamp[1])
            for lane, expected in enumerate(group.expected(32)):
                ctx.set(dut.acc, int(group.acc[lane]))
                ctx.set(dut.start, 1)
                for cycle in range(LONGEST + 1):
                    assert cycle < LONGEST
                    reads, part = ctx.get(dut.read), ctx.get(dut.part)
                    if ctx.get(dut.done):
                        break
                    await ctx.tick()
                    ctx.set(dut.start, 0)
                    if reads:
                        ctx.set(dut.parameter, parameters[2 * lane + part] & 0xffff_ffff)
                assert ctx.get(dut.o) == expected, (group.acc[lane], parameters[2 * lane:][:2])
                await ctx.tick()

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()


def test_results_all_over_the_range_equal_the_reference():
    rng = np.random.default_rng(1)
    acc = random_magnitudes(rng, 1024)
    acc[acc == 0] = 1
    check(grouped(acc, rng.uniform(0, 140, len(acc)) / np.abs(acc)))


def test_any_accumulator_with_any_scale_equals_the_reference():
    rng = np.random.default_rng(2)
    acc = random_magnitudes(rng, 512)
    check(grouped(acc, 2.0 ** rng.uniform(-40, 10, len(acc))))


def test_halves_round_to_even():
    halves = np.arange(-261, 262, 12)
    check([Group(halves, 0.5), Group(halves * 3, np.float32(1 / 6)),
           Group((halves << 15) + 1, 2.0**-16)])


def test_accumulators_beyond_24_bits_round_to_even():
    acc = [(1 << 24) + 1, (1 << 25) + 2, (1 << 25) + 6, -(1 << 26) - 4, (1 << 31) - 1,
           (1 << 25) - 1]
    # A tie but for the lowest bit: 2.5, and the next number above it.
    check([Group([5 << 23, (5 << 23) + 2, (5 << 23) + 3], 2.0**-24)])
    check([Group(acc, scale) for scale in (2.0**-18, 1.5 * 2.0**-19, 2.0**-24)])


def test_products_round_to_even():
    acc, scale = map(np.array, zip(*list(product_ties())[::10], strict=True))
    check(grouped(acc, scale))


@pytest.mark.parametrize("zero, clamp", [(0, (-128, 127)), (-128, (-128, 127)), (127, (-5, 77))])
def test_extremes_saturate_or_vanish_as_in_the_reference(zero, clamp):
    values = [0, 1, -1, 2, 127, 255, -256, (1 << 24) + 1, (1 << 25) + 2, -(1 << 25) - 6,
              (1 << 31) - 1, -(1 << 31)]
    for scale in (0.0, 1.0, 2.0**-9, 2.0**-31, 2.0**90, 2.0**-126):
        check([Group(values, scale, zero=zero, clamp=clamp)])
    for scale in (2.0**97, 2.0**120):
        check([Group([0, 1, -1, 2, -127], scale, zero=zero, clamp=clamp)])


def test_the_sum_with_the_bias_wraps():
    check([Group([(1 << 31) - 1, -(1 << 31), 5], 2.0**-25, bias=[1, -1, -5])])
