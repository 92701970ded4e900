# amaranth: UnusedElaboratable=no
import os
from pathlib import Path

import pytest
from amaranth.hdl import Module, ResetInserter
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped
from stream_bench import make_simulator, stream_put

from weft.config import PRESETS
from weft.hw.axi import LiteSignature
from weft.hw.commands import Engine
from weft.hw.control import ControlPort
from weft.hw.dispatch import Dispatcher
from weft.hw.registers import Control, Error, Register, Status
from weft.sim.bench import run_cocotb

LOAD, MATRIX, _, STORE = Engine
CONFIG = PRESETS["tiny"]


def test_control_port_with_an_independent_host(tmp_path, monkeypatch):
    # A machine may have `python3` alone.
    python = tmp_path / "no_python" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\nexit 127\n")
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(python.parent), prepend=os.pathsep)
    run_cocotb(ControlPort(CONFIG, faults=2), name="control_port",
               bench=Path(__file__).parent / "cocotb_control.py", build_dir=tmp_path / "build")


class ControlledDispatcher(wiring.Component):
    """A dispatcher under the control port; the test plays fetch and engines."""
    s_axi: In(LiteSignature())

    def __init__(self):
        self.control    = ControlPort(CONFIG, faults=1)
        self.dispatcher = Dispatcher(CONFIG)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.control    = control = self.control
        m.submodules.dispatcher = ResetInserter(control.core_reset)(self.dispatcher)
        connect(m, flipped(self.s_axi), control.s_axi)
        m.d.comb += [
            self.dispatcher.clear.eq(control.start),
            self.dispatcher.halt.eq(control.halt),
            control.faults[0].eq(self.dispatcher.fault),
            control.completed.eq(self.dispatcher.completed),
            control.idle.eq(self.dispatcher.idle),
            control.oldest.eq(self.dispatcher.oldest),
            control.quiet.eq(1),
            control.progress.eq((self.dispatcher.event_start | self.dispatcher.event_done).any()),
        ]
        return m


class Host:
    def __init__(self, ctx, bus):
        self.ctx, self.bus = ctx, bus

    async def write(self, address, value):
        ctx, bus = self.ctx, self.bus
        for name, field in (("awaddr", address), ("wdata", value), ("wstrb", 15),
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


@pytest.mark.parametrize("faults", [0, -1, 1.0, True, None])
def test_faults_wrong(faults):
    with pytest.raises(ValueError, match=rf"^Faults must be a positive integer, not {faults!r}$"):
        ControlPort(CONFIG, faults=faults)
