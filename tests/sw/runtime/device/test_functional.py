import re

import numpy as np
import pytest
from graph_builder import GraphBuilder
from graphs import OPERATORS, in_fixed_point, operator_graph, random_graph, random_image

from weft import reference
from weft.boards.registry import BOARDS
from weft.compiler import Program, compile
from weft.frontend.fixed_point import with_fixed_point
from weft.hw.isa.commands import COMMAND_BYTES, Engine, Memory, Opcode, Rounding
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import decode, encode
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import Control, Counter, Error, Register, Status
from weft.ir import layout
from weft.runtime.device import DeviceStopped, DeviceTimeout, Driver
from weft.runtime.device.functional import FunctionalDevice

TINY = PRESETS["tiny"]
CONFIGS = [config.replace(fip=fip) for config in PRESETS.values() for fip in (False, True)] + [
    TINY.replace(rows=6, cols=10, requant_lanes=2)]


def load(program: Program, *, seed: int = 0) -> FunctionalDevice:
    device = FunctionalDevice(program.config, memory_bytes=program.memory_bytes, seed=seed)
    for address, raw in program.image:
        device.write_memory(address, raw)
    return device


def run(program: Program, image: dict[str, np.ndarray], *, seed: int = 0,
        commands: bytes | None = None) -> dict[str, np.ndarray]:
    """Values of all stored tensors."""
    device = load(program, seed=seed)
    if commands is not None:
        device.write_memory(program.command_address, commands)
    for slot in program.inputs:
        device.write_memory(slot.address, program.pack(slot, image[slot.tensor]))
    Driver(device).run(program.command_address, program.count)
    return {slot.tensor: program.unpack(slot, device.read_memory(slot.address, slot.size))
            for slot in (*program.outputs, *program.kept)}


def check(graph, config: AcceleratorConfig, rng, *, seed: int = 0,
          keep_tensors: bool = False) -> Program:
    program = compile(graph, config, keep_tensors=keep_tensors)
    image = random_image(rng, graph)
    expected = reference.run(graph, image)
    for name, values in run(program, image, seed=seed).items():
        assert np.array_equal(values, expected[name]), name
    return program


# Equality with the reference ------------------------------------------------------------------

@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.name}-{c.rows}x{c.cols}-{c.fip}")
def test_random_graphs_equal_the_reference(config):
    config = config.replace(activation_bytes=1 << 20, weight_bytes=1 << 19)
    for seed in range(9):
        rng = np.random.default_rng([seed, config.rows, config.fip])
        graph = random_graph(rng, 1 + seed % 3, max_size=40 if seed < 6 else 12)
        check(graph, config, rng, seed=seed, keep_tensors=seed % 2 == 0)


@pytest.mark.parametrize("config", CONFIGS[:4] + CONFIGS[-1:],
                         ids=lambda c: f"{c.name}-{c.rows}x{c.cols}-{c.fip}")
def test_concat_of_layers_with_fixed_point_equals_the_reference(config):
    rng = np.random.default_rng([config.rows, 3])
    builder = GraphBuilder(rng, (config.rows + 1, 5, 6))
    a = builder.conv(builder.input, config.rows + 1)
    b = builder.conv(builder.input, config.rows + 3, like=a)
    output = builder.conv(builder.concat(a, b), 2 * config.cols + 1)
    graph = with_fixed_point(builder.graph(output))
    check(graph, config.replace(fixed_point=True), rng, keep_tensors=True)


@pytest.mark.parametrize("config", CONFIGS[:4] + CONFIGS[-1:],
                         ids=lambda c: f"{c.name}-{c.rows}x{c.cols}-{c.fip}")
def test_random_graphs_with_fixed_point_equal_the_reference(config):
    config = config.replace(activation_bytes=1 << 20, weight_bytes=1 << 19, fixed_point=True)
    for seed in range(6):
        rng = np.random.default_rng([seed, config.rows, config.fip, 2])
        graph = random_graph(rng, 1 + seed % 3, max_size=20)
        names = [layer.name for layer in graph.layers]
        chosen = names if seed % 2 else [str(name) for name in rng.choice(names, 1)]
        check(with_fixed_point(graph, chosen), config, rng, seed=seed, keep_tensors=True)
        check(in_fixed_point(rng, graph), config, rng, seed=seed, keep_tensors=True)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("config", CONFIGS[1:3] + CONFIGS[-1:],
                         ids=lambda c: f"{c.name}-{c.rows}x{c.cols}-{c.fip}")
def test_operators_in_fixed_point_equal_the_reference(config, operator):
    config = config.replace(fixed_point=True)
    for seed in range(4):
        rng = np.random.default_rng([seed, config.rows, len(operator), 4])
        graph = in_fixed_point(rng, operator_graph(rng, operator), share=0.9)
        check(graph, config, rng, seed=seed, keep_tensors=True)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.name}-{c.rows}x{c.cols}-{c.fip}")
def test_layers_split_by_column_tiles_equal_the_reference(config):
    rng = np.random.default_rng(7)
    config = config.replace(weight_bytes=4096 if config.rows < 16 else 16384,
                            parameter_channels=128)
    builder = GraphBuilder(rng, (19, 9, 7))
    middle = builder.conv(builder.input, 70, kernel=(3, 1), pads=(1, 0, 1, 0))
    graph = builder.graph(builder.conv(middle, 65))
    program = check(graph, config, rng)
    assert sum(info.text.startswith("layer0 ") and info.engine.name == "MATRIX"
               for info in program.infos) > 1


@pytest.mark.parametrize("seed", range(6))
def test_memory_reuse_and_branches_equal_the_reference(seed):
    rng = np.random.default_rng(seed)
    builder = GraphBuilder(rng, (8, 8, 8), unsigned=True)
    trunk = builder.conv(builder.input, 12, kernel=(3, 3), pads=(1, 1, 1, 1))
    left = builder.conv(trunk, 9, kernel=(1, 2))
    left = builder.conv(left, 17)
    right = builder.conv(trunk, 5, kernel=(5, 5), strides=(2, 2), pads=(2, 2, 2, 2))
    tail = builder.conv(builder.conv(right, 20), 3)
    words = TINY.replace(fip=bool(seed % 2), activation_bytes=650 * 4)
    program = check(builder.graph(left, trunk, tail), words, rng, seed=seed)
    total = sum(layout.tensor_words(words, tensor.shape)
                for tensor in program.graph.tensors.values())
    assert total > words.activation_depth


def test_fully_connected_and_wide_accumulations_equal_the_reference():
    rng = np.random.default_rng(11)
    builder = GraphBuilder(rng, (70, 6, 6))
    graph = builder.graph(builder.conv(builder.input, 33, kernel=(6, 6)))
    check(graph, PRESETS["base"].replace(weight_bytes=1 << 20), rng)


def test_extreme_values_equal_the_reference():
    rng = np.random.default_rng(12)
    builder = GraphBuilder(rng, (64, 3, 3))
    graph = builder.graph(builder.conv(builder.input, 8, kernel=(3, 3), pads=(1, 1, 1, 1)))
    graph.layers[0].weights[...] = rng.choice([-128, 127], graph.layers[0].weights.shape)
    program = compile(graph, PRESETS["small"])
    for value in (-128, 127):
        image = {"x": np.full((64, 3, 3), value, np.int8)}
        expected = reference.run(graph, image)["t0"]
        assert np.array_equal(run(program, image)["t0"], expected)


def test_graph_of_an_input_that_is_an_output_is_a_copy():
    rng = np.random.default_rng(13)
    builder = GraphBuilder(rng, (5, 4, 3))
    check(builder.graph("x", builder.conv("x", 3)), TINY, rng)
    check(builder.graph("x"), TINY, rng)


def test_unused_lanes_do_not_matter():
    rng = np.random.default_rng(14)
    graph = random_graph(rng, 2, max_size=6, max_channels=9)
    program = compile(graph, TINY)
    image = random_image(rng, graph)
    clean = run(program, image)
    device = load(program)
    for memory in device.core.units.values():
        memory[...] = rng.integers(-128, 128, memory.shape)
    for slot in program.inputs:
        device.write_memory(slot.address, program.pack(slot, image[slot.tensor]))
    Driver(device).run(program.command_address, program.count)
    slot, = program.outputs
    dirty = program.unpack(slot, device.read_memory(slot.address, slot.size))
    assert np.array_equal(dirty, clean[slot.tensor])


# Order of execution ---------------------------------------------------------------------------

def with_masks(raw: bytes, *, wait: int, post: int) -> bytes:
    return raw[:1] + bytes([wait | post << 4]) + raw[2:]


def test_stream_without_tokens_gives_wrong_values_for_some_seed():
    rng = np.random.default_rng(21)
    graph = random_graph(rng, 3, max_size=6)
    program = compile(graph, TINY)
    image = random_image(rng, graph)
    bare = b"".join(with_masks(program.command(index), wait=0, post=0)
                    for index in range(program.count))
    expected = reference.run(graph, image)[graph.outputs[0].tensor]
    wrong = sum(not np.array_equal(run(program, image, seed=seed, commands=bare)[
        graph.outputs[0].tensor], expected) for seed in range(8))
    assert wrong


def test_matrix_command_without_its_own_token_reads_too_early_for_some_seed():
    rng = np.random.default_rng(22)
    builder = GraphBuilder(rng, (4, 4, 4))
    graph = builder.graph(builder.conv(builder.conv("x", 4), 4))
    program = compile(graph, TINY)
    image = random_image(rng, graph)
    matrix = 1 << Engine.MATRIX.value
    loose = b""
    for index, info in enumerate(program.infos):
        raw = program.command(index)
        if info.engine is Engine.MATRIX:
            fields = decode(raw)[1]
            raw = with_masks(raw, wait=fields["wait"] & ~matrix, post=fields["post"] & ~matrix)
        loose += raw
    expected = reference.run(graph, image)["t1"]
    wrong = sum(not np.array_equal(run(program, image, seed=seed, commands=loose)["t1"], expected)
                for seed in range(64))
    assert wrong


# Errors ---------------------------------------------------------------------------------------

LOAD = {"memory": Memory.ACTIVATION, "lines": 1, "address": 1024, "stride": 0, "units": 1,
        "local_address": 0, "local_stride": 0}
STORE = {key: value for key, value in LOAD.items() if key != "memory"}
MATRIX = {"in_base": 0, "in_zero": 0, "in_plane": 1, "pad_top": 0, "in_h": 1, "in_w": 1,
          "channel_blocks": 1, "kernel_h": 1, "kernel_w": 1, "stride_h": 1, "stride_w": 1,
          "dilation_h": 1, "dilation_w": 1, "pixel_row_step": 1, "pad_left": 0,
          "kernel_row_step": 1, "out_w": 1, "tile_pixels": 1, "out_pixels": 1, "out_zero": 0,
          "out_base": 0, "clamp_min": -128, "out_plane": 1, "clamp_max": 127, "col_tiles": 1,
          "last_groups": 1, "rule": Rounding.FLOAT32, "accumulate": 0, "keep": 0,
          "weight_base": 0, "out_slot": 0, "parameter_base": 0, "table": 0,
          "weight_zero": 0}


def stop(*commands: bytes, config: AcceleratorConfig = TINY) -> DeviceStopped:
    device = FunctionalDevice(config, memory_bytes=4096)
    device.write_memory(0, b"".join(commands))
    with pytest.raises(DeviceStopped) as info:
        Driver(device).run(0, len(commands))
    return info.value


def load_command(**changes) -> bytes:
    return encode(Opcode.LOAD, **{**LOAD, **changes})


@pytest.mark.parametrize("command, error", [
    (bytes(COMMAND_BYTES), Error.OPCODE),
    (load_command(lines=0), Error.ARGUMENT),
    (load_command(units=0), Error.ARGUMENT),
    (load_command(address=1026), Error.ADDRESS),
    (load_command(stride=2, lines=2), Error.ADDRESS),
    (load_command(local_address=TINY.activation_depth), Error.ADDRESS),
    (load_command(local_stride=TINY.activation_depth, lines=2), Error.ADDRESS),
    (load_command(memory=Memory.WEIGHT, units=TINY.weight_depth + 1), Error.ADDRESS),
    (load_command(address=(1 << 32) - 4, units=2), Error.ADDRESS),
    (load_command(address=4096), Error.READ),
    (encode(Opcode.STORE, **{**STORE, "address": 4096}), Error.WRITE),
    (encode(Opcode.STORE, **{**STORE, "lines": 0}), Error.ARGUMENT),
    (encode(Opcode.MATRIX, **{**MATRIX, "out_pixels": 0}), Error.ARGUMENT),
    (encode(Opcode.MATRIX, **{**MATRIX, "tile_pixels": 129}), Error.ARGUMENT),
    (encode(Opcode.MATRIX, **{**MATRIX, "last_groups": 3}), Error.ARGUMENT),
    (encode(Opcode.MATRIX, **{**MATRIX, "clamp_min": 5, "clamp_max": 4}), Error.ARGUMENT),
    (encode(Opcode.MATRIX, **{**MATRIX, "rule": Rounding.FIXED_POINT}), Error.ARGUMENT),
    (encode(Opcode.MATRIX, **{**MATRIX, "out_slot": 2}), Error.ARGUMENT),
    (encode(Opcode.MATRIX, **{**MATRIX, "accumulate": 1}), Error.ARGUMENT),
    (encode(Opcode.MATRIX, **{**MATRIX, "keep": 1, "col_tiles": 2}), Error.ARGUMENT),
    (encode(Opcode.MATRIX, **{**MATRIX, "keep": 1, "out_pixels": 2}), Error.ARGUMENT),
    (encode(Opcode.MATRIX, **{**MATRIX, "table": TINY.drain_tables + 1}), Error.ARGUMENT),
    (encode(Opcode.MATRIX, **{**MATRIX, "in_base": TINY.activation_depth}), Error.ADDRESS),
    (encode(Opcode.MATRIX, **{**MATRIX, "out_base": TINY.activation_depth}), Error.ADDRESS),
    (encode(Opcode.MATRIX, **{**MATRIX, "weight_base": TINY.weight_depth - 1}), Error.ADDRESS),
    (encode(Opcode.MATRIX, **{**MATRIX, "parameter_base": TINY.parameter_depth}), Error.ADDRESS),
])
def test_wrong_command_stops_the_device_with_its_index(command, error):
    stopped = stop(load_command(), command)
    assert (stopped.error, stopped.index) == (error, 1)


@pytest.mark.parametrize("changes", [
    {}, {"keep": 1}, {"accumulate": 1, "out_pixels": 2, "tile_pixels": 2}])
def test_kept_sums_are_for_a_command_of_as_many_pixels(changes):
    stopped = stop(encode(Opcode.MATRIX, **{**MATRIX, "keep": 1}),
                   encode(Opcode.MATRIX, **{**MATRIX, **changes}))
    assert (stopped.error, stopped.index) == (Error.ARGUMENT, 1)


@pytest.mark.parametrize("name", ["accumulate", "keep", "out_slot"])
def test_sequential_core_keeps_no_sums(name):
    command = encode(Opcode.MATRIX, **{**MATRIX, name: 1})
    assert stop(command, config=BOARDS["icebreaker"].config).error is Error.ARGUMENT


def test_unknown_memory_is_an_argument_error():
    raw = bytearray(load_command())
    raw[4] |= 7
    assert stop(bytes(raw)).error is Error.ARGUMENT


@pytest.mark.parametrize("memory", [Memory.VECTOR_WEIGHT, Memory.VECTOR_PARAMETER, Memory.TABLE,
                                    Memory.LANE_TABLE])
def test_without_a_vector_engine_its_memories_cannot_be_loaded(memory):
    command = load_command(memory=memory)
    stopped = stop(load_command(), command, config=TINY.replace(vector_taps=0, drain_lookup=False))
    assert (stopped.error, stopped.index) == (Error.ARGUMENT, 1)


def test_without_a_vector_engine_its_opcode_is_illegal():
    command = bytes([Opcode.VECTOR.value]) + bytes(COMMAND_BYTES - 1)
    stopped = stop(load_command(), command, config=TINY.replace(vector_taps=0))
    assert (stopped.error, stopped.index) == (Error.OPCODE, 1)


@pytest.mark.parametrize("name", ["in_h", "out_w", "col_tiles"])
def test_a_sequential_device_refuses_sizes_that_its_memories_cannot_have(name):
    config = BOARDS["icebreaker"].config
    command = encode(Opcode.MATRIX, **{**MATRIX, name: 2 * config.activation_depth})
    stopped = stop(load_command(), command, config=config)
    assert (stopped.error, stopped.index) == (Error.ADDRESS, 1)


def test_a_sequential_device_has_no_pixel_tiles():
    device = FunctionalDevice(BOARDS["icebreaker"].config, memory_bytes=4096)
    device.write_memory(0, encode(Opcode.MATRIX, **{**MATRIX, "tile_pixels": 65535}))
    Driver(device).run(0, 1)


def test_taps_in_the_padding_may_lie_outside_the_memory():
    device = FunctionalDevice(TINY, memory_bytes=4096)
    device.write_memory(0, encode(Opcode.MATRIX, **{
        **MATRIX, "in_base": (1 << 24) - 1, "pad_left": 1, "kernel_w": 2}))
    Driver(device).run(0, 1)


def test_deadlock_stops_the_device_like_the_watchdog():
    stopped = stop(load_command(), encode(Opcode.STORE, wait=1, **STORE))
    assert (stopped.error, stopped.index) == (Error.WATCHDOG, 1)


def test_semaphore_overflow_stops_the_device():
    device = FunctionalDevice(TINY, memory_bytes=1 << 16)
    device.write_memory(0, encode(Opcode.LOAD, post=8, **LOAD) * 256)
    message = re.escape("Device stopped: SEMAPHORE error in command 255 ")
    with pytest.raises(DeviceStopped, match=f"^{message}"):
        Driver(device).run(0, 256)


@pytest.mark.parametrize("giant, cycles", [
    (encode(Opcode.MATRIX, **{**MATRIX, "out_pixels": 16, "kernel_h": 9, "kernel_w": 4}), 16 * 36),
    (load_command(lines=300, units=2), 600),
    (encode(Opcode.STORE, **{**STORE, "lines": 300, "units": 2}), 600),
])
def test_a_stream_beyond_its_limit_of_cycles_is_stopped(giant, cycles):
    device = FunctionalDevice(TINY, memory_bytes=4096)
    device.write_memory(0, load_command() + giant)
    spare = 1 if giant[0] == Opcode.LOAD.value else 0
    limit = (cycles + spare + 1) // 2
    Driver(device, command_cycles=limit).run(0, 2)
    with pytest.raises(DeviceStopped) as caught:
        Driver(device, command_cycles=limit - 1).run(0, 2)
    assert (caught.value.error, caught.value.index) == (Error.CYCLE_LIMIT, 1)
    Driver(device).run(0, 2)  # each stream is counted anew


@pytest.mark.parametrize("giant", [
    encode(Opcode.MATRIX, **{**MATRIX, "out_pixels": (1 << 24) - 1, "kernel_h": 2}),
    load_command(lines=65535, units=300),
])
def test_no_command_runs_for_ever_even_without_a_limit(giant):
    device = FunctionalDevice(TINY, memory_bytes=4096)
    device.write_memory(0, giant)
    with pytest.raises(DeviceStopped) as caught:
        Driver(device, command_cycles=0).run(0, 1)
    assert (caught.value.error, caught.value.index) == (Error.CYCLE_LIMIT, 0)


def test_stopped_device_ignores_the_doorbell_until_reset():
    device = FunctionalDevice(TINY, memory_bytes=4096)
    driver = Driver(device)
    with pytest.raises(DeviceStopped):
        driver.run(0, 1)
    device.write_memory(0, load_command())
    device.write_register(Register.CONTROL, Control.START)
    assert Status(device.read_register(Register.STATUS)) & Status.ERROR
    driver.reset()
    assert device.read_register(Register.ERROR) == Error.NONE
    result = driver.run(0, 1)
    assert device.read_register(Register.COMPLETED) == 1
    assert result.counters[Counter.READ_BEATS] == COMMAND_BYTES // TINY.axi_bytes + 1
    assert result.cycles == 0
    assert result.events == ()


@pytest.mark.parametrize("address, count, error", [
    (0, 1 << 16, Error.ARGUMENT), (1 << 32, 1, Error.ADDRESS), ((1 << 32) - 64, 2, Error.ADDRESS),
    (4096, 1, Error.READ)])
def test_wrong_command_stream_stops_the_device(address, count, error):
    with pytest.raises(DeviceStopped) as info:
        Driver(FunctionalDevice(TINY, memory_bytes=4096)).run(address, count)
    assert (info.value.error, info.value.index) == (error, 0)


def test_wait_without_a_doorbell_is_a_timeout():
    device = FunctionalDevice(TINY, memory_bytes=4096)
    message = "Device does not raise its interrupt: it is idle, or the interrupt is not enabled"
    with pytest.raises(DeviceTimeout, match=f"^{re.escape(message)}$"):
        device.wait()


def test_memory_window_is_checked():
    device = FunctionalDevice(TINY, memory_bytes=16)
    with pytest.raises(ValueError, match=r"^Memory access must be inside 0 to 16, not 8 to 17$"):
        device.write_memory(8, bytes(9))
    with pytest.raises(ValueError, match=r"^Memory access must be inside 0 to 16, not -1 to 1$"):
        device.read_memory(-1, 2)
    with pytest.raises(ValueError, match=r"^Memory bytes must be at least 1, not 0$"):
        FunctionalDevice(TINY, memory_bytes=0)
