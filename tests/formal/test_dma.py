"""The read and the write engine, and how they cut runs into bursts.

The memory is any that AXI allows: it takes addresses and gives beats and responses whenever it
likes, and transactions of others go by in between.
"""

from types import SimpleNamespace

import pytest
from amaranth.hdl import Assert, Assume, Module, Mux, Signal
from formal import free, inside, keeps, spoil

from weft.hw.burst import BurstSplitter

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
    m.d.comb += [
        Assert(keeps(m, dut.o.valid, dut.o.ready, dut.o.payload)),
        Assert(~dut.o.valid | (dut.o.p.last == (left == dut.o.p.length + 1))),
        Assert(dut.idle == (left == 0)),
        Assert(waits <= 2),
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
