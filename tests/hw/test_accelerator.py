"""The whole accelerator in Verilator against the numpy reference, on random layers.

The reference equals onnxruntime (tests/sw); here every preset, with and without the fast inner
product, must equal the reference, with the memory fast or stalling.
"""

import zlib

import numpy as np
import pytest
from configs import CONFIGS, SWEPT
from graph_builder import GraphBuilder
from graphs import OPERATORS, in_fixed_point, operator_graph, random_graph, random_image

from weft import compiler, reference
from weft.errors import CompileError
from weft.hw.isa.commands import COMMAND_BYTES, Engine, Opcode
from weft.hw.isa.encoding import decode, encode
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import Error, cycle_counters
from weft.runtime.device import DeviceStopped, Driver
from weft.runtime.device.verilator import VerilatorDevice
from weft.runtime.session import InferenceSession

CASES = 8


def fitting_graph(config, rng, layers=1):
    """A random graph that fits the configuration."""
    while True:
        graph = random_graph(rng, layers, words=config.activation_bytes // 3)
        try:
            compiler.compile(graph, config)
        except CompileError:
            continue
        return graph


def run(session, graph, images):
    """Values of the output tensors, int8 [C, H, W]."""
    feeds = {edge.name: graph.leave(edge, images[edge.tensor]) for edge in graph.inputs}
    frame = session.run_frame(feeds)
    return {edge.tensor: graph.enter(edge, values)
            for edge, values in zip(graph.outputs, frame.outputs, strict=True)}, frame


@pytest.mark.parametrize("name", SWEPT)
def test_random_layers_equal_the_reference(name):
    config = CONFIGS[name]
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    for case in range(CASES):
        graph = fitting_graph(config, rng, layers=1 if case else 3)
        frames = [random_image(rng, graph) for _ in range(2)]
        for stalls in ({}, {"stall_probability": 0.3, "latency": int(rng.integers(1, 80)),
                            "seed": case}):
            with InferenceSession(graph, config=config, **stalls) as session:
                for images in frames:  # two different ones: nothing may be left of the first
                    expected = reference.run(graph, images)
                    got, frame = run(session, graph, images)
                    for tensor, values in got.items():
                        np.testing.assert_array_equal(values, expected[tensor],
                                                      err_msg=f"case {case}, {graph.layers}")
                    assert sum(layer.cycles for layer in frame.layers) == frame.cycles
                    for engine in Engine:
                        assert sum(frame.counters[counter.name.lower()] for counter in
                                   cycle_counters(engine).values()) == frame.cycles


def expected_values(graph, config, images):
    """Values of the output tensors by the reference; where the compiler itself says that an
    average may be one off for some sums, those of the functional device."""
    values = reference.run(graph, images)
    proofs = [layer.exactness for layer in compiler.compile(graph, config).layers]
    with InferenceSession(graph, config=config, device="functional") as session:
        functional, _ = run(session, graph, images)
    for tensor, got in functional.items():
        if all(proof is None or proof.exact for proof in proofs):
            np.testing.assert_array_equal(got, values[tensor])
        else:
            assert np.abs(got.astype(int) - values[tensor]).max() <= 1
    return functional


@pytest.mark.parametrize("cases", [1, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SWEPT)
def test_random_operators_equal_the_reference(name, cases):
    config = CONFIGS[name]
    for operator in OPERATORS:
        rng = np.random.default_rng(zlib.crc32(f"{name} {operator} {cases}".encode()))
        for case in range(cases):
            graph = operator_graph(rng, operator, unsigned=bool(rng.integers(2)))
            frames = [random_image(rng, graph) for _ in range(2)]
            stalls = {"stall_probability": 0.3 * (case % 2), "latency": int(rng.integers(1, 80)),
                      "seed": case}
            with InferenceSession(graph, config=config, **stalls) as session:
                for images in frames:
                    expected = expected_values(graph, config, images)
                    got, frame = run(session, graph, images)
                    for tensor, values in got.items():
                        np.testing.assert_array_equal(values, expected[tensor],
                                                      err_msg=f"{operator} {graph.layers}")
                    assert sum(layer.cycles for layer in frame.layers) == frame.cycles


def test_operators_in_fixed_point_equal_the_reference():
    config = CONFIGS["tiny_fip"].replace(fixed_point=True)
    for number, operator in enumerate(OPERATORS):
        rng = np.random.default_rng([number, 6])
        graph = in_fixed_point(rng, operator_graph(rng, operator), share=0.9)
        images = random_image(rng, graph)
        with InferenceSession(graph, config=config, stall_probability=0.2 * (number % 2),
                              seed=number) as session:
            expected = expected_values(graph, config, images)
            for tensor, values in run(session, graph, images)[0].items():
                np.testing.assert_array_equal(values, expected[tensor],
                                              err_msg=f"{operator} {graph.layers}")


def test_array_is_never_idle_inside_a_layer():
    rng = np.random.default_rng(3)
    config = PRESETS["small"]
    builder = GraphBuilder(rng, (16, 16, 16))
    graph = builder.graph(builder.conv(builder.input, 16, kernel=(3, 3), pads=(1, 1, 1, 1)))
    with InferenceSession(graph, config=config) as session:
        _, frame = run(session, graph, random_image(rng, graph))
    counters = frame.counters
    assert counters["matrix_busy"] == 256 * 9 * 2 * 2
    assert counters["matrix_weights"] < 30
    assert counters["matrix_accumulator"] == 0


# What goes wrong ------------------------------------------------------------------------------

@pytest.fixture
def program():
    """A session on the smallest preset, whose program the tests spoil."""
    rng = np.random.default_rng(9)
    graph = random_graph(rng, 2, max_size=6, max_channels=8, max_kernel=3)
    with InferenceSession(graph, config="tiny", device="functional") as session:
        yield session.program


def stopped(program, change, **memory):
    """Runs the program with the bytes of its commands changed; returns the exception."""
    device = VerilatorDevice(PRESETS["tiny"], memory_bytes=program.memory_bytes, **memory)
    driver = Driver(device, watchdog_cycles=2000)
    commands = bytearray(program.commands)
    change(commands, device)
    for address, data in program.image:
        device.write_memory(address, data)
    device.write_memory(program.command_address, bytes(commands))
    with pytest.raises(DeviceStopped) as caught:
        driver.run(program.command_address, program.count, commands=bytes(commands))
    if caught.value.error is not Error.WATCHDOG:  # the device can be used again
        driver.reset()
        device.simulator.clear_error_ranges()
        device.write_memory(program.command_address, program.commands)
        driver.run(program.command_address, program.count, commands=program.commands)
    device.close()
    return caught.value


def first(commands, opcode):
    """Index of the first command of that opcode."""
    return next(index for index in range(len(commands) // COMMAND_BYTES)
                if decode(commands[index * COMMAND_BYTES:][:COMMAND_BYTES])[0] is opcode)


def change_field(commands, index, **changes):
    raw = bytes(commands[index * COMMAND_BYTES:][:COMMAND_BYTES])
    opcode, fields = decode(raw)
    fields.update(changes)
    commands[index * COMMAND_BYTES:(index + 1) * COMMAND_BYTES] = encode(opcode, **fields)


def test_illegal_opcode_is_named(program):
    index = first(program.commands, Opcode.MATRIX)

    def change(commands, _device):
        commands[index * COMMAND_BYTES] = 0x77

    error = stopped(program, change)
    assert (error.error, error.index) == (Error.OPCODE, index)
    assert str(error).startswith(f"Device stopped: OPCODE error in command {index}")


@pytest.mark.parametrize("opcode, changes, expected", [
    (Opcode.MATRIX, {"in_base": 1 << 20}, Error.ADDRESS),
    (Opcode.MATRIX, {"weight_base": 1 << 20}, Error.ADDRESS),
    (Opcode.MATRIX, {"out_base": 1 << 20}, Error.ADDRESS),
    (Opcode.MATRIX, {"tile_pixels": 0}, Error.ARGUMENT),
    (Opcode.LOAD, {"address": 2}, Error.ADDRESS),
    (Opcode.LOAD, {"local_address": (1 << 24) - 1}, Error.ADDRESS),
    (Opcode.LOAD, {"lines": 0}, Error.ARGUMENT),
    (Opcode.STORE, {"units": 1 << 20}, Error.ADDRESS),
])
def test_bad_command_is_named(program, opcode, changes, expected):
    index = first(program.commands, opcode)
    error = stopped(program, lambda commands, _: change_field(commands, index, **changes))
    assert (error.error, error.index) == (expected, index)


def test_missing_token_ends_in_the_watchdog(program):
    index = first(program.commands, Opcode.MATRIX)

    def change(commands, _device):
        for number in range(program.count):
            opcode, _fields = decode(commands[number * COMMAND_BYTES:][:COMMAND_BYTES])
            if opcode is Opcode.LOAD:
                change_field(commands, number, post=0)

    error = stopped(program, change)
    assert (error.error, error.index) == (Error.WATCHDOG, index)


def test_read_error_is_named(program):
    index = first(program.commands, Opcode.LOAD)
    _, fields = decode(program.commands[index * COMMAND_BYTES:][:COMMAND_BYTES])

    def change(_commands, device):
        device.simulator.add_error_range(fields["address"], fields["address"] + 4)

    error = stopped(program, change)
    assert (error.error, error.index) == (Error.READ, index)


def test_write_error_is_named(program):
    index = first(program.commands, Opcode.STORE)
    _, fields = decode(program.commands[index * COMMAND_BYTES:][:COMMAND_BYTES])

    def change(_commands, device):
        device.simulator.add_error_range(fields["address"], fields["address"] + 4)

    error = stopped(program, change)
    assert (error.error, error.index) == (Error.WRITE, index)


@pytest.mark.parametrize("beats", [0, 20, 100])
def test_stalled_memory_ends_in_the_watchdog(program, beats):
    error = stopped(program, lambda _, device: device.simulator.stop_memory(after_beats=beats))
    assert error.error is Error.WATCHDOG
    assert error.index < program.count


def test_command_outside_the_memory_is_a_read_error(program):
    device = VerilatorDevice(PRESETS["tiny"], memory_bytes=program.memory_bytes)
    with pytest.raises(DeviceStopped, match=r"^Device stopped: READ error in command 0$"):
        Driver(device).run(1 << 30, 1)
    device.close()
