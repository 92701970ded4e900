import re
from dataclasses import replace

import numpy as np
import pytest
from compiled_graphs import TINY, branchy, build, chain, field, tokens
from graph_builder import GraphBuilder
from graphs import random_graph
from sw_programs import equal

from weft.compiler import compile
from weft.compiler.assembly.allocate import SECTION_BYTES
from weft.compiler.estimate import estimate
from weft.compiler.planning.columns import column_chunks, column_step, tile_pixels
from weft.compiler.verify import verify
from weft.errors import CompileError
from weft.hw.isa.commands import Engine
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.presets import PRESETS

ROOMY = TINY.replace(activation_bytes=1 << 20, weight_bytes=1 << 18)


# Tiling ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("pixels, expected", [
    (1, 1), (127, 127), (128, 128), (129, 65), (256, 128), (300, 100), (1000, 125)])
def test_pixel_tiles_are_as_equal_as_they_can_be(pixels, expected):
    assert tile_pixels(TINY, pixels) == expected


def test_column_chunks_fill_at_most_half_of_the_memories():
    config = TINY.replace(weight_bytes=1024)  # 128 rows
    assert column_chunks(config, "conv", 7, 16) == [range(4), range(4, 7)]
    assert column_chunks(config, "conv", 7, 32) == [range(2), range(2, 4), range(4, 6),
                                                    range(6, 7)]
    assert column_chunks(config, "conv", 2, 100) == [range(1), range(1, 2)]
    few = TINY.replace(parameter_channels=16)
    assert column_chunks(few, "conv", 4, 2) == [range(2), range(2, 4)]


def test_column_chunks_start_at_the_first_lane_of_a_word():
    config = TINY.replace(rows=6, cols=10, requant_lanes=2, weight_bytes=4000)
    for tiles in range(1, 20):
        chunks = column_chunks(config, "conv", tiles, 3)
        assert [tile for chunk in chunks for tile in chunk] == list(range(tiles))
        assert all(chunk.start * config.cols % config.rows == 0 for chunk in chunks)


# Errors ---------------------------------------------------------------------------------------

def fails(graph, config: AcceleratorConfig, message: str) -> None:
    with pytest.raises(CompileError, match=f"^{re.escape(message)}$"):
        compile(graph, config)


def test_window_larger_than_weight_memory_is_an_error():
    builder = GraphBuilder(np.random.default_rng(0), (7, 9, 9))
    graph = builder.graph(builder.conv(builder.conv(builder.input, 8), 4, kernel=(8, 8)))
    fails(graph, TINY.replace(weight_bytes=512),
          "Layer 'layer1' needs 1024 bytes of weight memory for 4 output channels and 4 input "
          "channels, 512 are available")


@pytest.mark.parametrize("compiling", [compile, estimate])
def test_a_layer_for_a_vector_engine_that_is_not_there_is_an_error(compiling):
    builder = GraphBuilder(np.random.default_rng(0), (4, 8, 8))
    graph = builder.graph(builder.conv(builder.max_pool(builder.conv(builder.input, 6)), 3))
    with pytest.raises(CompileError, match=(
            r"^Layer 'layer1' \(MaxPool\) runs on the vector engine: the configuration 'tiny' must "
            r"have vector taps between 1 and 8, not 0$")):
        compiling(graph, TINY.replace(vector_taps=0))


def test_parameters_larger_than_their_memory_are_an_error():
    config = TINY.replace(rows=6, cols=10, requant_lanes=2, parameter_channels=20)
    fails(build((3, 2, 2), 70), config,
          "Layer 'layer0' needs 240 bytes of parameter memory for 30 output channels, 160 are "
          "available")


def test_activations_larger_than_their_memory_are_an_error():
    builder = GraphBuilder(np.random.default_rng(0), (4, 1, 600))
    graph = builder.graph(builder.max_pool(builder.input, kernel=(1, 300)))
    fails(graph, TINY.replace(activation_bytes=1 << 10),
          "Layer 'layer0' needs 1204 bytes of activation memory, 1024 are available")


@pytest.mark.parametrize("shape, options, message", [
    ((1, 300, 1), {"kernel": (256, 1)}, "kernel_h must be between 0 and 255, not 256"),
    ((1, 1, 300), {"strides": (1, 256)}, "stride_w must be between 0 and 255, not 256"),
    ((1, 300, 1), {"dilations": (256, 1)}, "dilation_h must be between 0 and 255, not 256"),
    ((1, 2, 2), {"pads": (0, 256, 0, 0)}, "pad_left must be between 0 and 255, not 256"),
    ((1, 1, 65536), {}, "in_w must be between 0 and 65535, not 65536"),
])
def test_value_beyond_a_field_is_an_error(shape, options, message):
    builder = GraphBuilder(np.random.default_rng(0), shape)
    graph = builder.graph(builder.conv("x", 1, **options), "x")  # an output, so it is not packed
    fails(graph, ROOMY, f"Layer 'layer0': {message}")


@pytest.mark.parametrize("fip", [False, True])
def test_accumulator_range_is_proven_from_the_weights(fip):
    graph = build((32, 1, 1), 1)
    weights = graph.layers[0].weights
    config = TINY.replace(fip=fip, accumulator_width=20)
    weights[...] = 127
    weights[0, 1::2] = -128  # 16 pairs; beta is -16 * 127 * 128
    if fip:
        fails(graph, config, "Layer 'layer0' may reach -780288 in its accumulator, which holds "
                             "-524288 to 524287")
    else:
        compile(graph, config)
    compile(graph, config.replace(accumulator_width=21))


def test_sum_with_bias_beyond_int32_is_an_error():
    graph = build((1, 1, 1), 1)
    graph.layers[0].weights[...] = 1
    graph.tensors["x"] = replace(graph.tensors["x"], zero_point=-128)
    graph.layers[0].bias[...] = (1 << 31) - 255 - 1
    compile(graph, TINY)
    graph.layers[0].bias[...] += 1
    fails(graph, TINY, "Layer 'layer0' may reach 2147483648 in its int32 sum with bias, which "
                       "holds -2147483648 to 2147483647")


def test_external_memory_beyond_the_address_width_is_an_error():
    fails(build((64, 4, 4), 70, kernel=(4, 4)), ROOMY.replace(axi_addr_width=16),
          "Model needs 75456 bytes of external memory, 16 address bits reach 65536")


@pytest.mark.parametrize("change, message", [
    ({"bias": np.zeros(3, np.int32)},
     "Layer 'layer0' must have 2 biases and multipliers, not (3,) and (2,)"),
    ({"multiplier": np.array([1, -1], np.float32)},
     "Layer 'layer0' must have finite multipliers of at least 0"),
    ({"clamp": (1, 0)}, "Layer 'layer0' must have a clamp in order, not (1, 0)"),
    ({"strides": (2, 1)}, "Layer 'layer0' must have an output of shape (2, 1, 2), not (2, 2, 2)"),
    ({"weights": np.zeros((2, 4, 1, 1), np.int8)},
     "Layer 'layer0' must have 3 input channels, not 4"),
])
def test_inconsistent_graph_is_refused(change, message):
    graph = build((3, 2, 2), 2)
    graph = replace(graph, layers=(replace(graph.layers[0], **change),))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        compile(graph, TINY)


# Programs -------------------------------------------------------------------------------------

def test_compilation_is_deterministic():
    assert compile(branchy(), TINY).commands == compile(branchy(), TINY).commands


def test_sections_are_aligned_and_disjoint():
    program = compile(branchy(), TINY, keep_tensors=True)
    end = 0
    for section in program.sections:
        assert section.address % SECTION_BYTES == 0
        assert section.address >= end
        end = section.address + section.size
    assert end <= program.memory_bytes
    assert {slot.tensor for slot in program.kept} == {"t1", "t3"}
    assert [slot.tensor for slot in program.outputs] == ["t2", "t0", "t4"]


def test_layers_name_their_commands_and_work():
    program = compile(branchy(), TINY)
    assert [info.macs for info in program.layers] == [
        8 * 9 * 12 * 64, 12 * 9 * 64, 9 * 70 * 64, 12 * 25 * 20 * 16, 20 * 3 * 16]
    named = [index for info in program.layers for index in info.commands]
    assert sorted(named) == [index for index, info in enumerate(program.infos)
                             if info.layer is not None]


def test_tensors_share_memory_once_they_are_dead():
    program = compile(chain(5), TINY)
    assert program.peak_words == 2 * 9


def test_unused_input_has_no_slot():
    builder = GraphBuilder(np.random.default_rng(0), (4, 2, 2))
    builder.add_input("unused", (3, 3, 3))
    program = compile(builder.graph(builder.conv("x", 3)), TINY)
    assert [slot.tensor for slot in program.inputs] == ["x"]


def test_weights_are_loaded_while_the_layer_before_is_computed():
    program = compile(chain(6), TINY)
    loads = [index for index, info in enumerate(program.infos) if "weights" in info.text]
    assert len(loads) == 6
    assert all(field(program, index, "wait") == 0 for index in loads)


def test_split_layer_is_loaded_in_quarters_of_the_memory():
    def split(weight_bytes):
        program = compile(build((32, 1, 16), 32), TINY.replace(weight_bytes=weight_bytes))
        matrix = [index for index, info in enumerate(program.infos) if info.engine is Engine.MATRIX]
        loads = [index for index, info in enumerate(program.infos) if "weights" in info.text]
        assert len(matrix) == len(loads)
        return len(loads), [(matrix.index(before), loads.index(after))
                            for before, after in tokens(program)
                            if before in matrix and after in loads]

    assert split(1024) == (4, [])
    # The fifth group waits for the first to be done, not for the second.
    assert split(512) == (8, [(0, 4), (1, 5), (2, 6), (3, 7)])


def test_part_of_the_weights_is_loaded_beside_those_that_take_more_than_half():
    config = TINY.replace(weight_bytes=1024)  # 128 rows, of which a column tile takes 96
    rng = np.random.default_rng(0)
    builder = GraphBuilder(rng, (192, 1, 40))
    program = equal(builder.graph(builder.conv("x", 16)), config, rng)
    pairs = tokens(program)
    matrix = [index for index, info in enumerate(program.infos) if info.engine is Engine.MATRIX]
    loads = [index for index, info in enumerate(program.infos) if "weights" in info.text]
    bases = [field(program, index, "weight_base") for index in matrix]
    assert bases == [0, 32, 0, 32]
    assert [field(program, index, "units") for index in loads] == [96] + [32, 64] * 3
    # The second part of a group waits for the group before it. So the first part of the next one,
    # which lies elsewhere, need not wait for anything.
    for group in (1, 2, 3):
        assert field(program, loads[2 * group - 1], "wait") == 0
        assert (matrix[group - 1], loads[2 * group]) in pairs


@pytest.mark.parametrize("config", [
    TINY, TINY.replace(axi_data_width=256), TINY.replace(rows=6, cols=10, requant_lanes=2)],
    ids=lambda config: f"{config.rows}x{config.cols}-{config.axi_data_width}")
def test_programs_with_little_room_for_weights_equal_the_reference(config):
    parts = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        builder = GraphBuilder(rng, (int(rng.integers(20, 60)), 1, 9))
        outer = builder.conv("x", int(rng.integers(20, 60)))
        graph = builder.graph(builder.conv(outer, int(rng.integers(20, 60)), kernel=(1, 3)))
        words = max(layer.weights[0].size for layer in graph.layers) + 40
        small = config.replace(
            weight_bytes=words * column_step(config) * config.cols * 3 // 2)
        program = equal(graph, small, rng)
        loads = [(info.text, field(program, index, "address"))
                 for index, info in enumerate(program.infos) if info.engine is Engine.LOAD]
        assert all(address % config.axi_bytes == 0 for _, address in loads)
        parts += sum("weights" in text and " rows " in text for text, _ in loads)
    assert parts >= 4


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_pass_their_check_on_every_preset(seed):
    rng = np.random.default_rng(seed)
    for config in PRESETS.values():
        graph = random_graph(rng, 4, max_size=10, max_kernel=3)
        compile(graph, config.replace(fip=bool(seed % 2), queue_depth=2 << seed % 3),
                keep_tensors=bool(seed % 3))


def test_long_chain_does_not_overflow_a_semaphore():
    program = compile(chain(300, channels=1, size=1), PRESETS["base"])
    assert program.count == 779     # weights and biases of some are the same
    longest = max(consumer - producer for producer, consumer in tokens(program))
    assert longest < 100


def test_dump_shows_layers_memory_and_commands():
    graph = build((3, 4, 4), 2, kernel=(3, 3), strides=(2, 1), pads=(1, 0, 0, 0))
    program = compile(graph, TINY)
    lines = program.dump().splitlines()
    assert lines[0] == ("program random for tiny: 1 layers, 5 commands, 896 bytes of external "
                        "memory, 32 of 16384 activation words")
    assert ("    0 layer0: Conv x 3x4x4 -> t0 2x2x2 kernel 3x3 strides 2,1 pads 1,0,0,0 "
            "dilations 1,1 clamp -128..127 macs 216") in lines
    assert "  0x00000000       320 commands" in lines
    assert "     4 output t0 for layer0" in lines
    assert sum("wait=" in line for line in lines) == program.count


def test_graph_is_verified_between_passes():
    builder = GraphBuilder(np.random.default_rng(0), (3, 5, 5))
    first = builder.conv(builder.input, 4)
    graph = builder.graph(builder.lookup(first))
    assert verify(graph) is graph
    with pytest.raises(ValueError, match=r"^Layer 'layer1' must come after the one that makes "
                                         r"'t0'$"):
        verify(replace(graph, layers=graph.layers[::-1]))
    with pytest.raises(ValueError, match=r"^Layer 'layer0' must make a tensor of its own, not "
                                         r"'t0' again$"):
        verify(replace(graph, layers=(graph.layers[0], *graph.layers)))
    with pytest.raises(ValueError, match=r"^Output 't1' must be made by a layer, or be an input$"):
        verify(replace(graph, layers=graph.layers[:1]))
