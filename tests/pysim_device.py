"""The accelerator's own RTL as a device, simulated by Amaranth: slow, but there at once."""

import random
from collections import deque
from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Value
from stream_bench import make_simulator

from weft.hw.accelerator import Accelerator
from weft.hw.bus.axi import BURST_INCR, Response
from weft.hw.isa.commands import Engine, Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import encode
from weft.hw.isa.registers import Control, Register
from weft.runtime.device import Driver
from weft.runtime.device.base import DeviceTimeout, Event, EventKind

__all__ = ["PysimDevice", "check_reset"]


class PysimDevice:
    """A :class:`weft.runtime.device.base.Device` for programs of some thousand cycles.

    The memory answers each request by itself, and asserts that the accelerator keeps the rules of
    AXI4: requests stay until they are taken, bursts are of whole beats, inside the memory and
    inside 4 KiB, the last beat of a burst is marked, ``quiet`` is not told while an answer is
    owed. The host asserts that registers are read and written without an error.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
    memory_bytes : :class:`int`
    latency : :class:`int`
        Cycles from an address to its first beat or its response, at least 1.
    stall_probability : :class:`float`
        Of a cycle in which a channel of the memory does not move.
    seed : :class:`int`

    Attributes
    ----------
    bad : :class:`range`
        Bytes at which the memory answers SLVERR.
    beats_left : :class:`int` or ``None``
        After so many more beats the memory answers nothing.
    """

    def __init__(self, config: AcceleratorConfig, *, memory_bytes: int, latency: int = 3,
                 stall_probability: float = 0.0, seed: int = 0):
        self.bad: range = range(0)
        self.beats_left: int | None = None
        self._config  = config
        self._memory  = bytearray(memory_bytes)
        self._latency = latency
        self._stall   = stall_probability
        self._rng     = random.Random(seed)
        self._dut     = Accelerator(config)
        self._owed    = 0   # requests that were not answered in full
        self._cycle   = self._doorbell = 0
        self._events: list[Event] = []
        self._call: Any = None
        self._result: Any = None
        self._simulator = make_simulator(self._dut)
        for bench in (self._memory_bench, self._event_bench, self._host_bench):
            self._simulator.add_testbench(bench, background=True)

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    @property
    def memory_bytes(self) -> int:
        return len(self._memory)

    def write_memory(self, address: int, data: bytes | bytearray | memoryview) -> None:
        assert address + len(data) <= len(self._memory)
        self._memory[address:address + len(data)] = data

    def read_memory(self, address: int, count: int) -> bytes:
        return bytes(self._memory[address:address + count])

    def write_register(self, register: int, value: int) -> None:
        async def write(ctx: Any, bus: Any) -> None:
            for name, field in (("awaddr", register), ("wdata", value), ("wstrb", 15),
                                ("awvalid", 1), ("wvalid", 1), ("bready", 1)):
                ctx.set(getattr(bus, name), field)
            waiting, answered = {"aw", "w"}, False
            while not answered:
                _clk, _rst, aw, w, answered, response = await ctx.tick().sample(
                    bus.awready, bus.wready, bus.bvalid, bus.bresp)
                for channel, ready in (("aw", aw), ("w", w)):
                    if ready and channel in waiting:
                        waiting.remove(channel)
                        ctx.set(getattr(bus, f"{channel}valid"), 0)
            assert response is Response.OKAY and not waiting
            ctx.set(bus.bready, 0)
        if register == Register.CONTROL and value & Control.START:
            self._events.clear()
            self._doorbell = self._cycle
        self._do(write)

    def read_register(self, register: int) -> int:
        async def read(ctx: Any, bus: Any) -> int:
            for name, field in (("araddr", register), ("arvalid", 1), ("rready", 1)):
                ctx.set(getattr(bus, name), field)
            answered = False
            while not answered:
                _clk, _rst, ready, answered, value, response = await ctx.tick().sample(
                    bus.arready, bus.rvalid, bus.rdata, bus.rresp)
                if ready:
                    ctx.set(bus.arvalid, 0)
            assert response is Response.OKAY
            ctx.set(bus.rready, 0)
            return value
        return self._do(read)

    def wait(self, timeout_cycles: int | None = None) -> None:
        async def wait(ctx: Any, bus: Any) -> None:
            limit = self._cycle + (timeout_cycles or 100_000)
            while not ctx.get(self._dut.irq):
                await ctx.tick()
                if self._cycle > limit:
                    raise DeviceTimeout("no interrupt")
        self._do(wait)

    def run_cycles(self, count: int) -> None:
        """Simulate so many cycles."""
        async def run(ctx: Any, bus: Any) -> None:
            await ctx.tick().repeat(count)
        self._do(run)

    def events(self) -> Sequence[Event]:
        return list(self._events)

    def close(self) -> None:
        pass

    def _do(self, call: Any) -> Any:
        """Simulates until ``call`` has come to its end."""
        self._call = call
        while self._call is not None:
            self._simulator.advance()
        return self._result

    async def _host_bench(self, ctx: Any) -> None:
        while True:
            if self._call is not None:
                self._result = await self._call(ctx, self._dut.s_axi)
                self._call = None
            await ctx.tick()

    async def _event_bench(self, ctx: Any) -> None:
        dut = self._dut
        async for _clk, _rst, start, done, starting, ending in ctx.tick().sample(
                dut.event.start, dut.event.done, dut.event.start_index, dut.event.done_index):
            self._cycle += 1
            if start or done:
                self._events += [
                    Event(engine, kind, indices[engine.value], self._cycle - self._doorbell)
                    for kind, bits, indices in ((EventKind.DONE, done, ending),
                                                (EventKind.START, start, starting))
                    for engine in Engine if bits >> engine.value & 1]

    # Memory -----------------------------------------------------------------------------------

    def _moves(self) -> bool:
        return self._rng.random() >= self._stall and self.beats_left != 0

    def _beat(self) -> None:
        if self.beats_left:
            self.beats_left -= 1

    def _burst(self, address: int, length: int, size: int, burst: int) -> list[tuple[int, bool]]:
        """Address of each beat, and whether it is the last."""
        beat = self._config.axi_bytes
        assert 1 << size == beat and burst == BURST_INCR and address % beat == 0
        assert address // 4096 == (address + length * beat) // 4096
        assert address + (length + 1) * beat <= len(self._memory)
        return [(address + number * beat, number == length) for number in range(length + 1)]

    async def _memory_bench(self, ctx: Any) -> None:
        axi  = self._dut.m_axi
        beat = self._config.axi_bytes
        channels = {
            "ar": ("arid", "araddr", "arlen", "arsize", "arburst"),
            "aw": ("awid", "awaddr", "awlen", "awsize", "awburst"),
            "w": ("wdata", "wstrb", "wlast")}
        signals = [getattr(axi, name) for channel, names in channels.items()
                   for name in (f"{channel}valid", f"{channel}ready", *names)]
        reads, writes, responses = deque(), deque(), deque()
        held: dict[str, Any] = {}
        reading = writing = False  # an answer is on the bus
        good = True                # every beat of the burst that is being written
        while True:
            for name in ("arready", "awready", "wready"):
                ctx.set(getattr(axi, name), self._moves() and (name != "wready" or bool(writes)))
            if not reading and reads and reads[0][0] <= self._cycle and self._moves():
                reading = True
                _, address, last, number = reads[0]
                error = address in self.bad
                for name, value in (
                        ("rdata", int.from_bytes(self._memory[address:address + beat], "little")),
                        ("rlast", last), ("rid", number),
                        ("rresp", Response.SLVERR if error else Response.OKAY)):
                    ctx.set(getattr(axi, name), value)
            if not writing and responses and responses[0][0] <= self._cycle and self._moves():
                writing = True
                ctx.set(axi.bid, responses[0][1])
                ctx.set(axi.bresp, responses[0][2])
            ctx.set(axi.rvalid, reading)
            ctx.set(axi.bvalid, writing)
            _clk, _rst, r_ready, b_ready, *sampled = await ctx.tick().sample(
                axi.rready, axi.bready, *(Value.cast(signal) for signal in signals))
            taken = {}
            for channel, names in channels.items():
                valid, ready, *payload = sampled[:2 + len(names)]
                sampled = sampled[2 + len(names):]
                if channel in held:
                    assert valid and payload == held.pop(channel), \
                        f"the request on {channel} changed before it was taken"
                if valid and ready:
                    taken[channel] = payload
                elif valid:
                    held[channel] = payload
            if reading and r_ready:
                reading = False
                self._beat()
                self._owed -= reads.popleft()[2]
            if writing and b_ready:
                writing = False
                self._owed -= 1
                responses.popleft()
            if "ar" in taken:
                number, *request = taken["ar"]
                reads += [(self._cycle + self._latency, address, last, number)
                          for address, last in self._burst(*request)]
                self._owed += 1
            if "w" in taken:
                value, strobe, last = taken["w"]
                (address, expected), number = writes.popleft()
                assert last == expected
                self._beat()
                good &= address not in self.bad
                for lane in range(beat):
                    if strobe >> lane & 1:
                        self._memory[address + lane] = value >> 8 * lane & 0xff
                if last:
                    responses.append((self._cycle + self._latency, number,
                                      Response.OKAY if good else Response.SLVERR))
                    good = True
            if "aw" in taken:
                number, *request = taken["aw"]
                writes += [(place, number) for place in self._burst(*request)]
                self._owed += 1


def check_reset(config: AcceleratorConfig, *, cycles: int) -> None:
    """A reset, so many cycles behind the doorbell, ends a stream of long loads at its first
    command, and the device can be used again."""
    device = PysimDevice(config, memory_bytes=1 << 16, latency=40)
    driver = Driver(device, status_reads=30)
    load = encode(Opcode.LOAD, memory=0, lines=8, address=0x1000, stride=0x1000, units=300,
                  local_address=0, local_stride=0)
    device.write_memory(0, load * 3)
    for register, value in ((Register.COMMAND_ADDR, 0), (Register.COMMAND_COUNT, 3),
                            (Register.CONTROL, Control.START)):
        device.write_register(register, value)
    device.run_cycles(cycles)
    assert [event.kind for event in device.events()] == [EventKind.START]
    driver.reset()
    assert [event.kind for event in device.events()] == [EventKind.START]
    device.write_memory(0, encode(Opcode.LOAD, memory=0, lines=1, address=0x1000, stride=0,
                                  units=1, local_address=0, local_stride=0))
    driver.run(0, 1)
