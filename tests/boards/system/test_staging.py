# amaranth: UnusedElaboratable=no
import random
import re

import pytest
from stream_bench import make_simulator, random_stall

from weft.boards.system.staging import StagingMemory
from weft.hw.bus.axi import BURST_INCR, Response

SIZE = 4096


def beats(dut, data_width, address, length, burst=BURST_INCR):
    return {"addr": address, "len": length - 1, "burst": burst,
            "size": (data_width // 8).bit_length() - 1}


async def request(ctx, axi, channel, fields, identity):
    for name, value in {**fields, "id": identity, "valid": 1}.items():
        ctx.set(getattr(axi, channel + name), value)
    ready = 0
    while not ready:
        _clk, _rst, ready = await ctx.tick().sample(getattr(axi, channel + "ready"))
    ctx.set(getattr(axi, channel + "valid"), 0)


@pytest.mark.parametrize("single_port", [False, True])
@pytest.mark.parametrize("data_width, stall", [(32, 0.0), (64, 0.4), (128, 0.4)])
def test_bursts_and_bytes_at_once(data_width, stall, single_port):
    """Writes, reads and byte accesses run beside each other, each in a quarter of its own."""
    rng = random.Random(f"{data_width} {stall}")
    lanes = data_width // 8
    dut = StagingMemory(size=SIZE, data_width=data_width, addr_width=20, id_width=3,
                        single_port=single_port)
    axi, single = dut.axi, dut.bytes
    memory = bytearray(SIZE)
    first = rng.randbytes(1024)   # what is read in bursts, in the first quarter
    bursts = [(1024 + lanes * rng.randrange(0, 1024 // lanes - 20), rng.randrange(1, 17))
              for _ in range(12)]
    done = []

    async def bytes_in(ctx, address, data):
        for offset, byte in enumerate(data):
            ctx.set(single.write, 1)
            ctx.set(single.write_address, address + offset)
            ctx.set(single.write_data, byte)
            await ctx.tick()
            ctx.set(single.write, 0)
            await random_stall(ctx, rng, stall)
        await ctx.tick()  # the last one is being written

    async def byte_out(ctx, address):
        ctx.set(single.read, 1)
        ctx.set(single.read_address, address)
        ready = 0
        while not ready:
            _clk, _rst, ready = await ctx.tick().sample(single.read_ready)
        ctx.set(single.read, 0)
        await ctx.tick().repeat(3)
        return ctx.get(single.read_data)

    async def write_bursts(ctx):
        await ctx.tick().until(dut.bytes.write)
        for number, (address, count) in enumerate(bursts):
            await request(ctx, axi, "aw", beats(dut, data_width, address, count), number & 7)
            for beat in range(count):
                data, strobe = rng.randbytes(lanes), rng.getrandbits(lanes)
                await random_stall(ctx, rng, stall)
                ctx.set(axi.wdata, int.from_bytes(data, "little"))
                ctx.set(axi.wstrb, strobe)
                ctx.set(axi.wlast, beat == count - 1)
                ctx.set(axi.wvalid, 1)
                ready = 0
                while not ready:
                    _clk, _rst, ready = await ctx.tick().sample(axi.wready)
                ctx.set(axi.wvalid, 0)
                for lane in range(lanes):
                    if strobe >> lane & 1:
                        memory[address + beat * lanes + lane] = data[lane]
            await random_stall(ctx, rng, stall)
            ctx.set(axi.bready, 1)
            valid = 0
            while not valid:
                _clk, _rst, valid, response, identity = await ctx.tick().sample(
                    axi.bvalid, axi.bresp, axi.bid)
            ctx.set(axi.bready, 0)
            assert (response, identity) == (Response.OKAY, number & 7)
        done.append("write")

    async def read_burst(ctx, address, count, identity):
        await request(ctx, axi, "ar", beats(dut, data_width, address, count), identity)
        data = b""
        for beat in range(count):
            await random_stall(ctx, rng, stall)
            ctx.set(axi.rready, 1)
            valid = 0
            while not valid:
                _clk, _rst, valid, value, last, got = await ctx.tick().sample(
                    axi.rvalid, axi.rdata, axi.rlast, axi.rid)
            ctx.set(axi.rready, 0)
            assert (last, got) == (beat == count - 1, identity)
            data += value.to_bytes(lanes, "little")
        return data

    async def host(ctx):
        await bytes_in(ctx, 0, first)
        memory[:1024] = first
        done.append("filled")
        mine = rng.randbytes(200)
        await bytes_in(ctx, 2049, mine)
        memory[2049:2249] = mine
        for address in rng.sample(range(2049, 2249), 60):
            assert await byte_out(ctx, address) == memory[address]
        done.append("bytes")

    async def read_bursts(ctx):
        while "filled" not in done:
            await ctx.tick()
        for _ in range(12):
            count = rng.randrange(1, 17)
            address = lanes * rng.randrange(0, 1024 // lanes - count)
            assert await read_burst(ctx, address, count, count & 7) \
                == first[address:address + count * lanes]
        while "write" not in done or "bytes" not in done:
            await ctx.tick()
        for address in range(1024, 2048, 16 * lanes):
            assert await read_burst(ctx, address, 16, 0) == memory[address:address + 16 * lanes]
        done.append("read")

    sim = make_simulator(dut)
    for bench in (host, write_bursts, read_bursts):
        sim.add_testbench(bench)
    sim.run()
    assert sorted(done) == ["bytes", "filled", "read", "write"]


def test_moves_a_beat_per_cycle_in_each_direction():
    """From burst to burst, too, and both directions at once."""
    dut = StagingMemory(size=SIZE, data_width=32, addr_width=16)
    axi = dut.axi
    reads, writes = [], []

    async def testbench(ctx):
        for name, value in {**beats(dut, 32, 0, 4), "valid": 1}.items():
            ctx.set(getattr(axi, "ar" + name), value)
            ctx.set(getattr(axi, "aw" + name), value)
        ctx.set(axi.rready, 1)
        ctx.set(axi.bready, 1)
        ctx.set(axi.wvalid, 1)
        for _ in range(40):
            ctx.set(axi.wlast, len(writes) % 4 == 3)
            _clk, _rst, read, write = await ctx.tick().sample(axi.rvalid, axi.wready)
            if read or reads:
                reads.append(read)
            if write or writes:
                writes.append(write)

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()
    assert len(reads) > 30 and all(reads)
    assert len(writes) > 30 and all(writes)


@pytest.mark.parametrize("fields, response", [
    ({"addr": SIZE}, Response.DECERR), ({"addr": 1 << 19}, Response.DECERR),
    ({"burst": 0}, Response.SLVERR), ({"size": 1}, Response.SLVERR)])
def test_bursts_that_it_cannot_serve_are_answered_with_errors(fields, response):
    dut = StagingMemory(size=SIZE, data_width=32, addr_width=20)
    axi = dut.axi

    async def testbench(ctx):
        wrong = beats(dut, 32, 0, 2) | fields
        await request(ctx, axi, "aw", wrong, 1)
        ctx.set(axi.wvalid, 1)
        ctx.set(axi.wdata, 0x12345678)
        ctx.set(axi.wstrb, 15)
        await ctx.tick()
        ctx.set(axi.wlast, 1)
        await ctx.tick()
        ctx.set(axi.wvalid, 0)
        assert ctx.get(axi.bvalid) and ctx.get(axi.bresp) == response
        ctx.set(axi.bready, 1)
        for each, wanted in ((wrong, response), (beats(dut, 32, 0, 2), Response.OKAY)):
            await request(ctx, axi, "ar", each, 0)
            ctx.set(axi.rready, 1)
            for last in (0, 1):
                valid = 0
                while not valid:
                    _clk, _rst, valid, got, data, ends = await ctx.tick().sample(
                        axi.rvalid, axi.rresp, axi.rdata, axi.rlast)
                assert (got, ends) == (wanted, last)
                assert wanted != Response.OKAY or data == 0  # nothing was written

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize("size, addr_width, message", [
    (5000, 16, "Size must be a power of 2 of at least 4096, not 5000"),
    (2048, 16, "Size must be a power of 2 of at least 4096, not 2048"),
    (1 << 17, 16, "Size must be at most 65536 (16 address bits), not 131072")])
def test_size_wrong(size, addr_width, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        StagingMemory(size=size, data_width=32, addr_width=addr_width)
