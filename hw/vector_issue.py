"""The read side of the vector engine."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from weft.config import AcceleratorConfig

from .commands import VectorCommand, VectorOp
from .fault import Fault
from .registers import Error
from .vector_tap import placed_layout, tap_layout

__all__ = ["VectorIssue"]


class VectorIssue(wiring.Component):
    """Requests the words of taps, and sends each tap after its word.

    All that follows has a fixed latency and no backpressure. So the last tap of a position waits
    here for two things: room for the position's result in the output queue, and
    ``vector_groups`` cycles since the position before, if results are requantized.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
    credits : :class:`int`
        Results that may be under way at a time, at least 1.

    Members
    -------
    command : :py:`In(VectorCommand)`
    index : :py:`In(16)`
    taps : :py:`In(stream.Signature(placed_layout(config)))`
    request : :py:`Out(stream.Signature(24))`
        Words to read.
    tap : :py:`Out(tap_layout(config))`
    tap_valid : :py:`Out(1)`
        ``tap`` goes out. If it is inside, this is the cycle in which its request was accepted.
    credit : :py:`In(1)`
        A result has left the output queue.
    fault : :py:`Out(Fault)`
        Held until reset. ``ADDRESS``: outside the activation or the weight memory.
        ``ARGUMENT``: a window of too many groups to slide.
    """

    def __init__(self, config: AcceleratorConfig, *, credits: int):
        if not isinstance(credits, int) or credits < 1:
            raise ValueError(f"Credits must be a positive integer, not {credits!r}")
        self._config  = config
        self._credits = credits
        super().__init__({
            "command":   In(VectorCommand),
            "index":     In(16),
            "taps":      In(stream.Signature(placed_layout(config))),
            "request":   Out(stream.Signature(24)),
            "tap":       Out(tap_layout(config)),
            "tap_valid": Out(1),
            "credit":    In(1),
            "fault":     Out(Fault),
        })

    def elaborate(self, platform):
        m = Module()

        config = self._config
        placed = self.taps.p

        inside  = Signal()
        legal   = Signal()
        sending = Signal()
        reads   = Signal(reset_less=True)
        to_send = Signal.like(self.tap, reset_less=True)
        sent    = Signal()
        m.d.comb += [
            inside.eq((placed.y >= 0) & (placed.x >= 0) & (placed.y < self.command.in_outer)
                      & (placed.x < self.command.in_inner)),
            legal.eq(placed.address < config.activation_depth),
            self.taps.ready.eq(~sending | sent),
        ]
        with m.If(self.taps.ready):
            m.d.sync += [
                sending.eq(self.taps.valid),
                reads.eq(inside & legal),
                self.request.payload.eq(placed.address),
                to_send.eq(placed.tap),
                to_send.inside.eq(inside),
            ]
        with m.If(self.taps.valid & (self.fault.code == Error.NONE)):
            with m.If(placed.no_slot):
                m.d.sync += [self.fault.code.eq(Error.ARGUMENT), self.fault.index.eq(self.index)]
            with m.Elif(placed.no_weight | (inside & ~legal)):
                m.d.sync += [self.fault.code.eq(Error.ADDRESS), self.fault.index.eq(self.index)]

        credits = Signal(range(self._credits + 1), init=self._credits)
        pace    = Signal(range(config.vector_groups))
        scaled  = Signal(reset_less=True)
        permit  = Signal()
        m.d.sync += scaled.eq((self.command.op != VectorOp.MAX)
                              & (self.command.op != VectorOp.LOOKUP))
        m.d.comb += [
            permit.eq(~to_send.end | ((credits != 0) & (pace == 0))),
            self.request.valid.eq(sending & reads & permit),
            sent.eq(sending & permit & (~reads | self.request.ready)),
            self.tap.eq(to_send),
            self.tap_valid.eq(sent),
        ]
        m.d.sync += credits.eq(credits - (sent & to_send.end) + self.credit)
        with m.If(pace != 0):
            m.d.sync += pace.eq(pace - 1)
        with m.If(sent & to_send.end & scaled):
            m.d.sync += pace.eq(config.vector_groups - 1)

        return m
