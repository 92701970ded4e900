# amaranth: UnusedElaboratable=no
import random
from collections import deque

import pytest
from dma_pair import run_dma_bench
from stream_bench import make_simulator, stream_source

from weft.hw.bus.axi import Response
from weft.hw.bus.dma_write import WriteEngine


def writer(**changes):
    return WriteEngine(**({"data_width": 64, "addr_width": 32, "burst_beats": 16, "outstanding": 4,
                         "id": 0} | changes))


def test_writer_with_an_independent_memory_model(tmp_path_factory):
    run_dma_bench("cocotb_dma_write", tmp_path_factory)


def simulate(dut, runs, *, latency, stall=0.0, foreign=0.0, seed=0):
    """Writes ``runs`` to a memory that acknowledges a burst ``latency`` cycles after its last
    beat; between its acknowledgements are ``foreign`` ones with another identifier. Checks what
    is in memory and gives the cycles from the first beat to the last ``done``."""
    data_width = len(dut.axi.wdata)
    beat_bytes = data_width // 8
    rng = random.Random(seed)
    beats = [(rng.getrandbits(data_width), rng.getrandbits(beat_bytes))
             for _, count in runs for _ in range(count)]
    written = {}  # byte address to byte
    times = []
    id = dut._id

    async def memory(ctx):
        rng = random.Random(seed + 1)
        bursts, answers = deque(), deque()
        cycle = offset = 0
        ctx.set(dut.axi.awready, 1)
        ctx.set(dut.axi.wready, 1)
        aw = dut.axi.awvalid, dut.axi.awready, dut.axi.awaddr, dut.axi.awlen
        w = dut.axi.wvalid, dut.axi.wready, dut.axi.wdata, dut.axi.wstrb, dut.axi.wlast
        while True:
            sampled = await ctx.tick().sample(*aw, *w)
            cycle += 1
            valid, ready, address, length = sampled[2:6]
            if valid and ready:
                assert address // 4096 == (address + length * beat_bytes) // 4096
                bursts.append((address, length))
            valid, ready, word, strobes, last = sampled[6:]
            if valid and ready:
                address, length = bursts[0]
                for byte in range(beat_bytes):
                    if strobes >> byte & 1:
                        written[address + offset * beat_bytes + byte] = word >> 8 * byte & 0xff
                assert last == (offset == length)
                offset += 1
                if last:
                    offset = 0
                    bursts.popleft()
                    answers.append(cycle + latency)
            ctx.set(dut.axi.awready, rng.random() >= stall)
            # A beat before its address would be legal, but this model could not place it.
            ctx.set(dut.axi.wready, bool(bursts) and rng.random() >= stall)
            if foreign and rng.random() < foreign:
                ctx.set(dut.axi.bvalid, 1)
                ctx.set(dut.axi.bid, 1 - id)
                ctx.set(dut.axi.bresp, Response.SLVERR)
            elif answers and answers[0] <= cycle and rng.random() >= stall:
                answers.popleft()
                ctx.set(dut.axi.bvalid, 1)
                ctx.set(dut.axi.bid, id)
                ctx.set(dut.axi.bresp, Response.OKAY)
            else:
                ctx.set(dut.axi.bvalid, 0)

    async def watch(ctx):
        cycle = done = 0
        while done < len(runs):
            _clk, _rst, taken, pulse, error = await ctx.tick().sample(
                dut.i.valid & dut.i.ready, dut.done, dut.error)
            cycle += 1
            if taken and not times:
                times.append(cycle)
            done += pulse
            assert not error
            assert cycle < 20000, "the writer hangs"
        times.append(cycle)
        assert ctx.get(dut.idle)

    sim = make_simulator(dut)
    sim.add_testbench(stream_source(
        dut.requests, [{"address": address, "beats": count} for address, count in runs],
        stall=stall, seed=seed + 2))
    sim.add_testbench(stream_source(
        dut.i, [{"data": word, "strb": strobes} for word, strobes in beats], stall=stall,
        seed=seed + 3))
    sim.add_testbench(memory, background=True)
    sim.add_testbench(watch)
    sim.run()

    expected, stream = {}, iter(beats)
    for address, count in runs:
        for n in range(count):
            word, strobes = next(stream)
            expected.update({address + n * beat_bytes + byte: word >> 8 * byte & 0xff
                             for byte in range(beat_bytes) if strobes >> byte & 1})
    assert written == expected
    return times[1] - times[0]


@pytest.mark.parametrize("data_width, burst_beats, outstanding, id", [
    (32, 1, 1, 0), (32, 256, 2, 1), (64, 4, 16, 0), (128, 16, 3, 1), (512, 64, 4, 0)])
def test_writes_runs_in_order_at_all_sizes(data_width, burst_beats, outstanding, id):
    rng = random.Random(data_width)
    beat_bytes = data_width // 8
    runs = [(rng.randrange(1 << 12) * beat_bytes, rng.randint(1, 60)) for _ in range(5)]
    runs.append((4096 - 2 * beat_bytes, 5))
    for stall, foreign in ((0, 0), (0.3, 0.2)):
        simulate(writer(data_width=data_width, burst_beats=burst_beats, outstanding=outstanding,
                        id=id), runs, latency=7, stall=stall, foreign=foreign, seed=3)


@pytest.mark.parametrize("runs", [
    [(0, 512)],
    [(8 * 5, 512)],
    [(0x1000 * n, 16) for n in range(32)],
])
def test_sustains_a_beat_per_cycle_at_32_cycles_of_latency(runs):
    cycles = simulate(writer(), runs, latency=32)
    total = sum(beats for _, beats in runs)
    # The first burst is buffered, the last one acknowledged.
    assert cycles <= total + 16 + 32 + 5


@pytest.mark.parametrize("changes, message", [
    ({"data_width": 48}, "Data width must be one of 32, 64, 128, 256, 512, not 48"),
    ({"addr_width": 70}, "Address width must be between 12 and 64, not 70"),
    ({"burst_beats": 3},
     "Burst beats must be a power of 2 between 1 and 256 at a data width of 64, not 3"),
    ({"outstanding": 17}, "Outstanding bursts must be between 1 and 16, not 17"),
    ({"id": -1}, "Identifier must be between 0 and 1, not -1"),
])
def test_parameters_wrong(changes, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        writer(**changes)
