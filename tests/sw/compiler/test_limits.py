"""What a program takes at least, against figures worked out by hand."""

import numpy as np
import pytest
from graph_builder import GraphBuilder
from graphs import random_graph

from weft.boards.registry import BOARDS
from weft.compiler import batch, compile
from weft.compiler.limits import Limits, program_limits
from weft.compiler.timing.player import play
from weft.hw.isa.presets import PRESETS

BASE = PRESETS["base"]  # 16 x 16, a weight tile in 8 cycles, vector taps 5, 8 bytes a beat


def limits_of(shape, add, config=BASE):
    """Of the layer that ``add`` gives a builder."""
    b = GraphBuilder(np.random.default_rng(7), shape)
    return program_limits(compile(b.graph(add(b)), config))


@pytest.mark.parametrize("shape, filters, kernel, cycles", [
    ((16, 5, 5), 16, 1, 25),             # a weight tile, all pixels
    ((17, 5, 5), 20, 1, 2 * 2 * 25),     # a channel too many of both: two blocks, two columns
    ((32, 6, 6), 16, 3, 2 * 9 * 36),     # nine taps of two blocks; padding counts, too
    ((640, 1, 1), 128, 1, 40 * 8 * 8),   # a pixel, so that shifting weights in takes longer
])
def test_array_takes_a_cycle_for_each_pixel_of_a_weight_tile(shape, filters, kernel, cycles):
    layer, = limits_of(shape, lambda b: b.conv(
        b.input, filters, kernel=(kernel, kernel), pads=(kernel // 2,) * 4)).layers
    assert (layer.array, layer.vector) == (cycles, 0)


@pytest.mark.parametrize("add, cycles", [
    # Nine columns in tiles: for the first row of positions a word for each kernel row, but for
    # padding above; one for each other row, as tiles go on with one another's rows.
    (lambda b: b.depthwise(b.input, pads=(1, 1, 1, 1)), 9 * (2 + 7)),
    (lambda b: b.sum(b.input, b.input), 64),    # both words in a cycle
    (lambda b: b.lookup(b.input), 64),
    (lambda b: b.max_pool(b.input, strides=(2, 2)), 16 * 4),
])
def test_vector_engine_takes_a_cycle_for_each_word(add, cycles):
    layer, = limits_of((16, 8, 8), add).layers
    assert (layer.array, layer.vector) == (0, cycles)


@pytest.mark.parametrize("width", [64, 128])
def test_port_moves_a_beat_per_cycle_in_each_direction(width):
    found = limits_of((32, 4, 4), lambda b: b.conv(b.input, 48),
                      BASE.replace(axi_data_width=width))
    layer, beat = found.layers[0], width // 8
    weights, parameters = 32 * 48, 48 * 8
    assert layer.read == (weights + parameters) // beat
    assert layer.write == 48 * 16 // beat
    assert found.inputs == Limits(read=32 * 16 // beat)
    assert found.commands.read % (64 // beat) == 0 < found.commands.read
    assert found.total.read == layer.read + found.inputs.read + found.commands.read


def test_limits_of_several_things():
    total = Limits.sum([Limits(array=10, read=3), Limits(vector=7, read=5, write=1)])
    assert total == Limits(array=10, vector=7, read=8, write=1)
    assert (total.cycles, total.resource) == (10, "array")
    assert (total.share(40), total.share(8), total.share(0)) == (0.25, 1.0, 0.0)
    assert (Limits.sum([]).cycles, Limits().resource) == (0, "")


@pytest.mark.parametrize("config", [PRESETS["tiny"], PRESETS["small"], BASE,
                                    BOARDS["icebreaker"].config], ids=lambda config: config.name)
def test_no_stream_takes_less(config):
    for seed in range(6):
        rng = np.random.default_rng([seed, 3])
        if config.vector:
            graph = random_graph(rng, layers=4, max_size=12)
        else:
            b = GraphBuilder(rng, (5, 7, 7))
            graph = b.graph(b.conv(b.random_conv(b.input), 6))
        program = compile(batch(graph, 1 + seed % 3), config)
        for warm in (False, True)[:1 + bool(program.warm_commands)]:
            commands, address = ((program.warm_commands, program.warm_address) if warm else
                                 (program.commands, program.command_address))
            played = play(commands, config, address=address)
            total = program_limits(program, warm=warm).total
            assert 0 < total.cycles <= played.cycles
            assert (total.read, total.write) == (played.read_beats, played.write_beats)
