"""Writes one stream of beats to runs in external memory."""

from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.lib.checks import require
from weft.hw.lib.promise import promised
from weft.hw.lib.queue import Queue
from weft.hw.lib.register_slice import RegisterSlice

from .axi import WriteSignature
from .dma import DmaEngine

__all__ = ["WriteEngine", "beat_layout"]


def beat_layout(data_width: int) -> data.StructLayout:
    """A beat to write: ``data``, and ``strb`` with one bit for each byte that is meant."""
    return data.StructLayout({"data": data_width, "strb": data_width // 8})


class WriteEngine(DmaEngine):
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
    id_width : :class:`int`
        Bits of an identifier.

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
    axi : :py:`Out(WriteSignature(...))`
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
                 id: int, id_width: int = 1):
        super().__init__({
            "i":    In(stream.Signature(beat_layout(data_width))),
            "done": Out(1),
        }, axi=WriteSignature, data_width=data_width, addr_width=addr_width,
            burst_beats=burst_beats, outstanding=outstanding, id=id, id_width=id_width)

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        buffer_beats = self.BUFFER_BURSTS * self._burst_beats
        splitter = self._split(m)
        burst    = splitter.o
        m.submodules.buffer = buffer = Queue(shape=beat_layout(self._data_width),
                                             depth=buffer_beats)
        m.submodules.lasts = lasts = Queue(shape=1, depth=self._outstanding)
        connect(m, flipped(self.i), buffer.i)

        # Beats that have come and beats announced, modulo a power of 2.
        arrived   = Signal(range(buffer_beats + 1))
        announced = Signal.like(arrived)
        flying    = Signal(range(self._outstanding + 1))
        may       = Signal()  # all of the burst at hand is buffered, as seen a cycle ago
        following = Signal()  # a burst is announced, and not yet sent
        answer    = Signal()
        unasked = (arrived - announced)[:len(arrived)]
        # It falls before the splitter offers the next burst.
        m.d.sync += may.eq(burst.valid & (unasked > burst.p.length)
                           & (flying != self._outstanding) & ~following)
        issue = self._address(m, "aw", burst, may=may)
        with m.If(issue):
            m.d.sync += announced.eq(announced + burst.p.length + 1)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += arrived.eq(arrived + 1)
        self._follow(m, flying, issue=issue, ended=answer,
                     waiting=~splitter.idle | (arrived != announced))
        require(m, flying.any() | ~answer, "an answer belongs to a burst in flight")
        self._send(m, buffer.o, issue=issue, length=burst.p.length, following=following)

        ends = promised(m, lasts.i, because="there is room for every burst in flight")
        m.d.comb += [
            ends.valid.eq(issue),
            ends.payload.eq(burst.p.last),
            self.axi.bready.eq(1),
            answer.eq(self.axi.bvalid & (self.axi.bid == self._id)),
            lasts.o.ready.eq(answer),
        ]
        m.d.sync += [
            self.done.eq(answer & lasts.o.payload),
            self.error.eq(answer & self.axi.bresp.as_value()[1]),
        ]

        return m

    def _send(self, m: Module, buffered: Any, *, issue: Signal, length: Value,
              following: Signal) -> None:
        """Sends the beats of each burst that is announced: one burst is sent, and another may be
        ``following``. A beat of an announced burst is always there, but may still be on its way
        through the buffer, hence ``buffered.valid``."""
        next_left = Signal(8, name="length", reset_less=True)  # of the following burst
        sending   = Signal()
        left      = Signal(8, reset_less=True)  # beats behind the next one
        last      = Signal(reset_less=True)     # left == 0
        step      = Signal()
        # So that buffer and counters wait for a register alone.
        m.submodules.beats = beats = RegisterSlice(shape=data.StructLayout({
            "data": self._data_width, "strb": self._data_width // 8, "last": 1}))
        m.d.comb += [
            step.eq(sending & buffered.valid & beats.i.ready),
            buffered.ready.eq(sending & beats.i.ready),
            beats.i.valid.eq(sending & buffered.valid),
            beats.i.p.data.eq(buffered.p.data),
            beats.i.p.strb.eq(buffered.p.strb),
            beats.i.p.last.eq(last),
            self.axi.wvalid.eq(beats.o.valid),
            self.axi.wdata.eq(beats.o.p.data),
            self.axi.wstrb.eq(beats.o.p.strb),
            self.axi.wlast.eq(beats.o.p.last),
            beats.o.ready.eq(self.axi.wready),
        ]
        with m.If(~following):
            m.d.sync += [following.eq(issue), next_left.eq(length)]
        with m.If(step):
            m.d.sync += [left.eq(left - 1), last.eq(left == 1)]
        with m.If(~sending | (step & last)):
            m.d.sync += [sending.eq(following), left.eq(next_left), last.eq(next_left == 0)]
            with m.If(following):
                m.d.sync += following.eq(0)
