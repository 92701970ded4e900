"""Benches for the reader's Verilog, with cocotbext-axi's memory; run by ``test_dma_read.py``."""

import logging
import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge, with_timeout
from cocotbext.axi import AxiRamRead, AxiReadBus

DATA_BYTES = int(os.environ["DATA_BYTES"])
BURST_BEATS = int(os.environ["BURST_BEATS"])
OUTSTANDING = int(os.environ["OUTSTANDING"])
SIZE = 1 << 16


class Bench:
    def __init__(self, dut, seed=1, stall=0.0):
        self.dut, self.stall = dut, stall
        self.rng = random.Random(seed)
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
        self.ram = AxiRamRead(AxiReadBus.from_prefix(dut, "read_axi"), dut.clk, dut.rst, size=SIZE)
        self.image = self.rng.randbytes(SIZE)
        self.ram.write(0, self.image)
        if stall:
            self.ram.ar_channel.set_pause_generator(self.pauses(seed + 1))
            self.ram.r_channel.set_pause_generator(self.pauses(seed + 2))
        self.bursts = []   # (address, beats) as seen on the bus
        self.errors = 0

    def pauses(self, seed):
        rng = random.Random(seed)
        while True:
            yield rng.random() < self.stall

    async def start(self):
        dut = self.dut
        cocotb.start_soon(Clock(dut.clk, 10, "ns").start())
        for signal in (dut.read_requests_valid, dut.read_requests_payload, dut.read_o_ready,
                       dut.read_halt):
            signal.value = 0
        dut.rst.value = 1
        await ClockCycles(dut.clk, 4)
        dut.rst.value = 0
        await ClockCycles(dut.clk, 2)
        cocotb.start_soon(self.watch())

    async def watch(self):
        """Checks what AXI and the reader's contract say of the address channel."""
        dut = self.dut
        held = None
        while True:
            await FallingEdge(dut.clk)
            self.errors += int(dut.read_error.value)
            now = (int(dut.read_axi_araddr.value), int(dut.read_axi_arlen.value))
            assert dut.read_axi_rready.value == 1
            assert dut.read_o_valid.value == 1 or dut.read_o_error.value == 0
            if held is not None:
                assert dut.read_axi_arvalid.value == 1 and now == held, "the address was taken back"
            held = None
            if dut.read_axi_arvalid.value == 1:
                held = None if dut.read_axi_arready.value == 1 else now
            if dut.read_axi_arvalid.value == 1 and held is None:
                address, beats = now[0], now[1] + 1
                assert dut.read_axi_arburst.value == 1
                assert 1 << int(dut.read_axi_arsize.value) == DATA_BYTES
                assert beats <= BURST_BEATS
                assert address // 4096 == (address + beats * DATA_BYTES - 1) // 4096
                self.bursts.append((address, beats))

    async def request(self, address, beats):
        dut = self.dut
        dut.read_requests_payload.value = address | beats << len(dut.read_axi_araddr)
        dut.read_requests_valid.value = 1
        while True:
            await FallingEdge(dut.clk)
            ready = dut.read_requests_ready.value == 1
            await RisingEdge(dut.clk)
            if ready:
                break
        dut.read_requests_valid.value = 0

    async def take(self, count):
        """``count`` beats as one string of bytes, and which of them had an error."""
        dut = self.dut
        raw, bad = b"", []
        while count:
            dut.read_o_ready.value = self.rng.random() >= self.stall
            await FallingEdge(dut.clk)
            if dut.read_o_valid.value == 1 and dut.read_o_ready.value == 1:
                raw += int(dut.read_o_payload.value).to_bytes(DATA_BYTES, "little")
                bad.append(dut.read_o_error.value == 1)
                count -= 1
            await RisingEdge(dut.clk)
        dut.read_o_ready.value = 0
        return raw, bad

    async def read(self, runs):
        """Asks for all runs at once and checks the data of each."""
        async def ask():
            for address, beats in runs:
                await self.request(address, beats)
        cocotb.start_soon(ask())
        for address, beats in runs:
            raw, _ = await with_timeout(self.take(beats), 1, "ms")
            assert raw == self.image[address:address + beats * DATA_BYTES]
        await ClockCycles(self.dut.clk, 3)
        assert self.dut.read_idle.value == 1


def random_runs(rng, count, longest):
    runs = []
    for _ in range(count):
        beats = rng.randint(1, longest)
        runs.append((rng.randrange(SIZE // DATA_BYTES - beats) * DATA_BYTES, beats))
    return runs


@cocotb.test()
async def reads_runs_in_order_under_random_stalls(dut):
    bench = Bench(dut, seed=5, stall=0.3)
    await bench.start()
    await bench.read(random_runs(random.Random(6), 12, 60))


@cocotb.test()
async def ends_bursts_at_4_kib(dut):
    bench = Bench(dut, seed=7)
    await bench.start()
    before = 3
    beats = BURST_BEATS + 10
    await bench.read([(4096 - before * DATA_BYTES, beats)])
    assert bench.bursts == [(4096 - before * DATA_BYTES, before), (4096, BURST_BEATS),
                            (4096 + BURST_BEATS * DATA_BYTES, beats - before - BURST_BEATS)]


@cocotb.test()
async def keeps_several_bursts_in_flight_and_no_more(dut):
    bench = Bench(dut, seed=8)
    await bench.start()
    bench.ram.r_channel.pause = True
    await bench.request(0, BURST_BEATS * (OUTSTANDING + 3))
    await ClockCycles(dut.clk, 60)
    # The model takes fewer addresses than that; the last one waits on the bus.
    assert len(bench.bursts) + int(dut.read_axi_arvalid.value) == OUTSTANDING
    bench.ram.r_channel.pause = False
    # Nothing is taken yet: all that was asked for fits into the buffer, no more is asked for.
    await ClockCycles(dut.clk, 20 * BURST_BEATS)
    assert len(bench.bursts) == OUTSTANDING
    assert dut.read_idle.value == 0
    raw, bad = await with_timeout(bench.take(BURST_BEATS * (OUTSTANDING + 3)), 1, "ms")
    assert raw == bench.image[:len(raw)] and not any(bad)


@cocotb.test()
async def delivers_beats_with_errors_and_says_so(dut):
    bench = Bench(dut, seed=9, stall=0.2)
    await bench.start()

    async def read(address, length):
        if address >= 0x3000:
            raise ValueError("no memory here")  # the model answers SLVERR
        return bench.image[address:address + length]
    bench.ram._read = read
    await bench.request(0x2000, 5)
    await bench.request(0x3000, 4)
    await bench.request(0x2100, 3)
    raw, bad = await with_timeout(bench.take(12), 1, "ms")
    assert bad == [False] * 5 + [True] * 4 + [False] * 3
    assert raw[:5 * DATA_BYTES] == bench.image[0x2000:][:5 * DATA_BYTES]
    assert raw[9 * DATA_BYTES:] == bench.image[0x2100:][:3 * DATA_BYTES]
    assert bench.errors == 4


@cocotb.test()
async def halt_ends_asking_but_not_what_is_in_flight(dut):
    bench = Bench(dut, seed=10)
    await bench.start()
    bench.ram.ar_channel.pause = True
    await bench.request(0, 20 * BURST_BEATS)
    await ClockCycles(dut.clk, 10)
    dut.read_halt.value = 1   # with an address on the bus that is not yet taken
    await ClockCycles(dut.clk, 10)
    assert dut.read_axi_arvalid.value == 1 and dut.read_idle.value == 0
    bench.ram.ar_channel.pause = False
    await ClockCycles(dut.clk, 4 * BURST_BEATS + 20)
    assert bench.bursts == [(0, BURST_BEATS)]
    assert dut.read_idle.value == 1
    dut.read_halt.value = 0
    raw, _ = await with_timeout(bench.take(20 * BURST_BEATS), 1, "ms")
    assert raw == bench.image[:len(raw)]
