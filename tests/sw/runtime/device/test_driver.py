import re

import numpy as np
import pytest
from amaranth.lib import data

from weft.hw.isa.commands import COMMAND_BYTES, COMMANDS, Engine, Memory, Opcode, VectorOp
from weft.hw.isa.encoding import disassemble, encode
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import (
    CONFIG_BASE,
    COUNTER_BASE,
    DEVICE_ID,
    VERSION,
    Control,
    Counter,
    Error,
    Register,
    Status,
    config_words,
)
from weft.runtime.device import DeviceError, DeviceStopped, DeviceTimeout, Driver, Event, EventKind
from weft.runtime.device.verilator import VerilatorDevice

CONFIG = PRESETS["tiny"]
MEMORY_BYTES = 1 << 20


def load(*, post=8, **changes):
    return encode(Opcode.LOAD, post=post, **{
        "memory": Memory.ACTIVATION, "lines": 1, "address": 0x1_0000, "stride": 0, "units": 64,
        "local_address": 0, "local_stride": 0, **changes})


def store(*, wait=1, **changes):
    return encode(Opcode.STORE, wait=wait, **{
        "lines": 1, "address": 0x2_0000, "stride": 0, "units": 64, "local_address": 0,
        "local_stride": 0, **changes})


class FakeDevice:
    """Registers and memory without an accelerator: a run ends as ``ending`` says."""

    def __init__(self, config=CONFIG):
        self.config = config
        self.memory_bytes = MEMORY_BYTES
        self.memory = bytearray(MEMORY_BYTES)
        self.registers = {Register.ID: DEVICE_ID, Register.VERSION: VERSION,
                          Register.STATUS: Status.QUIET}
        for index, value in enumerate(config_words(config).values()):
            self.registers[CONFIG_BASE + 4 * index] = value
        for counter in Counter:
            self.registers[COUNTER_BASE + 4 * counter] = 1000 + counter
        self.ending = {Register.STATUS: Status.DONE | Status.QUIET}
        self.busy_reads = 0   # of the status, after a reset
        self.written = []
        self.timeout = None

    def write_memory(self, address, data):
        self.memory[address:address + len(data)] = data

    def read_memory(self, address, count):
        return bytes(self.memory[address:address + count])

    def write_register(self, register, value):
        self.written.append((register, value))
        if register == Register.CONTROL and value == Control.RESET:
            self.registers[Register.STATUS] = Status.QUIET

    def read_register(self, register):
        if register == Register.STATUS and self.busy_reads:
            self.busy_reads -= 1
            return Status.BUSY
        return self.registers.get(register, 0)

    def wait(self, timeout_cycles=None):
        self.timeout = timeout_cycles
        self.registers.update(self.ending)

    def events(self):
        return [Event(Engine.LOAD, EventKind.START, 0, 5)]

    def close(self):
        pass


def test_construction_resets_and_arms_the_device():
    device = FakeDevice()
    assert Driver(device, watchdog_cycles=777).device is device
    assert device.written == [(Register.CONTROL, Control.RESET), (Register.WATCHDOG, 777),
                              (Register.IRQ_ENABLE, 1)]


def test_run_writes_the_address_and_rings_the_doorbell_last():
    device = FakeDevice()
    driver = Driver(device)
    device.written.clear()
    result = driver.run(0x12_3456_7880, 3, timeout_cycles=99)
    assert device.written == [
        (Register.COMMAND_ADDR, 0x3456_7880), (Register.COMMAND_ADDRH, 0x12),
        (Register.COMMAND_COUNT, 3), (Register.CYCLE_LIMIT, 3 << 24),
        (Register.CONTROL, Control.START), (Register.IRQ_CLEAR, 1)]
    assert device.timeout == 99
    assert result.cycles == 1000
    assert result.counters == {counter: 1000 + counter for counter in Counter}
    assert result.events == [Event(Engine.LOAD, EventKind.START, 0, 5)]


@pytest.mark.parametrize("count, command_cycles, limit", [
    (1, 0, 0), (3, 5, 15), (65535, 1 << 24, (1 << 32) - 1)])
def test_the_limit_of_a_run_grows_with_its_commands(count, command_cycles, limit):
    device = FakeDevice()
    Driver(device, command_cycles=command_cycles).run(0, count)
    assert (Register.CYCLE_LIMIT, limit) in device.written


def test_a_run_beyond_its_limit_names_limit_and_command():
    device = FakeDevice()
    device.ending = {Register.STATUS: Status.ERROR | Status.QUIET,
                     Register.ERROR: Error.CYCLE_LIMIT, Register.ERROR_INDEX: 1}
    with pytest.raises(DeviceStopped, match=r"^Device stopped: CYCLE_LIMIT error in command 1 "
                                            r"\(load .*\), which takes more than the 200 cycles "
                                            r"of its stream$") as caught:
        Driver(device, command_cycles=100).run(0, 2, commands=load() * 2)
    assert caught.value.limit == 200


@pytest.mark.parametrize("register, value, message", [
    (Register.ID, 0, "Device must identify itself as 0x54464557, not 0x00000000: it is not a Weft "
                     "accelerator, or its clock does not run"),
    (Register.VERSION, 99, f"Device must be of version {VERSION}, not 99: build it again with this "
                           f"release of Weft"),
    (CONFIG_BASE + 4, 16, "Device must have cols = 4 (configuration 'tiny'), not 16: build it "
                          "again from that configuration, or choose the one it was built from"),
])
def test_identity_wrong(register, value, message):
    device = FakeDevice()
    device.registers[register] = value
    with pytest.raises(DeviceError, match=f"^{re.escape(message)}$"):
        Driver(device)
    assert device.written == []


@pytest.mark.parametrize("built, chosen, name, found, wanted", [
    ({"row_units": 4}, {"row_units": 2}, "row_units", 4, 2),
    ({"row_units": 4}, {}, "row_units", 4, 1),
    ({}, {"row_units": 4}, "row_units", 1, 4),
    ({"vector_taps": 10, "vector_lines": 64}, {"vector_taps": 10}, "vector_lines", 64, 0),
    ({"softmax": True}, {"softmax": False}, "softmax", 1, 0),
])
def test_device_built_from_another_configuration_wrong(built, chosen, name, found, wanted):
    """Also where what was chosen lacks what was built."""
    both = CONFIG.replace(products=True, softmax=True)
    device = FakeDevice(both.replace(**built))
    device.config = both.replace(**chosen)
    with pytest.raises(DeviceError, match=(
            rf"^Device must have {name} = {wanted} \(configuration 'tiny'\), not {found}: build it "
            rf"again from that configuration, or choose the one it was built from$")):
        Driver(device)


def test_reset_waits_until_the_device_is_idle():
    device = FakeDevice()
    driver = Driver(device, status_reads=10)
    device.busy_reads = 7
    driver.reset()
    device.busy_reads = 8
    with pytest.raises(DeviceTimeout, match=(
            r"^Device is not idle after a reset, its status is QUIET: the memory does not answer "
            r"what is in flight; power-cycle or rebuild the device$")):
        driver.reset()


def fail(device, error, index):
    device.ending = {Register.STATUS: Status.ERROR, Register.ERROR: error,
                     Register.ERROR_INDEX: index}


@pytest.mark.parametrize("given", [False, True])
def test_failed_command_is_named_and_disassembled(given):
    device = FakeDevice()
    driver = Driver(device)
    commands = load() + store()
    if not given:
        device.write_memory(0x400, commands)
    fail(device, Error.WRITE, 1)
    with pytest.raises(DeviceStopped) as caught:
        driver.run(0x400, 2, commands=commands if given else None)
    text = disassemble(store())
    assert str(caught.value) == f"Device stopped: WRITE error in command 1 ({text})"
    assert caught.value.error is Error.WRITE
    assert caught.value.index == 1
    assert caught.value.command == text


def test_failed_command_with_an_illegal_opcode_is_named():
    device = FakeDevice()
    driver = Driver(device)
    fail(device, Error.OPCODE, 0)
    with pytest.raises(DeviceStopped, match=(
            r"^Device stopped: OPCODE error in command 0 \(Opcode 0x00 is illegal\)$")):
        driver.run(0, 1)


@pytest.mark.parametrize("address, index", [(0, 5), (MEMORY_BYTES, 0)])
def test_failed_command_that_cannot_be_read_is_named_by_index_alone(address, index):
    device = FakeDevice()
    driver = Driver(device)
    fail(device, Error.READ, index)
    with pytest.raises(DeviceStopped,
                       match=rf"^Device stopped: READ error in command {index}$"):
        driver.run(address, 2)


def test_unknown_error_code_is_named():
    device = FakeDevice()
    driver = Driver(device)
    fail(device, 15, 3)
    with pytest.raises(DeviceError, match=(
            r"^Device stopped with the unknown error code 15 in command 3$")):
        driver.run(0, 4)


def test_interrupt_without_a_result_is_named():
    device = FakeDevice()
    driver = Driver(device)
    device.ending = {Register.STATUS: Status.BUSY | Status.QUIET}
    with pytest.raises(DeviceError, match=(
            r"^Device raised its interrupt without a result, its status is BUSY\+QUIET$")):
        driver.run(0, 1)


@pytest.mark.parametrize("status", [Status.BUSY, Status.ERROR])
def test_run_of_a_device_that_is_not_idle_wrong(status):
    device = FakeDevice()
    driver = Driver(device)
    device.registers[Register.STATUS] = status
    with pytest.raises(DeviceError, match=(
            rf"^Device must be idle before a run, its status is {status.name}: reset it first$")):
        driver.run(0, 1)


@pytest.mark.parametrize("arguments, message", [
    ({"address": 32, "count": 1}, "Command address must be a multiple of 64, not 32"),
    ({"address": -64, "count": 1}, "Command address must be a multiple of 64, not -64"),
    ({"address": 0, "count": 0}, "Command count must be at least 1, not 0"),
    ({"address": 0, "count": 2, "commands": bytes(64)},
     "Commands must be 128 bytes for 2 commands, not 64"),
])
def test_run_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Driver(FakeDevice()).run(**arguments)


@pytest.mark.parametrize("arguments, message", [
    ({"watchdog_cycles": -1}, "Watchdog cycles must be between 0 and 4294967295, not -1"),
    ({"command_cycles": 1 << 32}, "Command cycles must be between 0 and 4294967295, "
                                  "not 4294967296"),
    ({"status_reads": 2}, "Status reads must be at least 3, not 2"),
])
def test_driver_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Driver(FakeDevice(), **arguments)


# The same driver on the simulated hardware ------------------------------------------------------


DATA = np.random.default_rng(1).bytes(64 * CONFIG.word_bytes)


@pytest.fixture
def simulated(request):
    device = VerilatorDevice(CONFIG, memory_bytes=MEMORY_BYTES, **getattr(request, "param", {}))
    device.write_memory(0x1_0000, DATA)
    yield device
    device.close()


def put(device, *commands):
    device.write_memory(0, b"".join(commands))
    device.write_memory(0x2_0000, bytes(len(DATA)))
    return len(commands)


@pytest.mark.slow
@pytest.mark.parametrize("simulated", [{}, {"stall_probability": 0.5, "seed": 1},
                                       {"bandwidth": 0.3}], indirect=True)
def test_simulated_device_loads_and_stores(simulated):
    driver = Driver(simulated)
    for _ in range(3):
        result = driver.run(0, put(simulated, load(), store()))
        assert simulated.read_memory(0x2_0000, len(DATA)) == DATA
        beats = len(DATA) // CONFIG.axi_bytes
        assert result.counters[Counter.WRITE_BEATS] == beats
        assert result.counters[Counter.READ_BEATS] == beats + 2 * COMMAND_BYTES // CONFIG.axi_bytes
        assert [(event.engine, event.kind, event.index) for event in result.events] == [
            (Engine.LOAD, EventKind.START, 0), (Engine.LOAD, EventKind.DONE, 0),
            (Engine.STORE, EventKind.START, 1), (Engine.STORE, EventKind.DONE, 1)]
        assert all(0 < event.cycle <= result.cycles + 10 for event in result.events)


@pytest.mark.slow
def test_simulated_device_names_its_failures_and_recovers(simulated):
    driver = Driver(simulated, watchdog_cycles=2000)
    simulated.simulator.add_error_range(0x3_0000, 0x3_0001)
    for commands, error, index in (
            ([load(), store(), bytes(COMMAND_BYTES)], Error.OPCODE, 2),
            ([load(address=0x3_0000), store()], Error.READ, 0),
            ([load(), store(address=0x3_0000)], Error.WRITE, 1),
            ([load(lines=0), store()], Error.ARGUMENT, 0),
            ([store()], Error.WATCHDOG, 0)):
        count = put(simulated, *commands)
        with pytest.raises(DeviceStopped) as caught:
            driver.run(0, count, commands=b"".join(commands))
        assert (caught.value.error, caught.value.index) == (error, index)
        driver.reset()
        driver.run(0, put(simulated, load(), store()))
        assert simulated.read_memory(0x2_0000, len(DATA)) == DATA


def filled(opcode, ones, **changes):
    """A command with some fields one and all others zero, but for the changes."""
    fields = {name: int(name in ones) for name, _ in data.Layout.cast(COMMANDS[opcode])
              if name != "header" and not name.startswith("_")}
    return encode(opcode, **fields | changes)


def matrix(**changes):
    return filled(Opcode.MATRIX, (
        "in_h", "in_w", "channel_blocks", "kernel_h", "kernel_w", "stride_h", "stride_w",
        "dilation_h", "dilation_w", "out_w", "tile_pixels", "out_pixels", "col_tiles",
        "last_groups"), **changes)


def vector(**changes):
    return filled(Opcode.VECTOR, (
        "kernel_outer", "kernel_inner", "in_outer", "in_inner", "blocks", "out_outer",
        "out_inner"), op=VectorOp.LOOKUP, table=1, **changes)


GIANTS = {Engine.LOAD: load(wait=8, lines=65535), Engine.STORE: store(wait=8, lines=65535),
          Engine.MATRIX: matrix(wait=8, out_pixels=(1 << 24) - 1),
          Engine.VECTOR: vector(wait=8, out_outer=65535, out_inner=65535)}


@pytest.mark.parametrize("engine", Engine)
@pytest.mark.parametrize("simulated", [{}, {"stall_probability": 0.5, "latency": 50}],
                         indirect=True)
def test_a_giant_command_is_ended_and_the_device_is_usable_again(simulated, engine):
    for cycles in range(1000, 1100, 11):  # in different moments
        driver = Driver(simulated, command_cycles=cycles)
        count = put(simulated, load(), store(post=1 << engine.value), GIANTS[engine])
        with pytest.raises(DeviceStopped) as caught:
            driver.run(0, count)
        assert (caught.value.error, caught.value.index) == (Error.CYCLE_LIMIT, 2)
        assert caught.value.limit == 3 * cycles
        driver.reset()
        driver.run(0, put(simulated, load(), store()))
        assert simulated.read_memory(0x2_0000, len(DATA)) == DATA


@pytest.mark.slow
@pytest.mark.parametrize("after_beats", [0, 20, 60, 110])
def test_simulated_device_stops_with_a_dead_memory_and_recovers(simulated, after_beats):
    driver = Driver(simulated, watchdog_cycles=2000, status_reads=100)
    count = put(simulated, load(), store())
    simulated.simulator.stop_memory(after_beats=after_beats)
    with pytest.raises(DeviceStopped, match=r"^Device stopped: WATCHDOG error in command \d .*$"):
        driver.run(0, count)
    with pytest.raises(DeviceTimeout, match=r"^Device is not idle after a reset, .*$"):
        driver.reset()
    simulated.simulator.resume_memory()
    driver.reset()
    driver.run(0, count)
    assert simulated.read_memory(0x2_0000, len(DATA)) == DATA


@pytest.mark.slow
def test_simulated_run_that_takes_too_long_is_aborted_by_a_reset(simulated):
    driver = Driver(simulated)
    count = put(simulated, load(), store())
    with pytest.raises(DeviceTimeout,
                       match=r"^Device did not raise its interrupt within 50 cycles$"):
        driver.run(0, count, timeout_cycles=50)
    driver.reset()
    driver.run(0, count)
    assert simulated.read_memory(0x2_0000, len(DATA)) == DATA
