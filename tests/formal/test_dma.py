"""The read and the write engine, and how they cut runs into bursts.

The memory is any that AXI allows: it takes addresses and gives beats and responses whenever it
likes, and transactions of others go by in between.
"""

from types import SimpleNamespace

import pytest
from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from formal import checked, follow, free, in_order, inside, keeps, spoil

from weft.hw.bus import dma, dma_read, dma_write
from weft.hw.bus.burst import BurstSplitter
from weft.hw.bus.dma_read import ReadEngine
from weft.hw.bus.dma_write import WriteEngine
from weft.hw.lib.queue import Queue

PAGE = 4096
ADDR_WIDTH = 13  # two pages


def legal_runs(m, requests, beat_bytes):
    """Assumes what the engines' contract asks for: a run of whole beats inside the memory."""
    m.d.comb += [
        Assume(keeps(m, requests.valid, requests.ready, requests.payload)),
        Assume(requests.p.address % beat_bytes == 0),
        Assume(requests.p.beats != 0),
        Assume(requests.p.address + requests.p.beats * beat_bytes
               <= 1 << len(requests.p.address)),
    ]


def runs_are_cut_well(m, requests, bursts, *, beat_bytes, burst_beats):
    """Asserts that bursts make up the one run at hand, beat by beat; each is as long as may be."""
    address = Signal.like(requests.p.address)
    left    = Signal.like(requests.p.beats)
    with m.If(requests.valid & requests.ready):
        m.d.comb += Assert(left == 0)
        m.d.sync += [address.eq(requests.p.address), left.eq(requests.p.beats)]
    beats = Signal(9)
    m.d.comb += beats.eq(bursts.length + 1)
    page = (PAGE - address[:12]) // beat_bytes  # beats to its end
    with m.If(bursts.valid):
        m.d.comb += [
            Assert(bursts.address == address),
            Assert(beats <= left),
            Assert(beats <= page),
            Assert(beats <= burst_beats),
            Assert((beats == left) | (beats == page) | (beats == burst_beats)),
        ]
        with m.If(bursts.ready):
            m.d.sync += [address.eq(address + beats * beat_bytes), left.eq(left - beats)]
    return address, left


def splitter_holds(inner, address, left, *, data_width, burst_beats):
    """Asserts how the state of a splitter belongs to what is left of the run."""
    beat_bytes = data_width // 8
    page  = (PAGE - inner.address[:12]) // beat_bytes
    limit = Mux(page < burst_beats, page, burst_beats)
    busy  = inner.judge | inner.o__valid
    return [
        Assert(inner.empty + inner.judge + inner.o__valid + inner.step == 1),
        Assert(inner.empty == (left == 0)),
        Assert(inner.empty | (address % beat_bytes == 0)),
        Assert(inner.empty | (address + left * beat_bytes <= 1 << len(address))),
        Assert(~busy | ((inner.address == address) & (inner.left == left))),
        Assert(~(inner.o__valid | inner.step) | ((inner.longest == limit)
                                                & (inner.last == (inner.left <= limit)))),
        Assert(~inner.step | ((inner.address + limit * beat_bytes == address)
                              & (inner.left == left + limit) & (inner.address % beat_bytes == 0))),
    ]


def splitter_spec(dut, *, data_width, burst_beats):
    m = Module()
    inner = inside(m, dut)
    free(m, dut)
    legal_runs(m, dut.i, data_width // 8)
    address, left = runs_are_cut_well(
        m, dut.i, SimpleNamespace(valid=dut.o.valid, ready=dut.o.ready, address=dut.o.p.address,
                                  length=dut.o.p.length),
        beat_bytes=data_width // 8, burst_beats=burst_beats)
    waits = Signal(2)  # cycles without a burst on offer
    m.d.sync += waits.eq(Mux(dut.o.valid | dut.idle, 0, waits + 1))
    recent = Signal(2)  # cycles since a burst was taken
    m.d.sync += recent.eq(Cat(dut.o.valid & dut.o.ready, recent[0]))
    m.d.comb += [
        Assert(keeps(m, dut.o.valid, dut.o.ready, dut.o.payload)),
        Assert(~dut.o.valid | (dut.o.p.last == (left == dut.o.p.length + 1))),
        Assert(dut.idle == (left == 0)),
        Assert(waits <= 2),
        Assert(~(dut.o.valid & recent.any())),
        *splitter_holds(inner, address, left, data_width=data_width, burst_beats=burst_beats),
    ]
    return m


@pytest.mark.parametrize("data_width, burst_beats", [(32, 1), (32, 4), (64, 16), (512, 64)])
def test_burst_splitter(prove, data_width, burst_beats):
    dut = BurstSplitter(data_width=data_width, addr_width=ADDR_WIDTH, burst_beats=burst_beats)
    prove(splitter_spec(dut, data_width=data_width, burst_beats=burst_beats))


def test_burst_over_the_page_is_found(refute):
    dut = BurstSplitter(data_width=32, addr_width=ADDR_WIDTH, burst_beats=4)
    spoil(dut, lambda m: m.d.comb.__iadd__(dut.o.p.length.eq(3)))
    refute(splitter_spec(dut, data_width=32, burst_beats=4))


class AnyBursts(wiring.Component):
    """Bursts as a splitter may make them, which is proved above; of any length and at any time."""

    def __init__(self, *, data_width, addr_width, burst_beats):
        super().__init__(BurstSplitter(data_width=data_width, addr_width=addr_width,
                                       burst_beats=burst_beats).signature)
        self._burst_beats = burst_beats

    def elaborate(self, platform):
        m = Module()
        recent = Signal(2)  # cycles since a burst was taken
        m.d.sync += recent.eq(Cat(self.o.valid & self.o.ready, recent[0]))
        m.d.comb += [
            self.i.ready.eq(AnySeq(1)),
            self.idle.eq(AnySeq(1)),
            self.o.valid.eq(AnySeq(1)),
            self.o.payload.as_value().eq(AnySeq(len(self.o.payload.as_value()))),
            Assume(keeps(m, self.o.valid, self.o.ready, self.o.payload)),
            Assume(self.o.p.length < self._burst_beats),
            Assume(~(self.o.valid & (self.idle | recent.any()))),
        ]
        return m


def any_bursts(monkeypatch):
    """Puts such a splitter into the engines; it is in the list when one is elaborated."""
    made = []

    def make(**parameters):
        made.append(AnyBursts(**parameters))
        return made[-1]

    monkeypatch.setattr(dma, "BurstSplitter", make)
    return made


def read_spec(dut, monkeypatch, *, burst_beats, outstanding, queue=None):
    made = any_bursts(monkeypatch)
    monkeypatch.setattr(dma_read, "Queue", queue or checked(Queue))  # its `ready` is not looked at
    m = Module()
    inner = inside(m, dut)
    free(m, dut)

    # The memory.
    axi  = dut.axi
    asks = axi.arvalid & axi.arready
    ours = axi.rvalid & (axi.rid == 1)
    lengths, count = follow(m, asks, axi.arlen, ours & axi.rlast, outstanding)
    beats = Signal(8)  # of the oldest burst that have come
    with m.If(ours):
        m.d.sync += beats.eq(Mux(axi.rlast, 0, beats + 1))
    m.d.comb += [
        Assume(~ours | (count != 0)),
        Assume(~ours | (axi.rlast == (beats == lengths[0]))),
    ]

    bursts, = made
    held  = in_order(m, SimpleNamespace(valid=ours, ready=axi.rready,
                                        payload=Cat(axi.rdata[0], axi.rresp.as_value()[1])),
                     SimpleNamespace(valid=dut.o.valid, ready=dut.o.ready,
                                     payload=Cat(dut.o.payload[0], dut.o_error)),
                     burst_beats * outstanding)
    halted, asked = Signal(), Signal()
    m.d.sync += [halted.eq(dut.halt), asked.eq(axi.arvalid)]
    m.d.comb += [
        Assert(keeps(m, axi.arvalid, axi.arready, axi.araddr, axi.arlen)),
        Assert(keeps(m, dut.o.valid, dut.o.ready, dut.o.payload, dut.o_error)),
        Assert(axi.rready),
        Assert(axi.arvalid + count <= outstanding),
        Assert(~(halted & ~asked & axi.arvalid)),
        Assert(dut.o.valid | ~dut.o_error),
        Assert(~dut.idle | ((count == 0) & ~axi.arvalid)),
        Assert(~dut.idle | dut.halt | (held == 0)),
    ]
    in_order(m, SimpleNamespace(valid=bursts.o.valid, ready=bursts.o.ready,
                                payload=Cat(bursts.o.p.address, bursts.o.p.length)),
             SimpleNamespace(valid=axi.arvalid, ready=axi.arready,
                             payload=Cat(axi.araddr, axi.arlen)), 1)

    # How it counts.
    coming = sum((Mux(count > number, lengths[number] + 1, 0) for number in range(outstanding)),
                 Mux(axi.arvalid, axi.arlen + 1, 0)) - beats
    m.d.comb += [
        Assert(inner.flying == count + axi.arvalid),
        Assert((inner.asked - inner.taken)[:len(inner.asked)] == held + coming),
        Assert(held + coming <= burst_beats * outstanding),
        Assert((count != 0) | (beats == 0)),
        Assert((count == 0) | (beats <= lengths[0])),
        *(Assert((count <= number) | (lengths[number] < burst_beats))
          for number in range(outstanding)),
        Assert(~axi.arvalid | (axi.arlen < burst_beats)),
    ]
    return m


def read_engine(burst_beats, outstanding):
    return ReadEngine(data_width=32, addr_width=12, burst_beats=burst_beats,
                      outstanding=outstanding, id=1)


@pytest.mark.parametrize("burst_beats, outstanding", [
    (1, 1), (1, 2), (2, 1), (2, 2)])
def test_read_engine(prove, monkeypatch, burst_beats, outstanding):
    prove(read_spec(read_engine(burst_beats, outstanding), monkeypatch,
                    burst_beats=burst_beats, outstanding=outstanding))


@pytest.mark.parametrize("wrong", [
    "a place less", "ask again", "wrong burst"])
def test_broken_read_engine_is_found(refute, monkeypatch, wrong):
    dut, queue = read_engine(2, 2), None
    if wrong == "a place less":
        def queue(*, shape, depth):
            return checked(Queue)(shape=shape, depth=depth - 1)
    elif wrong == "ask again":
        spoil(dut, lambda m: m.d.sync.__iadd__(dut.axi.arvalid.eq(dut.axi.arvalid)))
    else:
        spoil(dut, lambda m: m.d.comb.__iadd__(dut.axi.arlen.eq(0)))
    refute(read_spec(dut, monkeypatch, burst_beats=2, outstanding=2, queue=queue), depth=24)


def write_spec(dut, monkeypatch, *, burst_beats, outstanding, less=0):
    made = any_bursts(monkeypatch)
    m = Module()

    def queue(*, shape, depth):
        # That of the bursts' ends must always be ready. The buffer makes its source wait.
        return (checked(Queue)(shape=shape, depth=depth - less) if shape == 1
                else Queue(shape=shape, depth=depth))

    monkeypatch.setattr(dma_write, "Queue", queue)
    inner = inside(m, dut)
    free(m, dut)
    bursts, = made
    axi = dut.axi

    # Bursts announced: those whose beats have not all been taken, and those without a response.
    begins = bursts.o.valid & bursts.o.ready
    beat   = axi.wvalid & axi.wready
    answer = axi.bvalid & (axi.bid == 1)
    lengths, unsent = follow(m, begins, bursts.o.p.length, beat & axi.wlast, outstanding)
    lasts, flying   = follow(m, begins, bursts.o.p.last, answer, outstanding)
    beats = Signal(8)  # of the oldest one that have been taken
    with m.If(beat):
        m.d.sync += beats.eq(Mux(axi.wlast, 0, beats + 1))
    # The memory answers what it has been told of, and been given.
    taken, sent = (Signal(range(outstanding + 2), name=name) for name in ("taken", "sent"))
    m.d.sync += [
        taken.eq(taken + (axi.awvalid & axi.awready) - answer),
        sent.eq(sent + (beat & axi.wlast) - answer),
    ]
    m.d.comb += Assume(~answer | ((taken != 0) & (sent != 0)))

    in_order(m, SimpleNamespace(valid=bursts.o.valid, ready=bursts.o.ready,
                                payload=Cat(bursts.o.p.address, bursts.o.p.length)),
             SimpleNamespace(valid=axi.awvalid, ready=axi.awready,
                             payload=Cat(axi.awaddr, axi.awlen)), 1)
    held = in_order(m, SimpleNamespace(valid=dut.i.valid, ready=dut.i.ready,
                                       payload=Cat(dut.i.p.data[0], dut.i.p.strb[0])),
                    SimpleNamespace(valid=axi.wvalid, ready=axi.wready,
                                    payload=Cat(axi.wdata[0], axi.wstrb[0])),
                    2 * burst_beats + 2)
    begun, done, failed = Signal(), Signal(), Signal()
    m.d.sync += [
        begun.eq((begun | axi.wvalid) & ~(beat & axi.wlast)),
        done.eq(answer & (lasts[0] != 0)),
        failed.eq(answer & axi.bresp.as_value()[1]),
    ]
    m.d.comb += [
        Assert(keeps(m, axi.awvalid, axi.awready, axi.awaddr, axi.awlen)),
        Assert(keeps(m, axi.wvalid, axi.wready, axi.wdata[0], axi.wstrb[0], axi.wlast)),
        # A beat belongs to a burst that has been announced, and a burst that began does not pause.
        Assert(~axi.wvalid | (unsent != 0)),
        Assert(~axi.wvalid | (axi.wlast == (beats == lengths[0]))),
        Assert(~begun | axi.wvalid),
        Assert(~(dut.halt & begins)),
        Assert(axi.bready),
        Assert(dut.done == done),
        Assert(dut.error == failed),
        Assert(flying <= outstanding),
        Assert(~dut.idle | (flying == 0)),
        Assert(~dut.idle | dut.halt | (held == 0)),
    ]

    # How it counts.
    promised = sum((Mux(unsent > number, lengths[number] + 1, 0) for number in range(outstanding)),
                   Const(0)) - beats
    m.d.comb += [
        Assert(inner.flying == flying),
        Assert(flying == unsent + sent),
        Assert(flying == taken + axi.awvalid),
        Assert((inner.arrived - inner.announced)[:len(inner.arrived)] == held - promised),
        Assert(held >= promised),
        Assert((unsent != 0) | (beats == 0)),
        Assert((unsent == 0) | (beats <= lengths[0])),
        *(Assert((unsent <= number) | (lengths[number] < burst_beats))
          for number in range(outstanding)),
    ]
    return m


def write_engine(burst_beats, outstanding):
    return WriteEngine(data_width=32, addr_width=12, burst_beats=burst_beats,
                       outstanding=outstanding, id=1)


@pytest.mark.parametrize("burst_beats, outstanding", [
    (1, 1), (1, 2), *(pytest.param(*sizes, marks=pytest.mark.slow) for sizes in ((2, 1), (2, 2)))])
def test_write_engine(prove, monkeypatch, burst_beats, outstanding):
    prove(write_spec(write_engine(burst_beats, outstanding), monkeypatch,
                     burst_beats=burst_beats, outstanding=outstanding))


@pytest.mark.parametrize("wrong", [
    "a place less", "no last", "all last"])
def test_broken_write_engine_is_found(refute, monkeypatch, wrong):
    dut = write_engine(2, 2)
    if wrong != "a place less":
        spoil(dut, lambda m: m.d.comb.__iadd__(dut.axi.wlast.eq(wrong == "all last")))
    refute(write_spec(dut, monkeypatch, burst_beats=2, outstanding=2, less=wrong == "a place less"),
           depth=24)
