"""The sequential accelerator in Amaranth's simulator: small programs, right and wrong ones."""

from functools import partial

import numpy as np
import pytest
from graph_builder import GraphBuilder
from graphs import random_graph
from pysim_device import PysimDevice, check_reset
from sw_programs import equal

from weft import compiler
from weft.boards.registry import BOARDS
from weft.hw.isa.commands import COMMAND_BYTES, Opcode
from weft.hw.isa.encoding import decode, encode
from weft.hw.isa.registers import Error
from weft.runtime.device import DeviceStopped, Driver, EventKind

CONFIG = BOARDS["icebreaker"].config.replace(axi_addr_width=20)


@pytest.mark.parametrize("layers, stall", [(1, 0.0), (2, 0.3), (1, 0.5), (2, 0.0)])
def test_random_layers_equal_the_reference(layers, stall):
    rng = np.random.default_rng([layers, int(10 * stall)])
    graph = random_graph(rng, layers, max_size=4, max_channels=9, max_kernel=3)
    equal(graph, CONFIG, rng, make=partial(PysimDevice, stall_probability=stall))


class Spoiled:
    """A device with a small program, whose commands the tests spoil."""

    def __init__(self):
        rng = np.random.default_rng(5)
        builder = GraphBuilder(rng, (5, 1, 2))
        self.program = program = compiler.compile(builder.graph(builder.conv(builder.input, 3)),
                                                  CONFIG)
        self.device = PysimDevice(CONFIG, memory_bytes=program.memory_bytes)
        self.driver = Driver(self.device, watchdog_cycles=300)
        for address, raw in program.image:
            self.device.write_memory(address, raw)

    def first(self, opcode):
        """Index and fields of the first command of that opcode."""
        for index in range(self.program.count):
            found, fields = decode(self.program.command(index))
            if found is opcode:
                return index, fields
        raise AssertionError(opcode)

    def run(self, raw=None):
        """Runs the program, or a command alone."""
        commands = self.program.commands if raw is None else bytes(raw)
        self.device.write_memory(self.program.command_address, commands)
        self.driver.run(self.program.command_address, len(commands) // COMMAND_BYTES)

    def stops(self, error, index=0, raw=None):
        """Makes sure that it stops there with that error."""
        with pytest.raises(DeviceStopped) as caught:
            self.run(raw)
        assert (caught.value.error, caught.value.index) == (error, index)
        self.device.bad = range(0)
        self.driver.reset()


@pytest.fixture(scope="module")
def spoiled():
    return Spoiled()


def test_illegal_opcode_is_named(spoiled):
    _index, fields = spoiled.first(Opcode.MATRIX)
    raw = bytearray(encode(Opcode.MATRIX, **fields))
    raw[0] = 0x04  # that of the vector engine, which there is none of
    spoiled.stops(Error.OPCODE, raw=raw)


@pytest.mark.parametrize("opcode, changes, error", [
    *((Opcode.MATRIX, {field: value}, Error.ADDRESS) for field, value in (
        ("in_base", CONFIG.activation_depth), ("in_base", 1 << 23),
        ("weight_base", CONFIG.weight_depth - 1), ("weight_base", 1 << 23),
        ("out_base", CONFIG.activation_depth - 1), ("out_base", CONFIG.activation_depth),
        ("out_base", 1 << 23), ("parameter_base", CONFIG.parameter_depth),
        ("parameter_base", 1 << 23), ("in_h", 1 << 15), ("in_w", 1 << 15),
        ("channel_blocks", 1 << 15), ("out_w", 1 << 15), ("out_pixels", 1 << 15),
        ("col_tiles", 1 << 15))),
    *((Opcode.MATRIX, {field: 0}, Error.ARGUMENT) for field in (
        "in_h", "in_w", "channel_blocks", "kernel_h", "kernel_w", "stride_h", "stride_w",
        "dilation_h", "dilation_w", "out_w", "tile_pixels", "out_pixels", "col_tiles",
        "last_groups")),
    (Opcode.MATRIX, {"last_groups": 5}, Error.ARGUMENT),
    (Opcode.MATRIX, {"last_groups": 128}, Error.ARGUMENT),
    (Opcode.MATRIX, {"rule": 1}, Error.ARGUMENT),
    *((Opcode.MATRIX, {field: 1}, Error.ARGUMENT) for field in ("accumulate", "keep", "out_slot")),
    (Opcode.MATRIX, {"table": 1}, Error.ARGUMENT),
    (Opcode.LOAD, {"address": 2}, Error.ADDRESS),
    (Opcode.LOAD, {"stride": 1}, Error.ADDRESS),
    (Opcode.LOAD, {"address": 1 << 20}, Error.ADDRESS),
    (Opcode.LOAD, {"local_address": (1 << 24) - 1}, Error.ADDRESS),
    (Opcode.LOAD, {"local_address": CONFIG.activation_depth - 1, "memory": 0, "units": 2},
     Error.ADDRESS),
    (Opcode.LOAD, {"memory": 1, "local_address": CONFIG.weight_depth}, Error.ADDRESS),
    (Opcode.LOAD, {"memory": 2, "local_address": CONFIG.parameter_depth}, Error.ADDRESS),
    (Opcode.LOAD, {"memory": 3}, Error.ARGUMENT),
    (Opcode.LOAD, {"memory": 4}, Error.ARGUMENT),
    (Opcode.LOAD, {"lines": 0}, Error.ARGUMENT),
    (Opcode.LOAD, {"units": 0}, Error.ARGUMENT),
    (Opcode.STORE, {"units": 1 << 20}, Error.ADDRESS),
])
def test_bad_command_is_named(spoiled, opcode, changes, error):
    _index, fields = spoiled.first(opcode)
    spoiled.stops(error, raw=encode(opcode, **fields | changes))


@pytest.mark.parametrize("opcode, error", [(Opcode.LOAD, Error.READ), (Opcode.STORE, Error.WRITE)])
def test_error_of_the_memory_is_named(spoiled, opcode, error):
    index, fields = spoiled.first(opcode)
    spoiled.device.bad = range(fields["address"], fields["address"] + 4)
    spoiled.stops(error, index)


def test_error_in_the_command_stream_is_named(spoiled):
    address = spoiled.program.command_address + 64
    spoiled.device.bad = range(address, address + 4)
    spoiled.stops(Error.READ, 1)


@pytest.mark.parametrize("address, count, error", [
    (0, 1 << 16, Error.ARGUMENT), (0, 1 << 31, Error.ARGUMENT), (1 << 20, 1, Error.ADDRESS),
    (1 << 40, 1, Error.ADDRESS), (1 << 63, 1, Error.ADDRESS)])
def test_bad_doorbell_is_refused(spoiled, address, count, error):
    with pytest.raises(DeviceStopped) as caught:
        spoiled.driver.run(address, count)
    assert (caught.value.error, caught.value.index) == (error, 0)
    spoiled.driver.reset()


def test_the_program_runs_as_it_is_after_all_that(spoiled):
    spoiled.run()
    spoiled.run()


@pytest.mark.parametrize("beats", [0, 20])
def test_stalled_memory_ends_in_the_watchdog(beats):
    spoiled = Spoiled()
    spoiled.device.beats_left = beats
    with pytest.raises(DeviceStopped) as caught:
        spoiled.run()
    assert caught.value.error is Error.WATCHDOG
    assert caught.value.index == beats // 16


def test_a_long_convolution_is_no_reason_for_the_watchdog():
    rng = np.random.default_rng(6)
    builder = GraphBuilder(rng, (8, 6, 6))
    graph = builder.graph(builder.conv(builder.input, 4, kernel=(3, 3)))
    program = compiler.compile(graph, CONFIG)
    device = PysimDevice(CONFIG, memory_bytes=program.memory_bytes)
    driver = Driver(device, watchdog_cycles=64)
    for address, raw in program.image:
        device.write_memory(address, raw)
    result = driver.run(program.command_address, program.count)
    matrix = next(index for index in range(program.count)
                  if decode(program.command(index))[0] is Opcode.MATRIX)
    begin, end = (next(event.cycle for event in result.events
                       if event.index == matrix and event.kind is kind)
                  for kind in (EventKind.START, EventKind.DONE))
    assert end - begin > 4 * 64


def test_a_reset_stops_what_runs():
    check_reset(CONFIG, cycles=1500)
