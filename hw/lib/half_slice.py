"""A register between two streams, in both directions, for wide payloads that come seldom."""

from typing import Any

from amaranth.hdl import Module, Value

from .delay import unreset
from .fanout import assign, parts
from .stream_slice import StreamSlice

__all__ = ["HalfSlice"]


class HalfSlice(StreamSlice):
    """Cuts all paths between two streams: ``i.ready``, ``o.valid`` and ``o.payload`` are registers.

    One payload every second cycle, latency one cycle. It holds one payload, so takes half the
    flip-flops of a :class:`~weft.hw.lib.register_slice.RegisterSlice`, and no logic lies before the
    enables of the payload: while there is none, what comes is loaded in every cycle.

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

        held   = Value.cast(unreset(m, self.o.payload, "held"))
        vacant = self._load(m, held, parts(len(held)), "vacant")
        m.d.comb += self.i.ready.eq(vacant[0])

        with m.If(self.o.valid):
            with m.If(self.o.ready):
                m.d.sync += [self.o.valid.eq(0), *assign(vacant, 1)]
        with m.Elif(self.i.valid):
            m.d.sync += [self.o.valid.eq(1), *assign(vacant, 0)]

        return m
