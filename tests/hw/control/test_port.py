# amaranth: UnusedElaboratable=no
import os
import random
from pathlib import Path

import pytest
from amaranth.hdl import Module, ResetInserter
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped
from stream_bench import make_simulator, stream_put

from weft.hw.bus.axi import LiteSignature
from weft.hw.control.dispatch import Dispatcher
from weft.hw.control.port import QUIET_CYCLES, WATCHDOG_CYCLES, ControlPort
from weft.hw.isa.commands import Engine
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
from weft.hw.lib.cycle_accounting import COUNTED
from weft.sim.cocotb_bench import run_cocotb

LOAD, MATRIX, _, STORE = Engine
CONFIG = PRESETS["tiny"]


def test_control_port_with_an_independent_host(tmp_path, monkeypatch):
    # A machine may have `python3` alone.
    python = tmp_path / "no_python" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\nexit 127\n")
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(python.parent), prepend=os.pathsep)
    for bench in ("cocotb_port.py", "cocotb_port_faults.py"):  # built once
        run_cocotb(ControlPort(CONFIG, faults=2), name="control_port",
                   bench=Path(__file__).with_name(bench), build_dir=tmp_path / "build")


class ControlledDispatcher(wiring.Component):
    """A dispatcher under the control port; the test plays fetch and engines."""
    s_axi: In(LiteSignature())

    def __init__(self):
        self.control    = ControlPort(CONFIG, faults=1)
        self.dispatcher = Dispatcher(CONFIG)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        core = self.control.core
        m.submodules.control    = self.control
        m.submodules.dispatcher = ResetInserter(core.reset)(self.dispatcher)
        connect(m, flipped(self.s_axi), self.control.s_axi)
        m.d.comb += [
            self.dispatcher.clear.eq(core.start),
            self.dispatcher.halt.eq(core.halt),
            core.faults[0].eq(self.dispatcher.fault),
            core.completed.eq(self.dispatcher.completed),
            core.idle.eq(self.dispatcher.idle),
            core.oldest.eq(self.dispatcher.oldest),
            core.quiet.eq(1),
            core.progress.eq((self.dispatcher.event.start | self.dispatcher.event.done).any()),
        ]
        return m


class Host:
    def __init__(self, ctx, bus):
        self.ctx, self.bus = ctx, bus

    async def write(self, address, value, strobes=15):
        ctx, bus = self.ctx, self.bus
        for name, field in (("awaddr", address), ("wdata", value), ("wstrb", strobes),
                            ("awvalid", 1), ("wvalid", 1), ("bready", 1)):
            ctx.set(getattr(bus, name), field)
        await ctx.tick()
        ctx.set(bus.awvalid, 0)
        ctx.set(bus.wvalid, 0)
        await ctx.tick().until(bus.bvalid)

    async def read(self, address):
        ctx, bus = self.ctx, self.bus
        ctx.set(bus.araddr, address)
        ctx.set(bus.arvalid, 1)
        ctx.set(bus.rready, 1)
        await ctx.tick()
        ctx.set(bus.arvalid, 0)
        value, = await ctx.tick().sample(bus.rdata).until(bus.rvalid)
        return value


def test_a_deadlock_is_ended_by_the_watchdog_and_blamed_on_its_oldest_command():
    dut = ControlledDispatcher()

    async def put(ctx, index, engine, *, wait=(), post=()):
        raw = sum(1 << e.value for e in wait) << 8 | sum(1 << e.value for e in post) << 12
        await stream_put(ctx, dut.dispatcher.commands,
                         {"index": index, "engine": engine, "raw": raw})

    async def testbench(ctx):
        host = Host(ctx, dut.s_axi)
        await host.write(Register.WATCHDOG, 60)
        await host.write(Register.COMMAND_COUNT, 4)
        await host.write(Register.CONTROL, Control.START)
        for engine in (LOAD, MATRIX, STORE):
            ctx.set(dut.dispatcher.engines[engine.value].ready, 1)
        await put(ctx, 0, LOAD)
        await put(ctx, 1, STORE, wait=[MATRIX], post=[MATRIX])   # each waits for the other
        await put(ctx, 2, MATRIX, wait=[STORE], post=[STORE])
        await put(ctx, 3, LOAD)
        for _ in range(2):
            await ctx.tick().repeat(50)
            ctx.set(dut.dispatcher.done[LOAD.value], 1)
            await ctx.tick()
            ctx.set(dut.dispatcher.done[LOAD.value], 0)
        assert await host.read(Register.STATUS) == Status.BUSY | Status.QUIET
        await ctx.tick().repeat(60)
        assert await host.read(Register.STATUS) == Status.ERROR | Status.QUIET
        assert await host.read(Register.ERROR) == Error.WATCHDOG
        assert await host.read(Register.ERROR_INDEX) == 1
        assert await host.read(Register.COMPLETED) == 2

        # A reset empties the queues, and a program that is right runs.
        await host.write(Register.CONTROL, Control.RESET)
        await ctx.tick().repeat(10)
        assert ctx.get(dut.dispatcher.idle)
        await host.write(Register.COMMAND_COUNT, 1)
        await host.write(Register.CONTROL, Control.START)
        await put(ctx, 0, LOAD)
        await ctx.tick().repeat(5)
        ctx.set(dut.dispatcher.done[LOAD.value], 1)
        await ctx.tick()
        ctx.set(dut.dispatcher.done[LOAD.value], 0)
        await ctx.tick().repeat(3)
        assert await host.read(Register.STATUS) == Status.DONE | Status.QUIET

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()


def control_bench(bench):
    """Runs ``bench(ctx, host, dut)`` on a control port with two faults; the core is idle."""
    dut = ControlPort(CONFIG, faults=2)

    async def testbench(ctx):
        ctx.set(dut.core.idle, 1)
        ctx.set(dut.core.quiet, 1)
        await ctx.tick()
        await bench(ctx, Host(ctx, dut.s_axi), dut)

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()


def test_registers_tell_what_they_should_and_the_others_zero():
    expected = {Register.ID: DEVICE_ID, Register.VERSION: VERSION, Register.STATUS: Status.QUIET,
                Register.WATCHDOG: WATCHDOG_CYCLES}
    expected |= {CONFIG_BASE + 4 * n: word for n, word in enumerate(config_words(CONFIG).values())}

    async def bench(ctx, host, dut):
        for address in [*range(0, 0x40, 4), *range(0x100, 0x180, 4), *range(0x1f8, 0x270, 4),
                        0x400, 0x418, 0x600, 0x7fc, 0x800, 0xe00, 0xffc]:
            assert await host.read(address) == expected.get(address, 0), f"{address:#x}"
    control_bench(bench)


def test_strobes_choose_the_bytes_of_a_register():
    rng = random.Random(1)
    widths = {Register.COMMAND_ADDR: 32, Register.COMMAND_ADDRH: 32, Register.COMMAND_COUNT: 32,
              Register.IRQ_ENABLE: 1, Register.WATCHDOG: 32}
    held = dict.fromkeys(widths, 0) | {Register.WATCHDOG: WATCHDOG_CYCLES}

    async def bench(ctx, host, dut):
        for number in range(60):
            register = rng.choice([*widths] * 3 + [Register.ID, Register.COMPLETED, COUNTER_BASE,
                                                   CONFIG_BASE, 0x34, 0x418, 0x818])
            strobes, value = rng.randrange(16), rng.getrandbits(32)
            await host.write(register, value, strobes)
            if register in widths:
                mask = sum(0xff << 8 * lane for lane in range(4) if strobes >> lane & 1)
                mask &= (1 << widths[register]) - 1
                held[register] = held[register] & ~mask | value & mask
            probe = list(widths)[number % len(widths)]
            assert await host.read(probe) == held[probe]
            assert ctx.get(dut.core.address) == \
                held[Register.COMMAND_ADDRH] << 32 | held[Register.COMMAND_ADDR]
            assert ctx.get(dut.core.count) == held[Register.COMMAND_COUNT]
    control_bench(bench)


def test_a_write_waits_for_both_its_halves_and_its_answer_for_the_host():
    async def bench(ctx, host, dut):
        bus = dut.s_axi
        for early, late in (("aw", "w"), ("w", "aw")):
            ctx.set(bus.awaddr, Register.COMMAND_COUNT)
            ctx.set(bus.wdata, 0x1234)
            ctx.set(bus.wstrb, 15)
            ctx.set(getattr(bus, f"{early}valid"), 1)
            assert ctx.get(getattr(bus, f"{early}ready"))
            await ctx.tick()
            ctx.set(bus.awaddr, 0)
            ctx.set(bus.wdata, 0)
            for _ in range(3):
                assert not ctx.get(getattr(bus, f"{early}ready"))
                assert not ctx.get(bus.bvalid)
                await ctx.tick()
            ctx.set(getattr(bus, f"{early}valid"), 0)
            ctx.set(bus.awaddr, Register.COMMAND_COUNT)
            ctx.set(bus.wdata, 0x1234)
            ctx.set(getattr(bus, f"{late}valid"), 1)
            await ctx.tick()
            ctx.set(getattr(bus, f"{late}valid"), 0)
            await ctx.tick()
            # The next write is taken, and not executed before the answer is.
            ctx.set(bus.wdata, 0x5678)
            ctx.set(bus.awvalid, 1)
            ctx.set(bus.wvalid, 1)
            await ctx.tick()
            ctx.set(bus.awvalid, 0)
            ctx.set(bus.wvalid, 0)
            for _ in range(4):
                assert ctx.get(bus.bvalid)
                await ctx.tick()
            assert ctx.get(dut.core.count) == 0x1234
            ctx.set(bus.bready, 1)
            await ctx.tick()
            assert not ctx.get(bus.bvalid)
            await ctx.tick().repeat(4)
            ctx.set(bus.bready, 0)
            assert ctx.get(dut.core.count) == 0x5678
            assert not ctx.get(bus.bvalid)
            await host.write(Register.COMMAND_COUNT, 0)
            await ctx.tick()
            ctx.set(bus.bready, 0)
    control_bench(bench)


def test_a_read_is_held_until_it_is_taken_and_the_next_waits_for_it():
    async def bench(ctx, host, dut):
        bus = dut.s_axi
        ctx.set(bus.arvalid, 1)
        await ctx.tick()
        ctx.set(bus.araddr, Register.VERSION)
        await ctx.tick().repeat(8)
        ctx.set(bus.arvalid, 0)
        for _ in range(3):
            assert ctx.get(bus.rvalid) and ctx.get(bus.rdata) == DEVICE_ID
            assert not ctx.get(bus.arready)
            await ctx.tick()
        ctx.set(bus.rready, 1)
        await ctx.tick()
        assert ctx.get(bus.rvalid) and ctx.get(bus.rdata) == VERSION
        await ctx.tick()
        assert not ctx.get(bus.rvalid) and ctx.get(bus.arready)
        await ctx.tick().repeat(4)
        assert not ctx.get(bus.rvalid)
    control_bench(bench)


def test_a_stream_from_doorbell_to_interrupt():
    async def bench(ctx, host, dut):
        await host.write(Register.IRQ_ENABLE, 1)
        for address, count in ((0x1_2345_6780, 3), (0xffff_ffff_ffff_ffc0, 0xffff_fff0)):
            await host.write(Register.COMMAND_ADDR, address & 0xffff_ffff)
            await host.write(Register.COMMAND_ADDRH, address >> 32)
            await host.write(Register.COMMAND_COUNT, count)
            await host.write(Register.CONTROL, 0)
            assert not ctx.get(dut.core.start)
            await host.write(Register.CONTROL, Control.START, 14)  # not the byte with the bit
            assert not ctx.get(dut.core.start)
            await host.write(Register.CONTROL, Control.START)
            while not ctx.get(dut.core.start):
                await ctx.tick()
            assert (ctx.get(dut.core.address), ctx.get(dut.core.count)) == (address, count)
            await ctx.tick()
            ctx.set(dut.core.completed, 0)
            assert not ctx.get(dut.core.start)
            # What is for the next stream changes nothing, and a doorbell is ignored.
            await host.write(Register.COMMAND_COUNT, 1)
            await host.write(Register.CONTROL, Control.START)
            for _ in range(3):
                assert not ctx.get(dut.core.start)
                await ctx.tick()
            for idle, completed in ((1, count - 1), (0, count), (1, 1)):
                ctx.set(dut.core.idle, idle)
                ctx.set(dut.core.completed, completed)
                await ctx.tick().repeat(4)
                assert await host.read(Register.STATUS) == Status.BUSY | Status.QUIET
            assert not ctx.get(dut.irq)
            ctx.set(dut.core.completed, count)
            await ctx.tick().repeat(4)
            assert ctx.get(dut.irq)
            assert await host.read(Register.STATUS) == Status.DONE | Status.QUIET
            assert await host.read(Register.COMPLETED) == count
            await host.write(Register.IRQ_CLEAR, 2)
            await host.write(Register.IRQ_CLEAR, 1, 14)
            await ctx.tick().repeat(3)
            assert ctx.get(dut.irq)
            await host.write(Register.IRQ_ENABLE, 0)
            await ctx.tick().repeat(2)
            assert not ctx.get(dut.irq)
            await host.write(Register.IRQ_ENABLE, 1)
            await ctx.tick().repeat(2)
            assert ctx.get(dut.irq)
            await host.write(Register.IRQ_CLEAR, 1)
            await ctx.tick().repeat(3)
            assert not ctx.get(dut.irq)
            assert await host.read(Register.STATUS) == Status.QUIET
    control_bench(bench)


def test_counters_count_from_doorbell_to_interrupt():
    rng = random.Random(3)

    async def bench(ctx, host, dut):
        await host.write(Register.COMMAND_COUNT, 1)
        for length in (40, 7):
            expected = dict.fromkeys(Counter, 0)
            await host.write(Register.CONTROL, Control.START)
            running = ending = False
            for cycle in range(length + 20):
                bits = rng.getrandbits(len(COUNTED))
                ctx.set(dut.core.count_up, {counter.name.lower(): bits >> n & 1
                                       for n, counter in enumerate(COUNTED)})
                starts = ctx.get(dut.core.start)
                running |= starts
                if running:
                    expected[Counter.CYCLES] += 1
                    for n, counter in enumerate(COUNTED):
                        expected[counter] += bits >> n & 1
                if ending:  # it is seen a cycle later
                    running = ending = False
                elif running and not starts and cycle >= length:
                    ending = True
                await ctx.tick()
                if starts or cycle == length - 1:
                    ctx.set(dut.core.completed, cycle == length - 1)
            assert expected[Counter.CYCLES] >= length - 2
            for counter, value in expected.items():
                assert await host.read(COUNTER_BASE + 4 * counter) == value, counter.name
    control_bench(bench)


@pytest.mark.parametrize("codes, error, index", [
    ((Error.ADDRESS, Error.WRITE), Error.ADDRESS, 0x8005),
    ((Error.NONE, Error.WRITE), Error.WRITE, 6),
    ((Error.OPCODE, Error.NONE), Error.OPCODE, 0x8005)])
def test_the_first_fault_of_the_lowest_number_stops_the_device_until_a_reset(codes, error, index):
    async def bench(ctx, host, dut):
        await host.write(Register.IRQ_ENABLE, 1)
        await host.write(Register.COMMAND_COUNT, 9)
        await host.write(Register.CONTROL, Control.START)
        await ctx.tick().repeat(3)
        assert not ctx.get(dut.core.halt)
        for port, (code, at) in enumerate(zip(codes, (0x8005, 6), strict=True)):
            ctx.set(dut.core.faults[port], {"code": code, "index": at})
        await ctx.tick()
        for port in range(2):
            ctx.set(dut.core.faults[port].code, Error.NONE)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.core.halt)
        for port in range(2):  # too late
            ctx.set(dut.core.faults[port], {"code": Error.READ, "index": 1})
        await ctx.tick()
        for port in range(2):
            ctx.set(dut.core.faults[port].code, Error.NONE)
        await ctx.tick().repeat(3)
        assert ctx.get(dut.irq)
        assert await host.read(Register.STATUS) == Status.ERROR | Status.QUIET
        assert await host.read(Register.ERROR) == error
        assert await host.read(Register.ERROR_INDEX) == index
        await host.write(Register.IRQ_CLEAR, 1)
        await host.write(Register.CONTROL, Control.START)
        for _ in range(4):
            assert not ctx.get(dut.core.start) and ctx.get(dut.core.halt)
            await ctx.tick()
        assert not ctx.get(dut.irq)

        # A reset waits until the memory has been quiet for long enough.
        ctx.set(dut.core.quiet, 0)
        await host.write(Register.CONTROL, Control.RESET | Control.START)
        for _ in range(3):
            ctx.set(dut.core.quiet, 1)
            for _ in range(QUIET_CYCLES - 1):
                await ctx.tick()
                assert not ctx.get(dut.core.reset)
            ctx.set(dut.core.quiet, 0)
            for _ in range(2):
                await ctx.tick()
                assert not ctx.get(dut.core.reset)
        assert await host.read(Register.STATUS) == Status.ERROR | Status.BUSY
        ctx.set(dut.core.quiet, 1)
        for _ in range(QUIET_CYCLES + 1):
            assert ctx.get(dut.core.halt)
            assert not ctx.get(dut.core.reset) and not ctx.get(dut.core.start)
            await ctx.tick()
        await ctx.tick()
        assert ctx.get(dut.core.reset)
        await ctx.tick()
        assert not ctx.get(dut.core.reset)
        await ctx.tick().repeat(2)
        assert not ctx.get(dut.core.halt)
        for _ in range(QUIET_CYCLES + 3):
            assert not ctx.get(dut.core.reset) and not ctx.get(dut.core.start)
            await ctx.tick()
        assert await host.read(Register.STATUS) == Status.QUIET
        assert await host.read(Register.ERROR) == Error.NONE
        assert await host.read(Register.ERROR_INDEX) == 0
        assert await host.read(Register.COMMAND_COUNT) == 9
        await host.write(Register.CONTROL, Control.START)
        await ctx.tick()
        assert await host.read(Register.STATUS) == Status.BUSY | Status.QUIET
    control_bench(bench)


@pytest.mark.parametrize("limit", [1, 2, 30])
def test_the_watchdog_counts_the_cycles_without_progress(limit):
    async def bench(ctx, host, dut):
        ctx.set(dut.core.progress, 1)
        ctx.set(dut.core.oldest, 77)
        await host.write(Register.WATCHDOG, limit)
        await ctx.tick().repeat(2 * limit)
        await host.write(Register.COMMAND_COUNT, 4)
        await host.write(Register.CONTROL, Control.START)
        await ctx.tick().repeat(2 * limit + 4)
        ctx.set(dut.core.progress, 0)
        for _ in range(limit - 1):
            await ctx.tick()
        ctx.set(dut.core.progress, 1)  # in the last moment
        await ctx.tick()
        ctx.set(dut.core.progress, 0)
        for _ in range(limit + 3):  # registers in front of the watchdog and behind it
            assert not ctx.get(dut.core.halt)
            await ctx.tick()
        assert ctx.get(dut.core.halt)
        assert await host.read(Register.ERROR) == Error.WATCHDOG
        assert await host.read(Register.ERROR_INDEX) == 77
    control_bench(bench)


def test_the_watchdog_sleeps_while_nothing_runs_and_can_be_off():
    async def bench(ctx, host, dut):
        await host.write(Register.WATCHDOG, 20)
        await ctx.tick().repeat(60)
        assert await host.read(Register.STATUS) == Status.QUIET
        await host.write(Register.WATCHDOG, 0)
        await host.write(Register.COMMAND_COUNT, 4)
        await host.write(Register.CONTROL, Control.START)
        await ctx.tick().repeat(60)
        assert await host.read(Register.STATUS) == Status.BUSY | Status.QUIET
        await host.write(Register.WATCHDOG, 30)  # and back on, in the middle of a stream
        await ctx.tick().repeat(20)
        assert await host.read(Register.STATUS) == Status.BUSY | Status.QUIET
        await ctx.tick().repeat(20)
        assert await host.read(Register.STATUS) == Status.ERROR | Status.QUIET
    control_bench(bench)


@pytest.mark.parametrize("faults", [0, -1, 1.0, True, None])
def test_faults_wrong(faults):
    with pytest.raises(ValueError, match=rf"^Faults must be a positive integer, not {faults!r}$"):
        ControlPort(CONFIG, faults=faults)
