"""Benches for the control port's Verilog, with cocotbext-axi as the host; run by
``test_control.py``."""

import logging
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge, with_timeout
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from weft.hw.control.port import QUIET_CYCLES, WATCHDOG_CYCLES
from weft.hw.isa.config import PRESETS
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

STALL = 0.4
WRITABLE = {Register.COMMAND_ADDR: 32, Register.COMMAND_ADDRH: 32, Register.COMMAND_COUNT: 32,
            Register.IRQ_ENABLE: 1, Register.WATCHDOG: 32, Register.CYCLE_LIMIT: 32}


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


@cocotb.test()
async def tells_what_it_is_and_reads_zero_elsewhere(dut):
    bench = Bench(dut, seed=1)
    await bench.start()
    expected = {Register.ID: DEVICE_ID, Register.VERSION: VERSION, Register.STATUS: Status.QUIET,
                Register.WATCHDOG: WATCHDOG_CYCLES}
    expected |= {CONFIG_BASE + 4 * n: word
                 for n, word in enumerate(config_words(PRESETS["tiny"]).values())}
    for address in [*range(0, 0x40, 4), *range(0x100, 0x140, 4), *range(0x1f8, 0x260, 4), 0x7fc,
                    0x400, 0x800, 0xffc]:
        assert await bench.read(address) == expected.get(address, 0), f"{address:#x}"


@cocotb.test()
async def writes_only_the_bytes_that_are_strobed(dut):
    bench = Bench(dut, seed=2)
    await bench.start()
    held = dict.fromkeys(WRITABLE, 0) | {Register.WATCHDOG: WATCHDOG_CYCLES}
    # A write to any other register but CONTROL must change nothing.
    targets = [*WRITABLE] * 3 + [Register.ID, Register.STATUS, Register.ERROR, Register.COMPLETED,
                                 COUNTER_BASE, CONFIG_BASE, 0x38, 0x418]
    for _ in range(120):
        target = bench.rng.choice(targets)
        offset = bench.rng.randrange(4)
        size   = bench.rng.randint(1, 4 - offset)
        value  = bench.rng.getrandbits(32)
        await bench.write(target, value, offset=offset, size=size)
        if target in WRITABLE:
            mask = (1 << 8 * size) - 1 << 8 * offset
            bits = (1 << WRITABLE[target]) - 1
            held[target] = (held[target] & ~mask | value & mask) & bits
        probe = bench.rng.choice([*WRITABLE])
        assert await bench.read(probe) == held[probe]
    for register, value in held.items():
        assert await bench.read(register) == value
    assert dut.core_address.value == (held[Register.COMMAND_ADDRH] << 32
                                      | held[Register.COMMAND_ADDR])
    assert bench.starts == []


@cocotb.test()
async def takes_address_and_data_of_a_write_in_either_order(dut):
    bench = Bench(dut, seed=3, stalls=False)
    await bench.start()
    for late in ("aw", "w"):
        bench.channels[late].pause = True
        task = cocotb.start_soon(bench.write(Register.COMMAND_COUNT, 0x1234))
        await ClockCycles(dut.clk, 10)
        assert not task.done() and dut.core_count.value != 0x1234
        bench.channels[late].pause = False
        await task
        assert dut.core_count.value == 0x1234
        await bench.write(Register.COMMAND_COUNT, 0)


@cocotb.test()
async def holds_responses_until_they_are_taken(dut):
    bench = Bench(dut, seed=4, stalls=False)
    await bench.start()
    bench.channels["b"].pause = bench.channels["r"].pause = True
    writes = [cocotb.start_soon(bench.write(Register.COMMAND_ADDR, n)) for n in range(1, 5)]
    reads  = [cocotb.start_soon(bench.read(address)) for address in (0x00, 0x04, 0x14, 0x00)]
    await ClockCycles(dut.clk, 30)
    assert dut.s_axi_bvalid.value == 1 and dut.s_axi_rvalid.value == 1
    assert dut.core_address.value == 1  # the second write waits for the response of the first
    bench.channels["b"].pause = bench.channels["r"].pause = False
    assert [await task for task in reads] == [DEVICE_ID, VERSION, 0, DEVICE_ID]
    for task in writes:
        await task
    assert dut.core_address.value == 4


@cocotb.test()
async def runs_a_stream_from_doorbell_to_interrupt(dut):
    bench = Bench(dut, seed=5)
    await bench.start()
    await bench.write(Register.IRQ_ENABLE, 1)
    for address, count in ((0x1_2345_6780, 3), (0x40, 1), (0xffff_ffff_ffff_ffc0, 65535)):
        await bench.doorbell(count, address)
        assert bench.starts.pop() == (address, count) and not bench.starts
        # Registers for the next stream may be written already; the doorbell is ignored.
        await bench.doorbell(7, 0)
        assert bench.starts == []
        assert await bench.status() == Status.BUSY | Status.QUIET
        assert dut.irq.value == 0
        await bench.complete(count)
        assert dut.irq.value == 1
        assert await bench.status() == Status.DONE | Status.QUIET
        assert await bench.read(Register.COMPLETED) == count
        await bench.write(Register.IRQ_CLEAR, 1)
        await ClockCycles(dut.clk, 2)
        assert dut.irq.value == 0
        assert await bench.status() == Status.QUIET


@cocotb.test()
async def is_done_only_when_all_is_counted_and_idle(dut):
    bench = Bench(dut, seed=6)
    await bench.start()
    await bench.cycle(completed=2)  # of a stream before
    await bench.doorbell(2)
    await ClockCycles(dut.clk, 5)
    assert await bench.status() & Status.BUSY
    await bench.cycle(idle=0, completed=2)
    await ClockCycles(dut.clk, 10)
    assert await bench.status() & Status.BUSY
    await bench.cycle(idle=1, completed=1)
    await ClockCycles(dut.clk, 10)
    assert await bench.status() & Status.BUSY
    await bench.cycle(completed=2)
    await ClockCycles(dut.clk, 3)
    assert await bench.status() == Status.DONE | Status.QUIET


@cocotb.test()
async def a_stream_of_no_commands_is_not_done(dut):
    bench = Bench(dut, seed=7)
    await bench.start()
    await bench.doorbell(0)
    assert await bench.status() & Status.BUSY
    await bench.fault(Error.ARGUMENT, 0)
    assert await bench.status() == Status.ERROR | Status.QUIET
    assert await bench.read(Register.ERROR) == Error.ARGUMENT


@cocotb.test()
async def the_interrupt_waits_for_its_enable_and_its_acknowledgement(dut):
    bench = Bench(dut, seed=8)
    await bench.start()
    await bench.doorbell(1)
    await bench.complete(1)
    assert dut.irq.value == 0
    await bench.write(Register.IRQ_CLEAR, 0)
    await bench.write(Register.IRQ_CLEAR, 1, offset=1, size=3)  # not the byte with bit 0
    await bench.write(Register.IRQ_ENABLE, 1)
    await ClockCycles(dut.clk, 2)
    assert dut.irq.value == 1
    await bench.doorbell(1)  # a new stream acknowledges the last one
    await ClockCycles(dut.clk, 2)
    assert dut.irq.value == 0
    assert await bench.status() == Status.BUSY | Status.QUIET


@cocotb.test()
async def counts_from_doorbell_to_interrupt_and_then_freezes(dut):
    bench = Bench(dut, seed=9)
    await bench.start()
    for length in (40, 7):
        expected = dict.fromkeys(Counter, 0)
        running  = False
        ending   = False  # the end is seen a cycle later

        async def drive(expected=expected):
            nonlocal running, ending
            while True:
                bits = bench.rng.getrandbits(len(COUNTED))
                await bench.cycle(count_up=bits)
                # `count_up` is sampled now; the registers still show the cycle that ends.
                if dut.core_start.value == 1:
                    running = True
                if running:
                    expected[Counter.CYCLES] += 1
                    for n, counter in enumerate(COUNTED):
                        expected[counter] += bits >> n & 1
                if ending:
                    running = ending = False
                elif running and dut.core_completed.value == 1 and dut.core_start.value == 0:
                    ending = True

        task = cocotb.start_soon(drive())
        await bench.doorbell(1)
        await ClockCycles(dut.clk, length)
        dut.core_completed.value = 1
        await ClockCycles(dut.clk, 20)
        task.cancel()
        assert expected[Counter.CYCLES] >= length
        for counter, value in expected.items():
            assert await bench.read(COUNTER_BASE + 4 * counter) == value, counter.name


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
