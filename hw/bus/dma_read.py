"""Reads runs of beats from external memory as one stream."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Out

from weft.hw.lib.checks import require
from weft.hw.lib.promise import promised
from weft.hw.lib.queue import Queue

from .axi import ReadSignature
from .dma import DmaEngine

__all__ = ["ReadEngine"]


class ReadEngine(DmaEngine):
    """AXI4 reader.

    Beats come out in the order of the requests. A burst is asked for only once there is buffer
    space for the longest one, so the memory is never made to wait: ``rready`` is always high. One
    beat per cycle is sustained while bursts are of three beats or more and the memory answers
    within about ``(outstanding - 1) * burst_beats`` cycles. From a beat on the bus to ``o`` it
    takes as long as through a :class:`~weft.hw.lib.queue.Queue` of ``outstanding * burst_beats``.

    Parameters
    ----------
    data_width : :class:`int`
        Bits of a beat: 32, 64, 128, 256 or 512.
    addr_width : :class:`int`
        Bits of an address, 12..64.
    burst_beats : :class:`int`
        Longest burst. A power of 2, 1..256; a burst may take at most 4 KiB.
    outstanding : :class:`int`
        Bursts in flight at a time, 1..16. The buffer holds as many bursts.
    id : :class:`int`
        Identifier of the transactions. Beats with another one are somebody else's.
    id_width : :class:`int`
        Bits of an identifier.

    Members
    -------
    requests : :py:`In(stream.Signature(request_layout(addr_width)))`
        Runs to read. ``address`` must be a multiple of the beat, ``beats`` at least 1: who asks
        makes sure.
    o : :py:`Out(stream.Signature(data_width))`
        Beats.
    o_error : :py:`Out(1)`
        The beat offered on ``o`` was answered with SLVERR or DECERR; its data means nothing. Low
        while ``o`` is not valid.
    error : :py:`Out(1)`
        Pulses when such a beat arrives. The run goes on, so nothing hangs.
    halt : :py:`In(1)`
        Ask for no more bursts. An address already on the bus stays there.
    idle : :py:`Out(1)`
        Nothing is in flight, and nothing is waiting to be asked for or taken. While ``halt`` is
        high what is waiting does not count.
    axi : :py:`Out(ReadSignature(...))`
        Memory port.

    Attributes
    ----------
    ADDRESS_LATENCY : :class:`int`
        Cycles from a burst that its splitter offers to its address on the bus.
    ROOM_LATENCY : :class:`int`
        Cycles from a beat that is taken, or the last one of a burst that arrives, until the
        splitter's next burst may be taken because of it.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    ADDRESS_LATENCY = 1
    ROOM_LATENCY    = 2

    def __init__(self, *, data_width: int, addr_width: int, burst_beats: int, outstanding: int,
                 id: int, id_width: int = 1):
        super().__init__({
            "o":       Out(stream.Signature(data_width)),
            "o_error": Out(1),
        }, axi=ReadSignature, data_width=data_width, addr_width=addr_width,
            burst_beats=burst_beats, outstanding=outstanding, id=id, id_width=id_width)

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        buffer_beats = self._burst_beats * self._outstanding
        splitter = self._split(m)
        burst    = splitter.o
        m.submodules.buffer = buffer = Queue(
            shape=data.StructLayout({"data": self._data_width, "error": 1}), depth=buffer_beats)

        # Beats asked for and beats taken, modulo a power of 2: the difference is what is reserved
        # of the buffer.
        asked  = Signal(range(buffer_beats + 1))
        taken  = Signal.like(asked)
        flying = Signal(range(self._outstanding + 1))
        may    = Signal()  # there is room for any burst, as seen a cycle ago
        beat   = Signal()
        reserved = (asked - taken)[:len(asked)]
        m.d.sync += may.eq((reserved <= buffer_beats - self._burst_beats)
                           & (flying != self._outstanding))
        m.d.comb += beat.eq(self.axi.rvalid & (self.axi.rid == self._id))
        issue = self._address(m, "ar", burst, may=may)
        with m.If(issue):
            m.d.sync += asked.eq(asked + burst.p.length + 1)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += taken.eq(taken + 1)
        self._follow(m, flying, issue=issue, ended=beat & self.axi.rlast,
                     waiting=~splitter.idle | (asked != taken))
        require(m, flying.any() | ~beat, "a beat belongs to a burst in flight")

        beats = promised(m, buffer.i, name="reserved",
                         because="a burst is asked for only with room for it")
        failed = self.axi.rresp.as_value()[1]
        m.d.comb += [
            self.axi.rready.eq(1),
            beats.valid.eq(beat),
            beats.p.data.eq(self.axi.rdata),
            beats.p.error.eq(failed),
            self.o.valid.eq(buffer.o.valid),
            self.o.payload.eq(buffer.o.p.data),
            self.o_error.eq(buffer.o.valid & buffer.o.p.error),
            buffer.o.ready.eq(self.o.ready),
        ]
        m.d.sync += self.error.eq(beat & failed)

        return m
