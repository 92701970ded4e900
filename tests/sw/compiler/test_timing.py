"""The timing model: each of its parts, and whole networks against the RTL."""

import numpy as np
import pytest
from command_streams import MASKS, load, lookup, matrix, store
from configs import LINES, PRODUCTS
from graph_builder import GraphBuilder
from models import quantize_model

from weft.bench.networks import NETWORKS
from weft.boards.registry import BOARDS
from weft.compiler.timing.engines import (
    Stream,
    bursts,
    command_cost,
    stall_rate,
    step_cycles,
    vector_overhead,
)
from weft.compiler.timing.memory import ReadPort
from weft.compiler.timing.player import Cause, MemoryTiming, play
from weft.compiler.timing.transfer import load_overhead, store_overhead, transfer_size
from weft.digits import MODEL as DIGITS
from weft.errors import CompileError, InputError
from weft.hw.control.dispatch import Dispatcher
from weft.hw.isa.commands import Engine, Opcode
from weft.hw.isa.encoding import decode
from weft.hw.isa.presets import PRESETS
from weft.hw.matrix.drain import Drain
from weft.hw.matrix.result_table import ResultTable
from weft.runtime.device import EventKind
from weft.runtime.runner import random_frames
from weft.runtime.session import InferenceSession
from weft.sim.simulator import MemoryModel

SMALL = PRESETS["small"]


# Streams of a few commands ----------------------------------------------------------------------

def played(*stream, config=SMALL, **options):
    return play(b"".join(stream), config, **options)


def test_command_starts_two_cycles_after_the_token():
    timeline = played(load(post=MASKS[Engine.MATRIX]), matrix(wait=MASKS[Engine.LOAD]))
    first, second = timeline.commands
    assert second.start == first.done + 2
    assert second.cause is Cause.LOAD
    assert second.waited > 0
    assert timeline.waits(Engine.MATRIX)[Cause.LOAD] == second.waited
    assert timeline.cycles == second.done + 2  # until the interrupt


def test_tokens_are_taken_in_the_order_in_which_they_are_given():
    timeline = played(load(post=MASKS[Engine.MATRIX]), load(units=512, post=MASKS[Engine.MATRIX]),
                      matrix(wait=MASKS[Engine.LOAD]), matrix(wait=MASKS[Engine.LOAD]))
    loads, others = timeline.commands[:2], timeline.commands[2:]
    assert others[0].start < loads[1].done < others[1].start == loads[1].done + 2


def test_commands_without_tokens_run_beside_one_another():
    alone = played(load(units=512)).commands[0]
    together = played(load(units=512), lookup()).commands
    assert together[0].done == alone.done
    assert together[1].done < alone.done


@pytest.mark.parametrize("stream, message", [
    ([matrix(wait=MASKS[Engine.LOAD])],
     "Command 0 waits for a token of the load engine that no command gives"),
    ([matrix(wait=MASKS[Engine.LOAD]), load(post=MASKS[Engine.MATRIX], wait=MASKS[Engine.MATRIX])],
     "Command 1 waits for a token of the matrix engine that no command gives"),
    ([matrix(wait=MASKS[Engine.LOAD], post=MASKS[Engine.LOAD]),
      load(post=MASKS[Engine.MATRIX], wait=MASKS[Engine.MATRIX])],
     "Command 0 never starts: it waits for one that waits for it"),
])
def test_stream_that_never_ends_wrong(stream, message):
    with pytest.raises(CompileError) as caught:
        played(*stream)
    assert str(caught.value) == message


def test_full_queue_holds_up_commands_for_other_engines():
    # None of the first commands can start before the LOAD at the end of the slow one is done.
    count = SMALL.queue_depth
    blocked = [matrix(wait=MASKS[Engine.LOAD] if number == 0 else 0) for number in range(count + 1)]
    slow = load(units=512, post=MASKS[Engine.MATRIX])
    fits = played(slow, *blocked[:count], lookup()).commands
    full = played(slow, *blocked, lookup()).commands
    assert fits[-1].start < fits[0].done
    assert full[-1].start > full[0].done
    assert full[-1].cause is Cause.FETCH


def test_engine_holds_a_few_commands_that_are_not_done():
    memory = MemoryTiming(latency=2000)
    timeline = played(*[store() for _ in range(Dispatcher.IN_FLIGHT + 1)], memory=memory)
    *held, last = timeline.commands
    assert held[-1].start < held[0].done
    assert last.start >= held[0].done + 2
    assert last.cause is Cause.OWN


def test_commands_are_fetched_at_the_rate_of_the_bus():
    # Each takes 8 beats of 64 bits and one to be handed over, and less time to execute.
    pushes = played(*[load(units=1) for _ in range(3)]).commands
    assert pushes[1].start - pushes[0].start == 9
    wide = played(*[load(units=1) for _ in range(3)], config=SMALL.replace(axi_data_width=256))
    assert wide.commands[1].start - wide.commands[0].start < 8


def test_latency_of_the_memory_counts_for_commands_and_data():
    slow, quick = (played(load(), memory=MemoryTiming(latency=latency)).commands[0]
                   for latency in (100, 32))
    assert slow.start - quick.start == 68
    assert slow.done - quick.done == 2 * 68


def test_rate_of_the_memory_stretches_a_load():
    half = played(load(units=512), memory=MemoryTiming(rate=0.5)).commands[0]
    full = played(load(units=512)).commands[0]
    beats = 512 * SMALL.weight_row_bytes // SMALL.axi_bytes
    assert full.done - full.start == pytest.approx(beats, abs=100)
    assert half.done - half.start == pytest.approx(2 * beats, abs=100)


@pytest.mark.parametrize("options, message", [
    ({"latency": 0}, "Memory latency must be an integer of at least 1, not 0"),
    ({"rate": 0.0}, "Memory rate must be above 0 and at most 1 beat per cycle, not 0.0"),
    ({"rate": 1.5}, "Memory rate must be above 0 and at most 1 beat per cycle, not 1.5"),
    ({"turnaround": -1}, "Memory turnaround must be at least 0 cycles, not -1"),
])
def test_memory_wrong(options, message):
    with pytest.raises(InputError) as caught:
        MemoryTiming(**options)
    assert str(caught.value) == message


@pytest.mark.parametrize("writes, first", [
    ([], 40),                       # behind the read before
    ([(5, 1)], 40 + 4 + 3),         # comes between the two, and turns the bus
    ([(5, 1), (6, 2)], 40 + 12 + 2 * 3),
    ([(200, 1)], 40),               # later
])
def test_writes_come_between_reads(writes, first):
    port = ReadPort(MemoryTiming(latency=4, rate=0.25, shared=True, turnaround=3))
    assert port.read(0, 10) == (0, 4, 40)
    for cycle, beats in writes:
        port.write(cycle, beats)
    assert port.read(1, 2)[1] == first + 1


def test_writes_while_nothing_is_read_delay_no_read():
    port = ReadPort(MemoryTiming(latency=4, rate=0.25, shared=True, turnaround=3))
    for cycle in range(0, 100, 20):
        port.write(cycle, 4)
    assert port.read(500, 1)[1] == 504


def test_memory_is_that_of_the_simulator():
    assert MemoryTiming().latency == MemoryModel(bytes=4096).latency


# Matrix ---------------------------------------------------------------------------------------

def test_steps_take_their_pixels_or_the_rows_of_a_weight_tile():
    config = PRESETS["base"]
    assert [step_cycles(config, pixels) for pixels in (1, 8, 9, 100)] == [8, 8, 9, 100]
    assert step_cycles(PRESETS["tiny"], 1) == 5
    few, many = (command_cost(config, Opcode.MATRIX, decode(matrix(
        pixels=20, tile=20, kernel=kernel))[1]).latency for kernel in (2, 7))
    assert many - few == 5 * 20


def test_drain_is_hidden_behind_long_tiles_and_bounds_short_ones():
    def cycles(kernel, tiles):
        fields = decode(matrix(pixels=64 * tiles, tile=64, kernel=kernel))[1]
        return command_cost(SMALL, Opcode.MATRIX, fields).latency
    assert SMALL.requant_groups == 2
    assert cycles(5, 4) - cycles(5, 3) == 5 * 64
    assert cycles(1, 4) - cycles(1, 3) == 2 * 64 + 1  # a cycle from one tile to the next


def test_third_tile_waits_for_the_half_of_the_first():
    fields = decode(matrix(pixels=3 * 64, tile=64, kernel=1))[1]
    cost = command_cost(SMALL, Opcode.MATRIX, fields)
    assert cost.busy > 3 * 64 + 64
    fields = decode(matrix(pixels=2 * 64, tile=64, kernel=1))[1]
    assert command_cost(SMALL, Opcode.MATRIX, fields).busy == 2 * 64


def test_results_through_a_table_are_later_and_those_behind_them_wait():
    plain, looked_up = (command_cost(SMALL, Opcode.MATRIX, decode(matrix(table=table))[1])
                        for table in (0, 1))
    assert looked_up.busy == plain.busy
    assert looked_up.latency == plain.latency + ResultTable.LATENCY
    # Of one step each, so that the drain has no rest.
    streams = [[matrix(table=table) for table in tables] for tables in ((1, 1), (0, 1), (1, 0))]
    same, first, last = (played(*stream).commands[1].done for stream in streams)
    assert first == same
    assert last == same - ResultTable.LATENCY + Drain.PARTING


def test_next_command_streams_while_the_one_before_is_drained():
    first, second = played(matrix(kernel=3), matrix(kernel=3)).commands
    assert second.start < first.done
    assert second.done - first.done == 3 * 64


@pytest.mark.parametrize("units, lines", [(1, 1), (8, 1), (8, 3), (16, 2), (100, 1)])
@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_transfer_alone_takes_what_its_stages_take(config, units, lines):
    for make in (load, store):
        raw = make(units, lines)
        opcode, fields = decode(raw)
        alone, = played(raw, config=config).commands
        _, beats, moves = transfer_size(config, opcode, fields)
        overhead = (load_overhead(config, lines) if opcode is Opcode.LOAD
                    else store_overhead(config, lines, moves))
        assert alone.done - alone.start \
            == lines * max(beats, moves) + MemoryTiming().latency + overhead


# Vector and banks ---------------------------------------------------------------------------

def test_vector_commands_read_one_behind_the_other():
    one, two = played(lookup(100), lookup(100)).commands
    assert one.done - one.start == 100 + vector_overhead(SMALL, scaled=False)
    assert two.start < one.done
    assert two.done == one.done + 100 + 3


def test_streams_in_step_lose_no_more_than_a_cycle():
    assert stall_rate(4, (0,), 1, Stream(1, 1)) < 0.02
    assert stall_rate(4, (0, 0), 1, Stream(1, 2)) < 0.02


def test_streams_out_of_step_lose_cycles():
    assert stall_rate(4, (0, 0), 1, Stream(1, 1)) == pytest.approx(1 / 7, abs=0.02)
    assert stall_rate(4, (0, 0, 0), 1, Stream(1, 1)) == pytest.approx(2 / 11, abs=0.02)
    assert stall_rate(1, (0,), 1, Stream(0, 1)) == 0.5  # as far as it is followed


def test_bursts_end_at_pages_and_at_their_longest():
    config = SMALL.replace(axi_burst_beats=16)
    assert list(bursts(config, 0, 40)) == [16, 16, 8]
    assert list(bursts(config, 4096 - 5 * 8, 40)) == [5, 16, 16, 3]
    assert list(bursts(config, 4096 - 5 * 8, 5)) == [5]


# Against the RTL ------------------------------------------------------------------------------

def compare(model, config, *, frames=2, **options):
    """Share by which the model misses the cycles of the RTL, for each frame."""
    errors = []
    with InferenceSession(model, config=config, **options) as session:
        inputs = random_frames(session, 1)
        for _ in range(frames):
            result = session.run_frame(inputs)
            total = 0
            for run in result.executions:
                program = run.program
                timeline = play(run.commands, config, address=(
                    program.warm_address if run.warm else program.command_address),
                    memory=MemoryTiming(latency=options.get("latency", 32)))
                total += timeline.cycles
                assert [command.engine for command in timeline.commands] == \
                    [info.engine for info in run.infos]
            errors.append((total - result.cycles) / result.cycles)
    return errors


@pytest.mark.parametrize("config", ["tiny", "small", "base"])
def test_digits_take_as_long_as_on_the_rtl(config):
    assert np.abs(compare(DIGITS, PRESETS[config])).max() < 0.01


def test_digits_on_a_sequential_accelerator_take_as_long_as_on_the_rtl():
    # Requantization takes longer for some values than for others.
    assert np.abs(compare(DIGITS, BOARDS["icebreaker"].config)).max() < 0.02


@pytest.mark.parametrize("network", ["mobilenet_v2_block", "squeezenet_fire", "autoencoder",
                                     "unet"])
def test_network_takes_as_long_as_on_the_rtl(network):
    rng = np.random.default_rng([len(network), 5])
    model = quantize_model(rng, NETWORKS[network](rng))
    assert np.abs(compare(model, PRESETS["base"])).max() < 0.01


@pytest.mark.parametrize("width", [12, 13, 14, 15])
def test_operands_that_are_read_at_a_time_take_as_long_as_on_the_rtl(width):
    builder = GraphBuilder(np.random.default_rng(width), (12, width, width))
    x = builder.conv(builder.input, 16)
    gated = builder.product(x, builder.conv(builder.global_average(x), 16))
    graph = builder.graph(builder.conv(builder.sum(builder.sum(gated, x), gated), 8))
    errors = compare(graph, LINES)
    assert np.abs(errors).max() < 0.01, errors


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("tokens, depth, heads", [(33, 8, 3), (64, 16, 2), (17, 5, 1)])
def test_attention_takes_as_long_as_on_the_rtl(tokens, depth, heads, softmax):
    builder = GraphBuilder(np.random.default_rng(tokens), (24, tokens, 1))
    q, k, v = (builder.conv(builder.input, heads * depth) for _ in range(3))
    scores = builder.matmul(q, k, heads=heads, transposed=True)
    if softmax:
        scores = builder.softmax(scores, heads=heads)
    graph = builder.graph(builder.conv(builder.matmul(scores, v, heads=heads), 24))
    errors = compare(graph, PRODUCTS)
    assert np.abs(errors).max() < 0.03, errors


def test_attention_in_turns_of_its_heads_takes_as_long_as_on_the_rtl():
    builder = GraphBuilder(np.random.default_rng(150), (8, 150, 1))
    q, k, v = (builder.conv(builder.input, 12) for _ in range(3))
    scores = builder.matmul(q, k, heads=3, transposed=True)
    context = builder.matmul(builder.softmax(scores, heads=3), v, heads=3)
    errors = compare(builder.graph(builder.conv(context, 8)), PRODUCTS)
    assert np.abs(errors).max() < 0.03, errors


@pytest.mark.parametrize("tokens, length", [(33, 24), (1, 8), (20, 64)])
def test_normalized_rows_take_as_long_as_on_the_rtl(tokens, length):
    builder = GraphBuilder(np.random.default_rng(tokens), (length, tokens, 1))
    graph = builder.graph(builder.conv(builder.normalization(builder.input), 24))
    errors = compare(graph, PRODUCTS)
    assert np.abs(errors).max() < 0.03, errors


@pytest.mark.slow
@pytest.mark.parametrize("config", ["tiny", "small", "wide", "base"])
@pytest.mark.parametrize("network", [name for name in NETWORKS if name != "resnet50"])
def test_every_network_within_three_percent(network, config):
    rng = np.random.default_rng([len(network), 5])
    model = quantize_model(rng, NETWORKS[network](rng))
    assert np.abs(compare(model, PRESETS[config])).max() < 0.03


def test_every_command_starts_and_ends_as_on_the_rtl():
    """Where no two engines go through the activation memory at a time there is nothing to
    estimate, but for the burst with which a LOAD that waits for room goes on."""
    config = PRESETS["base"]
    rng = np.random.default_rng([len("autoencoder"), 5])
    model = quantize_model(rng, NETWORKS["autoencoder"](rng))
    with InferenceSession(model, config=config) as session:
        run, = session.run_frame(random_frames(session, 1)).executions
    timeline = play(run.commands, config, address=run.program.command_address)
    found = {(event.index, event.kind): event.cycle for event in run.events}
    expected = {(index, kind): cycle for index, command in enumerate(timeline.commands)
                for kind, cycle in ((EventKind.START, command.start),
                                    (EventKind.DONE, command.done))}
    assert found.keys() == expected.keys()
    off = [abs(found[event] - expected[event]) for event in found]
    assert max(off) <= config.axi_burst_beats
    assert sum(map(bool, off)) <= len(off) // 10
