from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Value
from amaranth.lib import data
from requantize_vectors import (
    LANES,
    ByteGroup,
    FixedPointGroup,
    Group,
    fixed_point_grouped,
    fixed_point_ties,
    grouped,
    product_ties,
    random_fixed_point,
    random_magnitudes,
    wrap,
)
from stream_bench import make_simulator

from weft.hw.isa.commands import Engine, Rounding
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.subset import roundings
from weft.hw.requantize.requantizer import Requantizer
from weft.sim.cocotb_bench import run_cocotb


def make_config(lanes, **changes):
    values = {"rows": lanes, "cols": lanes, "fip": False, "requant_lanes": lanes,
              "activation_banks": 1, "activation_bytes": 1 << 16, "weight_bytes": 1 << 16}
    return AcceleratorConfig(**values | changes)


def run(config, groups, *, stall=0.0, seed=0):
    """Feeds ``groups``; returns ``(tag, lanes)`` of each cycle with ``valid``, and cycles taken."""
    dut = Requantizer(config, tag_shape=data.StructLayout({"low": 4, "high": 20}),
                      rules=roundings(config, Engine.MATRIX))
    rng = np.random.default_rng(seed)
    lanes = config.requant_lanes
    outputs, sent = [], []

    async def source(ctx):
        garbage = groups[-1].bits(config, 0, valid=0)
        cycle = 0
        for tag, group in enumerate(groups):
            while rng.random() < stall:
                ctx.set(Value.cast(dut.i), garbage)
                await ctx.tick()
                cycle += 1
            ctx.set(Value.cast(dut.i), group.bits(config, tag))
            sent.append(cycle)
            await ctx.tick()
            cycle += 1
        ctx.set(Value.cast(dut.i), garbage)
        await ctx.tick().repeat(dut.latency + 1)

    async def sink(ctx):
        cycle = 0
        async for _clk, _rst, out in ctx.tick().sample(Value.cast(dut.o)):
            if out & 1:
                lane_bytes = (out >> 25).to_bytes(lanes, "little")
                outputs.append((cycle, out >> 1 & (1 << 24) - 1,
                                np.frombuffer(lane_bytes, np.int8)))
            cycle += 1

    sim = make_simulator(dut)
    sim.add_testbench(source)
    sim.add_testbench(sink, background=True)
    sim.run()
    assert [cycle for cycle, _, _ in outputs] == [cycle + dut.latency for cycle in sent]
    assert [tag for _, tag, _ in outputs] == list(range(len(groups)))
    return np.array([lanes for _, _, lanes in outputs])


def check(groups, *, config=None, **kwargs):
    config = config or make_config(len(groups[0].acc))
    outputs = run(config, groups, **kwargs)
    expected = np.array([group.expected(config.accumulator_width) for group in groups])
    np.testing.assert_array_equal(outputs, expected)
    return expected


def test_any_accumulator_with_any_scale():
    rng = np.random.default_rng(1)
    acc = random_magnitudes(rng, 20_000)
    scale = np.ldexp(rng.uniform(1, 2, len(acc)), rng.integers(-40, 11, len(acc)))
    check(grouped(acc, scale))


def test_results_all_over_the_range():
    rng = np.random.default_rng(2)
    acc = random_magnitudes(rng, 20_000)
    acc[acc == 0] = 1
    check(grouped(acc, rng.uniform(0, 140, len(acc)) / np.abs(acc)))


def test_all_bytes_of_sums_as_they_are():
    rng = np.random.default_rng(3)
    acc = np.append(random_magnitudes(rng, 2000), [-2**31, 2**31 - 1, -1, 0, 128, -129])
    acc = np.resize(acc, -(-len(acc) // LANES) * LANES)
    one = np.float32(1).view(np.uint32)
    groups = []
    for start in range(0, len(acc), LANES):
        which = rng.integers(0, 4, LANES).astype(np.uint32)
        groups.append(ByteGroup(acc[start:start + LANES] - 77, (one + which).view(np.float32),
                                bias=77, zero=-128))
        octets = acc[start:start + LANES] >> 8 * which.astype(np.int64) & 255
        assert (groups[-1].rounded(acc[start:start + LANES]) == octets - 128).all()
        groups.append(Group(acc[start:start + LANES], 2.0 ** -20))    # rules may follow each other
    check(groups, stall=0.2)


def test_a_byte_is_scaled_and_clamped():
    rng = np.random.default_rng(4)
    acc = random_magnitudes(rng, 4000)
    scale = np.resize(rng.uniform(0, 2, 4000), -(-4000 // LANES) * LANES)
    acc = np.resize(acc, len(scale))
    check([ByteGroup(acc[k:k + LANES], scale[k:k + LANES], bias=int(rng.integers(-2**31, 2**31)),
                     zero=int(rng.integers(-128, 128)), clamp=(-100, 90))
           for k in range(0, len(acc), LANES)])


def test_halves_round_to_even():
    # With a power of 2 as the scale nothing rounds but the result. The neighbours of each half,
    # by one unit of the accumulator and by one of the scale, round as usual.
    halves = np.arange(-261, 262, 2)
    acc, scale = [], []
    for shift in (1, 2, 5, 12, 20):
        power = np.float32(2.0 ** -shift)
        for value in halves << shift - 1:
            acc += [value - 1, value, value + 1, value, value]
            scale += [power, power, power, np.nextafter(power, np.float32(0)),
                      np.nextafter(power, np.float32(1))]
    expected = check(grouped(acc, scale))
    assert {-2, 0, 2, 126} <= set(expected.ravel())


def test_accumulators_beyond_24_bits_round_to_even():
    # Each accumulator lies half a unit of float32 away from k + 0.5 (times 2**shift): where it
    # rounds to decides to which side of the half the result falls.
    acc, scale = [], []
    for k in range(128):
        for shift in range(18, 31):
            value = 2 * k + 1 << shift - 1
            unit = 1 << max(value.bit_length() - 24, 0)
            if unit == 1 or value + unit >= 1 << 31:
                continue
            for offset in (unit // 2, -unit // 2, unit // 2 + 1, unit // 2 - 1, 3 * unit // 2):
                acc += [value + offset, -value - offset]
                scale += [2.0 ** -shift] * 2
    assert len(acc) > 5000
    expected = check(grouped(acc, scale))
    assert set(range(-128, 128)) >= set(expected.ravel()) >= set(range(-100, 101))


def test_products_round_to_even():
    acc, scale = map(np.array, zip(*product_ties(), strict=True))
    assert len(acc) > 1000
    assert (np.float32(scale) == scale).all()
    check(grouped(np.append(acc, -acc), np.append(scale, scale)))


@pytest.mark.parametrize("zero", [-128, 0, 127])
def test_extremes_saturate_or_vanish(zero):
    integers = np.array([0, 1, 2, 3, 2**24 - 1, 2**24, 2**24 + 1, 2**31 - 65, 2**31 - 64,
                         2**31 - 1, 2**31, 2**30, 255, 256, 257, 511, 512])
    acc = np.concatenate([-integers, integers[integers < 2**31]])
    scale = np.array([0, 2.0**-126, 1.5e-7, 2.0**-33, 2.0**-32, np.nextafter(np.float32(2**-32), 1),
                      2.0**-31, 2.0**-24, 2.0**-2, 0.5 - 2.0**-25, 0.5, 1 - 2.0**-24, 1, 255, 256,
                      2.0**40, 2.0**127, np.finfo(np.float32).max])
    acc, scale = map(np.ravel, np.meshgrid(acc, scale))
    with np.errstate(over="ignore"):  # an infinity saturates
        expected = check(grouped(acc, scale, zero=zero))
    assert {-128, 127, zero} == {expected.min(), expected.max(), zero}


def test_zero_scale_gives_the_zero_point():
    acc = random_magnitudes(np.random.default_rng(3), LANES)
    expected = check([Group(acc, 0, zero=zero) for zero in range(-128, 128)])
    np.testing.assert_array_equal(expected[:, 0], np.arange(-128, 128))


def test_clamp_and_zero_point_may_change_with_every_group():
    rng = np.random.default_rng(4)
    groups = []
    for _ in range(300):
        low, high = sorted(rng.integers(-128, 128, 2))
        acc = random_magnitudes(rng, LANES) | 1
        groups.append(Group(acc, rng.uniform(0, 200, LANES) / np.abs(acc),
                            bias=rng.integers(-9, 10, LANES), zero=int(rng.integers(-128, 128)),
                            clamp=(int(low), int(high))))
    check(groups, stall=0.3)


@pytest.mark.parametrize("accumulator_width", [24, 32])
def test_alpha_is_taken_off_an_accumulator_that_wrapped(accumulator_width):
    rng = np.random.default_rng(5)
    config = make_config(8, fip=True, accumulator_width=accumulator_width)
    half = 1 << accumulator_width - 1
    groups = []
    for _ in range(1000):
        wanted = rng.integers(-half, half, 8)
        alpha = int(rng.integers(-half, half))
        groups.append(Group(wrap(wanted + alpha, accumulator_width), 100 / (np.abs(wanted) + 1),
                            bias=rng.integers(-2**31, 2**31, 8) >> 12, alpha=alpha))
    check(groups, config=config, stall=0.1)
    wraps = [group for group in groups if abs(int(group.acc[0]) - group.alpha) >= half]
    assert len(wraps) > 100


def test_bias_wraps_at_32_bits():
    rng = np.random.default_rng(6)
    bias = rng.integers(2**30, 2**31, LANES)
    check([Group(rng.integers(2**30, 2**31, LANES), 2.0**-24, bias=bias),
           Group(rng.integers(-2**31, -2**30, LANES), 2.0**-24, bias=-bias)])


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_few_lanes(lanes):
    rng = np.random.default_rng(lanes)
    config = make_config(6, requant_lanes=lanes)
    check([Group(rng.integers(-9999, 10000, lanes), rng.uniform(0, 0.02, lanes))
           for _ in range(50)], config=config, stall=0.5)


RULES = (Rounding.FIXED_POINT, Rounding.FIXED_POINT_ONCE)


@pytest.fixture(params=RULES, ids=lambda rule: rule.name.lower())
def rule(request):
    return request.param


def check_fixed_point(groups, **kwargs):
    return check(groups, config=make_config(LANES, fixed_point=True), **kwargs)


def test_fixed_point_all_over_the_range(rule):
    rng = np.random.default_rng(7)
    acc, multiplier, shift = random_fixed_point(rng, 10_000)
    expected = check_fixed_point(fixed_point_grouped(acc, multiplier, shift, rule=rule))
    assert set(range(-128, 128)) == set(expected.ravel())


def test_fixed_point_with_any_shift(rule):
    rng = np.random.default_rng(8)
    acc, multiplier = random_magnitudes(rng, 64 * 80), rng.integers(2**30, 2**31, 64 * 80)
    check_fixed_point(fixed_point_grouped(acc, multiplier, np.repeat(np.arange(-32, 32), 80),
                                          rule=rule))


@pytest.mark.parametrize("zero", [
    -128, *(pytest.param(zero, marks=pytest.mark.slow) for zero in (0, 127))])
def test_fixed_point_at_the_edges_of_int32(rule, zero):
    edges = np.array([-2**31, -2**31 + 1, -2**30 - 1, -2**30, -2**30 + 1, -257, -256, -255, -3, -2,
                      -1, 0, 1, 2, 3, 255, 256, 257, 2**30 - 1, 2**30, 2**30 + 1, 2**31 - 1])
    multipliers = [0, 1, 12345, 2**30 - 1, 2**30, 2**30 + 1, 3 * 2**29, 2**31 - 1]
    grid = np.meshgrid(edges, multipliers, np.arange(-32, 32))
    expected = check_fixed_point(fixed_point_grouped(*map(np.ravel, grid), zero=zero, rule=rule))
    assert {-128, 127, zero} == {expected.min(), expected.max(), zero}


def test_ties_of_every_rounding(rule):
    acc, multiplier, shift = map(np.array, zip(*fixed_point_ties(), strict=True))
    assert len(acc) > 10_000
    first = (acc.astype(np.int64) << np.maximum(shift, 0)) * multiplier % 2**31 == 2**30
    assert (first & (shift > 0)).any() and (first & (shift < 0) & (acc < 0)).any()
    check_fixed_point(fixed_point_grouped(acc, multiplier, shift, rule=rule))


def test_smallest_shift_leaves_nothing_of_any_sum(rule):
    rng = np.random.default_rng(9)
    acc = np.append(random_magnitudes(rng, 8 * LANES - 2), [-2**31, 2**31 - 1])
    expected = check_fixed_point(fixed_point_grouped(
        acc, rng.integers(2**30, 2**31, len(acc)), np.array(-32), zero=5, rule=rule))
    assert (expected == 5).all()


def test_rule_may_change_with_every_group():
    rng = np.random.default_rng(10)
    groups = []
    for number in range(700):
        low, high = sorted(rng.integers(-128, 128, 2)) if number % 3 else (-128, 127)
        common = {"zero": int(rng.integers(-128, 128)), "clamp": (int(low), int(high))}
        bias = rng.integers(-2**26, 2**26, LANES) >> rng.integers(0, 26)
        if rng.random() < 0.5:
            acc, multiplier, shift = random_fixed_point(rng, LANES)
            groups.append(FixedPointGroup(wrap(acc - bias, 32), multiplier, shift, bias=bias,
                                          rule=RULES[rng.integers(2)], **common))
        else:
            acc = random_magnitudes(rng, LANES) | 1
            groups.append(Group(wrap(acc - bias, 32), rng.uniform(0, 200, LANES) / np.abs(acc),
                                bias=bias, **common))
    check_fixed_point(groups, stall=0.2)


def test_bias_of_27_bits_has_a_sign():
    half = 2**26
    groups = [FixedPointGroup(np.full(LANES, -bias + 100), 2**30, 0, bias=bias)
              for bias in (-half, -half + 1, -1, 0, 1, half - 1)]
    assert (check_fixed_point(groups) == 50).all()


@pytest.mark.parametrize("fixed_point", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_verilog_agrees_on_many_vectors(tmp_path, fixed_point):
    config = make_config(2, fip=True, fixed_point=fixed_point)
    run_cocotb(Requantizer(config, tag_shape=24, rules=roundings(config, Engine.MATRIX)),
               name="requantizer",
               bench=Path(__file__).with_name("cocotb_requantizer.py"), build_dir=tmp_path,
               environment={"CONFIG": config.to_json(), "LATENCY": str(Requantizer.latency)})
