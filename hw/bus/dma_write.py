"""Writes one stream of beats to runs in external memory."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from weft.hw.lib.checks import require
from weft.hw.lib.delay import unreset
from weft.hw.lib.promise import Promise
from weft.hw.lib.queue import Queue
from weft.hw.lib.register_slice import RegisterSlice

from .axi import BURST_INCR, ID_WIDTH, WriteSignature
from .burst import BurstSplitter, check_burst_beats, request_layout

__all__ = ["WriteEngine", "beat_layout"]


def beat_layout(data_width: int) -> data.StructLayout:
    """A beat to write: ``data``, and ``strb`` with one bit for each byte that is meant."""
    return data.StructLayout({"data": data_width, "strb": data_width // 8})


class WriteEngine(wiring.Component):
    """AXI4 writer.

    Runs and their beats are taken side by side; beats go to the runs in order. A burst is
    announced only once all its beats are buffered, so a burst on the bus never waits for data.
    One beat per cycle is sustained while bursts are of four beats or more and the memory
    acknowledges within about ``(outstanding - 1) * burst_beats`` cycles. The first beat reaches
    the bus six cycles after the last beat of its burst is taken.

    Parameters
    ----------
    data_width : :class:`int`
        Bits of a beat: 32, 64, 128, 256 or 512.
    addr_width : :class:`int`
        Bits of an address, 12..64.
    burst_beats : :class:`int`
        Longest burst. A power of 2, 1..256; a burst may take at most 4 KiB.
    outstanding : :class:`int`
        Bursts in flight at a time, 1..16.
    id : :class:`int`
        Identifier of the transactions. Responses with another one are somebody else's.

    Members
    -------
    requests : :py:`In(stream.Signature(request_layout(addr_width)))`
        Runs to write. ``address`` must be a multiple of the beat, ``beats`` at least 1: who asks
        makes sure.
    i : :py:`In(stream.Signature(beat_layout(data_width)))`
        Beats.
    done : :py:`Out(1)`
        Pulses for each run, in order, when the memory has acknowledged all of it.
    error : :py:`Out(1)`
        Pulses when the memory acknowledges a burst with SLVERR or DECERR; at the latest together
        with the ``done`` of its run.
    halt : :py:`In(1)`
        Announce no more bursts. Those announced are finished.
    idle : :py:`Out(1)`
        Nothing is in flight, and no run or beat is waiting. While ``halt`` is high what is
        waiting does not count.
    axi : :py:`Out(WriteSignature(data_width=data_width, addr_width=addr_width))`
        Memory port.

    Attributes
    ----------
    BUFFER_BURSTS : :class:`int`
        Bursts that the buffer for beats holds, at least 1.
    ISSUE_LATENCY : :class:`int`
        Cycles from a burst that its splitter offers, all of it buffered, until it is taken.
    ROOM_LATENCY : :class:`int`
        Cycles from the last beat of a burst, or a response, until the splitter's next burst may be
        taken because of it.
    BEAT_LATENCY : :class:`int`
        Cycles from a burst that is taken from the splitter to its first beat, on its way to the
        bus behind a register.
    DONE_LATENCY : :class:`int`
        Cycles from a response to ``done``.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    BUFFER_BURSTS = 2  # one is on the bus while the next one fills up
    ISSUE_LATENCY = 1
    ROOM_LATENCY  = 2
    BEAT_LATENCY  = 2
    DONE_LATENCY  = 1

    def __init__(self, *, data_width: int, addr_width: int, burst_beats: int, outstanding: int,
                 id: int):
        if outstanding not in range(1, 17):
            raise ValueError(f"Outstanding bursts must be between 1 and 16, not {outstanding!r}")
        if id not in range(1 << ID_WIDTH):
            raise ValueError(f"Identifier must be between 0 and {(1 << ID_WIDTH) - 1}, not {id!r}")
        self._data_width  = data_width
        self._addr_width  = addr_width
        self._outstanding = outstanding
        self._burst_beats = burst_beats
        self._id          = id

        super().__init__({
            "requests": In(stream.Signature(request_layout(addr_width))),
            "i":        In(stream.Signature(beat_layout(data_width))),
            "done":     Out(1),
            "error":    Out(1),
            "halt":     In(1),
            "idle":     Out(1),
            "axi":      Out(WriteSignature(data_width=data_width, addr_width=addr_width)),
        })
        check_burst_beats(data_width, burst_beats)

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        buffer_beats = self.BUFFER_BURSTS * self._burst_beats
        m.submodules.splitter = splitter = BurstSplitter(
            data_width=self._data_width, addr_width=self._addr_width,
            burst_beats=self._burst_beats)
        m.submodules.buffer = buffer = Queue(shape=beat_layout(self._data_width),
                                             depth=buffer_beats)
        m.submodules.lasts = lasts = Queue(shape=1, depth=self._outstanding)
        connect(m, flipped(self.requests), splitter.i)
        connect(m, flipped(self.i), buffer.i)
        burst = splitter.o

        # Addresses.
        # Beats that have come and beats announced, modulo a power of 2.
        arrived   = Signal(range(buffer_beats + 1))
        announced = Signal.like(arrived)
        flying    = Signal(range(self._outstanding + 1))
        may       = Signal()  # all of the burst at hand is buffered, as seen a cycle ago
        following = Signal()  # a burst is announced, and not yet sent
        issue     = Signal()
        answer    = Signal()
        unasked = (arrived - announced)[:len(arrived)]
        m.d.sync += may.eq(burst.valid & (unasked > burst.p.length)
                           & (flying != self._outstanding) & ~following)
        # `may` falls before the splitter offers the next burst.
        m.d.comb += [
            issue.eq(burst.valid & may & ~self.axi.awvalid & ~self.halt),
            burst.ready.eq(may & ~self.axi.awvalid & ~self.halt),
            self.axi.awid.eq(self._id),
            self.axi.awsize.eq(exact_log2(self._data_width // 8)),
            self.axi.awburst.eq(BURST_INCR),
        ]
        awaddr = unreset(m, self.axi.awaddr, "awaddr")
        awlen  = unreset(m, self.axi.awlen, "awlen")
        with m.If(~self.axi.awvalid):
            m.d.sync += [
                self.axi.awvalid.eq(issue),
                awaddr.eq(burst.p.address),
                awlen.eq(burst.p.length),
            ]
        with m.Elif(self.axi.awready):
            m.d.sync += self.axi.awvalid.eq(0)
        m.d.sync += flying.eq(flying + issue - answer)
        require(m, (flying != self._outstanding) | ~issue | answer, "bursts in flight are limited")
        require(m, flying.any() | ~answer, "an answer belongs to a burst in flight")
        with m.If(issue):
            m.d.sync += announced.eq(announced + burst.p.length + 1)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += arrived.eq(arrived + 1)

        m.submodules.promise = promise = Promise(
            shape=1, because="there is room for every burst in flight")
        connect(m, promise.o, lasts.i)
        m.d.comb += [promise.i.valid.eq(issue), promise.i.payload.eq(burst.p.last)]

        # Data: the burst that is sent, and the one that follows it. A beat of an announced burst is
        # always there, but may still be on its way through the buffer, hence `buffer.o.valid`.
        length  = Signal(8, reset_less=True)  # of the following burst
        sending = Signal()
        left    = Signal(8, reset_less=True)  # beats behind the next one
        last    = Signal(reset_less=True)     # left == 0
        step    = Signal()
        # So that buffer and counters wait for a register alone.
        m.submodules.beats = beats = RegisterSlice(shape=data.StructLayout({
            "data": self._data_width, "strb": self._data_width // 8, "last": 1}))
        m.d.comb += [
            step.eq(sending & buffer.o.valid & beats.i.ready),
            buffer.o.ready.eq(sending & beats.i.ready),
            beats.i.valid.eq(sending & buffer.o.valid),
            beats.i.p.data.eq(buffer.o.p.data),
            beats.i.p.strb.eq(buffer.o.p.strb),
            beats.i.p.last.eq(last),
            self.axi.wvalid.eq(beats.o.valid),
            self.axi.wdata.eq(beats.o.p.data),
            self.axi.wstrb.eq(beats.o.p.strb),
            self.axi.wlast.eq(beats.o.p.last),
            beats.o.ready.eq(self.axi.wready),
        ]
        with m.If(~following):
            m.d.sync += [following.eq(issue), length.eq(burst.p.length)]
        with m.If(step):
            m.d.sync += [left.eq(left - 1), last.eq(left == 1)]
        with m.If(~sending | (step & last)):
            m.d.sync += [sending.eq(following), left.eq(length), last.eq(length == 0)]
            with m.If(following):
                m.d.sync += following.eq(0)

        # Responses.
        m.d.comb += [
            self.axi.bready.eq(1),
            answer.eq(self.axi.bvalid & (self.axi.bid == self._id)),
            lasts.o.ready.eq(answer),
        ]
        m.d.sync += [
            self.done.eq(answer & lasts.o.payload),
            self.error.eq(answer & self.axi.bresp.as_value()[1]),
        ]

        waiting = ~splitter.idle | (arrived != announced)
        m.d.comb += self.idle.eq((flying == 0) & (self.halt | ~waiting))

        return m
