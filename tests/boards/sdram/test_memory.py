"""The whole memory at a model of its chip, which looks at every rule of the datasheet."""

# amaranth: UnusedElaboratable=no
import random
from dataclasses import replace

import pytest
from sdram_model import ModelChip, connect_chip
from stream_bench import make_simulator, random_stall

from weft.boards.sdram.chip import M12L64322A_UNMASKED, MT48LC16M16_CLASS, SdramTiming
from weft.boards.sdram.memory import SdramMemory
from weft.hw.bus.axi import BURST_INCR, Response

# Rows are short, so that they end often; the start is.
SMALL = {"row_bits": 6, "column_bits": 6, "startup_us": 1, "refresh_ms": 0.4}
CHIP = replace(MT48LC16M16_CLASS, **SMALL)
WIDE = replace(M12L64322A_UNMASKED, **SMALL)
CLOCK_MHZ = 100


def make(model, *, data_width=64, chip=CHIP, addr_width=20):
    dut = SdramMemory(SdramTiming(chip, CLOCK_MHZ), data_width=data_width, addr_width=addr_width,
                      id_width=2)
    simulator = make_simulator(dut)
    attached = ModelChip(model, chip, clock_mhz=CLOCK_MHZ, beat_bits=data_width)
    connect_chip(simulator, attached, dut.chip)
    return dut, simulator, attached


class Master:
    """Bursts on the AXI port, checked against what the memory should hold."""

    def __init__(self, ctx, axi, *, stall=0.0, seed=0):
        self.ctx, self.axi, self.stall = ctx, axi, stall
        self.rng = random.Random(seed)
        self.lanes = len(axi.wdata) // 8

    async def address(self, channel, address, count, identity, **fields):
        fields = {"addr": address, "len": count - 1, "burst": BURST_INCR, "id": identity,
                  "size": self.lanes.bit_length() - 1, "valid": 1, **fields}
        for name, value in fields.items():
            self.ctx.set(getattr(self.axi, channel + name), value)
        ready = 0
        while not ready:
            _clk, _rst, ready = await self.ctx.tick().sample(getattr(self.axi, channel + "ready"))
        self.ctx.set(getattr(self.axi, channel + "valid"), 0)

    async def beats_out(self, data, strobes):
        for number, strobe in enumerate(strobes):
            await random_stall(self.ctx, self.rng, self.stall)
            self.ctx.set(self.axi.wdata, int.from_bytes(
                data[number * self.lanes:(number + 1) * self.lanes], "little"))
            self.ctx.set(self.axi.wstrb, strobe)
            self.ctx.set(self.axi.wlast, number == len(strobes) - 1)
            self.ctx.set(self.axi.wvalid, 1)
            ready = 0
            while not ready:
                _clk, _rst, ready = await self.ctx.tick().sample(self.axi.wready)
            self.ctx.set(self.axi.wvalid, 0)

    async def response(self):
        await random_stall(self.ctx, self.rng, self.stall)
        self.ctx.set(self.axi.bready, 1)
        valid = 0
        while not valid:
            _clk, _rst, valid, *answer = await self.ctx.tick().sample(
                self.axi.bvalid, self.axi.bresp, self.axi.bid)
        self.ctx.set(self.axi.bready, 0)
        return tuple(answer)

    async def beats_in(self, count, identity, response=Response.OKAY):
        data = b""
        for number in range(count):
            await random_stall(self.ctx, self.rng, self.stall)
            self.ctx.set(self.axi.rready, 1)
            valid = 0
            while not valid:
                _clk, _rst, valid, value, *about = await self.ctx.tick().sample(
                    self.axi.rvalid, self.axi.rdata, self.axi.rlast, self.axi.rid, self.axi.rresp)
            self.ctx.set(self.axi.rready, 0)
            assert about == [number == count - 1, identity, response]
            data += value.to_bytes(self.lanes, "little")
        return data


async def put_byte(ctx, port, address, byte):
    ctx.set(port.write, 1)
    ctx.set(port.write_address, address)
    ctx.set(port.write_data, byte)
    await ctx.tick()
    ctx.set(port.write, 0)
    await ctx.tick().repeat(39)


async def get_byte(ctx, port, address):
    ctx.set(port.read, 1)
    ctx.set(port.read_address, address)
    ready = 0
    while not ready:
        _clk, _rst, ready = await ctx.tick().sample(port.read_ready)
    ctx.set(port.read, 0)
    await ctx.tick().repeat(3)
    return ctx.get(port.read_data)


@pytest.mark.parametrize("part, data_width, stall", [
    (CHIP, 32, 0.3), (CHIP, 64, 0.0), (CHIP, 64, 0.5), (CHIP, 128, 0.2), (WIDE, 64, 0.0),
    (WIDE, 64, 0.5), (WIDE, 128, 0.2)])
def test_bursts_and_bytes_at_once(model, part, data_width, stall):
    """Reads, writes and byte accesses run beside each other, each at bytes of its own."""
    dut, simulator, chip = make(model, data_width=data_width, chip=part)
    size, lanes, whole = part.size, data_width // 8, not part.byte_masks
    rng = random.Random(f"{data_width} {stall}")
    quarter = size // 4
    memory = bytearray(chip.read(0, size))
    done = []

    def bursts(base, count):
        return [(base + lanes * rng.randrange(quarter // lanes - 40),
                 rng.choice([1, 2, 5, 8, 16, 40])) for _ in range(count)]

    async def writing(ctx):
        master = Master(ctx, dut.axi, stall=stall, seed=1)
        for number, (address, count) in enumerate(bursts(0, 12)):
            data = rng.randbytes(count * lanes)
            strobes = [(1 << lanes) - 1 if whole else rng.getrandbits(lanes) for _ in range(count)]
            await master.address("aw", address, count, number & 3)
            await master.beats_out(data, strobes)
            for offset, byte in enumerate(data):
                if strobes[offset // lanes] >> offset % lanes & 1:
                    memory[address + offset] = byte
            assert await master.response() == (Response.OKAY, number & 3)
        done.append("writes")

    async def reading(ctx):
        master = Master(ctx, dut.axi, stall=stall, seed=2)
        for number, (address, count) in enumerate(bursts(quarter, 12)):
            await master.address("ar", address, count, number & 3)
            assert await master.beats_in(count, number & 3) == \
                memory[address:address + count * lanes]
        done.append("reads")

    async def host(ctx):
        await ctx.tick().until(dut.ready)
        places = rng.sample(range(2 * quarter, 3 * quarter), 20)
        # One behind the other, as they mostly are.
        places += range(places[0], places[0] + 2 * lanes)
        for address in places:
            memory[address] = rng.randrange(256)
            await put_byte(ctx, dut.bytes, address, memory[address])
        for address in places:
            assert await get_byte(ctx, dut.bytes, address) == memory[address]
        done.append("bytes")

    async def ending(ctx):
        await ctx.tick().until(dut.ready)
        while len(done) < 3:
            await ctx.tick().repeat(100)  # what is acknowledged may be on its way

    for testbench in (writing, reading, host, ending):
        simulator.add_testbench(testbench)
    simulator.run()
    assert sorted(done) == ["bytes", "reads", "writes"]
    assert chip.read(0, size) == memory


def test_what_is_acknowledged_is_read(model):
    dut, simulator, _chip = make(model)
    rng = random.Random(1)

    async def testbench(ctx):
        master = Master(ctx, dut.axi)
        for _ in range(8):
            address, count = 8 * rng.randrange(256), rng.randrange(1, 20)
            data = rng.randbytes(8 * count)
            await master.address("aw", address, count, 1)
            await master.beats_out(data, [0xff] * count)
            assert await master.response() == (Response.OKAY, 1)
            await master.address("ar", address, count, 2)
            assert await master.beats_in(count, 2) == data

    simulator.add_testbench(testbench)
    simulator.run()


@pytest.mark.parametrize("part", [CHIP, WIDE])
def test_bursts_outside_are_refused(model, part):
    dut, simulator, chip = make(model, chip=part)
    before = chip.read(0, part.size)

    async def testbench(ctx):
        master = Master(ctx, dut.axi)
        for fields, response in (({}, Response.DECERR), ({"size": 1}, Response.SLVERR),
                                 ({"burst": 0}, Response.SLVERR)):
            address = 0 if fields else part.size
            await master.address("aw", address, 12, 3, **fields)
            await master.beats_out(bytes(96), [0xff] * 12)
            assert await master.response() == (response, 3)
            await master.address("ar", address, 12, 1, **fields)
            await master.beats_in(12, 1, response)
        await master.address("ar", 0, 1, 1)
        assert await master.beats_in(1, 1) == before[:8]

    simulator.add_testbench(testbench)
    simulator.run()
    assert chip.read(0, part.size) == before


def share(model, part, *, read, write, beats=64, bursts=4):
    """Of the chip's peak, what bursts get that ask for more than there is; of a real chip, all but
    its start."""
    chip = replace(part, startup_us=1)
    dut, simulator, _chip = make(model, chip=chip, addr_width=32)
    axi = dut.axi
    passed = {"cycles": 0, "beats": 0}

    async def counting(ctx):
        while passed["beats"] < bursts * beats * (read + write):
            _clk, _rst, ready, rvalid, wvalid, wready = await ctx.tick().sample(
                dut.ready, axi.rvalid, axi.wvalid, axi.wready)
            passed["cycles"] += ready
            passed["beats"] += rvalid + (wvalid & wready)

    async def asking(ctx, channel, base):
        master = Master(ctx, axi)
        for number in range(bursts):
            await master.address(channel, base + 8 * beats * number, beats, 0)

    async def reading(ctx):
        await asking(ctx, "ar", 4096)

    async def writing(ctx):
        await asking(ctx, "aw", 1 << 20)

    async def sending(ctx):
        for _ in range(bursts):
            await Master(ctx, axi).beats_out(bytes(8 * beats), [0xff] * beats)

    async def taking(ctx):
        ctx.set(axi.rready, 1)
        ctx.set(axi.bready, 1)

    for wanted, testbenches in ((1, (counting, taking)), (read, (reading,)),
                                (write, (writing, sending))):
        for testbench in testbenches if wanted else ():
            simulator.add_testbench(testbench)
    simulator.run()
    return 64 // chip.data_width * passed["beats"] / passed["cycles"]


@pytest.mark.parametrize("part", [MT48LC16M16_CLASS, M12L64322A_UNMASKED])
@pytest.mark.parametrize("traffic, least", [
    ({"read": 1, "write": 0}, 0.95), ({"read": 0, "write": 1}, 0.95),
    ({"read": 1, "write": 1}, 0.85)])
def test_share_of_the_peak(model, part, traffic, least):
    """Long bursts, row after row, with the refreshes that fall into that time."""
    assert share(model, part, **traffic) > least


def test_latency_is_what_is_stated(model):
    """Single bursts at random rows, far apart: on average the first beat comes as late as said."""
    dut, simulator, _chip = make(model, chip=replace(CHIP, refresh_ms=64))
    axi, found = dut.axi, []
    rng = random.Random(5)

    async def bench(ctx):
        ctx.set(axi.rready, 1)
        await ctx.tick().until(dut.ready)
        for _ in range(60):
            await ctx.tick().repeat(rng.randrange(40, 60))
            await Master(ctx, axi).address("ar", 64 * rng.randrange(CHIP.size // 64), 8, 0)
            cycles, beats = 0, 0
            while beats < 8:
                _clk, _rst, valid = await ctx.tick().sample(axi.rvalid)
                beats += valid
                cycles += not beats
            found.append(cycles)

    simulator.add_testbench(bench)
    simulator.run()
    stated = SdramMemory.latency(SdramTiming(CHIP, CLOCK_MHZ), data_width=64)
    assert max(found) == stated and sum(found) / len(found) > stated - 1
