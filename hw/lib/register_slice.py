"""A register between two streams, in both directions."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value

from .fanout import SINKS, alike, assign, parts
from .stream_slice import StreamSlice

__all__ = ["RegisterSlice"]


class RegisterSlice(StreamSlice):
    """Cuts all paths between two streams: ``i.ready`` and ``o.valid`` are registers, and
    ``o.payload`` is a choice between two.

    One payload per cycle, latency one cycle. It holds two payloads in turn: one that comes in the
    cycle in which the other side stops has a place of its own. No logic lies before the enables of
    a place: while it is vacant, what comes is loaded in every cycle.

    Parameters
    ----------
    shape : shape-like
        Shape of the payload.

    Members
    -------
    i : :py:`In(stream.Signature(shape))`
    o : :py:`Out(stream.Signature(shape))`
    """

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        outgoing = Value.cast(self.o.payload)
        where = parts(len(outgoing), SINKS // 2)
        put   = Signal()
        take  = Signal()
        ready = Signal(init=1)
        # Which place comes next, at either end.
        filling  = Signal()
        emptying = alike("emptying", max(1, len(where)), init=0)
        m.d.comb += [
            self.i.ready.eq(ready),
            put.eq(self.i.valid & ready),
            take.eq(self.o.valid & self.o.ready),
        ]
        m.d.sync += [
            ready.eq(take | (ready & ~(self.i.valid & self.o.valid))),
            self.o.valid.eq(put | (self.o.valid & ~(take & ready))),
            filling.eq(filling ^ put),
            *assign(emptying, emptying[0] ^ take),
        ]

        places = []
        for number in range(2):
            place  = Signal.like(outgoing, name=f"place_{number}", reset_less=True)
            vacant = self._load(m, place, where, f"vacant_{number}")
            filled, emptied = put & (filling == number), take & (emptying[0] == number)
            m.d.sync += assign(vacant, (vacant[0] & ~filled) | emptied)
            places.append(place)
        for part, second in zip(where, emptying, strict=False):
            m.d.comb += outgoing[part].eq(Mux(second, places[1][part], places[0][part]))

        return m
