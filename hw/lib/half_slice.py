"""A register between two streams, in both directions, for wide payloads that come seldom."""

from typing import Any

from amaranth.hdl import Module, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .delay import unreset
from .fanout import alike, assign, parts

__all__ = ["HalfSlice"]


class HalfSlice(wiring.Component):
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

    def __init__(self, *, shape: Any):
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        incoming, held = Value.cast(self.i.payload), Value.cast(unreset(m, self.o.payload, "held"))
        # All equal; one for each part of the payload, so that none has many sinks.
        where  = parts(len(held)) or [slice(0)]
        vacant = alike("vacant", len(where), init=1)
        m.d.comb += self.i.ready.eq(vacant[0])

        for part, enable in zip(where, vacant, strict=True):
            with m.If(enable):
                m.d.sync += held[part].eq(incoming[part])
        with m.If(self.o.valid):
            with m.If(self.o.ready):
                m.d.sync += [self.o.valid.eq(0), *assign(vacant, 1)]
        with m.Elif(self.i.valid):
            m.d.sync += [self.o.valid.eq(1), *assign(vacant, 0)]

        return m
