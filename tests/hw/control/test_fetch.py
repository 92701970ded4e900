import random

import pytest
from amaranth.lib import data
from amaranth.sim import Simulator
from stream_bench import make_simulator, random_stall, stream_get, stream_watch

from weft.hw.control.fetch import CommandFetch, FetchedCommand
from weft.hw.isa.commands import COMMAND_BYTES, ENGINES, Opcode
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import Error

BEAT_WIDTHS = (32, 64, 128, 256, 512)
BASE = 0x1000
# The neighbours of the legal ones, and some that differ from them in one bit.
ILLEGAL = sorted({0x00, max(op.value for op in Opcode) + 1, Opcode.LOAD.value | 0x80, 0xff})


def make_fetch(width=64):
    return CommandFetch(PRESETS["tiny"].replace(axi_data_width=width, axi_burst_beats=8,
                                                products=True, softmax=True, normalize_channels=8))


def random_program(count, *, seed=1):
    """Commands of legal opcodes and random fields, as integers."""
    rng = random.Random(seed)
    return [rng.getrandbits(8 * COMMAND_BYTES) >> 8 << 8 | rng.choice(list(Opcode)).value
            for _ in range(count)]


def expected_commands(program):
    return [(index, ENGINES[Opcode(raw & 0xff)], raw) for index, raw in enumerate(program)]


class FetchBench:
    """A fetch with a reader that serves ``program`` at ``BASE``, and a log of what came out."""

    def __init__(self, dut, program, *, stall=0.0, seed=0):
        self.dut      = dut
        self.stall    = stall
        self.seed     = seed
        self.width    = dut.beats.payload.shape().width
        self.beats    = [raw >> shift & ((1 << self.width) - 1) for raw in program
                         for shift in range(0, 8 * COMMAND_BYTES, self.width)]
        self.requests = []
        self.taken    = []
        self.faults   = []
        self.cycle    = 0
        self.served   = 0
        self.fail_at  = None  # a beat that comes with an error response

    async def reader(self, ctx):
        rng  = random.Random(self.seed)
        port = self.dut.beats
        while True:
            await random_stall(ctx, rng, self.stall)
            request = await stream_get(ctx, self.dut.requests)
            self.requests.append((request.address, request.beats))
            for n in range(request.beats):
                await random_stall(ctx, rng, self.stall)
                ctx.set(port.payload, self.beats[n])
                ctx.set(port.valid, 1)
                ctx.set(self.dut.error, n == self.fail_at)
                while True:
                    _, _, ready = await ctx.tick().sample(port.ready)
                    if ready:
                        break
                ctx.set(port.valid, 0)
                ctx.set(self.dut.error, 1)  # means nothing while there is no beat
                self.served += 1

    async def taker(self, ctx):
        rng = random.Random(self.seed + 1)
        while True:
            await random_stall(ctx, rng, self.stall)
            command = await stream_get(ctx, self.dut.commands)
            self.taken.append((command.index, command.engine, command.raw))

    async def watcher(self, ctx):
        async for *_, fault in ctx.tick().sample(self.dut.fault):
            self.cycle += 1
            if fault.code:
                self.faults.append((fault.code, fault.index))

    def run(self, testbench):
        sim: Simulator = make_simulator(self.dut)
        sim.add_testbench(testbench)
        for background in (self.reader, self.taker, self.watcher, stream_watch(self.dut.requests),
                           stream_watch(self.dut.commands)):
            sim.add_testbench(background, background=True)
        sim.run()

    async def doorbell(self, ctx, *, count, address=BASE):
        ctx.set(self.dut.address, address)
        ctx.set(self.dut.count, count)
        ctx.set(self.dut.start, 1)
        await ctx.tick()
        # What follows the doorbell must not matter.
        ctx.set(self.dut.start, 0)
        ctx.set(self.dut.address, 0x123)
        ctx.set(self.dut.count, 0)

    async def until_idle(self, ctx):
        for _ in range(20 * len(self.beats) + 100):
            if not ctx.get(self.dut.busy):
                return
            await ctx.tick()
        raise AssertionError("the fetch does not end")


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("width", BEAT_WIDTHS)
def test_commands_come_out_in_order_with_index_and_engine(width, stall):
    program = random_program(20)
    bench   = FetchBench(make_fetch(width), program, stall=stall, seed=width)

    async def testbench(ctx):
        await bench.doorbell(ctx, count=len(program))
        await bench.until_idle(ctx)

    bench.run(testbench)
    assert bench.requests == [(BASE, len(bench.beats))]
    assert bench.taken == expected_commands(program)
    assert bench.faults == []


@pytest.mark.parametrize("width", BEAT_WIDTHS)
def test_a_command_takes_a_cycle_more_than_its_beats(width):
    program = random_program(16)
    bench   = FetchBench(make_fetch(width), program)

    async def testbench(ctx):
        await bench.doorbell(ctx, count=len(program))
        start = bench.cycle
        await bench.until_idle(ctx)
        # Three cycles to request and to be answered, and one to become idle.
        assert bench.cycle - start == len(bench.beats) + len(program) + 4

    bench.run(testbench)


def test_a_second_doorbell_starts_again_from_index_0():
    program = random_program(5)
    bench   = FetchBench(make_fetch(), program, stall=0.3)

    async def testbench(ctx):
        for count in (5, 1, 3):
            await bench.doorbell(ctx, count=count)
            await bench.until_idle(ctx)

    bench.run(testbench)
    commands = expected_commands(program)
    assert bench.taken == commands[:5] + commands[:1] + commands[:3]


def test_a_doorbell_while_busy_is_ignored():
    program = random_program(4)
    bench   = FetchBench(make_fetch(), program, stall=0.3)

    async def testbench(ctx):
        await bench.doorbell(ctx, count=4)
        await ctx.tick().repeat(3)
        await bench.doorbell(ctx, count=2)
        await bench.until_idle(ctx)
        await ctx.tick().repeat(10)

    bench.run(testbench)
    assert bench.taken == expected_commands(program)


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("opcode", ILLEGAL)
@pytest.mark.parametrize("width", BEAT_WIDTHS)
def test_an_illegal_opcode_is_named_and_nothing_follows_it(width, opcode, stall):
    program = random_program(9, seed=opcode)
    program[4] = program[4] >> 8 << 8 | opcode
    bench = FetchBench(make_fetch(width), program, stall=stall, seed=width)

    async def testbench(ctx):
        await bench.doorbell(ctx, count=len(program))
        await bench.until_idle(ctx)
        await ctx.tick().repeat(40 * COMMAND_BYTES * 8 // width)

    bench.run(testbench)
    assert bench.faults == [(Error.OPCODE, 4)]
    assert bench.taken == expected_commands(program[:4])
    assert bench.served == len(bench.beats)  # the reader ran dry


@pytest.mark.parametrize("opcode", [Opcode.VECTOR, Opcode.TURN, Opcode.SOFTMAX,
                                    Opcode.NORMALIZE])
def test_the_opcode_of_what_is_not_there_is_illegal(opcode):
    program = [command >> 8 << 8 | Opcode.MATRIX.value for command in random_program(9)]
    program[4] = program[4] >> 8 << 8 | opcode.value
    bench = FetchBench(CommandFetch(PRESETS["tiny"].replace(vector_taps=0)), program)

    async def testbench(ctx):
        await bench.doorbell(ctx, count=len(program))
        await bench.until_idle(ctx)
        await ctx.tick().repeat(100)

    bench.run(testbench)
    assert bench.faults == [(Error.OPCODE, 4)]
    assert bench.taken == expected_commands(program[:4])


@pytest.mark.parametrize("count, address, error", [
    (0, BASE, Error.ARGUMENT),
    (0x10000, BASE, Error.ARGUMENT),
    (0x10001, BASE, Error.ARGUMENT),
    (3, BASE + 4, Error.ADDRESS),
    (3, BASE + 1, Error.ADDRESS),
    (3, 1 << 32, Error.ADDRESS),
    (3, (1 << 63) + BASE, Error.ADDRESS),
    (3, (1 << 32) - 2 * COMMAND_BYTES, Error.ADDRESS),
    (3, (1 << 64) - COMMAND_BYTES, Error.ADDRESS),
])
def test_a_stream_that_cannot_be_fetched_is_refused(count, address, error):
    bench = FetchBench(make_fetch(), random_program(3))

    async def testbench(ctx):
        await bench.doorbell(ctx, count=count, address=address)
        await ctx.tick().repeat(20)
        await bench.doorbell(ctx, count=3)  # ignored: only a reset helps
        await ctx.tick().repeat(60)

    bench.run(testbench)
    assert bench.faults == [(error, 0)]
    assert bench.requests == []
    assert bench.taken == []


@pytest.mark.parametrize("width", BEAT_WIDTHS)
def test_an_address_must_be_a_multiple_of_the_beat_only(width):
    for offset in (4, 8, 16, 32, 64):
        bench   = FetchBench(make_fetch(width), random_program(1))
        address = BASE + offset

        async def testbench(ctx, bench=bench, address=address):
            await bench.doorbell(ctx, count=1, address=address)
            await ctx.tick().repeat(30)

        bench.run(testbench)
        aligned = offset % (width // 8) == 0
        assert bench.faults == ([] if aligned else [(Error.ADDRESS, 0)])
        assert bench.requests == ([(address, len(bench.beats))] if aligned else [])


@pytest.mark.parametrize("count", [3, 65535])
def test_a_stream_may_be_of_full_length_and_end_with_the_address_space(count):
    dut     = make_fetch(32)
    address = (1 << 32) - count * COMMAND_BYTES

    async def testbench(ctx):
        ctx.set(dut.address, address)
        ctx.set(dut.count, count)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.requests.valid)
        assert ctx.get(dut.requests.p) == {"address": address, "beats": count * 16}

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("width", BEAT_WIDTHS)
def test_a_read_error_names_the_command_it_hit_and_nothing_follows(width, last, stall):
    program = random_program(6)
    bench   = FetchBench(make_fetch(width), program, stall=stall, seed=width)
    beats   = COMMAND_BYTES * 8 // width
    bench.fail_at = 3 * beats + (beats - 1 if last else 0)

    async def testbench(ctx):
        await bench.doorbell(ctx, count=len(program))
        await bench.until_idle(ctx)
        await ctx.tick().repeat(12 * beats + 40)

    bench.run(testbench)
    assert bench.faults == [(Error.READ, 3)]
    assert bench.taken == expected_commands(program[:3])
    assert bench.served == len(bench.beats)


def test_halt_ends_the_fetch_and_lets_the_reader_run_dry():
    program = random_program(8)
    bench   = FetchBench(make_fetch(), program, stall=0.2)

    async def testbench(ctx):
        await bench.doorbell(ctx, count=len(program))
        while len(bench.taken) < 3:
            await ctx.tick()
        ctx.set(bench.dut.halt, 1)
        await ctx.tick().repeat(200)
        assert not ctx.get(bench.dut.busy)

    bench.run(testbench)
    assert bench.faults == []
    assert bench.taken == expected_commands(program)[:len(bench.taken)]
    assert 3 <= len(bench.taken) <= 4
    assert bench.served == len(bench.beats)


def test_the_index_tells_all_commands_of_the_longest_stream_apart():
    # A count has 16 bits, see above; so many commands would take too long to fetch here.
    assert data.Layout.cast(FetchedCommand)["index"].width == 16
