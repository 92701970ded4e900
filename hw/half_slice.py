"""A register between two streams, in both directions, for wide payloads that come seldom."""

from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from weft.hw.delay import unreset

__all__ = ["HalfSlice"]


_SINKS = 64
"""Bits of the payload that one enable drives."""


class HalfSlice(wiring.Component):
    """Cuts all paths between two streams: ``i.ready``, ``o.valid`` and ``o.payload`` are registers.

    One payload every second cycle, latency one cycle. It holds one payload, so takes half the
    flip-flops of a :class:`~weft.hw.register_slice.RegisterSlice`, and no logic lies before the
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
        vacant = [Signal(init=1, name=f"vacant_{start}", attrs={"keep": 1})
                  for start in range(0, max(1, len(held)), _SINKS)]
        m.d.comb += self.i.ready.eq(vacant[0])

        for number, enable in enumerate(vacant):
            part = slice(number * _SINKS, (number + 1) * _SINKS)
            with m.If(enable):
                m.d.sync += held[part].eq(incoming[part])
        with m.If(self.o.valid):
            with m.If(self.o.ready):
                m.d.sync += [self.o.valid.eq(0), *(enable.eq(1) for enable in vacant)]
        with m.Elif(self.i.valid):
            m.d.sync += [self.o.valid.eq(1), *(enable.eq(0) for enable in vacant)]

        return m
