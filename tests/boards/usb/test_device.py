"""The whole way from D+ and D- to memory and registers, and back."""

import random
import warnings
from contextlib import suppress

import pytest
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect
from amaranth.sim import Simulator
from usb_host import BIT, Faults, Stall, UsbHost, Wires

from weft.boards.system.host import StreamBridge
from weft.boards.system.protocol import (
    FLAG,
    Answer,
    Identity,
    Opcode,
    decode_response,
    encode_request,
)
from weft.boards.system.staging import StagingMemory
from weft.hw.bus.lite_target import LiteTarget

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # LUNA is older than Amaranth
    from weft.boards.usb.device import PRODUCT_ID, VENDOR_ID, UsbSerial

IDENTITY = Identity(version=2, memory_bits=14, clock=9000, design=0xFEDC_7E7D)
SERIAL_BYTES_PER_SECOND = 3_000_000 / 10
SHORTEST_TIMEOUT_BITS = 16


class Bench(wiring.Component):
    """A bridge at a USB port, with memory and registers that count their writes."""

    def __init__(self):
        super().__init__({"writes": Out(8)})
        self.wires = Wires()

    def elaborate(self, platform):
        m = Module()
        for name in ("sync", "usb", "usb_io"):
            m.domains += ClockDomain(name)
        m.submodules.wires = wires = self.wires
        m.submodules.usb = usb = UsbSerial()
        m.submodules.bridge = bridge = StreamBridge(identity=IDENTITY)
        m.submodules.target = target = LiteTarget()
        m.submodules.staging = staging = StagingMemory(
            size=1 << IDENTITY.memory_bits, data_width=32, addr_width=16)
        connect(m, usb.o, bridge.i)
        connect(m, bridge.o, usb.i)
        connect(m, bridge.control, target.bus)
        connect(m, bridge.memory, staging.bytes)
        m.d.comb += [
            wires.device_p.eq(usb.wires.p_o), wires.device_n.eq(usb.wires.n_o),
            wires.device_oe.eq(usb.wires.oe), wires.pullup.eq(usb.wires.pullup),
            usb.wires.p_i.eq(wires.p), usb.wires.n_i.eq(wires.n),
            target.read_data.eq(target.read_word),
        ]
        with m.If(target.write):
            m.d.sync += self.writes.eq(self.writes + 1)
        return m


def run(conversation, *, sync_mhz=62, skew=0.0, seed=0):
    """Simulates ``conversation``, which is given a host; returns what it does."""
    dut = Bench()
    results = []

    async def bench(ctx):
        host = UsbHost(ctx, dut.wires, skew=skew, seed=seed)
        results.append(await conversation(host))
        assert not ctx.get(dut.wires.conflict), "host and device drive at the same time"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        sim = Simulator(dut)
    sim.add_clock(BIT, domain="usb")
    sim.add_clock(BIT / 4, domain="usb_io")
    sim.add_clock(1e-6 / sync_mhz)
    sim.add_testbench(bench)
    sim.run()
    return results[0]


def bulk_endpoints(configuration):
    """Numbers of the endpoints for data: to the device, and from it."""
    numbers, interface_class, place = {}, None, 0
    while place < len(configuration):
        length, kind = configuration[place:place + 2]
        if kind == 4:
            interface_class = configuration[place + 5]
        if kind == 5 and interface_class == 0x0A:
            address, attributes = configuration[place + 2:place + 4]
            assert attributes & 3 == 2
            assert int.from_bytes(configuration[place + 4:place + 6], "little") == 64
            numbers[bool(address & 0x80)] = address & 0xF
        place += length
    return numbers[False], numbers[True]


async def opened(host, address=5):
    """Endpoints of a device that is plugged in and opened as a serial port."""
    device, configuration = await host.enumerate(address=address)
    assert device[8:12] == VENDOR_ID.to_bytes(2, "little") + PRODUCT_ID.to_bytes(2, "little")
    # SET_LINE_CODING, then SET_CONTROL_LINE_STATE, which hosts do not insist on.
    await host.control(0x21, 0x20, data=(3_000_000).to_bytes(4, "little") + bytes([0, 0, 8]))
    with suppress(Stall):
        await host.control(0x21, 0x22, 3)
    return bulk_endpoints(configuration)


def write(tag, address, data):
    return encode_request(Opcode.WRITE_MEMORY, tag, address, len(data), data)


def read(tag, address, count):
    return encode_request(Opcode.READ_MEMORY, tag, address, count)


def frames(received):
    return [frame for frame in bytes(received).split(bytes([FLAG])) if frame]


async def converse(host, rng, endpoints, lines, answers, sizes=(64,)):
    """Sends ``lines`` in packets of random ``sizes`` and takes what comes, until there are so many
    ``answers``; returns them."""
    sending, receiving = endpoints
    data, received = b"".join(lines), bytearray()
    place, idle = 0, 0
    size = rng.choice(sizes)
    while len(frames(received)) < answers or received[-1] != FLAG:
        if place < len(data) and await host.out(sending, data[place:place + size]):
            place, size = place + size, rng.choice(sizes)
        packet = await host.get(receiving)
        received += packet or b""
        idle = 0 if packet or place < len(data) else idle + 1
        assert idle < 300, f"{answers} answers are wanted, {len(frames(received))} came"
    return [decode_response(frame) for frame in frames(received)]


def test_enumerates_and_answers_a_request():
    async def conversation(host):
        endpoints = await opened(host)
        answers = await converse(host, random.Random(0), endpoints, [
            encode_request(Opcode.IDENTIFY, 1, 0, Identity.size())], 1)
        return answers, host

    answers, host = run(conversation)
    assert answers == [(1, Answer(0), IDENTITY.pack())]
    assert host.turnaround < SHORTEST_TIMEOUT_BITS


@pytest.mark.slow
def test_answers_after_it_was_plugged_in_again():
    request = encode_request(Opcode.IDENTIFY, 1, 0, Identity.size())

    async def conversation(host):
        for address in (5, 9):
            sending, receiving = await opened(host, address=address)
            received = bytearray()
            for _ in range(4):  # as often as the driver asks
                assert await host.out(sending, request)
                for _ in range(20):
                    received += await host.get(receiving) or b""
                if received:
                    break
        return [decode_response(frame) for frame in frames(received)]

    assert run(conversation) == [(1, Answer(0), IDENTITY.pack())]


@pytest.mark.parametrize("seed, skew, faults", [
    pytest.param(0, 0.0025, Faults(), marks=pytest.mark.slow),
    (1, -0.0025, Faults(damage=0.15, lost=0.15)),
])
def test_reads_what_was_written(seed, skew, faults):
    rng = random.Random(seed)
    memory = bytearray(400)
    lines, wanted = [], []
    for tag in range(1, 11):
        count = rng.choice([1, 40, 54, 64, rng.randrange(1, 90)])
        address = rng.randrange(len(memory) - count)
        if tag < 7 or rng.random() < 0.5:
            content = bytes(rng.choice([0x7D, 0x7E, 0xFF, rng.randrange(256)])
                            for _ in range(count))
            memory[address:address + count] = content
            lines.append(write(tag, address, content))
            wanted.append(b"")
        else:
            lines.append(read(tag, address, count))
            wanted.append(bytes(memory[address:address + count]))

    async def conversation(host):
        endpoints = await opened(host)
        host.faults = faults
        return await converse(host, rng, endpoints, lines, len(lines),
                              sizes=(1, 2, 3, 20, 63, 64)), host

    answers, host = run(conversation, skew=skew, seed=seed)
    assert answers == [(tag, Answer.FRESH, content) for tag, content in enumerate(wanted, 1)]
    assert (host.packets["repeated"] > 0) == (faults != Faults())


def test_bytes_per_second():
    count = 300
    content = random.Random(0).randbytes(count)

    async def conversation(host):
        endpoints = await opened(host)
        begin = host.bits
        written = await converse(host, random.Random(0), endpoints,
                                 [write(1, 500, content)], 1)
        middle = host.bits
        got = await converse(host, random.Random(0), endpoints,
                             [read(2, 500, count)], 1)
        return written, got, [count / (bits * BIT) for bits in
                              (middle - begin, host.bits - middle)]

    written, got, rates = run(conversation, sync_mhz=90)
    assert written == [(1, Answer.FRESH, b"")]
    assert got == [(2, Answer.FRESH, content)]
    # Of the 1,216,000 bytes per second that a bus has for packets of 64.
    assert min(rates) > 3 * SERIAL_BYTES_PER_SECOND
    assert max(rates) < 1_216_000
