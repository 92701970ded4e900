"""A host of full-speed USB at the wires: bits, packets, transactions, enumeration.

It knows the specification (USB 2.0, chapters 7 to 9; CDC 1.2 and PSTN 1.2 for the class) and
nothing of the device.
"""

import random
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

BIT = 1 / 12e6
"""Seconds of a bit."""
FRAME_BITS = 12_000
TIMEOUT_BITS = 18  # of silence, until a host takes an answer for lost; it waits 16 at least

OUT, ACK, DATA0, SOF, IN, NAK, DATA1, SETUP, STALL = (
    0x1, 0x2, 0x3, 0x5, 0x9, 0xA, 0xB, 0xD, 0xE)

J, K, SE0 = (1, 0), (0, 1), (0, 0)
"""States of D+ and D-."""


class Wires(wiring.Component):
    """D+ and D- between a host and a device: who drives, and the resistors if nobody does."""

    host_p: In(1)
    host_n: In(1)
    host_oe: In(1)
    device_p: In(1)
    device_n: In(1)
    device_oe: In(1)
    pullup: In(1)
    p: Out(1)
    n: Out(1)
    conflict: Out(1)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        conflict = Signal()
        m.d.comb += [self.p.eq(self.pullup), self.n.eq(0)]
        with m.If(self.host_oe):
            m.d.comb += [self.p.eq(self.host_p), self.n.eq(self.host_n)]
        with m.Elif(self.device_oe):
            m.d.comb += [self.p.eq(self.device_p), self.n.eq(self.device_n)]
        m.d.usb_io += conflict.eq(conflict | (self.host_oe & self.device_oe))
        m.d.comb += self.conflict.eq(conflict)
        return m


def crc(bits: list[int], width: int, polynomial: int) -> list[int]:
    """Of bits in the order of the wire, in that order; chapter 8.3.5."""
    register = ones = (1 << width) - 1
    for bit in bits:
        top = register >> (width - 1)
        register = (register << 1) & ones
        if top ^ bit:
            register ^= polynomial
    return [(~register >> place) & 1 for place in reversed(range(width))]


def to_bits(data: bytes) -> list[int]:
    return [byte >> place & 1 for byte in data for place in range(8)]


def to_bytes(bits: list[int]) -> bytes:
    assert len(bits) % 8 == 0, "the packet is not whole bytes"
    return bytes(sum(bit << place for place, bit in enumerate(bits[start:start + 8]))
                 for start in range(0, len(bits), 8))


def pid_byte(pid: int) -> bytes:
    return bytes([pid | (~pid & 0xF) << 4])


class Stall(Exception):
    """The device does not know the request."""


@dataclass(kw_only=True)
class Faults:
    """How often something goes wrong on the wires, as a probability."""
    damage: float = 0.0    # a packet to the device
    lost: float = 0.0      # a data packet, or its acknowledgement, of the device


class UsbHost:
    """A host at ``wires``, for the length of a test bench.

    ``skew`` is by how much its bits are shorter than they should be: 0.0025 is allowed.
    """

    def __init__(self, ctx: Any, wires: Wires, *, skew: float = 0.0, seed: int = 0):
        self._ctx = ctx
        self._wires = wires
        self._bit = BIT * (1 - skew)
        self._rng = random.Random(seed)
        self._toggles: dict[tuple[bool, int], int] = {}
        self.faults = Faults()
        self.address = 0
        self.bits = 0.0            # time that has passed
        self._frame_end = float(FRAME_BITS)
        self._frame = 0
        self.turnaround = 0.0      # the longest, in bits from the end of a packet to an answer
        self._ended = 0.0
        self.packets: dict[str, int] = {"repeated": 0, "refused": 0}

    # Bits.

    async def wait(self, bits: float) -> None:
        self.bits += bits
        await self._ctx.delay(bits * self._bit)

    def _drive(self, state: tuple[int, int] | None) -> None:
        self._ctx.set(self._wires.host_oe, state is not None)
        if state is not None:
            self._ctx.set(self._wires.host_p, state[0])
            self._ctx.set(self._wires.host_n, state[1])

    def _state(self) -> tuple[int, int]:
        return self._ctx.get(self._wires.p), self._ctx.get(self._wires.n)

    async def send(self, content: bytes) -> None:
        """A packet: synchronization, bits stuffed and inverted, end."""
        stuffed, ones = [], 0
        for bit in [0] * 7 + [1] + to_bits(content):
            stuffed.append(bit)
            ones = ones + 1 if bit else 0
            if ones == 6:
                stuffed.append(0)
                ones = 0
        state = J
        for bit in stuffed:
            if not bit:
                state = K if state == J else J
            self._drive(state)
            await self.wait(1)
        self._drive(SE0)
        await self.wait(2)
        self._ended = self.bits
        self._drive(J)
        await self.wait(1)
        self._drive(None)

    async def receive(self) -> bytes | None:
        """The packet that comes now, if one does."""
        while self._state() != K:
            if self.bits - self._ended > TIMEOUT_BITS:
                return None
            await self.wait(0.25)
        self.turnaround = max(self.turnaround, self.bits - self._ended)
        # A bit is taken half a bit after its edge, or the place where that would be.
        states, last, phase = [], K, 0
        while states[-2:] != [SE0, SE0]:
            await self.wait(0.25)
            now = self._state()
            phase = 0 if now != last else (phase + 1) % 4
            last = now
            if phase == 2:
                states.append(now)
            assert len(states) < 1500, "a packet without an end"
        await self.wait(1)
        assert self._state() == J
        await self.wait(1)
        return self._decode([J, *states[:-2]])

    @staticmethod
    def _decode(states: list[tuple[int, int]]) -> bytes:
        bits = [int(a == b) for a, b in pairwise(states)]
        assert bits[:8] == [0] * 7 + [1], "no synchronization"
        plain, ones = [], 1  # that of the synchronization counts
        for bit in bits[8:]:
            if ones == 6:
                assert not bit, "a bit is not stuffed"
                ones = 0
                continue
            plain.append(bit)
            ones = ones + 1 if bit else 0
        content = to_bytes(plain)
        assert pid_byte(content[0] & 0xF) == content[:1], "damaged packet identifier"
        return content

    # Packets.

    async def _token(self, pid: int, endpoint: int) -> None:
        if self.bits > self._frame_end:
            self._frame = (self._frame + 1) % 2048
            self._frame_end += FRAME_BITS
            await self._field(SOF, self._frame)
        await self._field(pid, self.address | endpoint << 7)

    async def _field(self, pid: int, value: int) -> None:
        bits = [value >> place & 1 for place in range(11)]
        await self.send(pid_byte(pid) + to_bytes(bits + crc(bits, 5, 0b00101)))
        await self.wait(3)

    async def _data(self, pid: int, data: bytes, *, damaged: bool = False) -> None:
        content = bytearray(pid_byte(pid) + data + to_bytes(crc(to_bits(data), 16, 0x8005)))
        if damaged:
            content[self._rng.randrange(1, len(content))] ^= 1 << self._rng.randrange(8)
        await self.send(bytes(content))

    def _happens(self, probability: float) -> bool:
        return self._rng.random() < probability

    # Transactions.

    async def out(self, endpoint: int, data: bytes, *, token: int = OUT) -> bool:
        """Sends a packet until it is acknowledged; or refused, which is to be tried again."""
        toggle = self._toggles.get((False, endpoint), 0)
        for _ in range(100):
            damaged = self._happens(self.faults.damage)
            await self._token(token, endpoint)
            await self._data((DATA0, DATA1)[toggle], data, damaged=damaged)
            answer = await self.receive()
            await self.wait(3)
            if damaged:
                assert answer is None, "a damaged packet was answered"
            elif answer == pid_byte(STALL):
                raise Stall
            elif answer == pid_byte(ACK) and not self._happens(self.faults.lost):
                self._toggles[False, endpoint] = toggle ^ 1
                return True
            elif answer == pid_byte(NAK):
                self.packets["refused"] += 1
                return False
            else:
                assert answer == pid_byte(ACK), "no acknowledgement"
            self.packets["repeated"] += 1
        raise AssertionError("the device takes no packet")

    async def _put(self, data: bytes, *, token: int = OUT) -> None:
        """A packet of a control transfer."""
        for _ in range(100):
            if await self.out(0, data, token=token):
                return
        raise AssertionError("the device refuses a packet")

    async def get(self, endpoint: int) -> bytes | None:
        """Asks for a packet; none if the device has none, or the host has had it already."""
        await self._token(IN, endpoint)
        answer = await self.receive()
        assert answer is not None, "a request for data is not answered"
        if answer == pid_byte(NAK):
            await self.wait(3)
            return None
        if answer == pid_byte(STALL):
            await self.wait(3)
            raise Stall
        pid, data, check = answer[0] & 0xF, answer[1:-2], answer[-2:]
        assert pid in (DATA0, DATA1)
        assert to_bytes(crc(to_bits(data), 16, 0x8005)) == check, "damaged data"
        if self._happens(self.faults.lost):
            self.packets["repeated"] += 1
            await self.wait(TIMEOUT_BITS)  # as if it had not come
            return None
        await self.wait(3)
        if not self._happens(self.faults.lost):
            await self.send(pid_byte(ACK))
        else:
            self.packets["repeated"] += 1
            await self.wait(TIMEOUT_BITS)
        await self.wait(3)
        toggle = self._toggles.get((True, endpoint), 0)
        if pid != (DATA0, DATA1)[toggle]:
            return None
        self._toggles[True, endpoint] = toggle ^ 1
        return data

    async def control(self, kind: int, request: int, value: int = 0, index: int = 0, *,
                      data: bytes = b"", length: int = 0) -> bytes:
        """A control transfer: its data to the device, or up to ``length`` bytes from it."""
        self._toggles[False, 0] = 0
        await self._put(bytes([kind, request]) + value.to_bytes(2, "little")
                        + index.to_bytes(2, "little")
                        + (length or len(data)).to_bytes(2, "little"), token=SETUP)
        self._toggles[False, 0] = self._toggles[True, 0] = 1
        received = b""
        if length:
            while len(received) < length:
                packet = await self._get_waiting(0)
                received += packet
                if len(packet) < 64:
                    break
            self._toggles[False, 0] = 1
            await self._put(b"")
            return received
        if data:
            await self._put(data)
        self._toggles[True, 0] = 1
        assert await self._get_waiting(0) == b"", "a status with data"
        return b""

    async def _get_waiting(self, endpoint: int) -> bytes:
        for _ in range(100):
            if (packet := await self.get(endpoint)) is not None:
                return packet
        raise AssertionError("the device has no packet")

    # The device.

    async def enumerate(self, *, address: int = 5) -> tuple[bytes, bytes]:
        """Reset, address and configuration, as a host does when a device is plugged in; its
        descriptors."""
        while not self._ctx.get(self._wires.pullup):
            await self.wait(100)
        self._drive(SE0)
        await self.wait(1200)
        self._drive(None)
        await self.wait(100)
        self.address, self._toggles = 0, {}
        first = await self.control(0x80, 6, 0x0100, length=8)
        await self.control(0x00, 5, address)
        self.address = address
        await self.wait(100)
        device = await self.control(0x80, 6, 0x0100, length=18)
        assert device[:8] == first and first[7] == 64
        head = await self.control(0x80, 6, 0x0200, length=9)
        configuration = await self.control(
            0x80, 6, 0x0200, length=int.from_bytes(head[2:4], "little"))
        await self.control(0x00, 9, configuration[5])
        return device, configuration
