import re
from dataclasses import replace

import numpy as np
import pytest
from amaranth.lib import data
from graphs import GraphBuilder, random_graph
from sw_programs import equal

from weft.compiler import Program, ProgramError, check, compile
from weft.compiler.assembly.accesses import accesses
from weft.compiler.assembly.allocate import SECTION_BYTES
from weft.compiler.estimate import estimate
from weft.compiler.planning.columns import column_chunks, column_step, tile_pixels
from weft.compiler.verify import verify
from weft.errors import CompileError
from weft.hw.isa.commands import COMMAND_BYTES, COMMANDS, Engine, Opcode, VectorOp, decode, encode
from weft.hw.isa.config import PRESETS, AcceleratorConfig

TINY = PRESETS["tiny"]
ROOMY = TINY.replace(activation_bytes=1 << 20, weight_bytes=1 << 18)


def chain(layers: int, *, channels: int = 4, size: int = 3, seed: int = 0):
    builder = GraphBuilder(np.random.default_rng(seed), (channels, size, size))
    tensor = builder.input
    for _ in range(layers):
        tensor = builder.conv(tensor, channels)
    return builder.graph(tensor)


def branchy(seed: int = 0):
    builder = GraphBuilder(np.random.default_rng(seed), (8, 8, 8))
    trunk = builder.conv(builder.input, 12, kernel=(3, 3), pads=(1, 1, 1, 1))
    left = builder.conv(builder.conv(trunk, 9), 70)
    right = builder.conv(builder.conv(trunk, 20, kernel=(5, 5)), 3)
    return builder.graph(left, trunk, right)


def field(program: Program, index: int, name: str) -> int:
    return decode(program.command(index))[1][name]


def encoded_again(raw: bytes, **changes: int) -> bytes:
    """A command with some fields changed."""
    opcode, fields = decode(raw)
    for name, field in data.Layout.cast(COMMANDS[opcode]):
        if name in fields and isinstance(field.shape, type):
            fields[name] = field.shape(fields[name])
    return encode(opcode, **{**fields, **changes})


def changed(program: Program, index: int, **changes: int) -> Program:
    """The program with some fields of one command changed."""
    raw = encoded_again(program.command(index), **changes)
    at = index * COMMAND_BYTES
    return replace(program, commands=program.commands[:at] + raw
                   + program.commands[at + COMMAND_BYTES:])


def tokens(program: Program) -> list[tuple[int, int]]:
    """(producer, consumer) of every token, as indices of commands."""
    given: dict[tuple[int, int], list[int]] = {}
    pairs = []
    for index, info in enumerate(program.infos):
        me = info.engine.value
        for engine in Engine:
            if field(program, index, "wait") >> engine.value & 1:
                pairs.append((given[engine.value, me].pop(0), index))
        for engine in Engine:
            if field(program, index, "post") >> engine.value & 1:
                given.setdefault((me, engine.value), []).append(index)
    assert not any(given.values())
    return pairs


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


def build(shape, channels, **options):
    builder = GraphBuilder(np.random.default_rng(0), shape)
    return builder.graph(builder.conv(builder.input, channels, **options))


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


# The check ------------------------------------------------------------------------------------

def windows():
    builder = GraphBuilder(np.random.default_rng(0), (6, 8, 8))
    deep = builder.depthwise(builder.conv("x", 7), kernel=(3, 3), pads=(1, 1, 1, 1))
    pooled = builder.max_pool(builder.lookup(deep), kernel=(2, 2), strides=(2, 2))
    added = builder.sum(pooled, builder.conv(deep, 7, kernel=(2, 2), strides=(2, 2)))
    return builder.graph(builder.conv(added, 5, like="x"))


PROGRAMS = [lambda: compile(branchy(), TINY.replace(activation_bytes=4096 * 3, weight_bytes=2400)),
            lambda: compile(chain(8), TINY, keep_tensors=True),
            lambda: compile(build((32, 4, 4), 70), TINY.replace(weight_bytes=512)),
            lambda: compile(windows(), TINY),
            lambda: compile(windows(), TINY.replace(activation_bytes=512))]


@pytest.mark.parametrize("make", PROGRAMS)
def test_check_finds_every_missing_wait(make):
    program = make()
    for _, consumer in tokens(program):
        wait = field(program, consumer, "wait")
        with pytest.raises(ProgramError):
            check(changed(program, consumer, wait=wait & (wait - 1)))


@pytest.mark.parametrize("make", PROGRAMS)
def test_check_finds_every_missing_post(make):
    program = make()
    for producer, _ in tokens(program):
        post = field(program, producer, "post")
        with pytest.raises(ProgramError):
            check(changed(program, producer, post=post & (post - 1)))


@pytest.mark.parametrize("make", PROGRAMS)
def test_check_finds_every_missing_token(make):
    program = make()
    for producer, consumer in tokens(program):
        to = 1 << program.infos[consumer].engine.value
        from_ = 1 << program.infos[producer].engine.value
        without = changed(program, consumer, wait=field(program, consumer, "wait") & ~from_)
        without = changed(without, producer, post=field(without, producer, "post") & ~to)
        with pytest.raises(ProgramError, match=r"does not wait for it$"):
            check(without)


@pytest.mark.parametrize("layer", ["conv", "lookup"])
def test_a_command_waits_for_its_own_engine_only_if_it_reads_what_that_writes(layer):
    builder = GraphBuilder(np.random.default_rng(0), (4, 1, 25))
    if layer == "conv":
        graph = builder.graph(*(builder.conv(builder.conv("x", 4), 4) for _ in range(2)))
    else:
        graph = builder.graph(*(builder.lookup(builder.lookup("x")) for _ in range(2)))
    program = compile(graph, TINY, keep_tensors=True)
    engine = Engine.MATRIX if layer == "conv" else Engine.VECTOR
    commands = [index for index, info in enumerate(program.infos) if info.engine is engine]
    by_layer = {info.layer: index for index, info in enumerate(program.infos)
                if info.engine is engine}
    made = {graph.layers[number].output: index for number, index in by_layer.items()}
    pairs = [(made[graph.layers[number].input], index) for number, index in by_layer.items()
             if graph.layers[number].input in made]
    assert len(commands) == 4 and len(pairs) == 2
    assert [pair for pair in tokens(program) if set(pair) <= set(commands)] == pairs


def test_check_of_a_vector_command_follows_its_definition():
    rng = np.random.default_rng(1)
    config = TINY.replace(vector_taps=2)
    raw = compile(windows(), config)
    base = next(fields for index in range(raw.count)
                for opcode, fields in [decode(raw.command(index))] if opcode is Opcode.VECTOR)
    for op in VectorOp:
        for _ in range(20):
            pair = op in (VectorOp.ADD, VectorOp.MULTIPLY)
            window = op in (VectorOp.CONV, VectorOp.MAX)
            fields = {**base, "op": op.value, "broadcast": int(pair and rng.random() < 0.4)}
            for name in fields:
                if name.endswith("_step"):
                    fields[name] = int(rng.integers(0, 40))
            for name, high in (("blocks", 3), ("out_outer", 4), ("out_inner", 4), ("in_outer", 5),
                               ("in_inner", 5), ("stride_outer", 3), ("stride_inner", 3)):
                fields[name] = int(rng.integers(1, high + 1))
            fields["kernel_outer"] = int(rng.integers(1, 4)) if window else 1 + pair
            fields["kernel_inner"] = int(rng.integers(1, 4)) if window else 2 if pair else 1
            for axis in ("outer", "inner"):
                fields[f"pad_{axis}"] = int(rng.integers(0, 3)) if window else 0
                fields[f"dilation_{axis}"] = int(rng.integers(1, 3)) if window else 0
                if not window:
                    fields[f"in_{axis}"], fields[f"stride_{axis}"] = fields[f"out_{axis}"], 1
            fields["in_base"], fields["out_base"] = 700, int(rng.integers(2000))
            fields["table"] = int(rng.integers(op is VectorOp.LOOKUP, 5))
            fields["table_step"] = int(fields["table"] and rng.integers(2))
            read, written = set(), set()
            for block, y, x in np.ndindex(*(fields[name] for name in ("blocks", "out_outer",
                                                                      "out_inner"))):
                def at(kind, *, block=block, y=y, x=x, fields=fields):
                    return (fields[f"{kind}_base"] + block * fields[f"{kind}_block_step"]
                            + y * fields[f"{kind}_outer_step"]
                            + x * fields[f"{kind}_inner_step"])
                written.add(at("out"))
                taps = (fields["kernel_outer"], fields["kernel_inner"]) if window else (1, 1)
                for row, tap in np.ndindex(*taps):
                    v = (y * fields["stride_outer"] + row * fields["dilation_outer"]
                         - fields["pad_outer"])
                    u = (x * fields["stride_inner"] + tap * fields["dilation_inner"]
                         - fields["pad_inner"])
                    if 0 <= v < fields["in_outer"] and 0 <= u < fields["in_inner"]:
                        read.add(at("in") + row * fields["kernel_outer_step"]
                                 + tap * fields["kernel_inner_step"])
                if pair and fields["broadcast"]:
                    read.add(fields["in_base"] + fields["kernel_outer_step"]
                             + block * fields["kernel_inner_step"])
                elif pair:
                    read.add(at("in") + fields["kernel_outer_step"])
            found = list(accesses(config, Opcode.VECTOR, fields))
            for write, expected in ((False, read), (True, written)):
                spans = [range(access.start, access.stop) for access in found
                         if access.space == "activation" and access.write is write]
                assert sorted({word for span in spans for word in span}) == sorted(expected)
            constants = {access.space for access in found} - {"activation", "table"}
            assert constants == {
                VectorOp.CONV: {"vector_weight", "vector_parameter"}, VectorOp.MAX: set(),
                VectorOp.ADD: {"vector_weight", "vector_parameter"},
                VectorOp.MULTIPLY: {"vector_parameter"}, VectorOp.LOOKUP: set()}[op]
            numbers = {entry // 256 + 1 for access in found if access.space == "table"
                       for entry in range(access.start, access.stop)}
            last = fields["table"] + fields["table_step"] * (fields["blocks"] - 1)
            assert numbers == (set(range(fields["table"], last + 1)) if fields["table"] else set())


def test_check_compares_the_warm_stream_with_the_cold_one():
    program = compile(chain(2), TINY)
    assert len(program.warm_infos) == program.count - 4
    at, cold = (next(index for index, info in enumerate(infos) if info.engine is Engine.MATRIX)
                for infos in (program.warm_infos, program.infos))
    raw = program.warm_commands[at * COMMAND_BYTES:(at + 1) * COMMAND_BYTES]
    raw = encoded_again(raw, out_zero=decode(raw)[1]["out_zero"] ^ 1)
    warm = (program.warm_commands[:at * COMMAND_BYTES] + raw
            + program.warm_commands[(at + 1) * COMMAND_BYTES:])
    with pytest.raises(ProgramError, match=rf"^Warm command {at} \(MATRIX\) must do what command "
                                           rf"{cold} \(MATRIX\) does$"):
        check(replace(program, warm_commands=warm))
    with pytest.raises(ProgramError, match=r"^Warm stream must have 1 commands for LOAD, not 0$"):
        check(replace(program, warm_commands=program.warm_commands[COMMAND_BYTES:]))


def test_check_finds_constants_that_the_warm_stream_misses():
    program = compile(chain(2), TINY)
    number = [info.text for info in program.infos].index("layer1 weights")
    at = number * COMMAND_BYTES  # the second layer's weights over the first's
    raw = encoded_again(program.command(number), local_address=0, wait=1 << Engine.MATRIX.value)
    moved = program.commands[:at] + raw + program.commands[at + COMMAND_BYTES:]
    with pytest.raises(ProgramError):
        check(replace(program, commands=moved))


def test_check_names_a_deadlock():
    program = compile(chain(1), TINY)
    with pytest.raises(ProgramError, match=r"^Deadlock: command 0 \(LOAD\) waits for STORE, "
                                           r"command 3 \(MATRIX\) waits for LOAD, "
                                           r"command 4 \(STORE\) waits for MATRIX$"):
        check(changed(program, 0, wait=1 << Engine.STORE.value))


def test_check_names_a_semaphore_that_is_left_over():
    program = compile(chain(1), TINY)
    with pytest.raises(ProgramError, match=r"^Semaphore STORE to LOAD must be zero at the end, "
                                           r"not 1$"):
        check(changed(program, 4, post=1 << Engine.LOAD.value))


def test_check_refuses_a_token_that_comes_later_in_the_stream():
    program = compile(chain(2), TINY)
    # The first matrix command comes before the loads for the second, and its token from the last
    # of them: no deadlock, since that waits for nothing, but the weights need not be there.
    order = [0, 1, 2, 5, 3, 4, 6, 7]
    assert [program.infos[index].text for index in order[2:6]] == [
        "layer0 parameters", "layer0", "layer1 weights", "layer1 parameters"]
    moved = replace(program, infos=tuple(program.infos[index] for index in order),
                    commands=b"".join(map(program.command, order)))
    moved = changed(changed(moved, 2, post=0), 4, post=1 << Engine.MATRIX.value)
    with pytest.raises(ProgramError, match=r"^Command 3 \(matrix\) waits for a token that LOAD "
                                           r"only gives later in the stream$"):
        check(moved)


@pytest.mark.parametrize("index, changes, message", [
    (1, {"local_address": 3}, "Command 1 (load) writes weight 3 to 5, outside its buffers"),
    (0, {"units": 10}, "Command 0 (load) reads external"),
    (3, {"col_tiles": 2}, "Command 3 (matrix) reads weight 0 to 4, outside its buffers"),
    (3, {"out_base": 0}, "Command 3 (matrix) writes activation 0 to 9, outside its buffers"),
    (3, {"in_base": 1}, "Command 3 (matrix) reads activation 1 to 10, outside its buffers"),
    (4, {"local_address": 10}, "Command 4 (store) reads activation 10 to 19, outside its buffers"),
    (4, {"address": 64}, "Command 4 (store) writes external 64 to 100, outside its buffers"),
])
def test_check_keeps_commands_inside_their_buffers(index, changes, message):
    program = compile(chain(1), TINY)
    check(program)
    with pytest.raises(ProgramError, match=f"^{re.escape(message)}"):
        check(changed(program, index, **changes))


def test_check_finds_a_read_of_what_nobody_wrote():
    program = compile(chain(1), TINY)
    with pytest.raises(ProgramError, match=r"^Command 3 \(matrix\) reads activation 0 to 9, not "
                                           r"all of it written$"):
        check(changed(program, 0, units=8))


def test_check_finds_a_command_that_overwrites_its_input():
    program = compile(chain(1), TINY)
    loose = replace(program.infos[3], writes=(("activation", 0, 100),))
    infos = (*program.infos[:3], loose, *program.infos[4:])
    with pytest.raises(ProgramError, match=r"^Command 3 \(matrix\) overwrites its own input$"):
        check(changed(replace(program, infos=infos), 3, out_base=8))


def test_check_names_an_illegal_opcode():
    program = compile(chain(1), TINY)
    with pytest.raises(ProgramError, match=r"^Command 0: Opcode 0xff is illegal$"):
        check(replace(program, commands=b"\xff" + program.commands[1:]))


def test_check_bounds_the_tokens_of_a_semaphore():
    program = compile(chain(1), TINY)
    # 300 loads each give a token that as many stores at the end of the stream take.
    load, store = program.command(0), program.command(4)
    loads = [load[:1] + bytes([8 << 4]) + load[2:]] * 300
    stores = [store[:1] + bytes([1]) + store[2:]] * 300
    many = replace(program, commands=b"".join([*loads, *stores]),
                   infos=(program.infos[0],) * 300 + (program.infos[4],) * 300)
    with pytest.raises(ProgramError, match=r"^Semaphore LOAD to STORE may hold 256 tokens after "
                                           r"command 255 \(LOAD\), it holds at most 255$"):
        check(many)


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
