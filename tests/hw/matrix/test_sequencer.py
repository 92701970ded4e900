"""The loop nest of the sequencer and the addresses of the streamer against nested Python loops."""

import itertools
import random

import pytest
from stream_bench import (
    make_simulator,
    random_stall,
    stream_put,
    stream_sink,
    stream_source,
    stream_watch,
)

from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import Error
from weft.hw.matrix.accumulators import AccumulatorColumn
from weft.hw.matrix.pixel_streamer import PixelStreamer
from weft.hw.matrix.sequencer import StepSequencer
from weft.hw.memory.activation import ActivationMemory

CONFIG = PRESETS["tiny"].replace(accumulator_pixels=16)


def random_command(rng):
    """Fields of a small matrix command, all sizes different."""
    kernel_h, kernel_w = rng.randint(1, 3), rng.randint(1, 3)
    dilation_h, dilation_w = rng.randint(1, 2), rng.randint(1, 2)
    stride_h, stride_w = rng.randint(1, 3), rng.randint(1, 3)
    pad_top, pad_left = rng.randint(0, 2), rng.randint(0, 2)
    in_h, in_w = rng.randint(1, 7), rng.randint(1, 7)
    out_h, out_w = rng.randint(1, 6), rng.randint(1, 6)
    channel_blocks, in_plane = rng.randint(1, 3), 64
    base = rng.randrange(1000)
    return {
        "header": {"opcode": 2}, "in_base": (base - pad_top * in_w - pad_left) % (1 << 24),
        "in_zero": rng.randrange(-128, 128), "in_plane": in_plane, "pad_top": pad_top,
        "pad_left": pad_left, "in_h": in_h, "in_w": in_w, "channel_blocks": channel_blocks,
        "kernel_h": kernel_h, "kernel_w": kernel_w, "stride_h": stride_h, "stride_w": stride_w,
        "dilation_h": dilation_h, "dilation_w": dilation_w, "pixel_row_step": stride_h * in_w,
        "kernel_row_step": dilation_h * in_w, "out_w": out_w, "out_pixels": out_h * out_w,
        "tile_pixels": rng.randint(1, 16), "out_base": rng.randrange(1000), "out_plane": 50,
        "out_zero": rng.randrange(-128, 128), "clamp_min": -5, "clamp_max": 100,
        "col_tiles": rng.randint(1, 3), "last_groups": rng.randint(1, 2),
        "weight_base": rng.randrange(100), "parameter_base": rng.randrange(10),
        "out_slot": rng.randint(0, 1), "accumulate": 0, "keep": 0,
    }, base


def expected_steps(command, base):
    """(weight row, first, last, [(address or None for padding) of each pixel])."""
    c = command
    steps = []
    row = c["weight_base"]
    taps = [(ky, kx, b) for ky in range(c["kernel_h"]) for kx in range(c["kernel_w"])
            for b in range(c["channel_blocks"])]
    for _column in range(c["col_tiles"]):
        for start in range(0, c["out_pixels"], c["tile_pixels"]):
            tile = range(start, min(start + c["tile_pixels"], c["out_pixels"]))
            for number, (ky, kx, block) in enumerate(taps):
                addresses = []
                for pixel in tile:
                    oy, ox = divmod(pixel, c["out_w"])
                    y = oy * c["stride_h"] + ky * c["dilation_h"] - c["pad_top"]
                    x = ox * c["stride_w"] + kx * c["dilation_w"] - c["pad_left"]
                    inside = 0 <= y < c["in_h"] and 0 <= x < c["in_w"]
                    addresses.append(base + block * c["in_plane"] + y * c["in_w"] + x
                                     if inside else None)
                steps.append((row + number * CONFIG.weight_tile_rows, number == 0,
                              number == len(taps) - 1, addresses))
        row += len(taps) * CONFIG.weight_tile_rows
    return steps


def wide_command(**changes):
    """A command of one step, but for ``changes``."""
    command, _base = random_command(random.Random(3))
    return command | {"kernel_h": 1, "kernel_w": 1, "channel_blocks": 1, "out_w": 1,
                      "out_pixels": 1, "tile_pixels": 1, "col_tiles": 1} | changes


@pytest.mark.parametrize("changes", [
    {"kernel_h": 130}, {"kernel_w": 130}, {"channel_blocks": (1 << 15) + 2},
    {"out_pixels": (1 << 23) + 2}, {"col_tiles": (1 << 15) + 2}])
def test_every_loop_counts_with_all_bits_of_its_field(changes):
    dut = StepSequencer(CONFIG)
    steps = []

    async def testbench(ctx):
        await stream_source(dut.commands, [{"index": 0x8001, "command": wide_command(**changes)}])(
            ctx)
        for _ in range(150):
            await ctx.tick()

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.add_testbench(stream_sink(dut.steps, steps), background=True)
    sim.run()
    assert len(steps) > 30
    inner = {"kernel_h", "kernel_w", "channel_blocks"} & set(changes)
    for number, step in enumerate(steps):
        assert step.index == 0x8001
        assert step.first_tap == (not inner or number == 0)
        assert step.last_tap == (not inner)
        assert step.last_pixels == ("out_pixels" not in changes)
        assert step.last_columns == ("col_tiles" not in changes)


@pytest.mark.parametrize("dilation, kernel", [((255, 1), (130, 1)), ((1, 255), (1, 130))])
def test_a_tap_may_look_as_far_as_kernel_and_dilation_reach(dilation, kernel):
    dut = StepSequencer(CONFIG)
    steps = []
    sim = make_simulator(dut)
    sim.add_testbench(stream_source(dut.commands, [{"index": 0, "command": wide_command(
        kernel_h=kernel[0], kernel_w=kernel[1], dilation_h=dilation[0], dilation_w=dilation[1],
        pad_top=255, pad_left=254)}]))
    sim.add_testbench(stream_sink(dut.steps, steps, 130))
    sim.run()
    taps = [(y, x) for y in range(kernel[0]) for x in range(kernel[1])]
    assert [(step.y, step.x) for step in steps] == [
        (y * dilation[0] - 255, x * dilation[1] - 254) for y, x in taps]


def step_source(stream, steps, stall=0.0):
    """Like a stream source, but each payload is there a cycle before ``valid``."""
    rng = random.Random(11)
    async def testbench(ctx):
        for step in steps:
            ctx.set(stream.payload, step)
            await ctx.tick()
            await random_stall(ctx, rng, stall)
            await stream_put(ctx, stream, step)
    return testbench


@pytest.mark.parametrize("seed", range(4))
def test_steps_follow_the_loop_nest(seed):
    rng = random.Random(seed)
    commands = [random_command(rng) for _ in range(4)]
    expected = [(index, step) for index, (command, base) in enumerate(commands)
                for step in expected_steps(command, base)]
    dut = StepSequencer(CONFIG)
    got = []
    sim = make_simulator(dut)
    sim.add_testbench(stream_source(
        dut.commands, [{"index": index, "command": command}
                       for index, (command, _base) in enumerate(commands)], stall=0.5))
    sim.add_testbench(stream_sink(dut.steps, got, len(expected), stall=seed % 2 * 0.5))
    sim.add_testbench(stream_watch(dut.steps), background=True)
    sim.run()
    for step, (index, (row, first, last, addresses)) in zip(got, expected, strict=True):
        assert (step.index, step.weight_row, step.first_tap, step.last_tap, step.pixels) == \
            (index, row, first, last, len(addresses))


def far_commands(rng):
    """Pixels so far to the right and below that they are padding, whatever the bits of a place."""
    for side, other in (("w", "h"), ("h", "w")):
        command, base = random_command(rng)
        yield command | {
            "in_base": base, "kernel_h": 1, "kernel_w": 1, "channel_blocks": 1, "col_tiles": 1,
            "pad_top": 0, "pad_left": 0, f"in_{side}": 300, f"in_{other}": 1,
            f"stride_{side}": 255, f"stride_{other}": 1, "out_w": 600 if side == "w" else 1,
            "out_pixels": 600, "tile_pixels": 16, "pixel_row_step": 255}, base


@pytest.mark.parametrize("stall, far", [(0.0, False), (0.6, False), (0.0, True)])
def test_streamed_words_are_those_of_the_taps(stall, far):
    rng = random.Random(7)
    commands = [*far_commands(rng)] if far else [random_command(rng) for _ in range(4)]
    expected = [step for command, base in commands for step in expected_steps(command, base)]
    zeros = [command["in_zero"] for command, base in commands
             for _row, _first, _last, addresses in expected_steps(command, base)
             for _ in addresses]

    # First let the sequencer make the steps, then stream them.
    sequencer = StepSequencer(CONFIG)
    steps = []
    sim = make_simulator(sequencer)
    sim.add_testbench(stream_source(sequencer.commands, [
        {"index": 0, "command": command} for command, _base in commands]))
    sim.add_testbench(stream_sink(sequencer.steps, steps, len(expected)))
    sim.run()

    dut = PixelStreamer(CONFIG)
    words, controls = [], []

    def lanes(address):
        return [(address * 4 + lane) * 37 % 256 - 128 for lane in range(4)]

    async def memory(ctx):
        pipe = [None] * ActivationMemory.LATENCY
        async for _clk, _rst, valid, address in ctx.tick().sample(
                dut.request.valid, dut.request.payload):
            pipe.append(lanes(address) if valid else [rng.randrange(-128, 128) for _ in range(4)])
            word = pipe[-ActivationMemory.LATENCY]
            if word is not None:
                ctx.set(dut.word, [value & 0xff for value in word])

    async def array(ctx):
        async for _clk, _rst, control, o in ctx.tick().sample(dut.control, dut.o):
            if control.valid:
                words.append((list(o.data), o.switch))
                controls.append((control.bank, control.pixel, control.first))

    async def drains(ctx):
        own = random.Random(3)
        jobs = 0
        async for _clk, _rst, job in ctx.tick().sample(dut.job.valid):
            jobs += job
            ctx.set(dut.release, 0)
            if jobs and own.random() < 0.2:
                ctx.set(dut.release, 1)
                jobs -= 1

    async def finish(ctx):
        await ctx.tick().repeat(PixelStreamer.LATENCY + 40)

    sim = make_simulator(dut)
    source = step_source(dut.steps, steps, stall=stall)

    async def feed(ctx):
        await source(ctx)
        await finish(ctx)

    sim.add_testbench(feed)
    for bench in (memory, array, drains):
        sim.add_testbench(bench, background=True)
    sim.run()

    pixels = [(address, number == 0, first, number)
              for _row, first, _last, addresses in expected
              for number, address in enumerate(addresses)]
    assert len(words) == len(pixels)
    for (data, switch), (_bank, pixel, first), zero, (address, begins, starts, number) in zip(
            words, controls, zeros, pixels, strict=True):
        assert data == (lanes(address) if address is not None else [zero] * 4)
        assert (switch, first, pixel) == (begins, starts, number)
    # Banks alternate from tile to tile.
    banks = [bank for bank, pixel, first in controls if first and pixel == 0]
    assert banks == [number % 2 for number in range(len(banks))]


def test_same_accumulator_is_not_reused_too_soon():
    command, base = random_command(random.Random(1))
    command.update(out_w=1, out_pixels=1, tile_pixels=1, kernel_h=3, kernel_w=3, col_tiles=1)
    sequencer = StepSequencer(CONFIG)
    steps = []
    sim = make_simulator(sequencer)
    sim.add_testbench(stream_source(sequencer.commands, [{"index": 0, "command": command}]))
    sim.add_testbench(stream_sink(sequencer.steps, steps, len(expected_steps(command, base))))
    sim.run()
    dut = PixelStreamer(CONFIG)
    times = []

    async def watch(ctx):
        time = 0
        async for _clk, _rst, valid in ctx.tick().sample(dut.control.valid):
            if valid:
                times.append(time)
            time += 1

    async def feed(ctx):
        await step_source(dut.steps, steps)(ctx)
        await ctx.tick().repeat(20)

    sim = make_simulator(dut)
    sim.add_testbench(feed)
    sim.add_testbench(watch, background=True)
    sim.run()
    gaps = {later - earlier for earlier, later in itertools.pairwise(times)}
    assert gaps == {AccumulatorColumn.REUSE}


@pytest.mark.parametrize("field, value", [
    ("kernel_w", 0), ("stride_h", 0), ("dilation_w", 0), ("out_pixels", 0), ("tile_pixels", 0),
    ("tile_pixels", 17), ("col_tiles", 0), ("last_groups", 0), ("last_groups", 3),
    ("channel_blocks", 0), ("in_h", 0), ("rule", 1), ("rule", 2), ("clamp_max", -6),
    ("out_slot", 2), ("accumulate", 1),
    ("table", CONFIG.drain_tables + 1), ("table", 511),
])
def test_impossible_field_is_a_fault(field, value):
    command, _base = random_command(random.Random(2))
    command[field] = value
    dut = StepSequencer(CONFIG)

    async def testbench(ctx):
        await stream_source(dut.commands, [{"index": 77, "command": command}])(ctx)
        for _ in range(5):
            await ctx.tick()
            assert not ctx.get(dut.steps.valid)
        assert ctx.get(dut.fault.code) == Error.ARGUMENT
        assert ctx.get(dut.fault.index) == 77
        assert not ctx.get(dut.commands.ready)

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()


PARTIAL = {"tile_pixels": 4, "out_pixels": 4}
KEEP, LAST = {**PARTIAL, "keep": 1}, {**PARTIAL, "accumulate": 1}


@pytest.mark.parametrize("changes, wrong", [
    ([KEEP, KEEP | LAST, LAST, {}], None),
    ([KEEP, LAST, KEEP, LAST], None),
    ([KEEP, LAST | {"tile_pixels": 9}], None),
    ([KEEP, {}], 1),
    ([KEEP, KEEP], 1),
    ([LAST], 0),
    ([KEEP, LAST, LAST], 2),
    ([KEEP, LAST | {"out_pixels": 3}], 1),
    ([KEEP, LAST | {"out_pixels": 4 + (1 << 20)}], 1),
    ([KEEP, LAST | {"col_tiles": 2}], 1),
    ([KEEP | {"col_tiles": 1 << 15}], 0),
    ([KEEP | {"out_pixels": 5}], 0),
    ([KEEP | {"out_pixels": 1 << 23}], 0),
])
def test_sums_are_kept_for_the_next_command_alone(changes, wrong):
    dut = StepSequencer(CONFIG)
    steps = []
    commands = [{"index": index, "command": wide_command(**one)}
                for index, one in enumerate(changes)]

    async def testbench(ctx):
        for command in commands[:len(commands) if wrong is None else wrong + 1]:
            await stream_source(dut.commands, [command])(ctx)
        await ctx.tick().repeat(12)
        assert ctx.get(dut.fault.code) == (Error.NONE if wrong is None else Error.ARGUMENT)
        if wrong is not None:
            assert ctx.get(dut.fault.index) == wrong

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.add_testbench(stream_sink(dut.steps, steps), background=True)
    sim.run()
    assert [step.index for step in steps] == list(range(len(changes) if wrong is None else wrong))
