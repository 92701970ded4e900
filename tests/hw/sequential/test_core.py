"""The sequential accelerator in Verilator against the numpy reference, on random layers."""

import numpy as np
import pytest
from graphs import random_graph, random_image

from weft import compiler, digits, reference
from weft.boards.registry import BOARDS
from weft.errors import CompileError
from weft.hw.isa.commands import COMMAND_BYTES, Opcode
from weft.hw.isa.encoding import decode, encode
from weft.hw.isa.registers import Error, Register
from weft.runtime.device import DeviceStopped, Driver
from weft.runtime.device.verilator import VerilatorDevice
from weft.runtime.session import InferenceSession

CONFIG = BOARDS["icebreaker"].config.replace(axi_addr_width=20)


def fitting_graph(rng, layers):
    """A random graph that fits."""
    while True:
        graph = random_graph(rng, layers, max_size=24, max_channels=24, words=4000)
        try:
            compiler.compile(graph, CONFIG)
        except CompileError:
            continue
        return graph


@pytest.mark.parametrize("cases", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_random_layers_equal_the_reference(cases):
    rng = np.random.default_rng(cases)
    for case in range(cases):
        graph = fitting_graph(rng, layers=1 + case % 3)
        memory = {"stall_probability": 0.3 * (case % 2), "latency": int(rng.integers(1, 40)),
                  "seed": case}
        with InferenceSession(graph, config=CONFIG, **memory) as session:
            for _ in range(2):
                images = random_image(rng, graph)
                expected = reference.run(graph, images)
                feeds = {edge.name: graph.leave(edge, images[edge.tensor])
                         for edge in graph.inputs}
                frame = session.run_frame(feeds)
                for edge, values in zip(graph.outputs, frame.outputs, strict=True):
                    np.testing.assert_array_equal(graph.enter(edge, values), expected[edge.tensor],
                                                  err_msg=f"case {case}, {graph.layers}")
                assert sum(layer.cycles for layer in frame.layers) == frame.cycles


@pytest.fixture(scope="module")
def program():
    """A program, whose commands the tests spoil."""
    with InferenceSession(digits.MODEL, config=CONFIG, device="functional") as session:
        yield session.program


def first(program, opcode):
    """Index and fields of the first command of that opcode."""
    for index in range(program.count):
        found, fields = decode(program.commands[index * COMMAND_BYTES:][:COMMAND_BYTES])
        if found is opcode:
            return index, fields
    raise AssertionError(opcode)


def stopped(program, index=0, raw=None, prepare=lambda device: None):
    """Runs the program with a command replaced, and then as it is; returns the exception."""
    device = VerilatorDevice(CONFIG, memory_bytes=program.memory_bytes)
    driver = Driver(device, watchdog_cycles=2000)
    commands = bytearray(program.commands)
    if raw is not None:
        commands[index * COMMAND_BYTES:(index + 1) * COMMAND_BYTES] = raw
    for address, data in program.image:
        device.write_memory(address, data)
    device.write_memory(program.command_address, bytes(commands))
    prepare(device)
    with pytest.raises(DeviceStopped) as caught:
        driver.run(program.command_address, program.count, commands=bytes(commands))
    if caught.value.error is not Error.WATCHDOG:
        driver.reset()
        device.simulator.clear_error_ranges()
        device.write_memory(program.command_address, program.commands)
        driver.run(program.command_address, program.count, commands=program.commands)
    device.close()
    return caught.value.error, caught.value.index


def test_illegal_opcode_is_named(program):
    index, fields = first(program, Opcode.MATRIX)
    raw = bytearray(encode(Opcode.MATRIX, **fields))
    raw[0] = 0x04  # that of the vector engine, which there is none of
    assert stopped(program, index, raw) == (Error.OPCODE, index)


@pytest.mark.parametrize("opcode, changes, error", [
    (Opcode.MATRIX, {"in_base": 1 << 20}, Error.ADDRESS),
    (Opcode.MATRIX, {"weight_base": CONFIG.weight_depth - 1}, Error.ADDRESS),
    (Opcode.MATRIX, {"weight_base": 1 << 20}, Error.ADDRESS),
    (Opcode.MATRIX, {"out_base": CONFIG.activation_depth - 1}, Error.ADDRESS),
    (Opcode.MATRIX, {"out_base": 1 << 20}, Error.ADDRESS),
    (Opcode.MATRIX, {"parameter_base": CONFIG.parameter_depth}, Error.ADDRESS),
    (Opcode.MATRIX, {"in_h": 1 << 15}, Error.ADDRESS),
    *((Opcode.MATRIX, {field: 0}, Error.ARGUMENT) for field in (
        "in_h", "in_w", "channel_blocks", "kernel_h", "kernel_w", "stride_h", "stride_w",
        "dilation_h", "dilation_w", "out_w", "tile_pixels", "out_pixels", "col_tiles",
        "last_groups")),
    (Opcode.MATRIX, {"last_groups": 5}, Error.ARGUMENT),
    (Opcode.MATRIX, {"rule": 1}, Error.ARGUMENT),
    *((Opcode.MATRIX, {field: 1}, Error.ARGUMENT) for field in ("accumulate", "keep", "out_slot")),
    (Opcode.MATRIX, {"table": 1}, Error.ARGUMENT),
    (Opcode.MATRIX, {"clamp_min": 1, "clamp_max": 0}, Error.ARGUMENT),
    (Opcode.LOAD, {"address": 2}, Error.ADDRESS),
    (Opcode.LOAD, {"address": 1 << 20}, Error.ADDRESS),
    (Opcode.LOAD, {"local_address": (1 << 24) - 1}, Error.ADDRESS),
    (Opcode.LOAD, {"local_address": CONFIG.activation_depth - 1}, Error.ADDRESS),
    (Opcode.LOAD, {"memory": 1, "local_address": CONFIG.weight_depth}, Error.ADDRESS),
    (Opcode.LOAD, {"memory": 2, "local_address": CONFIG.parameter_depth}, Error.ADDRESS),
    (Opcode.LOAD, {"memory": 3}, Error.ARGUMENT),
    (Opcode.LOAD, {"lines": 0}, Error.ARGUMENT),
    (Opcode.LOAD, {"units": 0}, Error.ARGUMENT),
    (Opcode.STORE, {"units": 1 << 20}, Error.ADDRESS),
])
def test_bad_command_is_named(program, opcode, changes, error):
    index, fields = first(program, opcode)
    header = {name: fields.pop(name) for name in ("wait", "post")}
    raw = encode(opcode, **header, **fields | changes)
    assert stopped(program, index, raw) == (error, index)


def test_bits_of_a_store_that_are_no_field_are_ignored(program):
    index, _fields = first(program, Opcode.STORE)
    commands = bytearray(program.commands)
    commands[index * COMMAND_BYTES + 4] |= 0xff  # where a load has its memory
    device = VerilatorDevice(CONFIG, memory_bytes=program.memory_bytes)
    for address, data in program.image:
        device.write_memory(address, data)
    device.write_memory(program.command_address, bytes(commands[:(index + 1) * COMMAND_BYTES]))
    Driver(device).run(program.command_address, index + 1)
    device.close()


@pytest.mark.parametrize("opcode, error", [(Opcode.LOAD, Error.READ), (Opcode.STORE, Error.WRITE)])
def test_error_of_the_memory_is_named(program, opcode, error):
    index, fields = first(program, opcode)
    assert stopped(program, prepare=lambda device: device.simulator.add_error_range(
        fields["address"], fields["address"] + 4)) == (error, index)


@pytest.mark.parametrize("beats", [0, 20, 2000])
def test_stalled_memory_ends_in_the_watchdog(program, beats):
    error, index = stopped(
        program, prepare=lambda device: device.simulator.stop_memory(after_beats=beats))
    assert error is Error.WATCHDOG
    assert index < program.count


@pytest.mark.parametrize("opcode, changes", [
    (Opcode.MATRIX, {"out_base": 0, "out_pixels": 16000, "out_plane": 0, "kernel_h": 20,
                     "kernel_w": 20, "in_h": 1, "in_w": 1, "channel_blocks": 1, "weight_base": 0}),
    (Opcode.LOAD, {"lines": 65535, "stride": 0, "local_stride": 0}),
    (Opcode.STORE, {"lines": 65535, "stride": 0, "local_stride": 0}),
])
def test_a_giant_command_is_ended_and_the_device_is_usable_again(program, opcode, changes):
    _, giant = first(program, opcode)
    _, load  = first(program, Opcode.LOAD)
    raw = [encode(Opcode.LOAD, **load | {"lines": 1, "units": 1}),
           encode(opcode, **giant | changes)]
    device = VerilatorDevice(CONFIG, memory_bytes=program.memory_bytes)
    for cycles in range(5000, 5050, 7):  # in different moments
        driver = Driver(device, command_cycles=cycles)
        device.write_memory(program.command_address, b"".join(raw))
        with pytest.raises(DeviceStopped) as caught:
            driver.run(program.command_address, 2)
        assert (caught.value.error, caught.value.index) == (Error.CYCLE_LIMIT, 1)
        driver.reset()
        assert device.read_register(Register.COMPLETED) == 0
        driver.run(program.command_address, 1)
        assert device.read_register(Register.COMPLETED) == 1
    device.close()


@pytest.mark.parametrize("address, count, error", [
    (0, 1 << 16, Error.ARGUMENT), (1 << 20, 1, Error.ADDRESS), (1 << 40, 1, Error.ADDRESS)])
def test_bad_doorbell_is_refused(program, address, count, error):
    device = VerilatorDevice(CONFIG, memory_bytes=program.memory_bytes)
    with pytest.raises(DeviceStopped) as caught:
        Driver(device).run(address, count)
    assert (caught.value.error, caught.value.index) == (error, 0)
    device.close()
