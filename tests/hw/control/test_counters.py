"""Performance counters on the smallest preset: every cycle has one name for each engine, and a
command stream made for a cause shows it under its name."""

import numpy as np
import pytest
from amaranth.hdl import Value
from amaranth.lib import data
from graph_builder import GraphBuilder
from graphs import random_image
from stream_bench import make_simulator

from weft.hw.control.port import ControlPort
from weft.hw.isa.commands import COMMANDS, Engine, Memory, Opcode, VectorOp
from weft.hw.isa.encoding import encode
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import (
    CONFIG_BASE,
    COUNTER_BASE,
    Control,
    Counter,
    Register,
    config_words,
    cycle_counters,
)
from weft.runtime.device import Driver
from weft.runtime.device.functional import FunctionalDevice
from weft.runtime.device.verilator import VerilatorDevice
from weft.runtime.session import InferenceSession

TINY = PRESETS["tiny"]
LOAD, MATRIX, VECTOR, STORE = (1 << engine.value for engine in Engine)
DATA, RESULT = 0x8000, 0xc000


def command(opcode, *, wait=0, post=0, **fields):
    names = [name for name, _ in data.Layout.cast(COMMANDS[opcode]) if name[0] != "_"]
    defaults = dict.fromkeys(names, 0)
    del defaults["header"]
    return encode(opcode, wait=wait, post=post, **(defaults | fields))


def load(memory=Memory.ACTIVATION, *, units=8, **fields):
    return command(Opcode.LOAD, **{"memory": memory, "lines": 1, "address": DATA, "units": units,
                                   **fields})


def store(*, units=8, **fields):
    return command(Opcode.STORE, **{"lines": 1, "address": RESULT, "units": units, **fields})


def copy(words, *, step=1, **fields):
    """Maximum over windows of one word, from words ``step`` apart to such words."""
    return command(Opcode.VECTOR, **{
        "op": VectorOp.MAX, "blocks": 1, "out_outer": 1, "out_inner": words, "in_outer": 1,
        "in_inner": words, "in_inner_step": step, "out_inner_step": step, "out_base": 8192,
        "kernel_outer": 1, "kernel_inner": 1, "stride_outer": 1, "stride_inner": 1,
        "dilation_outer": 1, "dilation_inner": 1, "clamp_min": -128, "clamp_max": 127, **fields})


def convolve(pixels, **fields):
    """A 1x1 convolution of one row, one channel block to one column tile."""
    return command(Opcode.MATRIX, **{
        "in_h": 1, "in_w": pixels, "channel_blocks": 1, "kernel_h": 1, "kernel_w": 1,
        "stride_h": 1, "stride_w": 1, "dilation_h": 1, "dilation_w": 1, "pixel_row_step": pixels,
        "kernel_row_step": pixels, "out_w": pixels,
        "tile_pixels": min(pixels, TINY.accumulator_pixels), "out_pixels": pixels,
        "out_base": 4096, "clamp_min": -128, "clamp_max": 127, "col_tiles": 1,
        "last_groups": TINY.requant_groups, **fields})


@pytest.fixture
def counters():
    """Runs a command stream; returns the cycles of each engine by what it did."""
    devices = []

    def run(*commands, **memory):
        device = VerilatorDevice(TINY, memory_bytes=1 << 16, **memory)
        devices.append(device)
        device.write_memory(0, b"".join(commands))
        result = Driver(device).run(0, len(commands))
        cycles = {engine: {name: result.counters[counter]
                           for name, counter in cycle_counters(engine).items()}
                  for engine in Engine}
        for names in cycles.values():
            assert sum(names.values()) == result.counters[Counter.CYCLES] == result.cycles
        return cycles

    yield run
    for device in devices:
        device.close()


def test_every_counter_but_three_belongs_to_an_engine():
    shared = [counter for engine in Engine for counter in cycle_counters(engine).values()]
    assert sorted(shared) == sorted(set(Counter) - {Counter.CYCLES, Counter.READ_BEATS,
                                                    Counter.WRITE_BEATS})


@pytest.mark.parametrize("memory", [{}, {"stall_probability": 0.5, "latency": 100, "seed": 1}])
def test_names_of_an_engine_sum_to_the_cycles_of_a_network(memory):
    rng = np.random.default_rng(5)
    builder = GraphBuilder(rng, (7, 9, 6))
    graph = builder.graph(builder.conv(builder.conv(builder.input, 9), 5, kernel=(1, 1)))
    image = random_image(rng, graph)
    feeds = {edge.name: graph.leave(edge, image[edge.tensor]) for edge in graph.inputs}
    with InferenceSession(graph, config=TINY, **memory) as session:
        for _ in range(2):
            frame = session.run_frame(feeds)
            for engine in Engine:
                assert sum(frame.counters[counter.name.lower()] for counter
                           in cycle_counters(engine).values()) == frame.cycles


# On purpose -----------------------------------------------------------------------------------

@pytest.mark.parametrize("memory, unit_beats", [
    (Memory.ACTIVATION, 1),
    (Memory.PARAMETER, TINY.parameter_entry_bytes // TINY.axi_bytes),
])
def test_load_is_busy_with_each_beat(counters, memory, unit_beats):
    assert counters(load(memory, units=50))[Engine.LOAD]["busy"] == 50 * unit_beats


def test_load_and_store_wait_for_memory(counters):
    fast, slow = (counters(load(), store(), latency=latency) for latency in (20, 220))
    for engine in (Engine.LOAD, Engine.STORE):
        assert slow[engine]["memory"] == fast[engine]["memory"] + 200
        assert slow[engine]["busy"] == fast[engine]["busy"]


def test_load_and_store_check_a_command_longer_if_it_has_many_lines(counters):
    few, many = (counters(load(lines=lines), store(lines=lines)) for lines in (1, 257))
    for engine in (Engine.LOAD, Engine.STORE):
        assert many[engine]["setup"] == few[engine]["setup"] + 9  # bits of 256


def test_load_is_refused_while_the_vector_engine_writes_to_its_bank(counters):
    same = counters(copy(200, step=TINY.activation_banks), load(units=600))
    assert same[Engine.LOAD]["activation"] > 50
    alone = counters(load(units=600))
    assert alone[Engine.LOAD]["activation"] == 0


@pytest.mark.parametrize("engine, behind", [(Engine.VECTOR, copy(500)),
                                            (Engine.STORE, store(units=500))],
                         ids=["vector", "store"])
def test_vector_and_store_are_refused_while_the_matrix_engine_reads_their_bank(
        counters, engine, behind):
    both = counters(convolve(1024, in_w=4096, stride_w=TINY.activation_banks), behind)
    assert both[engine]["activation"] > 50
    assert counters(behind)[engine]["activation"] <= 1  # where its own writes meet its reads


def test_matrix_is_busy_with_each_pixel(counters):
    cycles = counters(convolve(100, channel_blocks=3, in_plane=100))[Engine.MATRIX]
    assert cycles["busy"] == 300
    assert cycles["accumulator"] == 0


def test_matrix_waits_for_weights_when_a_tile_has_few_pixels(counters):
    few, many = (counters(convolve(pixels, channel_blocks=64, in_plane=pixels))[Engine.MATRIX]
                 for pixels in (1, 8))
    assert few["weights"] > 100
    assert many["weights"] < 20


def test_matrix_waits_for_an_accumulator_while_draining_takes_longer_than_summing(counters):
    one, three = (counters(convolve(1024, channel_blocks=blocks))[Engine.MATRIX]
                  for blocks in (1, 3))
    assert TINY.requant_groups == 2  # cycles to drain a pixel
    assert one["accumulator"] > 500
    assert three["accumulator"] == 0


def test_matrix_drains_its_last_tile(counters):
    few, many = (counters(convolve(pixels))[Engine.MATRIX] for pixels in (10, 110))
    assert many["drain"] == few["drain"] + 100 * TINY.requant_groups


def test_vector_waits_for_its_last_word(counters):
    cycles = counters(copy(1))[Engine.VECTOR]
    assert cycles["busy"] == 2  # a read, a write
    assert cycles["drain"] > 5


@pytest.mark.parametrize("engine, waiting", [
    (Engine.MATRIX, convolve(8, wait=LOAD)),
    (Engine.VECTOR, copy(8, wait=LOAD)),
    (Engine.STORE, store(wait=LOAD)),
], ids=["matrix", "vector", "store"])
def test_an_engine_waits_for_a_token(counters, engine, waiting):
    first = load(post=1 << engine.value)
    fast, slow = (counters(first, waiting, latency=latency)[engine] for latency in (20, 220))
    # Store itself waits for the memory too, after the token.
    assert slow["semaphore"] == fast["semaphore"] + 200
    assert slow["idle"] == fast["idle"]


def test_load_waits_for_a_token(counters):
    few, many = (counters(copy(words, post=LOAD), load(wait=VECTOR))[Engine.LOAD]
                 for words in (20, 120))
    assert many["semaphore"] == few["semaphore"] + 100


def test_engines_wait_for_the_command_fetch(counters):
    fast, slow = (counters(copy(8), latency=latency) for latency in (20, 220))
    for engine in Engine:  # none can tell whether the command on its way is its own
        assert slow[engine]["fetch"] == fast[engine]["fetch"] + 200


def test_engines_are_idle_behind_a_full_queue_and_when_nothing_is_left(counters):
    loads = [load(units=200) for _ in range(16)]
    behind = counters(*loads, copy(8), latency=1)[Engine.VECTOR]
    before = counters(copy(8), *loads, latency=1)[Engine.VECTOR]
    for cycles in (behind, before):
        assert cycles["idle"] > 4 * cycles["fetch"]


# Without --------------------------------------------------------------------------------------

def test_without_counters_there_are_only_cycles():
    dut = ControlPort(TINY.replace(counters=False), faults=1)
    bus = dut.s_axi

    async def write(ctx, register, value):
        for name, payload in (("awaddr", register), ("wdata", value), ("wstrb", 15)):
            ctx.set(getattr(bus, name), payload)
        ctx.set(bus.awvalid, 1)
        ctx.set(bus.wvalid, 1)
        ctx.set(bus.bready, 1)
        await ctx.tick().until(bus.bvalid)
        ctx.set(bus.awvalid, 0)
        ctx.set(bus.wvalid, 0)

    async def read(ctx, register):
        ctx.set(bus.araddr, register)
        ctx.set(bus.arvalid, 1)
        ctx.set(bus.rready, 1)
        value, = await ctx.tick().sample(bus.rdata).until(bus.rvalid)
        ctx.set(bus.arvalid, 0)
        await ctx.tick().repeat(4)
        return value

    async def bench(ctx):
        ctx.set(Value.cast(dut.core.count_up), -1)
        await write(ctx, Register.COMMAND_COUNT, 1)
        await ctx.tick().repeat(3)
        await write(ctx, Register.CONTROL, Control.START)
        await ctx.tick().repeat(50)
        for counter in Counter:
            value = await read(ctx, COUNTER_BASE + 4 * counter)
            assert (value > 40) if counter is Counter.CYCLES else value == 0
        words = list(config_words(TINY))
        assert await read(ctx, CONFIG_BASE + 4 * words.index("counters")) == 0

    simulator = make_simulator(dut)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("counters", [True, False])
def test_functional_device_counts_beats_only_with_counters(counters):
    device = FunctionalDevice(TINY.replace(counters=counters), memory_bytes=1 << 16)
    device.write_memory(0, load())
    result = Driver(device).run(0, 1)
    assert (result.counters[Counter.READ_BEATS] > 0) == counters
