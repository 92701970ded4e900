"""The host of a control port in Verilog, and what stands for the core; for benches of cocotb."""

import logging
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge, with_timeout
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from weft.hw.isa.registers import Control, Register, Status

STALL = 0.4


def pauses(seed):
    rng = random.Random(seed)
    while True:
        yield rng.random() < STALL


class Bench:
    """The host, and what stands for the core: its outputs are driven by the test, except that
    `completed` goes to zero with `start`."""

    def __init__(self, dut, *, seed, stalls=True):
        self.dut = dut
        self.rng = random.Random(seed)
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
        self.host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
        self.channels = {
            "aw": self.host.write_if.aw_channel, "w": self.host.write_if.w_channel,
            "b": self.host.write_if.b_channel, "ar": self.host.read_if.ar_channel,
            "r": self.host.read_if.r_channel}
        if stalls:
            for n, channel in enumerate(self.channels.values()):
                channel.set_pause_generator(pauses(100 * seed + n))
        self.starts = []  # (address, count) of each start pulse
        self.resets = 0   # cycles of core_reset
        self.cycles = 0

    async def start(self):
        dut = self.dut
        cocotb.start_soon(Clock(dut.clk, 10, "ns").start())
        for signal in (dut.core_faults_0, dut.core_faults_1, dut.core_completed,
                       dut.core_progress, dut.core_oldest, dut.core_count_up):
            signal.value = 0
        dut.core_idle.value = 1
        dut.core_quiet.value = 1
        dut.rst.value = 1
        await ClockCycles(dut.clk, 4)
        dut.rst.value = 0
        await ClockCycles(dut.clk, 2)
        cocotb.start_soon(self.watch())

    async def watch(self):
        dut = self.dut
        while True:
            await FallingEdge(dut.clk)
            self.cycles += 1
            self.resets += int(dut.core_reset.value)
            if dut.core_start.value == 1:
                self.starts.append((int(dut.core_address.value), int(dut.core_count.value)))
                await RisingEdge(dut.clk)
                dut.core_completed.value = 0

    async def write(self, address, value, *, offset=0, size=4):
        """Writes ``size`` bytes of ``value``, from byte ``offset`` of the register on."""
        data = value.to_bytes(4, "little")[offset:offset + size]
        answer = await with_timeout(self.host.write(address + offset, data), 100, "us")
        assert answer.resp == AxiResp.OKAY
        await ClockCycles(self.dut.clk, 1)  # registers change a cycle after the answer

    async def read(self, address):
        answer = await with_timeout(self.host.read(address, 4), 100, "us")
        assert answer.resp == AxiResp.OKAY
        return int.from_bytes(answer.data, "little")

    async def status(self):
        return Status(await self.read(Register.STATUS))

    async def doorbell(self, count=1, address=0x1000):
        await self.write(Register.COMMAND_ADDR, address & 0xffffffff)
        await self.write(Register.COMMAND_ADDRH, address >> 32)
        await self.write(Register.COMMAND_COUNT, count)
        await self.write(Register.CONTROL, Control.START)

    async def cycle(self, **inputs):
        """Drives inputs from the core for one cycle."""
        for name, value in inputs.items():
            getattr(self.dut, f"core_{name}").value = value
        await RisingEdge(self.dut.clk)

    async def fault(self, code, index, port=0):
        await self.cycle(**{f"faults_{port}": code | index << 4})
        await self.cycle(**{f"faults_{port}": 0})

    async def complete(self, count):
        """As a core does: the last commands are counted, then everything becomes idle."""
        await self.cycle(idle=0)
        for n in range(max(1, count - 5), count + 1):
            await self.cycle(completed=n)
        await self.cycle(idle=1)
        await ClockCycles(self.dut.clk, 3)

    async def reset(self):
        await self.write(Register.CONTROL, Control.RESET)
        while await self.status() & (Status.BUSY | Status.ERROR):
            pass
