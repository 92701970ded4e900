"""Floating-point units, bit for bit, where numbers cancel and where rounding decides."""

from fractions import Fraction

import numpy as np
from stream_bench import make_simulator

from weft import reference
from weft.hw.floating.multiply_add import MultiplyAdd
from weft.hw.floating.quotient import QuotientOrRoot


def put(ctx, port, value):
    """Gives a float32 to a port."""
    fraction, exponent = np.frexp(abs(float(value)))
    ctx.set(port.significand, int(fraction * (1 << 24)))
    ctx.set(port.exponent, int(exponent) - 1 if value else 5)   # of zero it does not matter
    ctx.set(port.negative, int(np.signbit(value)))


def got(ctx, port):
    """What a port has, with one zero."""
    size = np.ldexp(float(ctx.get(port.significand)), ctx.get(port.exponent) - 23)
    return float(-size if ctx.get(port.negative) else size) + 0.0


def numbers(rng, count):
    """Of few significant bits or many, near to each other or far, or zero."""
    bits = rng.integers(1, 25, count)
    whole = rng.integers(1 << 23, 1 << 24, count) >> 24 - bits << 24 - bits
    exponent = rng.choice([0, 1, 2, 12, 24, 30], count) - rng.integers(40, 43)
    sign = rng.choice([-1, 1], count) * (rng.random(count) > 0.03)
    return (np.ldexp(whole.astype(float), exponent) * sign).astype(np.float32)


def test_products_and_sums_are_rounded_once():
    rng, count = np.random.default_rng(1), 8_000
    a, b, c = (numbers(rng, count) for _ in range(3))
    product = a.astype(float) * b
    # Nearly what the product takes away, so that few bits or none are left.
    near = 1 + rng.choice([0, 2.0 ** -24, -2.0 ** -23, 2.0 ** -12, 0.5, -0.5, 1, -0.75], count)
    c = np.where(rng.random(count) < 0.5, (-product * near).astype(np.float32), c)
    # Half of the last bit of the product, and a little more or less.
    last = np.ldexp(1.0, np.frexp(product)[1] - 25)
    halves = last * (1 + rng.choice([0, 0, 2.0 ** -23, -2.0 ** -24], count))
    c = np.where(rng.random(count) < 0.2, halves.astype(np.float32), c)
    dut, found = MultiplyAdd(), []

    async def bench(ctx):
        for index in range(count + MultiplyAdd.LATENCY):
            for port, values in ((dut.a, a), (dut.b, b), (dut.c, c)):
                put(ctx, port, values[min(index, count - 1)])
            await ctx.delay(1e-9)
            found.append(got(ctx, dut.o))
            await ctx.tick()

    sim = make_simulator(dut)
    sim.add_testbench(bench)
    sim.run()
    wanted = reference.fma(a, b, c).astype(float) + 0.0
    np.testing.assert_array_equal(found[MultiplyAdd.LATENCY:], wanted)
    assert (wanted == 0).sum() > 100    # that all cancels is among it
    twice = (product.astype(np.float32) + c).astype(float)
    assert (twice != wanted).sum() > 300


def drawn_quotient(rng, root):
    """Numerator of 48 bits with its first bit set, exponent and divisor."""
    if root:    # also squares, and what is next to them
        edge = int(rng.integers(1 << 11, 1 << 12)) ** 2 + int(rng.choice([0, 0, -1, 1]))
        numerator = edge << 48 - edge.bit_length() if rng.random() < 0.4 \
            else int(rng.integers(1 << 23, 1 << 24)) << 24
        return numerator, int(rng.integers(-20, 20)), 1.0
    divisor = int(rng.choice([1 << 23, 3 << 22, (1 << 24) - 1, rng.integers(1 << 23, 1 << 24)]))
    numerator = int(rng.integers(1 << 47, 1 << 48))
    if rng.random() < 0.6:  # of 25 bits, which is just between two of 24; or next to that
        product = divisor * (2 * int(rng.integers(1 << 23, 1 << 24)) + 1)
        numerator = product << 48 - product.bit_length() if product >> 48 == 0 else product >> 1
        numerator = max(1 << 47, min((1 << 48) - 1, numerator + int(rng.choice([0, 0, -1, 1]))))
    if rng.random() < 0.05:
        numerator = 0
    return numerator, int(rng.integers(-20, 20)), np.ldexp(float(divisor), -23)


def test_quotients_and_roots_are_rounded_to_even():
    rng = np.random.default_rng(2)
    kinds = rng.random(700) < 0.4
    cases = [drawn_quotient(rng, root) for root in kinds]
    dut, found = QuotientOrRoot(), []

    async def bench(ctx):
        for root, (numerator, exponent, divisor) in zip(kinds, cases, strict=True):
            ctx.set(dut.a.significand, numerator)
            ctx.set(dut.a.exponent, exponent)
            ctx.set(dut.a.negative, int(not root and exponent % 2))
            put(ctx, dut.b, divisor)
            ctx.set(dut.root, int(root))
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            await ctx.tick().repeat(QuotientOrRoot.LATENCY - 1)
            found.append(got(ctx, dut.o))

    sim = make_simulator(dut)
    sim.add_testbench(bench)
    sim.run()
    ties = 0
    for root, (numerator, exponent, divisor), value in zip(kinds, cases, found, strict=True):
        if root:
            wanted = float(np.sqrt(np.float32(np.ldexp(float(numerator), exponent - 47))))
        else:   # of integers: a float64 would round before float32 does
            wanted = nearest(numerator, int(np.ldexp(divisor, 23)))
            wanted = float(np.ldexp(wanted, exponent - 47 + 23)) * (-1 if exponent % 2 else 1)
            ties += numerator % int(np.ldexp(divisor, 23)) == 0
        assert value == wanted + 0.0, (root, numerator, exponent, divisor)
    assert ties > 30


def nearest(numerator, divisor):
    """A quotient of integers with 24 significant bits, halves to even."""
    shift = numerator.bit_length() - divisor.bit_length() - 24
    quotient = Fraction(numerator, divisor) / Fraction(2) ** shift
    if quotient >= 1 << 24:
        quotient, shift = quotient / 2, shift + 1
    return float(np.ldexp(float(round(quotient)), shift))
