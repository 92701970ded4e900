"""Benches for the writer's Verilog, with cocotbext-axi's memory; run by ``test_dma_write.py``."""

import logging
import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge, with_timeout
from cocotbext.axi import AxiRamWrite, AxiWriteBus

DATA_BYTES = int(os.environ["DATA_BYTES"])
BURST_BEATS = int(os.environ["BURST_BEATS"])
OUTSTANDING = int(os.environ["OUTSTANDING"])
SIZE = 1 << 16


class Bench:
    def __init__(self, dut, seed=1, stall=0.0):
        self.dut, self.stall = dut, stall
        self.rng = random.Random(seed)
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
        self.ram = AxiRamWrite(AxiWriteBus.from_prefix(dut, "write_axi"), dut.clk, dut.rst,
                               size=SIZE)
        self.image = bytearray(self.rng.randbytes(SIZE))  # what must be in memory
        self.ram.write(0, bytes(self.image))
        if stall:
            for number, channel in enumerate((self.ram.aw_channel, self.ram.w_channel,
                                              self.ram.b_channel)):
                channel.set_pause_generator(self.pauses(seed + number))
        self.bursts = []   # (address, beats) as seen on the bus
        self.acknowledged = 0
        self.errors = self.done = 0

    def pauses(self, seed):
        rng = random.Random(seed)
        while True:
            yield rng.random() < self.stall

    async def start(self):
        dut = self.dut
        cocotb.start_soon(Clock(dut.clk, 10, "ns").start())
        for signal in (dut.write_requests_valid, dut.write_requests_payload, dut.write_i_valid,
                       dut.write_i_payload, dut.write_halt):
            signal.value = 0
        dut.rst.value = 1
        await ClockCycles(dut.clk, 4)
        dut.rst.value = 0
        await ClockCycles(dut.clk, 2)
        cocotb.start_soon(self.watch())

    async def watch(self):
        """Checks what AXI and the writer's contract say of the channels."""
        dut = self.dut
        held_address = held_data = None
        announced, sent = [], 0  # beats of each burst; beats sent of the first
        while True:
            await FallingEdge(dut.clk)
            self.errors += int(dut.write_error.value)
            self.done += int(dut.write_done.value)
            assert dut.write_axi_bready.value == 1
            if dut.write_axi_bvalid.value == 1:
                self.acknowledged += 1

            now = (int(dut.write_axi_awaddr.value), int(dut.write_axi_awlen.value))
            valid = dut.write_axi_awvalid.value == 1
            if held_address is not None:
                assert valid and now == held_address, "the address was taken back"
            elif valid:
                announced.append(now[1] + 1)
            held_address = now if valid and dut.write_axi_awready.value != 1 else None
            if valid and held_address is None:
                address, beats = now[0], now[1] + 1
                assert dut.write_axi_awburst.value == 1
                assert 1 << int(dut.write_axi_awsize.value) == DATA_BYTES
                assert beats <= BURST_BEATS
                assert address // 4096 == (address + beats * DATA_BYTES - 1) // 4096
                self.bursts.append((address, beats))

            now = (int(dut.write_axi_wdata.value), int(dut.write_axi_wstrb.value),
                   int(dut.write_axi_wlast.value))
            valid = dut.write_axi_wvalid.value == 1
            assert held_data is None or (valid and now == held_data), "a beat was taken back"
            held_data = now if valid and dut.write_axi_wready.value != 1 else None
            assert valid or not sent, "a burst waits for data"
            if valid and held_data is None:
                assert announced, "data without an address"
                sent += 1
                assert now[2] == (sent == announced[0])
                if now[2]:
                    announced.pop(0)
                    sent = 0

    async def _put(self, valid, payload, ready, value):
        while self.rng.random() < self.stall:
            await RisingEdge(self.dut.clk)
        payload.value = value
        valid.value = 1
        taken = False
        while not taken:
            await FallingEdge(self.dut.clk)
            taken = ready.value == 1
            await RisingEdge(self.dut.clk)
        valid.value = 0

    async def request(self, address, beats):
        dut = self.dut
        await self._put(dut.write_requests_valid, dut.write_requests_payload,
                        dut.write_requests_ready, address | beats << len(dut.write_axi_awaddr))

    async def beats(self, address, beats):
        """Sends random beats with random strobes and remembers what they do to ``address``."""
        dut = self.dut
        for number in range(beats):
            raw, strobes = self.rng.randbytes(DATA_BYTES), self.rng.getrandbits(DATA_BYTES)
            for byte in range(DATA_BYTES):
                if strobes >> byte & 1:
                    self.image[address + number * DATA_BYTES + byte] = raw[byte]
            await self._put(dut.write_i_valid, dut.write_i_payload, dut.write_i_ready,
                            int.from_bytes(raw, "little") | strobes << 8 * DATA_BYTES)

    async def until_done(self, count):
        while self.done < count:
            await RisingEdge(self.dut.clk)

    async def write(self, runs):
        """Writes all runs and checks the whole memory."""
        async def ask():
            for address, beats in runs:
                await self.request(address, beats)
        cocotb.start_soon(ask())
        for address, beats in runs:
            await with_timeout(self.beats(address, beats), 1, "ms")
        await with_timeout(self.until_done(len(runs)), 1, "ms")
        assert self.ram.read(0, SIZE) == bytes(self.image)
        await ClockCycles(self.dut.clk, 3)
        assert self.done == len(runs) and self.errors == 0
        assert self.dut.write_idle.value == 1


def random_runs(rng, count, longest):
    runs = []
    for _ in range(count):
        beats = rng.randint(1, longest)
        runs.append((rng.randrange(SIZE // DATA_BYTES - beats) * DATA_BYTES, beats))
    return runs


@cocotb.test()
async def writes_runs_in_order_under_random_stalls(dut):
    bench = Bench(dut, seed=5, stall=0.3)
    await bench.start()
    await bench.write(random_runs(random.Random(6), 12, 60))


@cocotb.test()
async def ends_bursts_at_4_kib(dut):
    bench = Bench(dut, seed=7)
    await bench.start()
    before = 3
    beats = BURST_BEATS + 10
    await bench.write([(4096 - before * DATA_BYTES, beats)])
    assert bench.bursts == [(4096 - before * DATA_BYTES, before), (4096, BURST_BEATS),
                            (4096 + BURST_BEATS * DATA_BYTES, beats - before - BURST_BEATS)]


@cocotb.test()
async def announces_a_burst_only_with_all_its_data(dut):
    bench = Bench(dut, seed=8)
    await bench.start()
    await bench.request(0, BURST_BEATS)
    await bench.beats(0, BURST_BEATS - 1)
    await ClockCycles(dut.clk, 20)
    assert dut.write_axi_awvalid.value == 0 and dut.write_axi_wvalid.value == 0 and not bench.bursts
    assert dut.write_idle.value == 0
    await bench.beats(BURST_BEATS * DATA_BYTES - DATA_BYTES, 1)
    await with_timeout(bench.until_done(1), 1, "ms")
    assert bench.ram.read(0, SIZE) == bytes(bench.image)


@cocotb.test()
async def keeps_no_more_bursts_in_flight_than_it_may(dut):
    bench = Bench(dut, seed=9)
    await bench.start()
    bench.ram.b_channel.pause = True
    runs = OUTSTANDING + 2
    cocotb.start_soon(bench.beats(0, runs))

    async def ask():
        for number in range(runs):
            await bench.request(number * DATA_BYTES, 1)
    cocotb.start_soon(ask())
    await ClockCycles(dut.clk, 100)
    assert len(bench.bursts) + int(dut.write_axi_awvalid.value) == OUTSTANDING
    assert bench.done == 0
    bench.ram.b_channel.pause = False
    await with_timeout(bench.until_done(runs), 1, "ms")
    assert bench.ram.read(0, SIZE) == bytes(bench.image)


@cocotb.test()
async def reports_an_error_at_the_latest_with_done(dut):
    bench = Bench(dut, seed=10, stall=0.2)
    await bench.start()
    original = bench.ram._write

    async def write(address, raw):
        if 0x3000 <= address < 0x3000 + DATA_BYTES:
            raise ValueError("no memory here")  # the model answers SLVERR
        await original(address, raw)
    bench.ram._write = write

    errors_at_done = []

    async def watch_done():
        seen = 0
        while True:
            await FallingEdge(dut.clk)
            seen += int(dut.write_error.value)
            if dut.write_done.value == 1:
                errors_at_done.append(seen)
    cocotb.start_soon(watch_done())
    runs = [(0x2000, 5), (0x3000, BURST_BEATS + 1), (0x2100, 3)]

    async def ask():
        for address, beats in runs:
            await bench.request(address, beats)
    cocotb.start_soon(ask())
    for _ in range(sum(beats for _, beats in runs)):
        await bench._put(dut.write_i_valid, dut.write_i_payload, dut.write_i_ready,
                         (1 << 9 * DATA_BYTES) - 1)
    await with_timeout(bench.until_done(3), 1, "ms")
    assert errors_at_done == [0, 1, 1]


@cocotb.test()
async def halt_ends_announcing_but_not_what_is_announced(dut):
    bench = Bench(dut, seed=11)
    await bench.start()
    bench.ram.aw_channel.pause = True
    cocotb.start_soon(bench.beats(0, 4 * BURST_BEATS))
    await bench.request(0, 4 * BURST_BEATS)
    await ClockCycles(dut.clk, 2 * BURST_BEATS + 10)
    dut.write_halt.value = 1   # with an address on the bus that is not yet taken
    await ClockCycles(dut.clk, 10)
    assert dut.write_axi_awvalid.value == 1 and dut.write_idle.value == 0
    bench.ram.aw_channel.pause = False
    await ClockCycles(dut.clk, 4 * BURST_BEATS + 20)
    assert bench.bursts == [(0, BURST_BEATS)]
    assert dut.write_idle.value == 1 and bench.done == 0
    dut.write_halt.value = 0
    await with_timeout(bench.until_done(1), 1, "ms")
    assert bench.ram.read(0, SIZE) == bytes(bench.image)
