"""The quantizer of the normalization engine, at and next to its thresholds."""

import numpy as np
import pytest
from stream_bench import make_simulator

from weft import reference
from weft.hw.isa.constants import RowConstant
from weft.hw.memory.registered import RegisteredMemory
from weft.hw.normalize.thresholds import ThresholdQuantizer
from weft.ir import layout


@pytest.mark.parametrize("scale, zero", [
    (1.0, 0), (0.05, -128), (0.0123, 127), (1e-12, 3), (3e11, -7), (0.3333, 60)])
def test_numbers_are_quantized_as_the_reference_does(scale, zero):
    rng = np.random.default_rng(abs(zero))
    scale = float(np.float32(scale))
    edges = reference.thresholds(scale, zero)
    cases = np.concatenate([
        edges, np.nextafter(edges, np.float32(-np.inf)), np.nextafter(edges, np.float32(np.inf)),
        (rng.uniform(-300, 300, 300) * scale).astype(np.float32),
        np.ldexp(rng.uniform(-1, 1, 100), rng.integers(-100, 60, 100)).astype(np.float32),
        np.float32([0])])
    cases = cases[np.isfinite(cases) & ((np.abs(cases) > 1e-37) | (cases == 0))]
    table = layout.pack_normalization(np.zeros(256), edges, np.zeros(0), np.zeros(0)).view("<u4")
    table = table.reshape(-1)[RowConstant.THRESHOLDS:]
    fraction, exponent = np.frexp(1 / scale)
    dut, found = ThresholdQuantizer(), []

    async def bench(ctx):
        ctx.set(dut.rate, int(fraction * (1 << 16)))
        ctx.set(dut.rate_exponent, int(exponent) - 1)
        ctx.set(dut.zero, zero)
        asked = [0] * RegisteredMemory.LATENCY
        for case in [*cases, *cases[:1].repeat(ThresholdQuantizer.LATENCY)]:
            fraction_, exponent_ = np.frexp(abs(float(case)))
            ctx.set(dut.i.significand, int(fraction_ * (1 << 24)))
            ctx.set(dut.i.exponent, int(exponent_) - 1)
            ctx.set(dut.i.negative, int(case < 0))
            ctx.set(dut.threshold, int(table[asked[-1]]))
            await ctx.delay(1e-9)
            found.append(ctx.get(dut.o))
            asked = [ctx.get(dut.index), *asked[:-1]]
            await ctx.tick()

    sim = make_simulator(dut)
    sim.add_testbench(bench)
    sim.run()
    values = np.array(found[ThresholdQuantizer.LATENCY:], np.uint8).view(np.int8)
    np.testing.assert_array_equal(values, reference.quantize(cases, scale, zero))
