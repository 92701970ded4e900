import random

import pytest
from amaranth.hdl import Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped
from stream_bench import make_simulator, stream_get, stream_put

from weft.hw.bus.axi import Response, id_width
from weft.hw.bus.dma_read import ReadEngine
from weft.hw.bus.read_arbiter import ReadArbiter

ADDRESS = ("arid", "araddr", "arlen", "arsize", "arburst")
DATA = ("rid", "rdata", "rresp", "rlast")


def random_fields(rng, port, names):
    return {name: rng.randrange(1 << len(Value.cast(getattr(port, name)))) for name in names}


def put(ctx, port, fields):
    for name, value in fields.items():
        ctx.set(Value.cast(getattr(port, name)), value)


def get(ctx, port, names):
    return {name: ctx.get(Value.cast(getattr(port, name))) for name in names}


@pytest.mark.parametrize("readers, width", [(1, 1), (2, 1), (3, 2), (5, 3)])
def test_identifiers_are_wide_enough(readers, width):
    dut = ReadArbiter(data_width=32, addr_width=16, readers=readers)
    assert len(dut.readers) == readers
    assert len(dut.axi.arid) == len(dut.axi.rid) == len(dut.readers[0].rid) == width


class Turns:
    """A model of who has the bus: who has it keeps it; else the first reader goes first, and the
    others take turns."""

    def __init__(self, readers):
        self.holder = None
        self.order = list(range(1, readers))  # who goes first of those that take turns

    def choose(self, asking):
        if self.holder is None:
            self.holder = next((number for number in (0, *self.order) if number in asking), None)
            if self.holder:
                at = self.order.index(self.holder)
                self.order = self.order[at + 1:] + self.order[:at + 1]
        return self.holder


@pytest.mark.parametrize("readers", [1, 2, 3, 5])
@pytest.mark.parametrize("stall", [0, 0.6])
@pytest.mark.parametrize("pause", [(0.7, 0.7), (0.95, 0), (0, 0.5)])
def test_every_address_goes_out_once_and_stays_until_it_is_taken(pause, stall, readers):
    """The pauses are of the first reader and of the others."""
    rng = random.Random(f"{pause} {stall} {readers}")
    dut = ReadArbiter(data_width=64, addr_width=32, readers=readers)
    cycles = 400

    async def testbench(ctx):
        offered = [None] * readers
        taken = [0] * readers
        turns = Turns(readers)
        for _ in range(cycles):
            for number in range(readers):
                if offered[number] is None and rng.random() >= pause[number > 0]:
                    offered[number] = random_fields(rng, dut.axi, ADDRESS)
                    put(ctx, dut.readers[number], offered[number])
                ctx.set(dut.readers[number].arvalid, offered[number] is not None)
            ready = rng.random() >= stall
            ctx.set(dut.axi.arready, ready)
            holder = turns.choose({number for number in range(readers) if offered[number]})
            assert ctx.get(dut.axi.arvalid) == (holder is not None)
            for number in range(readers):
                if offered[number] is not None:
                    assert ctx.get(dut.readers[number].arready) == (ready and number == holder)
            if holder is not None:
                assert get(ctx, dut.axi, ADDRESS) == offered[holder]
                if ready:
                    taken[holder] += 1
                    offered[holder] = turns.holder = None
            await ctx.tick()
        assert all(taken) or 0 in pause
        if len(taken) > 2:  # nobody is preferred
            assert max(taken[1:]) - min(taken[1:]) <= (2 if pause[1] == 0 else 12)

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()


class ReadersOnOnePort(wiring.Component):
    """Read engines, each with the identifier of its number, behind an arbiter."""

    def __init__(self, readers):
        port = {"data_width": 32, "addr_width": 16}
        self.arbiter = ReadArbiter(**port, readers=readers)
        self.engines = [ReadEngine(**port, burst_beats=4, outstanding=2, id=number,
                                   id_width=id_width(readers)) for number in range(readers)]
        super().__init__({"axi": Out(self.arbiter.axi.signature)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.arbiter = self.arbiter
        for number, engine in enumerate(self.engines):
            m.submodules[f"engine_{number}"] = engine
            connect(m, engine.axi, self.arbiter.readers[number])
        connect(m, self.arbiter.axi, flipped(self.axi))
        return m


@pytest.mark.parametrize("readers", [1, 2, 3, 5])
def test_each_read_engine_gets_its_own_beats(readers):
    """The memory serves bursts of different identifiers in any order, and mixes their beats. Each
    word holds its address."""
    rng = random.Random(readers)
    dut = ReadersOnOnePort(readers)
    axi = dut.axi
    runs = [[(rng.randrange(0x3f00) * 4, rng.randint(1, 20)) for _ in range(12)]
            for _ in range(readers)]

    async def memory(ctx):
        bursts = [[] for _ in range(readers)]  # of each identifier: addresses of beats to come
        while True:
            ctx.set(axi.arready, rng.random() < 0.7)
            waiting = [number for number in range(readers) if bursts[number]]
            serves = rng.choice(waiting) if waiting and rng.random() < 0.9 else None
            ctx.set(axi.rvalid, serves is not None)
            if serves is not None:
                address, last = bursts[serves].pop(0)
                put(ctx, axi, {"rid": serves, "rdata": address, "rlast": last})
            _clk, _rst, valid, ready, address, length, number = await ctx.tick().sample(
                axi.arvalid, axi.arready, axi.araddr, axi.arlen, axi.arid)
            if valid and ready:
                bursts[number] += [(address + 4 * n, n == length) for n in range(length + 1)]

    def requests(engine, runs):
        async def bench(ctx):
            for address, beats in runs:
                await stream_put(ctx, engine.requests, {"address": address, "beats": beats})
        return bench

    def beats(engine, runs):
        async def bench(ctx):
            for address, count in runs:
                for number in range(count):
                    assert await stream_get(ctx, engine.o) == address + 4 * number
        return bench

    sim = make_simulator(dut)
    sim.add_testbench(memory, background=True)
    for engine, its in zip(dut.engines, runs, strict=True):
        sim.add_testbench(requests(engine, its))
        sim.add_testbench(beats(engine, its))
    sim.run()


@pytest.mark.parametrize("readers", [0, -1, 2.0, True, None])
def test_readers_wrong(readers):
    with pytest.raises(ValueError, match=rf"^Readers must be a positive integer, not {readers!r}$"):
        ReadArbiter(data_width=32, addr_width=16, readers=readers)


def test_the_second_reader_keeps_the_bus_although_the_first_comes():
    dut = ReadArbiter(data_width=32, addr_width=16)

    async def testbench(ctx):
        put(ctx, dut.readers[0], {"araddr": 0x100, "arid": 0})
        put(ctx, dut.readers[1], {"araddr": 0x200, "arid": 1, "arvalid": 1})
        assert ctx.get(dut.axi.araddr) == 0x200
        await ctx.tick()
        ctx.set(dut.readers[0].arvalid, 1)
        for _ in range(3):
            assert (ctx.get(dut.axi.araddr), ctx.get(dut.axi.arid)) == (0x200, 1)
            assert not ctx.get(dut.readers[0].arready)
            await ctx.tick()
        ctx.set(dut.axi.arready, 1)
        assert ctx.get(dut.readers[1].arready)
        await ctx.tick()
        # The first is next, although the second has another address at once.
        assert (ctx.get(dut.axi.araddr), ctx.get(dut.axi.arid)) == (0x100, 0)
        assert ctx.get(dut.readers[0].arready)
        assert not ctx.get(dut.readers[1].arready)

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()


def test_beats_go_to_all_readers_as_they_are():
    rng = random.Random(1)
    dut = ReadArbiter(data_width=128, addr_width=32, readers=3)

    async def testbench(ctx):
        for number in range(30):
            beat = random_fields(rng, dut.axi, DATA) | {"rresp": number % len(Response),
                                                        "rvalid": number // 2 % 2}
            put(ctx, dut.axi, beat)
            assert ctx.get(dut.axi.rready)
            for reader in dut.readers:
                assert get(ctx, reader, beat) == beat
            await ctx.tick()

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()
