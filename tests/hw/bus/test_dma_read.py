# amaranth: UnusedElaboratable=no
import random
from collections import deque

import pytest
from dma_pair import run_dma_bench
from stream_bench import make_simulator, stream_source

from weft.hw.bus.axi import Response
from weft.hw.bus.dma_read import ReadEngine


def reader(**changes):
    return ReadEngine(**({"data_width": 64, "addr_width": 32, "burst_beats": 16, "outstanding": 4,
                         "id": 0} | changes))


def test_reader_with_an_independent_memory_model(tmp_path_factory):
    run_dma_bench("cocotb_dma_read", tmp_path_factory)


def word(address, data_width):
    """What the model's memory holds at ``address``."""
    return address * 0x9e3779b97f4a7c15 & (1 << data_width) - 1


def simulate(dut, runs, *, latency, stall=0.0, o_stall=None, foreign=0.0, seed=0):
    """Reads ``runs`` from a memory that takes an address every cycle and answers in order, each
    ``latency`` cycles later; between its beats are ``foreign`` ones with another identifier.
    Checks the beats and gives the cycles from the first request to the last beat, and the largest
    number of bursts that were in flight."""
    data_width = len(dut.o.payload)
    beat_bytes = data_width // 8
    total = sum(beats for _, beats in runs)
    got, times, flying = [], [], []
    id = dut._id

    async def memory(ctx):
        rng = random.Random(seed)
        queue = deque()  # (cycle, address, last)
        cycle = 0
        ctx.set(dut.axi.arready, 1)
        while True:
            _clk, _rst, valid, ready, address, length = await ctx.tick().sample(
                dut.axi.arvalid, dut.axi.arready, dut.axi.araddr, dut.axi.arlen)
            cycle += 1
            if valid and ready:
                assert address // 4096 == (address + length * beat_bytes) // 4096
                queue.extend((cycle + latency, address + n * beat_bytes, n == length)
                             for n in range(length + 1))
                flying.append(sum(last for *_, last in queue))
            ctx.set(dut.axi.arready, rng.random() >= stall)
            if foreign and rng.random() < foreign:
                ctx.set(dut.axi.rvalid, 1)
                ctx.set(dut.axi.rid, 1 - id)
                ctx.set(dut.axi.rdata, 0)
                ctx.set(dut.axi.rlast, 1)
                ctx.set(dut.axi.rresp, Response.SLVERR)
            elif queue and queue[0][0] <= cycle and rng.random() >= stall:
                _, address, last = queue.popleft()
                ctx.set(dut.axi.rvalid, 1)
                ctx.set(dut.axi.rid, id)
                ctx.set(dut.axi.rdata, word(address, data_width))
                ctx.set(dut.axi.rlast, last)
                ctx.set(dut.axi.rresp, Response.OKAY)
            else:
                ctx.set(dut.axi.rvalid, 0)

    async def take(ctx):
        rng = random.Random(seed + 1)
        cycle = owed = 0
        asked = dut.requests.valid & dut.requests.ready
        while len(got) < total:
            ctx.set(dut.o.ready, rng.random() >= (stall if o_stall is None else o_stall))
            _clk, _rst, ask, beats, idle, valid, ready, beat, bad, error = await ctx.tick().sample(
                asked, dut.requests.p.beats, dut.idle, dut.o.valid, dut.o.ready, dut.o.payload,
                dut.o_error, dut.error)
            cycle += 1
            assert not error
            assert idle == (owed == len(got))
            if ask:
                owed += beats
                times.append(cycle)
            if valid and ready:
                got.append(beat)
                assert not bad
            assert cycle < 20000, "the reader hangs"
        times.append(cycle)
        assert ctx.get(dut.idle)

    sim = make_simulator(dut)
    sim.add_testbench(stream_source(
        dut.requests, [{"address": address, "beats": beats} for address, beats in runs],
        stall=stall, seed=seed + 2))
    sim.add_testbench(memory, background=True)
    sim.add_testbench(take)
    sim.run()
    assert got == [word(address + n * beat_bytes, data_width)
                   for address, beats in runs for n in range(beats)]
    return times[-1] - times[0], max(flying)


@pytest.mark.parametrize("data_width, burst_beats, outstanding, id", [
    (32, 1, 1, 0), (32, 256, 2, 1), (64, 4, 16, 0), (128, 16, 3, 1), (512, 64, 4, 0)])
def test_reads_runs_in_order_at_all_sizes(data_width, burst_beats, outstanding, id):
    rng = random.Random(data_width)
    beat_bytes = data_width // 8
    runs = [(rng.randrange(1 << 12) * beat_bytes, rng.randint(1, 90)) for _ in range(6)]
    runs.append((4096 - 2 * beat_bytes, 5))
    for stall, foreign in ((0, 0), (0.3, 0.2)):
        simulate(reader(data_width=data_width, burst_beats=burst_beats, outstanding=outstanding,
                        id=id), runs, latency=7, stall=stall, foreign=foreign, seed=3)


@pytest.mark.parametrize("outstanding", [1, 4])
def test_asks_for_no_more_than_its_buffer_can_hold(outstanding):
    simulate(reader(outstanding=outstanding), [(0, 300)], latency=2, o_stall=0.8)


@pytest.mark.parametrize("outstanding", [1, 2, 3, 4, 16])
def test_has_as_many_bursts_in_flight_as_it_may(outstanding):
    runs = [(0x1000 * n, 1) for n in range(2 * outstanding + 1)]
    _, flying = simulate(reader(outstanding=outstanding), runs, latency=80)
    assert flying == outstanding


@pytest.mark.parametrize("runs", [
    [(0, 1024)],
    [(8 * 5, 1024)],                                # the page boundaries shorten some bursts
    [(0x1000 * n, 16) for n in range(32)],          # one burst each
    [(0x1000 * n + 8 * 500, 24) for n in range(20)],
])
def test_sustains_a_beat_per_cycle_at_32_cycles_of_latency(runs):
    cycles, _ = simulate(reader(), runs, latency=32)
    total = sum(beats for _, beats in runs)
    assert cycles <= total + 32 + 5


@pytest.mark.parametrize("changes, message", [
    ({"data_width": 48}, "Data width must be one of 32, 64, 128, 256, 512, not 48"),
    ({"addr_width": 70}, "Address width must be between 12 and 64, not 70"),
    ({"burst_beats": 3},
     "Burst beats must be a power of 2 between 1 and 256 at a data width of 64, not 3"),
    ({"data_width": 512, "burst_beats": 128},
     "Burst beats must be a power of 2 between 1 and 64 at a data width of 512, not 128"),
    ({"outstanding": 0}, "Outstanding bursts must be between 1 and 16, not 0"),
    ({"id": 2}, "Identifier must be between 0 and 1, not 2"),
    ({"id": 8, "id_width": 3}, "Identifier must be between 0 and 7, not 8"),
    ({"id": 0, "id_width": 33}, "Identifier width must be between 1 and 32, not 33"),
])
def test_parameters_wrong(changes, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        reader(**changes)
