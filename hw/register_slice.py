"""A register between two streams, in both directions."""

from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RegisterSlice"]


class RegisterSlice(wiring.Component):
    """Cuts all paths between two streams: ``i.ready``, ``o.valid`` and ``o.payload`` are registers.

    One payload per cycle, latency one cycle. It holds two payloads: one that comes in the cycle in
    which the other side stops has a place of its own.

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

        incoming, outgoing = Value.cast(self.i.payload), Value.cast(self.o.payload)
        front = Signal.like(outgoing, reset_less=True)
        back  = Signal.like(outgoing, reset_less=True)  # waits behind `front`
        full  = Signal()                                # `back` is in use
        ready = Signal(init=1)  # the opposite; `full` has enough to drive with the payload
        m.d.comb += [outgoing.eq(front), self.i.ready.eq(ready)]

        with m.If(~full):
            m.d.sync += back.eq(incoming)
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [self.o.valid.eq(self.i.valid | full), full.eq(0), ready.eq(1)]
            with m.If(full):
                m.d.sync += front.eq(back)
            with m.Else():
                m.d.sync += front.eq(incoming)
        with m.Elif(self.i.valid):
            m.d.sync += [full.eq(1), ready.eq(0)]

        return m
