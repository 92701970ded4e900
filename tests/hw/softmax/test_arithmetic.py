"""Sums and shares of the softmax engine, bit for bit, where rounding decides."""

from fractions import Fraction

import numpy as np
from stream_bench import make_simulator

from weft.hw.softmax.arithmetic import RowSums, ShareDivider
from weft.hw.softmax.largest import LargestLane

_FIRST = 1 << 23    # the smallest significand


def rounded(significand, exponent):
    """An integer times a power of 2 with a significand of 24 bits, half to even."""
    shift = max(0, significand.bit_length() - 24)
    kept, rest = divmod(significand, 1 << shift)
    kept += rest * 2 > 1 << shift or (rest * 2 == 1 << shift and kept & 1)
    exponent += shift
    return (kept >> 1, exponent + 1) if kept >> 24 else (kept, exponent)


def drawn_term(rng, near):
    """Fraction and exponent: near to ``near``, with few bits or many; or zero."""
    if rng.random() < 0.05:
        return int(rng.integers(0, _FIRST)), 0
    exponent = int(np.clip(near + rng.choice([0, -1, 1, -23, -24, -25, -26, rng.integers(-30, 6)]),
                           1, 511))
    return int(rng.choice([0, _FIRST - 1, 1, 1 << 22, rng.integers(0, _FIRST)])), exponent


def test_sums_are_rounded_to_even():
    rng = np.random.default_rng(1)
    dut = RowSums()
    wrong = []

    async def bench(ctx):
        sums, counts = [(0, 0)] * RowSums.ROWS, [0] * RowSums.ROWS
        for step in range(12_000):
            row = step % RowSums.ROWS
            if counts[row] == 0:
                sums[row] = 0, 0
            near = sums[row][1] if sums[row][0] else int(rng.choice([1, 40, 500]))
            fraction, exponent = drawn_term(rng, near)
            add = bool(rng.random() < 0.9)
            ctx.set(dut.row, row)
            ctx.set(dut.term.fraction, fraction)
            ctx.set(dut.term.exponent, exponent)
            ctx.set(dut.add, add)
            ctx.set(dut.first, counts[row] == 0)
            await ctx.delay(1e-9)
            if counts[row]:
                found = ctx.get(dut.sum.significand), ctx.get(dut.sum.exponent)
                if found[0] != sums[row][0] or (found[0] and found != sums[row]):
                    wrong.append((step, found, sums[row]))
            if add:
                term = _FIRST + fraction if exponent else 0
                least = min(exponent, sums[row][1]) if term and sums[row][0] else \
                    exponent if term else sums[row][1]
                total = (term << max(0, exponent - least)) \
                    + (sums[row][0] << max(0, sums[row][1] - least))
                sums[row] = rounded(total, least)
                counts[row] = (counts[row] + 1) % 9
            await ctx.tick()

    sim = make_simulator(dut)
    sim.add_testbench(bench)
    sim.run()
    assert not wrong, wrong[:3]


def results(dut, cases, latency, give):
    """What a pipeline makes of ``cases``, one in each cycle, that ``give`` sets at its inputs."""
    found = []

    async def bench(ctx):
        for case in [*cases, *[cases[0]] * latency]:
            give(ctx, case)
            await ctx.delay(1e-9)
            found.append(ctx.get(dut.o))
            await ctx.tick()

    sim = make_simulator(dut)
    sim.add_testbench(bench)
    sim.run()
    return found[latency:]


def drawn_share(rng):
    """Operands whose quotient is just between two integers, next to that, or anywhere."""
    significand = int(rng.choice([_FIRST, 2 * _FIRST - 1, rng.integers(_FIRST, 2 * _FIRST)]))
    term, exponent = significand, int(rng.integers(0, 16))
    if rng.random() < 0.7:
        thirds = int(rng.integers(0, 2))    # term and sum are as 4 to 3, or equal
        odd = 2 * int(rng.choice([0, rng.integers(0, 300)])) + 1
        whole = odd * (3 if thirds else 1)
        if thirds:
            part = int(rng.integers(_FIRST // 3 + 1, _FIRST // 2))
            term, significand = 4 * part, 3 * part
        spare = 16 - whole.bit_length()
        factor, behind = whole << spare, spare + 2 * thirds + exponent - 15 + 1
        term += int(rng.choice([0, 0, -1, 1]))
        if not 0 <= behind < 200 or not _FIRST <= term < 2 * _FIRST:
            return drawn_share(rng)
    else:
        factor, behind = int(rng.integers(1 << 15, 1 << 16)), int(rng.choice(
            [0, 1, rng.integers(0, 20), rng.integers(0, 500)]))
        term = int(rng.integers(_FIRST, 2 * _FIRST))
    if not behind:
        significand = max(significand, term)
    own = int(rng.integers(1, 512 - min(behind, 400)))
    return {"term": (term, own), "sum": (significand, own + behind), "factor": factor,
            "exponent": exponent}


def test_shares_are_rounded_to_even():
    rng = np.random.default_rng(2)
    dut = ShareDivider()
    cases = [drawn_share(rng) for _ in range(6_000)]
    ties = 0

    def give(ctx, case):
        ctx.set(dut.term.fraction, case["term"][0] - _FIRST)
        ctx.set(dut.term.exponent, case["term"][1])
        ctx.set(dut.sum.significand, case["sum"][0])
        ctx.set(dut.sum.exponent, case["sum"][1])
        ctx.set(dut.factor, case["factor"])
        ctx.set(dut.exponent, case["exponent"])
        ctx.set(dut.used, 1)

    for case, value in zip(cases, results(dut, cases, ShareDivider.LATENCY, give), strict=True):
        behind = case["sum"][1] - case["term"][1]
        share = Fraction(case["factor"] * case["term"][0], case["sum"][0]) \
            * Fraction(2) ** (case["exponent"] - 15 - behind)
        ties += share * 2 == int(share * 2) != int(share) * 2
        assert value == round(share) if share < 256 else value > 255, case
    assert ties > 1_000


def test_the_largest_of_some_lanes():
    rng = np.random.default_rng(3)
    for lanes in (2, 3, 4, 6, 16):
        dut = LargestLane(lanes)
        cases = [(rng.integers(-128, 128, lanes), int(rng.integers(1, lanes + 1)))
                 for _ in range(100)]

        def give(ctx, case, dut=dut):
            values, count = case
            ctx.set(dut.i, [int(value) for value in values])
            ctx.set(dut.count, count)

        assert results(dut, cases, LargestLane.latency(lanes), give) == [
            values[:count].max() for values, count in cases]
