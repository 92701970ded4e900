"""The whole accelerator in Amaranth's simulator: small compiled programs."""

from functools import partial

import numpy as np
import pytest
from graph_builder import GraphBuilder
from graphs import random_graph
from pysim_device import PysimDevice, check_reset
from sw_programs import equal

from weft import compiler
from weft.hw.isa.commands import Engine, Opcode
from weft.hw.isa.encoding import decode, encode
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import Error, cycle_counters
from weft.runtime.device import DeviceStopped, Driver

CONFIG = PRESETS["tiny"]


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_random_layers_equal_the_reference(stall):
    rng = np.random.default_rng(int(10 * stall))
    graph = random_graph(rng, 2, max_size=5, max_channels=9, max_kernel=3)
    equal(graph, CONFIG, rng, make=partial(PysimDevice, stall_probability=stall))


def test_layers_of_both_engines_equal_the_reference():
    rng = np.random.default_rng(3)
    builder = GraphBuilder(rng, (6, 4, 5))
    tensor = builder.depthwise(builder.conv(builder.input, 7), pads=(1, 1, 1, 1))
    graph = builder.graph(builder.conv(builder.max_pool(tensor), 5))
    equal(graph, CONFIG, rng, make=PysimDevice)


def test_faults_of_all_engines_are_named_and_every_cycle_has_its_counter():
    rng = np.random.default_rng(5)
    builder = GraphBuilder(rng, (5, 1, 3))
    graph = builder.graph(builder.conv(builder.max_pool(builder.input, kernel=(1, 2)), 3))
    program = compiler.compile(graph, CONFIG)
    device = PysimDevice(CONFIG, memory_bytes=program.memory_bytes)
    driver = Driver(device, watchdog_cycles=400)
    for address, raw in program.image:
        device.write_memory(address, raw)

    def run(index=0, raw=None):
        commands = bytearray(program.commands)
        if raw is not None:
            commands[index * len(raw):(index + 1) * len(raw)] = raw
        device.write_memory(program.command_address, bytes(commands))
        return driver.run(program.command_address, program.count)

    def stops(error, index, raw=None):
        with pytest.raises(DeviceStopped) as caught:
            run(index, raw)
        assert (caught.value.error, caught.value.index) == (error, index)
        device.bad = range(0)
        driver.reset()

    found = {}
    for index in range(program.count):
        opcode, fields = decode(program.command(index))
        found.setdefault(opcode, (index, fields))
    for opcode, change, error in (
            (Opcode.LOAD, {"lines": 0}, Error.ARGUMENT),
            (Opcode.MATRIX, {"in_base": 1 << 23}, Error.ADDRESS),
            (Opcode.VECTOR, {"out_base": 1 << 23}, Error.ADDRESS),
            (Opcode.STORE, {"address": 1}, Error.ADDRESS)):
        index, fields = found[opcode]
        stops(error, index, encode(opcode, **fields | change))
        raw = bytearray(encode(opcode, **fields))
        raw[0] = 0xff
        stops(Error.OPCODE, index, raw)
    for opcode, error in ((Opcode.LOAD, Error.READ), (Opcode.STORE, Error.WRITE)):
        index, fields = found[opcode]
        device.bad = range(fields["address"], fields["address"] + CONFIG.axi_bytes)
        stops(error, index)
    device.bad = range(program.command_address, program.command_address + CONFIG.axi_bytes)
    stops(Error.READ, 0)

    result = run()
    for engine in Engine:
        assert sum(result.counters[counter] for counter in cycle_counters(engine).values()) == \
            result.cycles
    assert len(result.events) == 2 * program.count
    device.beats_left = 30
    with pytest.raises(DeviceStopped) as caught:
        run()
    assert caught.value.error is Error.WATCHDOG


def test_a_reset_stops_what_runs():
    check_reset(CONFIG, cycles=200)
