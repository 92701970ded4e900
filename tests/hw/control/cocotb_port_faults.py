"""Faults, resets, watchdog and limits of the control port's Verilog, with cocotbext-axi as the
host; run by ``test_port.py``."""

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge
from port_host import Bench

from weft.hw.control.port import QUIET_CYCLES
from weft.hw.isa.registers import COUNTER_BASE, Control, Counter, Error, Register, Status


@cocotb.test()
async def the_first_fault_stops_the_device_until_a_reset(dut):
    bench = Bench(dut, seed=10)
    await bench.start()
    await bench.write(Register.IRQ_ENABLE, 1)
    await bench.write(Register.WATCHDOG, 1000)
    await bench.doorbell(3, 0x1230)
    bench.starts.clear()
    assert dut.core_halt.value == 0
    await bench.fault(Error.READ, 0x8001, port=1)
    await ClockCycles(dut.clk, 3)
    assert dut.core_halt.value == 1
    await bench.fault(Error.OPCODE, 7)  # too late
    assert dut.irq.value == 1
    assert await bench.status() == Status.ERROR | Status.QUIET
    assert await bench.read(Register.ERROR) == Error.READ
    assert await bench.read(Register.ERROR_INDEX) == 0x8001

    # Acknowledged, but still stopped; the doorbell does nothing.
    await bench.write(Register.IRQ_CLEAR, 1)
    await bench.write(Register.CONTROL, Control.START)
    await ClockCycles(dut.clk, 3)
    assert dut.irq.value == 0 and dut.core_halt.value == 1 and bench.starts == []
    assert await bench.status() == Status.ERROR | Status.QUIET

    await bench.reset()
    assert bench.resets == 1 and dut.core_halt.value == 0 and dut.irq.value == 0
    assert await bench.status() == Status.QUIET
    assert await bench.read(Register.ERROR) == Error.NONE
    assert await bench.read(Register.ERROR_INDEX) == 0
    # What the host has set up stays.
    assert await bench.read(Register.COMMAND_ADDR) == 0x1230
    assert await bench.read(Register.COMMAND_COUNT) == 3
    assert await bench.read(Register.IRQ_ENABLE) == 1
    assert await bench.read(Register.WATCHDOG) == 1000
    await bench.doorbell(1)
    await bench.complete(1)
    assert await bench.status() == Status.DONE | Status.QUIET


@cocotb.test()
async def of_faults_in_one_cycle_the_lowest_port_counts(dut):
    bench = Bench(dut, seed=11)
    await bench.start()
    await bench.cycle(faults_0=Error.ADDRESS | 5 << 4, faults_1=Error.WRITE | 6 << 4)
    await bench.cycle(faults_0=0, faults_1=0)
    assert await bench.read(Register.ERROR) == Error.ADDRESS
    assert await bench.read(Register.ERROR_INDEX) == 5


@cocotb.test()
async def a_fault_that_comes_with_the_end_wins(dut):
    bench = Bench(dut, seed=12)
    await bench.start()
    await bench.doorbell(1)
    await bench.cycle(completed=1, faults_1=Error.WRITE | 9 << 4)
    await bench.cycle(faults_1=0)
    assert await bench.status() == Status.ERROR | Status.QUIET
    assert await bench.read(Register.ERROR_INDEX) == 9


@cocotb.test()
async def a_reset_waits_until_the_memory_is_quiet(dut):
    bench = Bench(dut, seed=13)
    await bench.start()
    await bench.cycle(quiet=0)
    await bench.fault(Error.WATCHDOG, 1)
    await bench.write(Register.CONTROL, Control.RESET)
    for _ in range(10):  # never quiet for long enough
        await bench.cycle(quiet=0)
        await ClockCycles(dut.clk, bench.rng.randint(1, 5))
        await bench.cycle(quiet=1)
        await ClockCycles(dut.clk, QUIET_CYCLES - 2)
    await bench.cycle(quiet=0)
    assert await bench.status() == Status.ERROR | Status.BUSY
    assert bench.resets == 0 and dut.core_halt.value == 1
    await bench.cycle(quiet=1)
    await ClockCycles(dut.clk, QUIET_CYCLES + 5)
    assert bench.resets == 1 and dut.core_halt.value == 0
    assert await bench.status() == Status.QUIET


@cocotb.test()
async def a_reset_aborts_a_stream(dut):
    bench = Bench(dut, seed=14)
    await bench.start()
    await bench.doorbell(9)
    await bench.cycle(quiet=0, idle=0)
    await bench.write(Register.CONTROL, Control.RESET | Control.START)
    await ClockCycles(dut.clk, 2)
    assert dut.core_halt.value == 1
    # The doorbell is ignored while the reset waits, and nobody has to wait for it to ask again.
    await bench.doorbell(9)
    assert await bench.status() == Status.BUSY
    await bench.cycle(quiet=1, idle=1)
    await bench.reset()
    assert bench.resets >= 1 and len(bench.starts) == 1
    assert await bench.status() == Status.QUIET


@cocotb.test()
async def the_doorbell_is_ignored_while_a_reset_waits(dut):
    bench = Bench(dut, seed=18)
    await bench.start()
    await bench.cycle(quiet=0)
    await bench.write(Register.CONTROL, Control.RESET | Control.START)
    await bench.doorbell(1)
    assert await bench.status() == Status.BUSY
    await bench.cycle(quiet=1)
    await bench.reset()
    assert bench.starts == []
    assert await bench.status() == Status.QUIET


@cocotb.test()
async def a_reset_outlasts_faults_that_are_held(dut):
    bench = Bench(dut, seed=15)
    await bench.start()
    dut.core_faults_1.value = Error.ARGUMENT | 3 << 4
    await ClockCycles(dut.clk, 3)
    task = cocotb.start_soon(bench.reset())
    while dut.core_reset.value == 0:
        await FallingEdge(dut.clk)
    await ClockCycles(dut.clk, 2)
    dut.core_faults_1.value = 0  # as a register that `core_reset` clears a cycle later
    await task
    assert await bench.status() == Status.QUIET


@cocotb.test()
async def the_watchdog_bites_after_exactly_so_many_cycles_without_progress(dut):
    bench = Bench(dut, seed=16)
    await bench.start()
    for limit in (1, 2, 50):
        # Kept quiet by progress until everything is set up.
        await bench.cycle(progress=1, oldest=0)
        await bench.write(Register.WATCHDOG, limit)
        await bench.doorbell(4)
        await ClockCycles(dut.clk, 2 * limit)
        for _ in range(limit - 1):
            await bench.cycle(progress=0)
        await bench.cycle(progress=1)  # in the last moment
        await bench.cycle(progress=0, oldest=limit)
        for _ in range(3):  # registers in front of the watchdog and behind it
            await FallingEdge(dut.clk)
            assert dut.core_halt.value == 0
        await FallingEdge(dut.clk)
        assert dut.core_halt.value == (1 if limit == 1 else 0)
        for _ in range(limit - 1):
            assert dut.core_halt.value == 0
            await FallingEdge(dut.clk)
        assert dut.core_halt.value == 1
        assert await bench.read(Register.ERROR) == Error.WATCHDOG
        assert await bench.read(Register.ERROR_INDEX) == limit
        await bench.reset()


@cocotb.test()
async def the_watchdog_can_be_off_and_sleeps_while_nothing_runs(dut):
    bench = Bench(dut, seed=17)
    await bench.start()
    await bench.write(Register.WATCHDOG, 20)
    await ClockCycles(dut.clk, 100)
    assert await bench.status() == Status.QUIET
    await bench.write(Register.WATCHDOG, 0)
    await bench.doorbell(4)
    await ClockCycles(dut.clk, 300)
    assert await bench.status() == Status.BUSY | Status.QUIET
    await bench.write(Register.WATCHDOG, 30)  # and back on, in the middle of a stream
    await ClockCycles(dut.clk, 40)
    assert await bench.status() == Status.ERROR | Status.QUIET


@cocotb.test()
async def a_stream_is_ended_after_its_limit_of_cycles_whatever_its_progress(dut):
    bench = Bench(dut, seed=19)
    await bench.start()
    await bench.write(Register.IRQ_ENABLE, 1)
    await bench.cycle(progress=1)
    for limit in (1, 2, 77):
        await bench.write(Register.CYCLE_LIMIT, limit)
        await bench.doorbell(4)
        await bench.cycle(oldest=limit)
        await ClockCycles(dut.clk, 100)
        assert dut.irq.value == 1 and dut.core_halt.value == 1
        assert await bench.status() == Status.ERROR | Status.QUIET
        assert await bench.read(Register.ERROR) == Error.CYCLE_LIMIT
        assert await bench.read(Register.ERROR_INDEX) == limit
        # Counted until the fault has passed its registers.
        assert await bench.read(COUNTER_BASE + 4 * Counter.CYCLES) in range(limit, limit + 5)
        await bench.reset()
        assert await bench.read(Register.CYCLE_LIMIT) == limit


@cocotb.test()
async def a_stream_may_take_its_limit_of_cycles_and_no_more_than_two_others(dut):
    bench = Bench(dut, seed=20, stalls=False)
    await bench.start()
    await bench.write(Register.IRQ_ENABLE, 1)

    async def run(limit, length=40):
        """Whether a run is done that takes the same cycles whatever the limit, and the cycles."""
        await bench.write(Register.CYCLE_LIMIT, limit)
        await bench.doorbell(1)
        await bench.cycle(completed=0)
        await ClockCycles(dut.clk, length)
        await bench.cycle(completed=1)
        while dut.irq.value == 0:
            await ClockCycles(dut.clk, 1)
        status = await bench.status()
        assert status in (Status.DONE | Status.QUIET, Status.ERROR | Status.QUIET)
        cycles = await bench.read(COUNTER_BASE + 4 * Counter.CYCLES)
        await bench.reset()
        return bool(status & Status.DONE), cycles

    done, cycles = await run(0)
    assert done and cycles >= 40
    # Twice: the counter still shows the limit as the next stream begins.
    for _ in range(2):
        assert await run(cycles) == (True, cycles)
    for limit in (cycles - 3, cycles - 10):  # an end in the last moment is not taken back
        assert not (await run(limit))[0]
