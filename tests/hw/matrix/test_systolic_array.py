from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Value
from stream_bench import make_simulator

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.matrix.systolic_array import SystolicArray
from weft.sim.cocotb_bench import run_cocotb


def make_config(rows, cols, fip):
    return AcceleratorConfig(rows=rows, cols=cols, fip=fip, requant_lanes=1, activation_banks=1,
                             activation_bytes=1 << 16, weight_bytes=1 << 16)


def pack(lanes):
    """8-bit lanes as one integer, lane 0 lowest."""
    return int.from_bytes(np.asarray(lanes, np.int8).tobytes(), "little")


def weight_rows(config, weights):
    """A tile ``[rows][cols]`` as memory rows in the order in which they are loaded."""
    rows = weights.reshape(config.pe_rows, config.pe_weights, config.cols)
    return [rows[r].T.reshape(-1) for r in reversed(range(config.pe_rows))]


def schedule(dut, config, tiles, rng, slack, tile_pixels):
    """Weight rows by cycle, cycles with ``switch``, and the tile of each cycle's pixel.

    Every distance is the least that is allowed plus a random number of cycles below ``slack``,
    and long enough for ``tile_pixels`` in each tile.
    """
    def wait():
        return int(rng.integers(slack)) if slack else 0

    loads, switches = {}, []
    cycle = wait()
    for tile in tiles:
        for row in weight_rows(config, tile):
            loads[cycle] = row
            last_load = cycle
            cycle += 1 + wait()
        switch = last_load + dut.shift_to_switch + wait()
        if switches:
            switch = max(switch, switches[-1] + tile_pixels)
        switches.append(switch)
        cycle = max(last_load + 1, switch + dut.switch_to_shift) + wait()
    cycles = switches[-1] + max(tile_pixels, 1 if slack else config.pe_rows)
    tile_of = np.searchsorted(switches, np.arange(cycles), side="right") - 1
    return loads, set(switches), tile_of


def run(config, tiles, pixels_of, *, seed=0, slack=0, tile_pixels=0):
    """Runs ``tiles`` through the array, with a pixel in every cycle.

    Returns the sums and those expected, both ``[pixel][column]``, from the first switch on.
    """
    rng = np.random.default_rng(seed)
    dut = SystolicArray(config)
    loads, switches, tile_of = schedule(dut, config, tiles, rng, slack, tile_pixels)
    first = np.argmax(tile_of >= 0)
    pixels = np.zeros((len(tile_of), config.rows), np.int64)
    pixels[first:] = pixels_of(rng, (len(tile_of) - first, config.rows))
    outputs = np.zeros((len(tile_of), config.array_columns), np.int64)
    width = config.psum_width

    async def testbench(ctx):
        for t in range(len(tile_of) + dut.column_latency(config.array_columns - 1) + 1):
            if t < len(tile_of):
                ctx.set(Value.cast(dut.i.data), pack(pixels[t]))
            ctx.set(dut.i.switch, t in switches)
            ctx.set(dut.weights.load, t in loads)
            # Weights are garbage whenever they are not loaded.
            row = loads.get(t, rng.integers(-128, 128, config.weight_row_lanes))
            ctx.set(Value.cast(dut.weights.data), pack(row))
            bits = ctx.get(Value.cast(dut.o))
            for c in range(config.array_columns):
                arrival = t - dut.column_latency(c)
                if 0 <= arrival < len(tile_of):
                    value = bits >> c * width & (1 << width) - 1
                    outputs[arrival, c] = value - (value >> width - 1 << width)
            await ctx.tick()

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()

    expected = np.zeros_like(outputs)
    pairs = pixels.reshape(len(pixels), config.pe_rows, -1)
    for t, k in enumerate(tile_of):
        tile = tiles[k].astype(np.int64)
        dot = pixels[t] @ tile
        if config.fip:
            alpha = pairs[t].prod(axis=1).sum()
            beta = tile.reshape(config.pe_rows, 2, -1).prod(axis=1).sum(axis=0)
            expected[t] = np.append(dot + alpha + beta, alpha)
        else:
            expected[t] = dot
    return outputs[first:], expected[first:]


def random_bytes(rng, shape):
    return rng.integers(-128, 128, shape)


def extreme_bytes(rng, shape):
    return rng.choice([-128, 127], shape)


SHAPES = [(2, 2), (4, 4), (6, 10), (8, 12), (16, 16)]


@pytest.mark.parametrize("fip", [False, True])
@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_tiles_follow_at_the_least_distance(rows, cols, fip):
    config = make_config(rows, cols, fip)
    tiles = random_bytes(np.random.default_rng(rows * cols), (4, rows, cols))
    outputs, expected = run(config, tiles, random_bytes)
    np.testing.assert_array_equal(outputs, expected)


@pytest.mark.parametrize("fip", [False, True])
@pytest.mark.parametrize(("rows", "cols"), [(2, 2), (4, 4), (6, 10)])
def test_gaps_between_loads_and_switches_change_nothing(rows, cols, fip):
    config = make_config(rows, cols, fip)
    tiles = random_bytes(np.random.default_rng(rows + cols), (6, rows, cols))
    outputs, expected = run(config, tiles, random_bytes, seed=1, slack=5)
    np.testing.assert_array_equal(outputs, expected)


@pytest.mark.parametrize("fip", [False, True])
def test_extremes_do_not_wrap(fip):
    config = make_config(6, 4, fip)
    tiles = extreme_bytes(np.random.default_rng(2), (8, 6, 4))
    tiles[0], tiles[1] = -128, 127
    outputs, expected = run(config, tiles, extreme_bytes, seed=3)
    np.testing.assert_array_equal(outputs, expected)
    outputs, expected = run(config, tiles, lambda rng, shape: np.full(shape, -128))
    np.testing.assert_array_equal(outputs, expected)
    if fip:
        assert outputs.max() == (2 * 128) ** 2 * config.pe_rows


def test_fip_and_plain_agree_once_corrected():
    tiles = random_bytes(np.random.default_rng(4), (5, 8, 6))
    plain, _ = run(make_config(8, 6, False), tiles, random_bytes, seed=5, tile_pixels=9)
    fip, _ = run(make_config(8, 6, True), tiles, random_bytes, seed=5, tile_pixels=9)
    beta = tiles.reshape(5, 4, 2, 6).prod(axis=2).sum(axis=1).repeat(9, axis=0)
    alpha = fip[:, -1:]
    np.testing.assert_array_equal(fip[:, :-1] - alpha - beta, plain)


@pytest.mark.parametrize("fip", [False, True])
@pytest.mark.parametrize(("shift_to_switch", "switch_to_shift"), [(-1, 0), (1, -1)])
def test_a_distance_less_by_one_is_too_short(monkeypatch, fip, shift_to_switch, switch_to_shift):
    config = make_config(4, 4, fip)
    tiles = random_bytes(np.random.default_rng(6), (4, 4, 4))
    monkeypatch.setattr(SystolicArray, "shift_to_switch",
                        SystolicArray.shift_to_switch + shift_to_switch)
    monkeypatch.setattr(SystolicArray, "switch_to_shift",
                        SystolicArray.switch_to_shift + switch_to_shift)
    outputs, expected = run(config, tiles, random_bytes)
    assert (outputs != expected).any()


def test_without_load_and_switch_weights_stay():
    config = make_config(4, 4, True)
    tiles = random_bytes(np.random.default_rng(7), (2, 4, 4))
    outputs, expected = run(config, tiles, random_bytes, seed=8, tile_pixels=60)
    assert len(outputs) == 120
    np.testing.assert_array_equal(outputs, expected)


@pytest.mark.parametrize("fip", [False, True])
def test_verilog_agrees(fip, tmp_path):
    config = make_config(6, 2, fip)
    dut = SystolicArray(config)
    latencies = [dut.column_latency(c) for c in range(config.array_columns)]
    run_cocotb(dut, name="systolic_array",
               bench=Path(__file__).with_name("cocotb_systolic_array.py"), build_dir=tmp_path,
               environment={"CONFIG": config.to_json(), "LATENCIES": repr(latencies),
                            "SHIFT_TO_SWITCH": str(dut.shift_to_switch),
                            "SWITCH_TO_SHIFT": str(dut.switch_to_shift)})
