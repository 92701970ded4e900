"""Windows whose rows are kept: every size, stride and padding, in each way to group their rows."""

import numpy as np
import pytest
from sweeps import sweep
from vector_bench import add_conv, random_clamp, shared_bench

from weft.errors import InputError
from weft.hw.isa.commands import Opcode, VectorOp
from weft.hw.isa.config import AcceleratorConfig, ConfigError
from weft.hw.isa.encoding import decode, encode
from weft.hw.isa.limits import LINE_KERNELS
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import Error
from weft.hw.isa.vector_rules import line_columns, line_groups
from weft.reference import vector as vector_model

TEN = PRESETS["tiny"].replace(
    activation_bytes=4 * 4096, weight_bytes=4096, vector_entries=64, vector_taps=10,
    vector_lines=16, parameter_channels=256)
CONFIGS = {
    "ten": TEN,
    "nine-1": TEN.replace(vector_taps=9, requant_lanes=4),
    "six": TEN.replace(vector_taps=6),
    "odd-8": AcceleratorConfig(
        name="odd", rows=6, cols=10, requant_lanes=2, activation_bytes=6 * 4096,
        weight_bytes=20480, accumulator_pixels=16, parameter_channels=264, vector_entries=64,
        vector_taps=8, vector_lines=32),
}
SWEPT = sweep(
    (VectorOp.CONV, VectorOp.MAX), CONFIGS, (0, 0.4),
    fast=lambda op, name, stall: bool(stall) == (name in ("ten", "odd-8"))
    and (op is VectorOp.CONV or name in ("nine-1", "odd-8")))


def random_window(rng, size):
    """An input, and how a window of ``size`` goes over it."""
    while True:
        x = rng.integers(-128, 128, (int(rng.integers(1, 10)), *rng.integers(1, 10, 2)), np.int8)
        geometry = {"strides": (int(rng.integers(1, size + 2)), int(rng.integers(1, 3))),
                    "pads": tuple(map(int, rng.integers(0, size + 1, 4))), "dilations": (1, 1)}
        try:
            vector_model.windows(x, (size, size), **geometry)
        except InputError:
            continue
        return x, geometry


def add_random(bench, op, size, *, swap, **options):
    rng = bench.rng
    x, geometry = random_window(rng, size)
    if swap:
        geometry["strides"] = geometry["strides"][::-1]
    if op is VectorOp.CONV:
        weights = rng.integers(-128, 128, (len(x), size, size), dtype=np.int8)
        add_conv(bench, x, weights, geometry=geometry, in_zero=int(rng.integers(-128, 128)),
                 swap=swap, **options)
        return
    clamp = random_clamp(rng)
    expected = vector_model.max_pool(x, (size, size), clamp=clamp, **geometry)
    bench.expected.append((bench.window(
        op, x, (size, size), expected.shape, swap=swap, clamp_min=clamp[0], clamp_max=clamp[1],
        **geometry, **options), expected))


@pytest.mark.parametrize("op, name, stall", SWEPT)
def test_windows_of_kept_rows_equal_the_reference(op, name, stall):
    bench = shared_bench(CONFIGS[name], seed=21, stall=stall)
    for number in range(8):
        add_random(bench, op, (3, 5)[number % 2], swap=bool(number // 2 % 2), lines=True)
    bench.check()


@pytest.mark.parametrize("name", sweep(CONFIGS, fast=("ten", "nine-1").__contains__))
def test_rows_are_forgotten_from_command_to_command(name):
    """In turns with windows of other sizes, and such that keep nothing."""
    bench = shared_bench(CONFIGS[name], seed=22, stall=0.2)
    for number in range(12):
        add_random(bench, VectorOp(bench.rng.integers(2)), (3, 5)[number // 2 % 2],
                   swap=bool(bench.rng.integers(2)), lines=number % 3 != 2)
    bench.check()


def parts(raw, sizes, quarter=0):
    """A command as several, of so many outer positions each, of which the later ones resume."""
    _, fields = decode(raw.to_bytes(64, "little"))
    assert sum(sizes) == fields["out_outer"]
    first = 0
    for size in sizes:
        skip = max(first * fields["stride_outer"] - fields["pad_outer"], 0)
        inside = {"in_outer": fields["in_outer"] - skip,
                  "pad_outer": skip + fields["pad_outer"] - first * fields["stride_outer"]}
        if inside["in_outer"] < 1:  # all padding
            inside = {"in_outer": 1, "pad_outer": 100}
        raw = encode(Opcode.VECTOR, **fields | inside | {
            "in_base": (fields["in_base"] + first * fields["in_outer_step"]) % (1 << 24),
            "out_base": fields["out_base"] + first * fields["out_outer_step"],
            "out_outer": size, "resumes": int(first > 0), "quarter": quarter})
        first += size
        yield int.from_bytes(raw, "little")


def random_sizes(rng, total):
    cuts = np.flatnonzero(rng.random(total - 1) < 0.6) + 1
    return np.diff([0, *cuts, total]).tolist()


@pytest.mark.parametrize("op, name, stall", SWEPT)
def test_commands_go_on_with_the_rows_of_earlier_ones(op, name, stall):
    """Two of them in turns, with others in between that keep nothing."""
    config = CONFIGS[name].replace(vector_lines=64, vector_entries=256, parameter_channels=1024)
    bench = shared_bench(config, seed=25, stall=stall)
    for size in LINE_KERNELS:
        commands = []
        for quarter in (0, 2):
            while True:
                add_random(bench, op, size, swap=False, lines=True)
                raw = bench.commands.pop()
                fields = decode(raw.to_bytes(64, "little"))[1]
                if fields["blocks"] * line_columns(
                        fields["out_inner"], kernel=fields["kernel_inner"],
                        stride=fields["stride_inner"], pad=fields["pad_inner"]) <= 32:
                    break
                bench.expected.pop()
            commands.append(list(parts(raw, random_sizes(bench.rng, fields["out_outer"]),
                                       quarter)))
        x = bench.rng.integers(-128, 128, (4, 1, 1), dtype=np.int8)
        base = bench.place(x)
        while any(commands):
            its = commands[int(bench.rng.integers(2))]
            if its:
                bench.commands.append(its.pop(0))
            if bench.rng.random() < 0.3:
                bench.expected.append((bench.element_wise(
                    VectorOp.LOOKUP, x.shape, bases=(base,), table=1), bench.looked_up(x, 1)))
    bench.check()


def test_lines_that_are_not_enough_are_used_again():
    """What a command then finds in them is what the model finds there."""
    bench = shared_bench(TEN, seed=26, stall=0.2)
    for number in range(12):
        size = (3, 5)[number % 2]
        x = bench.rng.integers(-128, 128, (9, 6, 6), dtype=np.int8)
        bench.window(VectorOp.MAX, x, (size, size), (9, 6, 6), strides=(1, 1), lines=True,
                     pads=(size // 2,) * 4, dilations=(1, 1), resumes=int(number > 0),
                     quarter=number % 4)
    bench.check()


@pytest.mark.parametrize("height, width", [(1, 1), (5, 1), (1, 6), (2, 2)])
def test_small_planes_equal_the_reference(height, width):
    bench = shared_bench(TEN, seed=23, stall=0.1)
    for size in (3, 5):
        x = bench.rng.integers(-128, 128, (9, height, width), dtype=np.int8)
        weights = bench.rng.integers(-128, 128, (9, size, size), dtype=np.int8)
        for swap in (False, True):
            add_conv(bench, x, weights, in_zero=5, swap=swap, lines=True, geometry={
                "strides": (1, 1), "pads": (size // 2,) * 4, "dilations": (1, 1)})
    bench.check()


@pytest.mark.parametrize("name, size, stride, per_word", [
    ("ten", 3, 1, 2), ("nine-1", 3, 1, 1), ("nine-1", 3, 2, 4), ("six", 3, 1, 2), ("ten", 5, 1, 3),
    ("ten", 5, 2, 6), ("six", 5, 1, 5)])
def test_a_word_is_read_once(name, size, stride, per_word):
    """A cycle for each new word of a column, and at least one for each group of its rows; but no
    results faster than they are requantized."""
    config = CONFIGS[name]
    bench = shared_bench(config, seed=24)
    rows, columns, pad = 8, 7, size // 2
    x = bench.rng.integers(-128, 128, (config.rows, rows * stride, columns * stride), np.int8)
    weights = bench.rng.integers(-128, 128, (config.rows, size, size), dtype=np.int8)
    add_conv(bench, x, weights, in_zero=0, lines=True, geometry={
        "strides": (stride, stride), "pads": (pad,) * 4, "dilations": (1, 1)})
    bench.check()
    spanned = line_columns(columns, kernel=size, stride=stride, pad=pad)
    groups = len(line_groups(config, size))
    first_row = spanned * max(size - pad, groups)
    start_of_rows = (rows - 1) * (spanned - stride * columns) * max(min(stride, size), groups)
    assert bench.cycles < first_row + per_word * (rows - 1) * columns + start_of_rows + 60
    assert bench.reads <= x[0].size


@pytest.mark.parametrize("changes", [
    {"slide": 0}, {"kernel_outer": 5}, {"kernel_inner": 5}, {"kernel_outer": 4, "kernel_inner": 4},
    {"kernel_outer": 1, "kernel_inner": 1}, {"dilation_outer": 2}, {"dilation_outer": 0},
    {"stride_outer": 0}, {"stride_inner": 3}, {"stride_inner": 0}, {"out_inner": 15},
    {"stride_inner": 2, "out_inner": 8}, {"out_inner": 65535}, {"op": VectorOp.LOOKUP},
    {"lines": 0, "resumes": 1}, {"lines": 0, "quarter": 2}])
@pytest.mark.parametrize("op", [VectorOp.CONV, VectorOp.MAX])
def test_rows_that_cannot_be_kept_are_a_fault(op, changes):
    bench = shared_bench(TEN)
    fields = {"in_inner_step": 1, "in_outer": 1, "in_inner": 14, "blocks": 1, "kernel_outer": 3,
              "kernel_inner": 3, "dilation_outer": 1, "slide": 1, "lines": 1, "out_outer": 1,
              "out_inner": 14, "out_base": 100, "out_inner_step": 1}
    bench.command(op, **fields)
    bench.command(**({"op": op} | fields | changes))
    assert bench.run() == [(Error.ARGUMENT, 101)]
    assert bench.done == 1


def test_an_engine_without_room_for_rows_refuses_to_keep_them():
    bench = shared_bench(TEN.replace(vector_lines=0))
    bench.command(VectorOp.MAX, in_inner_step=1, in_outer=1, in_inner=4, blocks=1, kernel_outer=3,
                  kernel_inner=3, dilation_outer=1, slide=1, lines=1, out_outer=1, out_inner=4,
                  out_base=100, out_inner_step=1)
    assert bench.run() == [(Error.ARGUMENT, 100)]


@pytest.mark.parametrize("changes, message", [
    ({"vector_lines": 8}, "Vector lines must be a power of 2 between 16 and 4096, not 8"),
    ({"vector_lines": 48}, "Vector lines must be a power of 2 between 16 and 4096, not 48"),
    ({"vector_lines": -16}, "Vector lines must be a power of 2 between 16 and 4096, not -16"),
    ({"vector_taps": 5}, "Vector taps must be more than 5 when vector lines are kept, not 5"),
    ({"vector_taps": 0}, "Vector taps must be more than 5 when vector lines are kept, not 0"),
])
def test_a_wrong_configuration_is_named(changes, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        TEN.replace(**changes)
