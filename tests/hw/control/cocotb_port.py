"""Registers, streams, interrupt and counters of the control port's Verilog, with cocotbext-axi as
the host; run by ``test_port.py``."""

import cocotb
from cocotb.triggers import ClockCycles
from port_host import Bench

from weft.hw.control.port import WATCHDOG_CYCLES
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import (
    CONFIG_BASE,
    COUNTER_BASE,
    DEVICE_ID,
    VERSION,
    Counter,
    Error,
    Register,
    Status,
    config_words,
)
from weft.hw.lib.cycle_accounting import COUNTED

WRITABLE = {Register.COMMAND_ADDR: 32, Register.COMMAND_ADDRH: 32, Register.COMMAND_COUNT: 32,
            Register.IRQ_ENABLE: 1, Register.WATCHDOG: 32, Register.CYCLE_LIMIT: 32}


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
