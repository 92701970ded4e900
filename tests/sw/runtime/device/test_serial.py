"""The host's end of the serial line: at a simulated board, and at ports that fail."""

import random
import re
from functools import partial

import numpy as np
import pytest
from sweeps import sweep
from tiny_board import TINY_BOARD, open_board

from weft.boards.system.protocol import (
    ESCAPE,
    FLAG,
    PROTOCOL_VERSION,
    Answer,
    Identity,
    Opcode,
    escape,
    unescape,
)
from weft.digits import MODEL
from weft.digits import load as load_digits
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import Control, Register
from weft.reference.golden import GoldenSession
from weft.runtime.device import DeviceError, DeviceTimeout, Driver
from weft.runtime.device.board_sim import BoardSimDevice
from weft.runtime.device.link import PAYLOAD_BYTES, Link
from weft.runtime.device.serial import SerialDevice
from weft.runtime.session import InferenceSession


@pytest.fixture
def board():
    device = open_board()
    yield device
    device.close()


def random_data(count, seed=1):
    """With many bytes that have to be escaped."""
    rng = random.Random(seed)
    return bytes(rng.choice([FLAG, ESCAPE, *rng.randbytes(6)]) for _ in range(count))


# On the simulated board -------------------------------------------------------------------------


def test_memory_and_registers(board):
    data = random_data(9000)
    board.write_memory(77, data)
    assert board.read_memory(77, len(data)) == data
    assert board.read_memory(77 + 4100, 1) == data[4100:4101]
    assert (board.memory_bytes, board.clock_mhz) == (32 * 1024, 48)
    board.write_register(Register.WATCHDOG, 0xFEDC_BA98)
    assert board.read_register(Register.WATCHDOG) == 0xFEDC_BA98
    board.write_memory(5, b"")
    assert board.read_memory(5, 0) == b""
    assert board.link.repeated == 0


def test_the_line_is_the_limit_whatever_the_host_s_latency():
    # 4 ms at this line rate are as many bytes as 16 ms at 3 Mbaud.
    board = open_board(latency=0.002)
    data = bytes(24 * 1024)
    start = board.simulator.cycle
    board.write_memory(0, data)
    seconds = (board.simulator.cycle - start) / (TINY_BOARD.clock_mhz * 1e6) - 0.004
    assert len(data) / seconds > 0.95 * TINY_BOARD.baud / 10
    assert board.link.repeated == 0
    board.close()


@pytest.mark.parametrize("mismatch", [-0.02, 0.02])
def test_baud_rates_may_differ(mismatch):
    board = open_board(mismatch=mismatch)
    data = random_data(3000)
    board.write_memory(0, data)
    assert board.read_memory(0, len(data)) == data
    assert board.link.repeated == 0
    board.close()


@pytest.mark.parametrize("to_board, fault", sweep(
    (False, True), ({"lose": True}, {"flip": 0x10}),
    fast=lambda to_board, fault: to_board == ("lose" in fault)))
def test_lost_and_damaged_bytes_are_made_good(board, to_board, fault):
    rng = random.Random(f"{to_board} {fault}")
    data = random_data(6 * PAYLOAD_BYTES)
    for number in rng.sample(range(8 * 6 if not to_board else len(data)), 4):
        board.simulator.disturb(to_board=to_board, number=number, **fault)
    board.write_memory(0x100, data)
    repeated = board.link.repeated
    assert repeated
    for number in rng.sample(range(14 if to_board else len(data)), 3):
        board.simulator.disturb(to_board=to_board, number=number, **fault)
    assert board.read_memory(0x100, len(data)) == data
    assert board.link.repeated > repeated


@pytest.mark.parametrize("to_board", [False, True])
@pytest.mark.parametrize("fault", [{"lose": True}, {"flip": 0x40}])
@pytest.mark.parametrize("number", [3, 15])
def test_a_register_is_written_once_whatever_is_lost(board, to_board, fault, number):
    if number > 8 and not to_board:
        number -= 9
    board.simulator.disturb(to_board=to_board, number=number, **fault)
    board.write_register(Register.WATCHDOG, 1234)
    assert board.read_register(Register.WATCHDOG) == 1234


def test_garbage_before_the_first_request():
    device = open_board()
    board = device.simulator
    rng = random.Random(3)
    for _ in range(5):
        board.send(rng.randbytes(rng.randrange(300)))
        port = device._port
        again = SerialDevice(TINY_BOARD.config, memory_bytes=4096, port=port, patience=2e-5,
                             baud=TINY_BOARD.baud)
        again.write_memory(0, b"hello")
        assert again.read_memory(0, 5) == b"hello"
    device.close()


def test_a_cut_line_is_an_error(board):
    Driver(board)
    board.write_memory(0, bytes(100))
    board.simulator.cut()
    message = ("Device at tiny_board does not answer: check cable, power, bitstream and baud rate")
    for access in (lambda: board.write_memory(0, bytes(5000)), lambda: board.read_memory(0, 9),
                   board.wait, lambda: board.write_register(Register.CONTROL, Control.RESET)):
        with pytest.raises(DeviceTimeout, match=f"^{re.escape(message)}$"):
            access()
    board.simulator.cut(False)
    board.write_memory(0, b"mended")
    assert board.read_memory(0, 6) == b"mended"


def test_a_reset_in_the_middle_is_an_error(board):
    Driver(board)
    board.simulator.reset()
    with pytest.raises(DeviceError, match=r"^Device at tiny_board was reset while it was in use: "
                                          r"open it again$"):
        board.wait()
    again = SerialDevice(TINY_BOARD.config, memory_bytes=4096, port=board._port, patience=2e-5,
                         baud=TINY_BOARD.baud)
    Driver(again)


def test_another_configuration_is_refused():
    device = open_board(PRESETS["small"])
    with pytest.raises(DeviceError, match=r"^Device must have rows = 8 \(configuration 'small'\), "
                                          r"not 4: build it again from that configuration, or "
                                          r"choose the one it was built from$"):
        Driver(device)
    device.close()


def test_too_little_memory_is_refused(board):
    with pytest.raises(DeviceError, match=r"^Model needs 36864 bytes of memory beside the "
                                          r"accelerator, the device at tiny_board has 32768$"):
        SerialDevice(TINY_BOARD.config, memory_bytes=36864, port=board._port, patience=2e-5,
                     baud=TINY_BOARD.baud)


def test_no_simulator_is_built_of_a_board_with_too_little_memory(monkeypatch):
    monkeypatch.setattr("weft.runtime.device.board_sim.build_board", None)
    with pytest.raises(DeviceError, match=r"^Model needs 36864 bytes of memory beside the "
                                          r"accelerator, tiny_board has 32768$"):
        open_board(memory_bytes=36864)


@pytest.mark.parametrize("address, count", [(-1, 2), (32 * 1024, 1), (0, 32 * 1024 + 1)])
def test_memory_access_outside_wrong(board, address, count):
    message = (f"Memory access must lie within the 32768 bytes of memory, not {count} bytes at "
               f"{address:#x}")
    with pytest.raises(DeviceError, match=f"^{re.escape(message)}$"):
        board.read_memory(address, count)
    with pytest.raises(DeviceError, match=f"^{re.escape(message)}$"):
        board.write_memory(address, bytes(count))


def test_a_network_gives_onnxruntime_s_bytes_on_a_disturbed_line():
    images, _labels = load_digits()
    images = images[:3]
    with InferenceSession(MODEL, config=TINY_BOARD.config,
                          device=partial(BoardSimDevice, board=TINY_BOARD)) as session:
        name, output = session.get_inputs()[0].name, session.get_outputs()[0].name
        for number, to_board in ((500, True), (2000, True), (100, False)):
            session.device.simulator.disturb(to_board=to_board, number=number, flip=4)
        (got,) = session.run(None, {name: images})
        figures = session.run_frame({name: images[:1]})
        assert session.device.link.repeated
    golden = GoldenSession(MODEL)
    wanted = np.concatenate([golden.run({name: images[number:number + 1]})[output]
                             for number in range(len(images))])
    assert np.array_equal(got.view(np.uint32), wanted.view(np.uint32))
    # A board counts cycles, but does not record which command took how many.
    assert figures.cycles > 20_000
    assert [layer.cycles for layer in figures.layers] == [0] * len(figures.layers)


# At ports that fail -----------------------------------------------------------------------------


class FakePort:
    """A port with a device behind it that answers as told; None is silence."""

    name = "fake"

    def __init__(self, answer):
        self.timeout = None
        self.closed = False
        self.answer = answer
        self.line = bytearray()

    @property
    def in_waiting(self):
        return len(self.line)

    def write(self, data):
        for frame in bytes(data).split(bytes([FLAG])):
            if frame:
                self.line += self.answer(unescape(frame)) or b""

    def read(self, size=1):
        taken = bytes(self.line[:size])
        del self.line[:size]
        return taken

    def close(self):
        self.closed = True


def answer(request, data, flags=0):
    import zlib
    body = bytes([request[1], flags]) + data
    return bytes([FLAG]) + escape(body + zlib.crc32(body).to_bytes(4, "little")) + bytes([FLAG])


def open_fake(reply, **options):
    return SerialDevice(TINY_BOARD.config, memory_bytes=4096, port=FakePort(reply), **options)


def test_another_version_of_the_protocol_is_refused():
    port = FakePort(lambda request: answer(request, Identity(9, 15, 4800).pack()))
    message = (f"Device at fake must speak version {PROTOCOL_VERSION} of the serial protocol, not "
               f"9: build its bitstream again with this release of Weft")
    with pytest.raises(DeviceError, match=f"^{re.escape(message)}$"):
        SerialDevice(TINY_BOARD.config, memory_bytes=4096, port=port)
    assert port.closed


def test_a_refused_register_is_an_error():
    device = open_fake(lambda request: (
        answer(request, Identity(PROTOCOL_VERSION, 15, 4800).pack(), 0)
        if request[0] == Opcode.IDENTIFY else answer(request, bytes(4), Answer.FAILED)))
    with pytest.raises(DeviceError, match=r"^Device at fake answered an access to register 0x40 "
                                          r"with an error$"):
        device.read_register(0x40)


def test_an_unplugged_cable_is_an_error():
    device = open_fake(lambda request: answer(request,
                                              Identity(PROTOCOL_VERSION, 15, 4800).pack()))

    def unplugged(size=1):
        raise OSError(5, "Input/output error")

    device._port.read = unplugged
    with pytest.raises(DeviceError, match=r"^Port fake failed, was it unplugged\? "
                                          r"\(Input/output error\)$"):
        device.read_register(0)


def test_a_line_that_never_falls_silent_is_an_error():
    class Noise(FakePort):
        def read(self, size=1):
            return b"\x55"

    with pytest.raises(DeviceError, match=r"^Port fake never falls silent: check baud rate and "
                                          r"cable$"):
        SerialDevice(TINY_BOARD.config, memory_bytes=4096, port=Noise(lambda request: None))


def test_noise_instead_of_answers_is_an_error():
    link = Link(FakePort(lambda request: bytes(200_000)), name="fake", baud=3_000_000)
    with pytest.raises(DeviceTimeout, match=r"^Device at fake does not answer: "):
        link.read(0, 4)


def test_answers_to_nobody_are_ignored():
    """Of an earlier conversation, of the wrong length, or said twice."""
    def reply(request):
        other = bytes([0, request[1] % 255 + 1])
        return (answer(other, b"nobo") + answer(request, b"short!")
                + 2 * answer(request, b"good"))
    link = Link(FakePort(reply), name="fake", baud=3_000_000)
    assert link.read(0, 4) == b"good"
    assert link.read(0, 4) == b"good"


def test_port_that_cannot_be_opened_wrong():
    with pytest.raises(DeviceError, match=r"^Serial port /dev/no-such-port cannot be opened at "
                                          r"3000000 baud: .*No such file or directory.*$"):
        SerialDevice(TINY_BOARD.config, memory_bytes=4096, port="/dev/no-such-port")
