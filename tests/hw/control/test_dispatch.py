# amaranth: UnusedElaboratable=no
import random
from collections import Counter, deque

import pytest
from stream_bench import make_simulator, random_stall, stream_put, stream_watch

from weft.hw.control.dispatch import Dispatcher
from weft.hw.isa.commands import ENGINES, Engine
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import Error

LOAD, MATRIX, VECTOR, STORE = Engine
CONFIG = PRESETS["tiny"]


def command(engine, *, wait=(), post=(), tag=0):
    """(engine, raw): only the header matters to the dispatcher; `tag` tells commands apart."""
    raw = tag << 32 | sum(1 << e.value for e in post) << 12 | sum(1 << e.value for e in wait) << 8
    return engine, raw


def masks(raw):
    """Engines in the wait mask and in the post mask."""
    return ([e for e in Engine if raw >> 8 + e.value & 1],
            [e for e in Engine if raw >> 12 + e.value & 1])


def random_program(count, *, seed, engines=tuple(Engine)):
    """Commands that complete when executed one after the other, hence in any legal overlap."""
    rng, tokens, program = random.Random(seed), Counter(), []
    for tag in range(1, count + 1):
        engine = rng.choice(engines)
        wait   = [e for e in engines if tokens[e, engine] and rng.random() < 0.7]
        post   = [e for e in engines if rng.random() < 0.4]
        tokens.subtract((e, engine) for e in wait)
        tokens.update((engine, e) for e in post)
        program.append(command(engine, wait=wait, post=post, tag=tag << 400 | rng.getrandbits(399)))
    return program


class DispatchBench:
    """A dispatcher with its engines, whose every event is checked against the semaphore rules.

    An engine takes up to ``overlap`` commands at a time and finishes each after a random number
    of cycles, in order. With ``overlap`` zero the test plays the engines itself.
    """

    def __init__(self, program, *, overlap=0, durations=(1, 1), stall=0.0, seed=0, first=0,
                 config=CONFIG, **parameters):
        self.dut       = Dispatcher(config, present=Engine, **parameters)
        self.program   = dict(enumerate(program, first))
        self.overlap   = overlap
        self.durations = durations
        self.stall     = stall
        self.seed      = seed
        self.cycle     = 0
        self.tokens    = Counter()
        self.in_flight = {engine: deque() for engine in Engine}
        self.started   = []  # (cycle, engine, index)
        self.finished  = []
        self.faults    = []
        self.most      = 0

    async def feeder(self, ctx):
        rng = random.Random(self.seed)
        for index, (engine, raw) in self.program.items():
            await random_stall(ctx, rng, self.stall)
            await stream_put(ctx, self.dut.commands,
                             {"index": index, "engine": engine, "raw": raw})

    def engine(self, engine):
        port, done = self.dut.engines[engine.value], self.dut.done[engine.value]

        async def testbench(ctx):
            rng  = random.Random(self.seed + engine.value)
            left = deque()  # cycles left, of each command taken
            while True:
                finish = bool(left) and left[0] <= 0
                ready  = len(left) < self.overlap and rng.random() >= self.stall
                ctx.set(done, finish)
                ctx.set(port.ready, ready)
                _, _, valid, payload = await ctx.tick().sample(port.valid, port.payload)
                if finish:
                    left.popleft()
                if left:
                    left[0] -= 1
                if valid and ready:
                    assert self.program[payload.index] == (engine, payload.command)
                    left.append(rng.randint(*self.durations) - 1)
        return testbench

    async def monitor(self, ctx):
        dut = self.dut
        async for *_, starts, start_index, dones, done_index, fault in ctx.tick().sample(
                dut.event.start, dut.event.start_index, dut.event.done, dut.event.done_index,
                dut.fault):
            # Starts first: a token given in this cycle may not be used in it.
            for engine in Engine:
                if starts >> engine.value & 1:
                    self.check_start(engine, start_index[engine.value])
            for engine in Engine:
                if dones >> engine.value & 1:
                    index = done_index[engine.value]
                    assert self.in_flight[engine].popleft() == index
                    self.tokens.update((engine, e) for e in masks(self.program[index][1])[1])
                    self.finished.append((self.cycle, engine, index))
            if fault.code:
                self.faults.append((fault.code, fault.index))
            self.cycle += 1

    def check_start(self, engine, index):
        assert self.program[index][0] == engine
        for producer in masks(self.program[index][1])[0]:
            self.tokens[producer, engine] -= 1
            assert self.tokens[producer, engine] >= 0, f"command {index} started too early"
        self.in_flight[engine].append(index)
        self.most = max(self.most, len(self.in_flight[engine]))
        assert self.most <= Dispatcher.IN_FLIGHT
        self.started.append((self.cycle, engine, index))

    def run(self, testbench):
        sim = make_simulator(self.dut)
        sim.add_testbench(testbench)
        sim.add_testbench(self.feeder, background=True)
        sim.add_testbench(self.monitor, background=True)
        for engine in Engine:
            if self.overlap:
                sim.add_testbench(self.engine(engine), background=True)
            sim.add_testbench(stream_watch(self.dut.engines[engine.value]), background=True)
        sim.run()

    async def finish(self, ctx, *engines):
        """One `done` pulse of each of ``engines``, in the same cycle."""
        for engine in engines:
            ctx.set(self.dut.done[engine.value], 1)
        await ctx.tick()
        ctx.set(self.dut.done, 0)

    async def until_all_done(self, ctx):
        for _ in range(100 * len(self.program) + 100):
            await ctx.tick()
            if len(self.finished) == len(self.program):
                return
        raise AssertionError(f"only {len(self.finished)} of {len(self.program)} commands finished")


@pytest.mark.parametrize("overlap, durations, stall", [
    (1, (1, 1), 0.0), (1, (1, 30), 0.3), (2, (1, 1), 0.0), (3, (1, 10), 0.5), (8, (1, 20), 0.0),
    (8, (10, 40), 0.7),
])
def test_random_programs_keep_the_semaphore_rules_and_complete(overlap, durations, stall):
    most = 0
    for seed in range(2):
        bench = DispatchBench(random_program(80, seed=seed), overlap=overlap, durations=durations,
                              stall=stall, seed=seed,
                              config=CONFIG.replace(queue_depth=1 if seed else 4))

        async def testbench(ctx, bench=bench):
            await bench.until_all_done(ctx)
            await ctx.tick().repeat(3)
            assert ctx.get(bench.dut.completed) == len(bench.program)
            assert ctx.get(bench.dut.idle)
            assert not ctx.get(bench.dut.pending | bench.dut.waiting)

        bench.run(testbench)
        assert bench.faults == []
        for engine in Engine:
            expected = [n for n, (its, _) in bench.program.items() if its == engine]
            assert [n for _, its, n in bench.started if its == engine] == expected
            assert [n for _, its, n in bench.finished if its == engine] == expected
        most = max(most, bench.most)
    if overlap > Dispatcher.IN_FLIGHT and durations[1] > 10:
        assert most == Dispatcher.IN_FLIGHT  # an engine that takes more is held back


@pytest.mark.parametrize("depth, latency", [(1, 2), (2, 3), (4, 3)])
def test_a_command_without_waits_is_offered_as_soon_as_it_is_through_its_queue(depth, latency):
    bench = DispatchBench([command(MATRIX)], overlap=1, config=CONFIG.replace(queue_depth=depth))

    async def testbench(ctx):
        await bench.until_all_done(ctx)

    bench.run(testbench)
    assert bench.started == [(latency, MATRIX, 0)]


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_queue_holds_as_many_commands_as_it_is_deep(depth):
    program = [command(LOAD)] * (depth + 1) + [command(STORE)]
    bench = DispatchBench(program, config=CONFIG.replace(queue_depth=depth))
    dut = bench.dut

    async def testbench(ctx):
        await ctx.tick().repeat(20)
        assert ctx.get(dut.commands.valid) and ctx.get(dut.commands.p.index) == depth
        ctx.set(dut.engines[LOAD.value].ready, 1)
        await ctx.tick()
        ctx.set(dut.engines[LOAD.value].ready, 0)
        await ctx.tick().repeat(20)
        assert not ctx.get(dut.commands.valid)
        assert ctx.get(dut.pending) == 1 << LOAD.value | 1 << STORE.value

    bench.run(testbench)


def test_a_dependent_command_is_offered_two_cycles_after_done():
    bench = DispatchBench([command(LOAD, post=[MATRIX]), command(MATRIX, wait=[LOAD])],
                          overlap=1, durations=(20, 20))

    async def testbench(ctx):
        await bench.until_all_done(ctx)

    bench.run(testbench)
    assert bench.started[1][0] - bench.finished[0][0] == Dispatcher.TOKEN_LATENCY == 2


def test_an_engine_can_take_a_command_every_third_cycle():
    bench = DispatchBench([command(LOAD)] * 4, overlap=4, durations=(20, 20))

    async def testbench(ctx):
        await bench.until_all_done(ctx)

    bench.run(testbench)
    assert [cycle for cycle, _, _ in bench.started] == [3, 6, 9, 12]
    assert Dispatcher.PERIOD == 3


def test_tokens_are_taken_once_however_long_the_engine_takes():
    program = [command(LOAD, post=[STORE]), command(LOAD, post=[STORE]),
               command(STORE, wait=[LOAD]), command(STORE, wait=[LOAD]),
               command(STORE, wait=[LOAD])]
    bench = DispatchBench(program)
    dut   = bench.dut

    async def testbench(ctx):
        ctx.set(dut.engines[LOAD.value].ready, 1)
        await ctx.tick().repeat(10)
        await bench.finish(ctx, LOAD)
        await ctx.tick().repeat(10)
        assert ctx.get(dut.engines[STORE.value].valid)
        assert ctx.get(dut.waiting) == 0  # its token is taken, nothing is lacking
        assert ctx.get(dut.pending) == 1 << STORE.value
        await bench.finish(ctx, LOAD)
        await ctx.tick().repeat(10)
        ctx.set(dut.engines[STORE.value].ready, 1)
        await ctx.tick().repeat(10)
        assert [index for _, engine, index in bench.started if engine == STORE] == [2, 3]
        assert ctx.get(dut.waiting) == 1 << STORE.value
        assert ctx.get(dut.pending) == 1 << STORE.value

    bench.run(testbench)


def test_tokens_given_and_taken_in_one_cycle_are_both_counted():
    program = [command(LOAD, post=[MATRIX])] * 4 + [command(MATRIX, wait=[LOAD])] * 4
    bench   = DispatchBench(program, overlap=4, durations=(1, 2))

    async def testbench(ctx):
        await bench.until_all_done(ctx)
        await ctx.tick().repeat(3)
        assert ctx.get(bench.dut.idle)

    bench.run(testbench)


def test_engines_that_finish_together_are_all_counted():
    program = [command(engine, post=[MATRIX]) for engine in Engine]
    program.append(command(MATRIX, wait=list(Engine)))
    bench = DispatchBench(program)

    async def testbench(ctx):
        for engine in Engine:
            ctx.set(bench.dut.engines[engine.value].ready, 1)
        await ctx.tick().repeat(10)
        assert len(bench.started) == 4
        await bench.finish(ctx, *Engine)
        await ctx.tick().repeat(4)
        assert ctx.get(bench.dut.completed) == 4
        assert bench.started[4][1:] == (MATRIX, 4)

    bench.run(testbench)


def test_a_done_without_a_command_changes_nothing():
    bench = DispatchBench([])

    async def testbench(ctx):
        await bench.finish(ctx, LOAD, STORE)
        await ctx.tick()
        assert ctx.get(bench.dut.completed) == 0

    bench.run(testbench)
    assert bench.finished == []


def test_halt_stops_what_is_not_offered_yet():
    bench = DispatchBench([command(LOAD), command(MATRIX), command(LOAD)])
    dut   = bench.dut

    async def testbench(ctx):
        ctx.set(dut.engines[MATRIX.value].ready, 1)
        await ctx.tick().repeat(8)
        assert ctx.get(dut.engines[LOAD.value].valid)
        ctx.set(dut.halt, 1)
        await ctx.tick().repeat(4)
        assert ctx.get(dut.engines[LOAD.value].valid)
        ctx.set(dut.engines[LOAD.value].ready, 1)
        await ctx.tick().repeat(10)
        assert [index for _, _, index in bench.started] == [1, 0]
        ctx.set(dut.halt, 0)
        await ctx.tick().repeat(4)
        assert [index for _, _, index in bench.started] == [1, 0, 2]

    bench.run(testbench)


def test_clear_begins_a_new_stream_with_no_tokens():
    bench = DispatchBench([command(LOAD, post=[LOAD, MATRIX, STORE])], overlap=1)
    dut   = bench.dut

    async def testbench(ctx):
        await bench.until_all_done(ctx)
        await ctx.tick().repeat(3)
        assert ctx.get(dut.completed) == 1
        assert ctx.get(dut.oldest) == 1
        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        assert ctx.get(dut.completed) == 0
        await ctx.tick().repeat(3)
        assert ctx.get(dut.completed) == 0
        assert ctx.get(dut.oldest) == 0
        for engine in (LOAD, MATRIX, STORE):
            await stream_put(ctx, dut.commands, {"index": engine.value, "engine": engine,
                                                 "raw": command(engine, wait=[LOAD])[1]})
        await ctx.tick().repeat(10)
        assert ctx.get(dut.waiting) == sum(1 << e.value for e in (LOAD, MATRIX, STORE))

    bench.run(testbench)


def test_a_full_semaphore_is_a_fault_that_names_the_command():
    count   = Dispatcher.SEMAPHORE_MAX + 1
    program = [command(LOAD, post=[MATRIX, VECTOR])] * 20 + \
              [command(LOAD, post=[MATRIX])] * count
    bench   = DispatchBench(program, overlap=4)

    async def testbench(ctx):
        await bench.until_all_done(ctx)
        await ctx.tick().repeat(3)

    bench.run(testbench)
    assert bench.faults == [(Error.SEMAPHORE, Dispatcher.SEMAPHORE_MAX + n) for n in range(21)]


def test_the_count_does_not_overtake_the_fault_of_the_same_command():
    count = Dispatcher.SEMAPHORE_MAX + 1
    bench = DispatchBench([command(LOAD, post=[MATRIX])] * count, overlap=1)
    dut   = bench.dut
    came  = []

    async def testbench(ctx):
        async for *_, code, completed in ctx.tick().sample(dut.fault.code, dut.completed):
            came.append(code == Error.SEMAPHORE)
            if completed == Dispatcher.SEMAPHORE_MAX + 1:
                return

    bench.run(testbench)
    assert any(came)


def test_a_full_semaphore_can_give_and_take_in_the_same_cycle():
    program = [command(LOAD, post=[MATRIX])] * (Dispatcher.SEMAPHORE_MAX + 1) + \
              [command(STORE, post=[MATRIX]), command(MATRIX, wait=[LOAD, STORE]),
               command(LOAD, post=[MATRIX])]
    bench   = DispatchBench(program)
    dut     = bench.dut

    async def testbench(ctx):
        for engine in (LOAD, STORE):
            ctx.set(dut.engines[engine.value].ready, 1)
        for _ in range(Dispatcher.SEMAPHORE_MAX):
            await ctx.tick().repeat(4)  # time for the next LOAD to be taken
            await bench.finish(ctx, LOAD)
        await ctx.tick().repeat(10)
        assert ctx.get(dut.waiting) == 1 << MATRIX.value
        await bench.finish(ctx, STORE)
        assert not ctx.get(dut.waiting[MATRIX.value])
        await bench.finish(ctx, LOAD)  # in the cycle in which MATRIX takes its tokens
        assert ctx.get(dut.engines[MATRIX.value].valid)
        await ctx.tick().repeat(4)
        assert bench.faults == []
        await bench.finish(ctx, LOAD)  # still full
        await ctx.tick().repeat(3)

    bench.run(testbench)
    assert bench.faults == [(Error.SEMAPHORE, Dispatcher.SEMAPHORE_MAX + 3)]


def test_oldest_names_the_smallest_index_anywhere():
    program = [command(LOAD), command(MATRIX, wait=[STORE]), command(STORE, wait=[VECTOR]),
               command(LOAD)]
    bench   = DispatchBench(program)
    dut     = bench.dut

    async def testbench(ctx):
        async def oldest():
            await ctx.tick().repeat(6)
            return ctx.get(dut.oldest)

        assert await oldest() == 0
        ctx.set(dut.engines[LOAD.value].ready, 1)
        await ctx.tick()
        ctx.set(dut.engines[LOAD.value].ready, 0)
        assert await oldest() == 0      # in the engine, the other LOAD behind it
        ctx.set(dut.engines[LOAD.value].ready, 1)
        await bench.finish(ctx, LOAD)
        assert await oldest() == 1      # at the head of a queue
        await bench.finish(ctx, LOAD)
        assert await oldest() == 1
        assert ctx.get(dut.waiting) == 1 << MATRIX.value | 1 << STORE.value

    bench.run(testbench)


def test_oldest_is_the_next_command_when_none_is_known():
    bench = DispatchBench([command(STORE)] * 3, overlap=1)

    async def testbench(ctx):
        assert ctx.get(bench.dut.oldest) == 0
        await bench.until_all_done(ctx)
        await ctx.tick().repeat(4)
        assert ctx.get(bench.dut.oldest) == 3

    bench.run(testbench)


def test_indices_have_sixteen_bits():
    bench = DispatchBench([command(STORE)] * 4, overlap=1, first=0xBFFE)

    async def testbench(ctx):
        await bench.until_all_done(ctx)
        await ctx.tick().repeat(4)
        assert ctx.get(bench.dut.oldest) == 0xC002

    bench.run(testbench)
    assert [index for _, _, index in bench.finished] == [0xBFFE, 0xBFFF, 0xC000, 0xC001]


def test_engines_that_are_not_present_take_no_commands():
    assert Dispatcher(CONFIG).present == set(ENGINES.values())
    assert Dispatcher(CONFIG.replace(vector_taps=0)).present == {LOAD, MATRIX, STORE}
    dut = Dispatcher(CONFIG, present=[LOAD, MATRIX, STORE])
    assert dut.present == {LOAD, MATRIX, STORE}

    async def testbench(ctx):
        ctx.set(dut.commands.p, {"index": 0, "engine": VECTOR, "raw": 0})
        ctx.set(dut.commands.valid, 1)
        await ctx.tick().repeat(3)
        assert not ctx.get(dut.commands.ready)
        ctx.set(dut.commands.p.engine, STORE)
        await ctx.tick().repeat(3)
        assert ctx.get(dut.engines[STORE.value].valid)

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()
