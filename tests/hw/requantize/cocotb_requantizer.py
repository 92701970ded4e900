"""Benches for the requantizer, run by ``test_requantize.py`` on its Verilog."""

import json
import os

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from requantize_vectors import (
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

from weft.hw.isa.commands import Rounding
from weft.hw.isa.config import AcceleratorConfig

CONFIG = AcceleratorConfig(**json.loads(os.environ["CONFIG"]))
LATENCY = int(os.environ["LATENCY"])
LANES = CONFIG.requant_lanes
FIXED_POINT = (Rounding.FIXED_POINT, Rounding.FIXED_POINT_ONCE)


async def check(dut, groups):
    """One group per cycle, written and read at falling edges."""
    cocotb.start_soon(Clock(dut.clk, 10, "ns").start())
    dut.rst.value = 1
    dut.i.value = 0
    for _ in range(LATENCY + 2):
        await FallingEdge(dut.clk)
    dut.rst.value = 0

    idle = groups[0].bits(CONFIG, 0, valid=0)
    sent = []
    for cycle in range(len(groups) + LATENCY):
        sent.append(cycle < len(groups) and cycle % 7 != 3)
        dut.i.value = groups[cycle].bits(CONFIG, cycle) if sent[-1] else idle
        await FallingEdge(dut.clk)
        # What was written before `LATENCY` rising edges shows behind the last of them.
        number = cycle - LATENCY + 1
        output = int(dut.o.value)
        assert output & 1 == (number >= 0 and sent[number]), f"valid in cycle {cycle}"
        if output & 1:
            assert output >> 1 & (1 << 24) - 1 == number
            lanes = np.frombuffer((output >> 25).to_bytes(LANES, "little"), np.int8)
            expected = groups[number].expected(CONFIG.accumulator_width)
            assert (lanes == expected).all(), f"group {number}: {lanes} instead of {expected}"


@cocotb.test()
async def random_values_agree(dut):
    rng = np.random.default_rng(1)
    half = 1 << CONFIG.accumulator_width - 1
    groups = []
    for _ in range(12000):
        wanted = random_magnitudes(rng, LANES)
        alpha = int(rng.integers(-half, half))
        bias = rng.integers(-2**31, 2**31, LANES) >> rng.integers(1, 31)
        value = wrap(wanted + bias, 32)
        low, high = np.sort(rng.integers(-128, 128, 2)) if rng.random() < 0.2 else (-128, 127)
        groups.append(Group(
            wrap(wanted + alpha, CONFIG.accumulator_width),
            rng.uniform(0, 140, LANES) / (np.abs(value) + 1), bias=bias, alpha=alpha,
            zero=int(rng.integers(-128, 128)), clamp=(int(low), int(high))))
        if rng.random() < 0.2:
            groups[-1] = ByteGroup(groups[-1].acc, rng.uniform(0.5, 2, LANES), bias=bias,
                                   alpha=alpha, zero=int(rng.integers(-128, 128)))
    await check(dut, groups)


@cocotb.test()
async def ties_agree(dut):
    acc, scale = map(np.array, zip(*product_ties(), strict=True))
    await check(dut, grouped(np.append(acc, -acc), np.append(scale, scale), lanes=LANES))


@cocotb.test(skip=not CONFIG.fixed_point)
async def all_rules_agree(dut):
    rng = np.random.default_rng(2)
    groups = []
    for _ in range(12000):
        acc, multiplier, shift = random_fixed_point(rng, LANES)
        zero = int(rng.integers(-128, 128))
        rule = FIXED_POINT[rng.integers(2)]
        groups.append(FixedPointGroup(acc, multiplier, shift, zero=zero, rule=rule)
                      if rng.random() < 0.7
                      else Group(acc, rng.uniform(0, 140, LANES) / (np.abs(acc) + 1), zero=zero))
    await check(dut, groups)


@cocotb.test(skip=not CONFIG.fixed_point)
async def fixed_point_ties_agree(dut):
    ties = list(map(np.array, zip(*fixed_point_ties(), strict=True)))
    await check(dut, [group for rule in FIXED_POINT
                      for group in fixed_point_grouped(*ties, lanes=LANES, rule=rule)])
