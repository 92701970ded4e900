"""The whole way from the serial line to memory and registers, and back."""

import random

import pytest
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect
from stream_bench import make_simulator

from weft.boards.system.host import SerialBridge
from weft.boards.system.protocol import (
    FLAG,
    Answer,
    Identity,
    Opcode,
    decode_response,
    encode_request,
)
from weft.boards.system.staging import StagingMemory
from weft.boards.system.uart import UartReceiver, UartTransmitter
from weft.hw.bus.lite_target import LiteTarget

DIVISOR = 4
IDENTITY = Identity(version=2, memory_bits=12, clock=4800, design=0xFEDC_7E7D)


class Bench(wiring.Component):
    """A bridge between a UART of the host's and memory, with registers that count their writes."""

    def __init__(self):
        super().__init__({
            "data": Out(8), "valid": Out(1), "irq": In(1),
            "word": Out(32), "writes": Out(8),
        })
        self.host = UartTransmitter(divisor=DIVISOR)
        self.serial = SerialBridge(divisor=DIVISOR, identity=IDENTITY)

    def elaborate(self, platform):
        m = Module()
        m.submodules.host = host = self.host
        m.submodules.back = back = UartReceiver(divisor=DIVISOR)
        m.submodules.serial = serial = self.serial
        m.submodules.target = target = LiteTarget()
        m.submodules.staging = staging = StagingMemory(size=4096, data_width=32, addr_width=16)
        connect(m, serial.control, target.bus)
        connect(m, serial.memory, staging.bytes)
        m.d.comb += [
            serial.rx.eq(host.tx), back.rx.eq(serial.tx), serial.irq.eq(self.irq),
            self.data.eq(back.o_data), self.valid.eq(back.o_valid),
            target.read_data.eq(Mux(target.read_word == 3, self.word, target.read_word)),
        ]
        with m.If(target.write):
            m.d.sync += self.writes.eq(self.writes + 1)
            with m.If(target.write_word == 3):
                m.d.sync += self.word.eq(target.write_data & target.write_mask)
        return m


def converse(*lines, irq=0):
    """The answers to each of ``lines`` of bytes, and how often a register was written."""
    dut = Bench()
    received = bytearray()
    answers, writes = [], []

    async def watch(ctx):
        async for _clk, _rst, valid, data in ctx.tick().sample(dut.valid, dut.data):
            if valid:
                received.append(data)

    async def host(ctx):
        ctx.set(dut.irq, irq)
        for line in lines:
            received.clear()
            for byte in line:
                ctx.set(dut.host.i.payload, byte)
                ctx.set(dut.host.i.valid, 1)
                await ctx.tick().until(dut.host.i.ready)
            ctx.set(dut.host.i.valid, 0)
            silence, count = 0, 0
            while silence < 3:
                await ctx.tick().repeat(10 * DIVISOR)
                silence = silence + 1 if len(received) == count else 0
                count = len(received)
            frames = bytes(received).split(bytes([FLAG]))
            answers.append([decode_response(frame) for frame in frames if frame])
        writes.append(ctx.get(dut.writes))

    sim = make_simulator(dut)
    sim.add_testbench(host)
    sim.add_testbench(watch, background=True)
    sim.run()
    return answers, writes[0]


def identify(tag=1):
    return encode_request(Opcode.IDENTIFY, tag, 0, Identity.size())


def write(tag, address, data):
    return encode_request(Opcode.WRITE_MEMORY, tag, address, len(data), data)


def read(tag, address, count):
    return encode_request(Opcode.READ_MEMORY, tag, address, count)


def write_register(tag, address, value):
    return encode_request(Opcode.WRITE_REGISTER, tag, address, 4, value.to_bytes(4, "little"))


def read_register(tag, address):
    return encode_request(Opcode.READ_REGISTER, tag, address, 4)


def test_identifies_itself_and_tells_that_it_is_fresh():
    answers, _ = converse(read_register(5, 0x20), identify(6), read_register(7, 0x20), irq=1)
    (before,), (identity,), (after,) = answers
    assert before == (5, Answer.FRESH | Answer.IRQ, (8).to_bytes(4, "little"))
    assert identity == (6, Answer.IRQ, IDENTITY.pack())
    assert after == (7, Answer.IRQ, (8).to_bytes(4, "little"))


@pytest.mark.parametrize("seed", range(3))
def test_reads_what_was_written(seed):
    rng = random.Random(seed)
    memory = bytearray(4096)
    lines, wanted = [identify(1)], [IDENTITY.pack()]
    for tag in range(2, 12):
        count = rng.randrange(1, 40)
        address = rng.randrange(100, 200)
        if rng.random() < 0.6:
            data = bytes(rng.choice([0x7D, 0x7E, rng.randrange(256)]) for _ in range(count))
            memory[address:address + count] = data
            lines.append(write(tag, address, data))
            wanted.append(b"")
        else:
            lines.append(read(tag, address, count))
            wanted.append(bytes(memory[address:address + count]))
    lines.append(read(12, 90, 160))
    wanted.append(bytes(memory[90:250]))
    answers, writes = converse(*lines)
    # What was never written may hold anything; here it holds zeros.
    assert [answer for (answer,) in answers] \
        == [(tag, 0, data) for tag, data in enumerate(wanted, 1)]
    assert writes == 0


def test_writes_a_register_once_however_often_it_is_asked():
    answers, writes = converse(
        identify(1), write_register(2, 0x0C, 0xDEADBEEF), write_register(2, 0x0C, 0xDEADBEEF),
        read_register(3, 0x0C), write_register(4, 0x0C, 7), read_register(5, 0x0C),
        write_register(2, 0x0C, 9), read_register(6, 0x0C))
    assert [answer.data for (answer,) in answers[3::2]] \
        == [value.to_bytes(4, "little") for value in (0xDEADBEEF, 7, 9)]
    assert writes == 3


def test_answers_requests_that_come_while_it_answers():
    lines = write(2, 0, bytes(range(64))) + read(3, 0, 32) + read(4, 32, 32)
    answers, _ = converse(identify(), lines)
    assert [(answer.tag, answer.data) for answer in answers[1]] \
        == [(2, b""), (3, bytes(range(32))), (4, bytes(range(32, 64)))]


def test_a_third_request_takes_the_place_of_the_one_that_waits():
    lines = read(3, 0, 200) + read(4, 0, 4) + write_register(5, 0x0C, 1) + read(6, 0, 4)
    answers, writes = converse(identify(), write(2, 0, bytes(200)), lines)
    tags = [answer.tag for answer in answers[2]]
    assert tags[0] == 3 and tags[-1] == 6 and len(tags) < 4
    assert writes == (5 in tags)


@pytest.mark.parametrize("damage", ["header", "payload", "crc"])
def test_what_is_damaged_is_not_answered(damage):
    frame = bytearray(write(2, 0x10, b"abcdefgh"))
    frame[{"header": 4, "payload": -7, "crc": -3}[damage]] ^= 1
    answers, _ = converse(identify(), write(3, 0, bytes(32)), bytes(frame), read(4, 0, 32))
    assert answers[2] == []
    memory = answers[3][0].data
    assert memory[:16] + memory[24:] == bytes(24)  # nothing beside what the frame was about
    assert (memory[16:24] == bytes(8)) == (damage == "header")


def test_a_damaged_register_is_not_written():
    frame = bytearray(write_register(2, 0x0C, 0x01020304))
    frame[-7] ^= 1
    assert converse(identify(), bytes(frame))[1] == 0


@pytest.mark.parametrize("seed", range(3))
def test_is_ready_after_any_garbage(seed):
    rng = random.Random(seed)
    garbage = bytes(rng.choice([0x7E, 0x7D, rng.randrange(256)]) for _ in range(50))
    answers, writes = converse(garbage, identify(9))
    assert answers == [[], [(9, 0, IDENTITY.pack())]]
    assert writes == 0


def test_keeps_the_label_of_the_host():
    def label(tag, value=None):
        if value is None:
            return encode_request(Opcode.READ_LABEL, tag, 0, 4)
        return encode_request(Opcode.WRITE_LABEL, tag, 0, 4, value)

    answers, writes = converse(write(1, 0, b"abcd"), label(2), label(3, b"wxyz"), label(4),
                               identify(5), read(6, 0, 4), label(7))
    # It is none of the registers, and no memory; asking for it is not asking for the identity.
    assert [answer for (answer,) in answers] == [
        (1, Answer.FRESH, b""), (2, Answer.FRESH, bytes(4)), (3, Answer.FRESH, b""),
        (4, Answer.FRESH, b"wxyz"), (5, 0, IDENTITY.pack()), (6, 0, b"abcd"), (7, 0, b"wxyz")]
    assert writes == 0
