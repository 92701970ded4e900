"""Benches for the systolic array, run by ``test_systolic_array.py`` on its Verilog."""

import ast
import json
import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from weft.hw.isa.config import AcceleratorConfig

CONFIG = AcceleratorConfig(**json.loads(os.environ["CONFIG"]))
LATENCIES = ast.literal_eval(os.environ["LATENCIES"])
SHIFT_TO_SWITCH = int(os.environ["SHIFT_TO_SWITCH"])
SWITCH_TO_SHIFT = int(os.environ["SWITCH_TO_SHIFT"])
N = CONFIG.pe_weights


def random_bytes(rng, count):
    return [rng.choice([-128, 127, rng.randint(-128, 127)]) for _ in range(count)]


def pack(lanes, flag):
    return int.from_bytes([lane & 255 for lane in lanes] + [flag], "little")


def column_sum(pixel, tile, column):
    """What a column yields, PE by PE as the definition of the fast inner product has it."""
    total = 0
    for r in range(0, CONFIG.rows, N):
        if N == 1:
            total += pixel[r] * tile[r][column]
        else:
            w0, w1 = (tile[r][column], tile[r + 1][column]) if column < CONFIG.cols else (0, 0)
            total += (pixel[r] + w1) * (pixel[r + 1] + w0)
    return total


@cocotb.test()
@cocotb.parametrize(slack=[0, 6])
async def tiles_and_pixels_agree(dut, slack):
    rng = random.Random(slack)
    cocotb.start_soon(Clock(dut.clk, 10, "ns").start())
    dut.rst.value = 1
    dut.i.value = dut.weights.value = 0
    await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)
    dut.rst.value = 0

    loads, switches, cycle = {}, {}, 0
    for _ in range(60):
        tile = [random_bytes(rng, CONFIG.cols) for _ in range(CONFIG.rows)]
        for r in reversed(range(CONFIG.pe_rows)):
            loads[cycle] = [tile[r * N + k][c] for c in range(CONFIG.cols) for k in range(N)]
            last = cycle
            cycle += 1 + rng.randint(0, slack)
        switch = last + SHIFT_TO_SWITCH + rng.randint(0, slack)
        switches[switch] = tile
        cycle = max(last + 1, switch + SWITCH_TO_SHIFT)

    active, expected = None, []
    for cycle in range(max(switches) + 5 + LATENCIES[-1]):
        pixel = random_bytes(rng, CONFIG.rows)
        active = switches.get(cycle, active)
        expected.append([active and column_sum(pixel, active, c) for c in range(len(LATENCIES))])
        dut.i.value = pack(pixel, cycle in switches)
        dut.weights.value = pack(loads.get(cycle, random_bytes(rng, CONFIG.weight_row_lanes)),
                                 cycle in loads)
        await FallingEdge(dut.clk)
        output, width = int(dut.o.value), CONFIG.psum_width
        for column, latency in enumerate(LATENCIES):
            # The edge just passed counts as one cycle.
            number = cycle + 1 - latency
            if number >= 0 and expected[number][column] is not None:
                value = output >> column * width & (1 << width) - 1
                assert value - (value >> width - 1 << width) == expected[number][column]
