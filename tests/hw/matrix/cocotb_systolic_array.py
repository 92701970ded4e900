"""Benches for the systolic array, run by ``test_systolic_array.py`` on its Verilog."""

import ast
import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from weft.hw.isa.array import ArrayShape
from weft.hw.isa.element import ElementType

ROWS, COLS, FIP, *WIDTHS = ast.literal_eval(os.environ["SHAPE"])
ACTIVATION, WEIGHT = map(ElementType, WIDTHS)
SHAPE = ArrayShape(rows=ROWS, cols=COLS, fip=FIP, activation=ACTIVATION, weight=WEIGHT)
LATENCIES = ast.literal_eval(os.environ["LATENCIES"])
SHIFT_TO_SWITCH = int(os.environ["SHIFT_TO_SWITCH"])
SWITCH_TO_SHIFT = int(os.environ["SWITCH_TO_SHIFT"])
N = SHAPE.pe_weights


def random_lanes(rng, element, count):
    low, high = element.low, element.high
    return [rng.choice([low, high, rng.randint(low, high)]) for _ in range(count)]


def pack(element, lanes, flag):
    mask = (1 << element.width) - 1
    bits = [(lane & mask) << k * element.width for k, lane in enumerate(lanes)]
    return sum(bits) | flag << len(lanes) * element.width


def column_sum(pixel, tile, column):
    """What a column yields, PE by PE as the definition of the fast inner product has it."""
    total = 0
    for r in range(0, ROWS, N):
        if N == 1:
            total += pixel[r] * tile[r][column]
        else:
            w0, w1 = (tile[r][column], tile[r + 1][column]) if column < COLS else (0, 0)
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
        tile = [random_lanes(rng, WEIGHT, COLS) for _ in range(ROWS)]
        for r in reversed(range(SHAPE.pe_rows)):
            loads[cycle] = [tile[r * N + k][c] for c in range(COLS) for k in range(N)]
            last = cycle
            cycle += 1 + rng.randint(0, slack)
        switch = last + SHIFT_TO_SWITCH + rng.randint(0, slack)
        switches[switch] = tile
        cycle = max(last + 1, switch + SWITCH_TO_SHIFT)

    active, expected = None, []
    for cycle in range(max(switches) + 5 + LATENCIES[-1]):
        pixel = random_lanes(rng, ACTIVATION, ROWS)
        active = switches.get(cycle, active)
        expected.append([active and column_sum(pixel, active, c) for c in range(len(LATENCIES))])
        dut.i.value = pack(ACTIVATION, pixel, cycle in switches)
        row = loads.get(cycle, random_lanes(rng, WEIGHT, SHAPE.weight_row_lanes))
        dut.weights.value = pack(WEIGHT, row, cycle in loads)
        await FallingEdge(dut.clk)
        output, width = int(dut.o.value), SHAPE.psum_width
        for column, latency in enumerate(LATENCIES):
            # The edge just passed counts as one cycle.
            number = cycle + 1 - latency
            if number >= 0 and expected[number][column] is not None:
                value = output >> column * width & (1 << width) - 1
                assert value - (value >> width - 1 << width) == expected[number][column]
