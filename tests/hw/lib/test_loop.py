"""Loop nests against nested Python loops."""

import itertools
import random

import pytest
from stream_bench import make_simulator, random_stall

from weft.hw.lib.loop import LoopNest, PacedLoopNest

LOOPS = {"inner": 3, "middle": 4, "outer": 8, "block": 5}  # innermost first, as in LoopNest


def random_counts(rng):
    """Trip counts of which many are 1 or 2, and some the largest of their width."""
    return {name: rng.choice([1, 1, 2, 2, 3, 4, 7 if name == "inner" else 5]) for name in LOOPS}


def rounds(loops):
    """The values of nested loops, and which loops are in their last round, for each round of the
    innermost one. ``loops`` has what each one goes over, innermost first."""
    for values in itertools.product(*reversed(loops.values())):
        current = dict(zip(loops, reversed(values), strict=True))
        yield current, {name: int(current[name] == over[-1]) for name, over in loops.items()}


def flags_of(counts):
    return [last for _, last in rounds({name: range(count) for name, count in counts.items()})]


async def begin(ctx, dut, counts, rng):
    """Starts a nest; later its counts are anything."""
    ctx.set(dut.start, 1)
    ctx.set(dut.counts, counts)
    ctx.set(dut.ones, {name: counts[name] == 1 for name in dut.ones.shape().members})
    await ctx.tick()
    ctx.set(dut.start, 0)
    ctx.set(dut.counts, {name: rng.randrange(1 << width) for name, width in LOOPS.items()})
    ctx.set(dut.ones, {name: rng.randrange(2) for name in dut.ones.shape().members})


def walk(nests, *, copies=3, no_room=0.0, stall=0.0, pause=0.0, seed=0):
    """Walks nests of some trip counts one after another. Returns for each what its flags are in
    each round, and in which cycle that ends."""
    dut = LoopNest(LOOPS, copies=copies)
    rng = random.Random(seed)
    got = []

    async def control(ctx):
        for counts in nests:
            await random_stall(ctx, rng, pause)
            assert all(ctx.get(flags.idle) for flags in dut.flags)
            got.append(([], []))
            await begin(ctx, dut, counts, rng)
            while not ctx.get(dut.ended):
                assert not any(ctx.get(flags.idle) for flags in dut.flags)
                await ctx.tick()
            await ctx.tick()
        await ctx.tick().repeat(10)

    async def stalls(ctx):
        own = random.Random(seed + 1)
        while True:
            ctx.set(dut.room, own.random() >= no_room)
            ctx.set(dut.enable, own.random() >= stall)
            await ctx.tick()

    async def watch(ctx):
        had_room = 0
        for cycle in itertools.count():
            _clk, _rst, room, enable, active, *sampled = await ctx.tick().sample(
                dut.room, dut.enable, dut.active,
                *(flags.step for flags in dut.flags), *(flags.last for flags in dut.flags))
            steps, lasts = set(sampled[:copies]), sampled[copies:]
            assert len(steps) == 1
            if steps == {1}:
                assert had_room and enable
                assert all(last == lasts[0] for last in lasts)
                if active:
                    flags, cycles = got[-1]
                    flags.append({name: lasts[0][name] for name in LOOPS})
                    cycles.append(cycle)
            had_room = room

    sim = make_simulator(dut)
    sim.add_testbench(control)
    sim.add_testbench(stalls, background=True)
    sim.add_testbench(watch, background=True)
    sim.run()
    return got


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("no_room, stall", [(0, 0), (0.4, 0), (0, 0.4), (0.5, 0.5)])
def test_flags_are_those_of_nested_loops(no_room, stall, seed):
    rng   = random.Random(seed)
    nests = [random_counts(rng) for _ in range(8)]
    got   = walk(nests, no_room=no_room, stall=stall, pause=0.4, seed=seed)
    assert [flags for flags, _ in got] == [flags_of(counts) for counts in nests]


def test_all_trip_counts_up_to_four():
    nests = [dict(zip(LOOPS, counts, strict=True))
             for counts in itertools.product((1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3), (1, 2))]
    got = walk(nests, copies=1)
    assert [flags for flags, _ in got] == [flags_of(counts) for counts in nests]


def test_round_in_every_cycle_and_three_without_one_between_nests():
    nests = [{"inner": 2, "middle": 1, "outer": 3, "block": 2}, dict.fromkeys(LOOPS, 1),
             {"inner": 1, "middle": 2, "outer": 1, "block": 1}]
    start = 2
    for counts, (_, cycles) in zip(nests, walk(nests), strict=True):
        stop = start + len(flags_of(counts))
        assert cycles == list(range(start, stop))
        start = stop + 3


STRIDE = {"tile": 5}


def random_paced(rng):
    """Counts and strides of loops, one of which goes by tiles."""
    counts = {"inner": rng.randint(1, 3), "tile": rng.choice([1, 5, 6, 40, rng.randint(1, 70)]),
              "outer": rng.choice([1, 2, 255 if rng.random() < 0.05 else 3])}
    return counts, {"tile": rng.choice([1, 5, 31, rng.randint(8, 31)])}


def test_a_nest_that_starts_before_the_other_has_ended_breaks_a_rule():
    dut = LoopNest(LOOPS, copies=1)

    async def testbench(ctx):
        ctx.set(dut.counts, dict.fromkeys(LOOPS, 2))
        for _ in range(2):
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            await ctx.tick()

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    with pytest.raises(AssertionError, match=r"a loop nest starts while there is none$"):
        sim.run()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("stall", [0, 0.5])
def test_paced_nest_is_that_of_nested_loops(seed, stall):
    rng = random.Random(seed)
    dut = PacedLoopNest({"inner": 16, "tile": 10, "outer": 8}, strides=STRIDE)

    async def testbench(ctx):
        for _ in range(20):
            counts, strides = random_paced(rng)
            ctx.set(dut.counts, counts)
            ctx.set(dut.strides, strides)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            loops = {name: range(0, count, strides.get(name, 1)) for name, count in counts.items()}
            for begins, last in rounds(loops):
                await ctx.tick()
                assert {name: ctx.get(dut.last[name]) for name in loops} == last
                await ctx.tick()
                await random_stall(ctx, rng, stall)
                assert {name: ctx.get(dut.last[name]) for name in loops} == last
                ends = itertools.accumulate(last.values(), min)
                assert [ctx.get(dut.ends[name]) for name in loops] == list(ends)
                assert {name: ctx.get(dut.left[name]) for name in loops} == \
                    {name: counts[name] - begins[name] for name in loops}
                ctx.set(dut.step, 1)
                await ctx.tick()
                ctx.set(dut.step, 0)

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize("make, message", [
    (lambda: LoopNest({"inner": 8}, copies=1),
     r"^Loop nest must have at least 2 loops, not \{'inner': 8\}$"),
    (lambda: LoopNest({"inner": 8, "outer": 0}, copies=1),
     r"^Width of loop 'outer' must be a positive integer, not 0$"),
    (lambda: LoopNest({"inner": 8, "outer": 8}, copies=0),
     r"^Copies of flags must be a positive integer, not 0$"),
    (lambda: LoopNest({"inner": 8, "outer": 8}, copies=True),
     r"^Copies of flags must be a positive integer, not True$"),
    (lambda: PacedLoopNest({}), r"^Loop nest must have at least 1 loop, not \{\}$"),
    (lambda: PacedLoopNest({"inner": 8.0}),
     r"^Width of loop 'inner' must be a positive integer, not 8.0$"),
    (lambda: PacedLoopNest({"inner": 8}, strides={"inner": -1}),
     r"^Width of stride 'inner' must be a positive integer, not -1$"),
    (lambda: PacedLoopNest({"inner": 8}, strides={"tile": 4}),
     r"^Stride must be of one of the loops \['inner'\], not 'tile'$"),
])
def test_parameters_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
