"""Sketches of graphs, and what commands do, counted."""

import numpy as np
import pytest
from graphs import random_graph

from weft.compiler import compile
from weft.compiler.activity import EVENTS, Activity, command_activity, stream_activity
from weft.compiler.estimate import least_cycles
from weft.compiler.sketch import sketch
from weft.compiler.timing.player import play
from weft.digits import MODEL
from weft.errors import CompileError
from weft.frontend import partition
from weft.hw.isa.commands import COMMAND_BYTES, Opcode
from weft.hw.isa.encoding import decode
from weft.hw.isa.presets import PRESETS


@pytest.mark.parametrize("name", ["tiny", "small", "base"])
def test_cycles_are_near_those_of_a_program(name):
    config = PRESETS[name]
    graph = partition(MODEL).graphs[0]
    program = compile(graph, config)
    found = sketch(graph, config)
    first = play(program.commands, config, address=program.command_address).cycles
    assert found.first == pytest.approx(first, rel=0.15)
    assert found.warm == bool(program.warm_commands)
    if found.warm:
        further = play(program.warm_commands, config, address=program.warm_address).cycles
        assert found.further == pytest.approx(further, rel=0.15)
    assert found.memory_bytes == pytest.approx(program.memory_bytes, rel=0.3)


@pytest.mark.parametrize("seed", range(12))
def test_no_program_takes_less_than_the_least(seed):
    rng = np.random.default_rng(seed)
    config = PRESETS["tiny"].replace(rows=4 + 4 * (seed % 2), cols=4 + 2 * (seed % 3),
                                     vector_taps=1 + seed % 4, requant_lanes=2,
                                     accumulator_pixels=32 << seed % 3)
    graph = random_graph(rng, 5, max_size=12)
    program = compile(graph, config)
    stream = program.warm_commands or program.commands
    address = program.warm_address if program.warm_commands else program.command_address
    assert 0 < least_cycles(graph, config) <= play(stream, config, address=address).cycles


def test_the_least_is_near_where_the_array_is_the_limit():
    graph, config = partition(MODEL).graphs[0], PRESETS["tiny"]
    assert least_cycles(graph, config) == pytest.approx(sketch(graph, config).further, rel=0.15)


def test_what_does_not_fit_is_an_error():
    with pytest.raises(CompileError, match="bytes of weight memory"):
        sketch(partition(MODEL).graphs[0], PRESETS["small"].replace(weight_bytes=512))


def inside(fields, sizes, positions, kernel, stride, dilation, pad):
    """Coordinates of taps inside the input, by the definition of the commands."""
    at = positions * fields[stride]
    return sum(int(np.count_nonzero((at + tap * fields[dilation] >= fields[pad])
                                    & (at + tap * fields[dilation] - fields[pad] < sizes)))
               for tap in range(kernel))


def matrix_words(fields):
    """Words that a MATRIX reads for one column tile and channel block, pixel by pixel."""
    words = 0
    for pixel in range(fields["out_pixels"]):
        row, column = divmod(pixel, fields["out_w"])
        down = inside(fields, fields["in_h"], np.array([row]), fields["kernel_h"], "stride_h",
                      "dilation_h", "pad_top")
        across = inside(fields, fields["in_w"], np.array([column]), fields["kernel_w"], "stride_w",
                        "dilation_w", "pad_left")
        words += down * across
    return words


@pytest.mark.parametrize("seed", range(6))
def test_counts_of_random_graphs(seed):
    rng = np.random.default_rng(seed)
    config = PRESETS[("tiny", "small")[seed % 2]]
    program = compile(random_graph(rng, 4, max_size=10), config)
    raw = [program.commands[at:at + COMMAND_BYTES]
           for at in range(0, len(program.commands), COMMAND_BYTES)]
    counts = [command_activity(config, *decode(each)) for each in raw]
    for each, count in zip(raw, counts, strict=True):
        opcode, fields = decode(each)
        if opcode is Opcode.MATRIX:
            columns, blocks = fields["col_tiles"], fields["channel_blocks"]
            steps = columns * blocks * fields["kernel_h"] * fields["kernel_w"]
            assert count.activation_reads == columns * blocks * matrix_words(fields)
            assert count.products == steps * fields["out_pixels"] * config.multipliers
            assert count.accumulator_writes == steps * fields["out_pixels"] * config.cols
        elif opcode is Opcode.VECTOR:
            assert count.activation_writes == (fields["blocks"] * fields["out_outer"]
                                               * fields["out_inner"])
        else:
            assert count.products == 0
    # Both ends of the port move what the player moves.
    total = Activity.sum(stream_activity(config, program.commands))
    timeline = play(program.commands, config, address=program.command_address)
    assert (total.read_beats, total.write_beats) == (timeline.read_beats, timeline.write_beats)
    assert all(getattr(total, name) >= 0 for name in EVENTS)


def test_constants_that_stay_are_loaded_once():
    graph = partition(MODEL).graphs[0]
    program = compile(graph, PRESETS["base"])
    first, further = (Activity.sum(stream_activity(program.config, commands))
                      for commands in (program.commands, program.warm_commands))
    assert first.weight_writes > further.weight_writes == 0
    assert first.products == further.products > 0
