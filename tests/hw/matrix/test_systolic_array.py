from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Value
from stream_bench import make_simulator

from weft.hw.isa.array import ArrayShape
from weft.hw.isa.element import ElementType
from weft.hw.matrix.systolic_array import SystolicArray
from weft.sim.cocotb_bench import run_cocotb


def make_shape(rows, cols, fip, activation_width=8, weight_width=8, products=False):
    return ArrayShape(rows=rows, cols=cols, fip=fip, activation=ElementType(activation_width),
                      weight=ElementType(weight_width), products=products)


def pack(element, lanes):
    """Lanes as one integer, lane 0 lowest."""
    mask = (1 << element.width) - 1
    return sum((int(lane) & mask) << k * element.width for k, lane in enumerate(lanes))


def weight_rows(shape, weights):
    """A tile ``[rows][cols]`` as memory rows in the order in which they are loaded."""
    rows = weights.reshape(shape.pe_rows, shape.pe_weights, shape.cols)
    return [rows[r].T.reshape(-1) for r in reversed(range(shape.pe_rows))]


def schedule(dut, shape, tiles, rng, slack, tile_pixels):
    """Weight rows by cycle, cycles with ``switch``, and the tile of each cycle's pixel.

    Every distance is the least that is allowed plus a random number of cycles below ``slack``,
    and long enough for ``tile_pixels`` in each tile.
    """
    def wait():
        return int(rng.integers(slack)) if slack else 0

    loads, switches = {}, []
    cycle = wait()
    for tile in tiles:
        for row in weight_rows(shape, tile):
            loads[cycle] = row
            last_load = cycle
            cycle += 1 + wait()
        switch = last_load + dut.shift_to_switch + wait()
        if switches:
            switch = max(switch, switches[-1] + tile_pixels)
        switches.append(switch)
        cycle = max(last_load + 1, switch + dut.switch_to_shift) + wait()
    cycles = switches[-1] + max(tile_pixels, 1 if slack else shape.pe_rows)
    tile_of = np.searchsorted(switches, np.arange(cycles), side="right") - 1
    return loads, set(switches), tile_of


def run(shape, tiles, pixels_of, *, seed=0, slack=0, tile_pixels=0):
    """Runs ``tiles`` through the array, with a pixel in every cycle: ``pixels_of(rng, size)``.

    Returns the sums and those expected, both ``[pixel][column]``, from the first switch on.
    """
    rng = np.random.default_rng(seed)
    dut = SystolicArray(shape)
    loads, switches, tile_of = schedule(dut, shape, tiles, rng, slack, tile_pixels)
    first = np.argmax(tile_of >= 0)
    pixels = np.zeros((len(tile_of), shape.rows), np.int64)
    pixels[first:] = pixels_of(rng, (len(tile_of) - first, shape.rows))
    outputs = np.zeros((len(tile_of), shape.columns), np.int64)
    width = shape.psum_width
    zeros = random_of(shape.weight)(rng, len(tiles)) if shape.products else [0] * len(tiles)
    loaded = 0      # tiles

    async def testbench(ctx):
        for t in range(len(tile_of) + dut.column_latency(shape.columns - 1) + 1):
            if t < len(tile_of):
                ctx.set(Value.cast(dut.i.data), pack(shape.activation, pixels[t]))
            ctx.set(dut.i.switch, t in switches)
            ctx.set(dut.weights.load, t in loads)
            # Weights are garbage whenever they are not loaded.
            row = loads.get(t, random_of(shape.weight)(rng, shape.weight_row_lanes))
            ctx.set(Value.cast(dut.weights.data), pack(shape.weight, row))
            if shape.products:
                nonlocal loaded
                ctx.set(dut.weights.zero, int(zeros[loaded // shape.pe_rows]) if t in loads
                        else int(random_of(shape.weight)(rng, 1)[0]))
                loaded += t in loads
            bits = ctx.get(Value.cast(dut.o))
            for c in range(shape.columns):
                arrival = t - dut.column_latency(c)
                if 0 <= arrival < len(tile_of):
                    value = bits >> c * width & (1 << width) - 1
                    outputs[arrival, c] = value - (value >> width - 1 << width)
            await ctx.tick()

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()

    expected = np.zeros_like(outputs)
    pairs = pixels.reshape(len(pixels), shape.pe_rows, -1)
    for t, k in enumerate(tile_of):
        tile = tiles[k].astype(np.int64)
        dot = pixels[t] @ tile
        if shape.fip:
            alpha = (pairs[t] + zeros[k]).prod(axis=1).sum()
            beta = tile.reshape(shape.pe_rows, 2, -1).prod(axis=1).sum(axis=0)
            plain = pairs[t].prod(axis=1).sum()
            expected[t] = np.append(dot + plain + beta, alpha)
        elif shape.products:
            expected[t] = np.append(dot, zeros[k] * pixels[t].sum())
        else:
            expected[t] = dot
    return outputs[first:], expected[first:]


def random_of(element):
    return lambda rng, size: rng.integers(element.low, element.high, size, endpoint=True)


def extremes_of(element):
    return lambda rng, size: rng.choice([element.low, element.high], size)


random_bytes = random_of(ElementType(8))


SHAPES = [(2, 2), (4, 4), (6, 10), (8, 12), (16, 16)]


@pytest.mark.parametrize("fip", [False, True])
@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_tiles_follow_at_the_least_distance(rows, cols, fip):
    shape = make_shape(rows, cols, fip)
    tiles = random_bytes(np.random.default_rng(rows * cols), (4, rows, cols))
    outputs, expected = run(shape, tiles, random_bytes)
    np.testing.assert_array_equal(outputs, expected)


@pytest.mark.parametrize("fip", [False, True])
@pytest.mark.parametrize(("rows", "cols"), [(2, 2), (4, 4), (6, 10)])
def test_gaps_between_loads_and_switches_change_nothing(rows, cols, fip):
    shape = make_shape(rows, cols, fip)
    tiles = random_bytes(np.random.default_rng(rows + cols), (6, rows, cols))
    outputs, expected = run(shape, tiles, random_bytes, seed=1, slack=5)
    np.testing.assert_array_equal(outputs, expected)


@pytest.mark.parametrize("slack", [0, 5])
@pytest.mark.parametrize("fip", [False, True])
@pytest.mark.parametrize(("rows", "cols"), [(2, 2), (4, 4), (6, 10)])
def test_the_column_that_corrects_has_a_weight_of_its_own_for_each_tile(rows, cols, fip, slack):
    shape = make_shape(rows, cols, fip, products=True)
    assert shape.columns == cols + 1
    tiles = random_bytes(np.random.default_rng(rows + cols), (6, rows, cols))
    outputs, expected = run(shape, tiles, random_bytes, seed=2, slack=slack)
    np.testing.assert_array_equal(outputs, expected)


# Bits of activations and of weights.
WIDTHS = [(8, 8), (9, 9), (10, 12), (16, 8), (4, 8)]


@pytest.mark.parametrize("fip", [False, True])
@pytest.mark.parametrize(("activation_width", "weight_width"), WIDTHS)
def test_operands_of_any_widths_are_multiplied(activation_width, weight_width, fip):
    shape = make_shape(6, 3, fip, activation_width, weight_width)
    tiles = random_of(shape.weight)(np.random.default_rng(activation_width), (4, 6, 3))
    outputs, expected = run(shape, tiles, random_of(shape.activation), seed=weight_width, slack=2)
    np.testing.assert_array_equal(outputs, expected)


@pytest.mark.parametrize("fip", [False, True])
@pytest.mark.parametrize(("activation_width", "weight_width"), WIDTHS)
def test_extremes_do_not_wrap(activation_width, weight_width, fip):
    shape = make_shape(8, 4, fip, activation_width, weight_width)
    a, w = shape.activation, shape.weight
    tiles = extremes_of(w)(np.random.default_rng(2), (8, 8, 4))
    tiles[0], tiles[1] = w.low, w.high
    tiles[2, 0::2], tiles[2, 1::2] = w.low, w.high  # alternating along the rows
    tiles[3, :, 0::2], tiles[3, :, 1::2] = w.high, w.low

    def pixels(rng, size):
        """Every tile meets all minima, all maxima, and both in turn."""
        values = extremes_of(a)(rng, size)
        for k, ends in enumerate(((a.low,), (a.high,), (a.low, a.high), (a.high, a.low))):
            values[k::5] = np.resize(ends, size[1])
        return values

    outputs, expected = run(shape, tiles, pixels, seed=3, tile_pixels=10)
    np.testing.assert_array_equal(outputs, expected)
    largest = (a.low + w.low) ** 2 * 4 if fip else a.low * w.low * 8
    assert outputs.max() == largest
    assert largest.bit_length() == shape.psum_width - 1  # no narrower sum holds it


@pytest.mark.parametrize(("activation_width", "weight_width"), WIDTHS)
def test_fip_and_plain_agree_once_corrected(activation_width, weight_width):
    tiles = random_of(ElementType(weight_width))(np.random.default_rng(4), (5, 8, 6))
    pixels = random_of(ElementType(activation_width))
    plain, fip = (run(make_shape(8, 6, fip, activation_width, weight_width), tiles, pixels, seed=5,
                      tile_pixels=9)[0] for fip in (False, True))
    beta = tiles.reshape(5, 4, 2, 6).prod(axis=2).sum(axis=1).repeat(9, axis=0)
    alpha = fip[:, -1:]
    np.testing.assert_array_equal(fip[:, :-1] - alpha - beta, plain)


@pytest.mark.parametrize("fip", [False, True])
@pytest.mark.parametrize(("shift_to_switch", "switch_to_shift"), [(-1, 0), (1, -1)])
def test_a_distance_less_by_one_is_too_short(monkeypatch, fip, shift_to_switch, switch_to_shift):
    shape = make_shape(4, 4, fip)
    tiles = random_bytes(np.random.default_rng(6), (4, 4, 4))
    monkeypatch.setattr(SystolicArray, "shift_to_switch",
                        SystolicArray.shift_to_switch + shift_to_switch)
    monkeypatch.setattr(SystolicArray, "switch_to_shift",
                        SystolicArray.switch_to_shift + switch_to_shift)
    outputs, expected = run(shape, tiles, random_bytes)
    assert (outputs != expected).any()


def test_without_load_and_switch_weights_stay():
    shape = make_shape(4, 4, True)
    tiles = random_bytes(np.random.default_rng(7), (2, 4, 4))
    outputs, expected = run(shape, tiles, random_bytes, seed=8, tile_pixels=60)
    assert len(outputs) == 120
    np.testing.assert_array_equal(outputs, expected)


@pytest.mark.parametrize("activation_width, weight_width, fip", [
    (8, 8, True), *(pytest.param(*case, marks=pytest.mark.slow)
                    for case in ((8, 8, False), (10, 12, False), (10, 12, True)))])
def test_verilog_agrees(activation_width, weight_width, fip, tmp_path):
    dut = SystolicArray(make_shape(6, 2, fip, activation_width, weight_width))
    latencies = [dut.column_latency(c) for c in range(2 + fip)]
    run_cocotb(dut, name="systolic_array",
               bench=Path(__file__).with_name("cocotb_systolic_array.py"), build_dir=tmp_path,
               environment={"SHAPE": repr((6, 2, fip, activation_width, weight_width)),
                            "LATENCIES": repr(latencies),
                            "SHIFT_TO_SWITCH": str(dut.shift_to_switch),
                            "SWITCH_TO_SHIFT": str(dut.switch_to_shift)})
