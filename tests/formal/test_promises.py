"""Producers that cannot wait are never refused: no check of the hardware fails, for any traffic."""

import pytest
from amaranth.hdl import Assert, Assume, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from formal import free, inside, spoil

from weft.hw.bus.burst import request_layout
from weft.hw.isa.commands import VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import indexed_layout
from weft.hw.lib.checks import checking
from weft.hw.lib.half_slice import HalfSlice
from weft.hw.matrix import job_queue
from weft.hw.matrix.job_queue import JobQueue
from weft.hw.transfer import store
from weft.hw.transfer.front import transfer_layout
from weft.hw.transfer.store import StoreEngine
from weft.hw.vector import output
from weft.hw.vector.issue import VectorIssue
from weft.hw.vector.output import VectorOutput
from weft.hw.vector.tap import FEW_WORDS
from weft.hw.vector.words import VectorWords


def config(**changes):
    return AcceleratorConfig(**({
        "rows": 2, "cols": 2, "fip": False, "requant_lanes": 2, "activation_bytes": 1024,
        "activation_banks": 1, "weight_bytes": 4096, "accumulator_pixels": 16,
        "parameter_channels": 4, "axi_data_width": 32, "vector_taps": 2} | changes))


def counter(m, most, up, down, name):
    """How many there are of what comes and goes."""
    count = Signal(range(most + 1), name=name)
    m.d.sync += count.eq(count + up - down)
    return count


def sound(m, queue, depth):
    """Asserts what the registers of a queue have to do with each other: the proofs need it."""
    m.d.comb += [
        Assert(queue.level <= depth),
        Assert(queue.ready == (queue.level != depth)),
        Assert(queue.o__valid == (queue.level != 0)),
    ]


class AnyTransfers(wiring.Component):
    """In the place of the front of a load or store engine: any transfers, even illegal ones."""

    def __init__(self, *, config, command):
        super().__init__({
            "commands":  In(stream.Signature(indexed_layout(command))),
            "transfers": Out(stream.Signature(transfer_layout(config))),
            "requests":  Out(stream.Signature(request_layout(config.axi_addr_width))),
            "busy":      Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        free(m, wiring.flipped(self))
        return m


def store_spec(monkeypatch, config):
    """A word comes for each address, at any time after it; beats are acknowledged at any time."""
    monkeypatch.setattr(store, "TransferFront", AnyTransfers)
    m = Module()
    dut = StoreEngine(config)
    with checking():
        inner = inside(m, dut)
    free(m, dut)
    coming = counter(m, 31, dut.read_request.valid & dut.read_request.ready, dut.read_valid,
                     "coming")
    m.d.comb += [
        Assume(~dut.read_valid | (coming != 0)),
        # What room depends on: each word that is asked for has its entry in `lasts`.
        Assert(inner.lasts.level == inner.addresses.level + coming + inner.words.level),
        Assert(~inner.words.o__valid | inner.lasts.o__valid),
        Assert(inner.room_0 == inner.room_1),
        Assert(~inner.room_0 | (inner.lasts.level < StoreEngine.WORDS_AHEAD)),
    ]
    for queue in (inner.lasts, inner.addresses, inner.words):
        sound(m, queue, StoreEngine.WORDS_AHEAD)
    return m


@pytest.mark.parametrize("rows", [2, 8])
def test_store_engine_has_room_for_each_word(prove, monkeypatch, rows):
    """Words of less than a beat, and of more."""
    prove(store_spec(monkeypatch, config(rows=rows)))


def test_store_engine_that_asks_too_long_is_found(refute, monkeypatch):
    monkeypatch.setattr(store, "_MARGIN", 1)
    refute(store_spec(monkeypatch, config()), depth=30)


def jobs_spec(latency):
    """A job comes while fewer than two wait: those hold both banks of the accumulators."""
    m = Module()
    dut = JobQueue(latency=latency)
    with checking():
        inner = inside(m, dut)
    free(m, dut)
    waiting = counter(m, 3, dut.i.valid, dut.o.valid & dut.o.ready, "waiting")
    sums = [signal for name, signal in vars(inner).items() if name.startswith("complete_")]
    assert len(sums) == latency - 1
    m.d.comb += [
        Assume(~dut.i.valid | (waiting < 2)),
        Assert(waiting == inner.ready + sum(sums)),
    ]
    return m


@pytest.mark.parametrize("latency", [2, 5, 9])
def test_job_queue_takes_each_job(prove, latency):
    prove(jobs_spec(latency))


def test_job_queue_of_a_single_place_is_found(refute, monkeypatch):
    monkeypatch.setattr(job_queue, "RegisterSlice", HalfSlice)
    refute(jobs_spec(3), depth=10)


CREDITS = 4


def output_spec(config):
    """Each word has a credit, of which there are as many as words that can wait."""
    m = Module()
    dut = VectorOutput(config, depth=CREDITS)
    with checking():
        inner = inside(m, dut)
    free(m, dut)
    credits = Signal(range(CREDITS + 1), init=CREDITS)
    m.d.sync += credits.eq(credits + dut.credit - dut.i.valid)
    m.d.comb += [
        Assume(~dut.i.valid | (credits != 0)),
        Assert(credits + inner.level + dut.credit == CREDITS),
        Assert(inner.some == (inner.level != 0)),
    ]
    sound(m, inner.addresses, VectorOutput.ADDRESSES_AHEAD)
    return m


def test_vector_output_has_room_for_each_word(prove):
    prove(output_spec(config()))


def test_vector_output_that_works_out_too_many_addresses_is_found(refute, monkeypatch):
    monkeypatch.setattr(output, "_MARGIN", 2)
    refute(output_spec(config()), depth=30)



def issue_spec(config, agree=Assert, change=None):
    """The loops make a group where there was room in the cycle before and the group before has
    given its last word. Results come back some time after their last tap."""
    m = Module()
    words, dut = VectorWords(config), VectorIssue(config, credits=CREDITS)
    if change is not None:
        spoil(dut, lambda inner: change(inner, dut))
    with checking():
        loops = inside(m, words, "words")
        inner = inside(m, dut)
    wiring.connect(m, words.o, dut.i)
    free(m, words)
    free(m, dut, but=[dut.i.valid, dut.i.payload])
    taps, groups = config.vector_taps, config.vector_groups
    few = min(taps, FEW_WORDS)

    had_room, had_large = Signal(), Signal()
    scaled_goes, plain_goes = Signal(), Signal()
    m.d.sync += [
        had_room.eq(dut.room),
        had_large.eq(dut.large),
        scaled_goes.eq(inner.ends_scaled),
        plain_goes.eq(inner.ends & ~inner.ends_scaled),
    ]
    plain   = (dut.tap.operation.op == VectorOp.MAX) | (dut.tap.operation.op == VectorOp.LOOKUP)
    ends    = dut.tap_valid & dut.tap.end
    results = counter(m, CREDITS, ends, dut.credit, "results")
    scaled  = counter(m, CREDITS, ends & ~plain, dut.scaled, "scaled")
    since   = Signal(range(groups), init=groups - 1)  # the last end whose result is scaled
    with m.If(ends & ~plain):
        m.d.sync += since.eq(0)
    with m.Elif(since != groups - 1):
        m.d.sync += since.eq(since + 1)
    m.d.comb += [
        Assume(~words.valid | (had_room & words.last)),
        Assume(~words.valid | ((words.group.start < words.group.size)
                               & (words.group.size <= Mux(had_large, taps, few)))),
        Assume(~dut.credit | (results > scaled)),  # it has been requantized before
        Assume(~dut.scaled | (scaled != 0)),
        Assert(~ends | (results != CREDITS)),
        # A result that is not requantized overtakes none that is.
        Assert(~(ends & plain) | (scaled == 0)),
        # One that is comes when the requantizer has taken all lanes of the one before.
        Assert(~(ends & ~plain) | (since == groups - 1)),
        # Both queues give the same taps.
        agree((scaled_goes == (ends & ~plain)) & (plain_goes == (ends & plain))),
    ]

    # How full the queues are, and how many words are still to come.
    sound(m, inner.heads, VectorIssue.QUEUE_DEPTH)
    sound(m, inner.taps, VectorIssue.QUEUE_DEPTH)
    front, level = inner.front, inner.taps.level
    coming = Mux(loops.active, 1 + Mux(loops.last, 0, loops.more), 0)
    pacing = scaled_goes | (since < groups - 2)
    m.d.comb += [
        Assert(front.ready | front.o__valid),
        Assert(level == inner.heads.level + front.o__valid + ~front.ready + dut.tap_valid),
        Assert(loops.last | (loops.active & (loops.more != 0) & (loops.more < taps))),
        Assert(~had_room | (level <= VectorIssue.QUEUE_DEPTH - VectorWords.LATENCY
                            - Mux(had_large, taps, few))),
        Assert(level + loops.valid + coming <= VectorIssue.QUEUE_DEPTH),
        # What the registers that spare a comparison have to do with the counters.
        Assert(inner.credits + results + scaled_goes + plain_goes == CREDITS),
        Assert(inner.scaling == scaled + scaled_goes),
        Assert(scaled <= results),
        Assert(inner.no_credit == (inner.credits == 0)),
        Assert(inner.no_scaling == (inner.scaling == 0)),
        Assert(inner.no_pace == ~pacing),
        Assert(~pacing | (inner.pace == Mux(scaled_goes, groups - 1, groups - 2 - since))),
        Assert(inner.may_scaled == (~inner.no_credit & inner.no_pace)),
        Assert(inner.may_plain == (~inner.no_credit & inner.no_scaling)),
    ]
    return m


def test_vector_issue_has_room_for_groups_of_any_size(prove):
    prove(issue_spec(config(rows=4, vector_taps=7), agree=Assume))


def test_vector_issue_has_room_for_each_tap(prove):
    """That both queues give the same taps, as those were put in, is proved of a queue alone."""
    prove(issue_spec(config(rows=4), agree=Assume))


def test_vector_issue_sends_the_tap_that_it_asked_for(prove):
    prove(issue_spec(config(rows=4)), depth=8)


def test_vector_issue_that_always_sees_room_is_found(refute):
    spec = issue_spec(config(rows=4), agree=Assume,
                      change=lambda m, dut: m.d.comb.__iadd__(dut.room.eq(1)))
    refute(spec, depth=20)
