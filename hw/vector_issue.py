"""The read side of the vector engine."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from weft.config import AcceleratorConfig

from .commands import VectorOp
from .delay import unreset
from .vector_tap import placed_layout, tap_layout

__all__ = ["VectorIssue"]


class VectorIssue(wiring.Component):
    """Requests the words of taps, and sends each tap after its word.

    All that follows has a fixed latency and no backpressure. So the last tap of a position waits
    here: for room for the position's result in the output queue; if results are requantized, until
    ``vector_groups`` cycles after the position before; and if they are not, until there are none
    under way that are, because those take longer and must not be overtaken.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
    credits : :class:`int`
        Results that may be under way at a time, at least 1.

    Members
    -------
    taps : :py:`In(stream.Signature(placed_layout(config)))`
    request : :py:`Out(stream.Signature(24))`
        Words to read.
    tap : :py:`Out(tap_layout(config))`
    tap_valid : :py:`Out(1)`
        ``tap`` goes out. If it is inside, this is the cycle in which its request was accepted.
    scaled : :py:`In(1)`
        A result has been requantized.
    credit : :py:`In(1)`
        A result has left the output queue.
    """

    def __init__(self, config: AcceleratorConfig, *, credits: int):
        if not isinstance(credits, int) or credits < 1:
            raise ValueError(f"Credits must be a positive integer, not {credits!r}")
        self._config  = config
        self._credits = credits
        super().__init__({
            "taps":      In(stream.Signature(placed_layout(config))),
            "request":   Out(stream.Signature(24)),
            "tap":       Out(tap_layout(config)),
            "tap_valid": Out(1),
            "scaled":    In(1),
            "credit":    In(1),
        })

    def elaborate(self, platform):
        m = Module()

        config = self._config
        placed = self.taps.p

        address = unreset(m, self.request.payload, "address")
        tap     = unreset(m, self.tap, "tap")
        sending = Signal()
        scales  = Signal(reset_less=True)
        sent    = Signal()
        m.d.comb += self.taps.ready.eq(~sending | sent)
        op = placed.tap.operation.op
        with m.If(self.taps.ready):
            m.d.sync += [
                sending.eq(self.taps.valid),
                address.eq(placed.address),
                tap.eq(placed.tap),
                scales.eq((op != VectorOp.MAX) & (op != VectorOp.LOOKUP)),
            ]

        credits = Signal(range(self._credits + 1), init=self._credits)
        scaling = Signal(range(self._credits + 1))
        pace    = Signal(range(config.vector_groups))
        # Whether these are zero, without the comparison.
        no_credit  = Signal()
        no_scaling = Signal(init=1)
        no_pace    = Signal(init=1)
        permit  = Signal()
        ends    = Signal()
        m.d.comb += [
            permit.eq(~self.tap.end | (~no_credit & Mux(scales, no_pace, no_scaling))),
            self.request.valid.eq(sending & self.tap.inside & permit),
            sent.eq(sending & permit & (~self.tap.inside | self.request.ready)),
            self.tap_valid.eq(sent),
            ends.eq(sent & self.tap.end),
        ]
        m.d.sync += [
            credits.eq(credits - ends + self.credit),
            scaling.eq(scaling + (ends & scales) - self.scaled),
        ]
        with m.If(self.credit != ends):
            m.d.sync += no_credit.eq(ends & (credits == 1))
        with m.If(self.scaled != (ends & scales)):
            m.d.sync += no_scaling.eq(self.scaled & (scaling == 1))
        with m.If(~no_pace):
            m.d.sync += [pace.eq(pace - 1), no_pace.eq(pace == 1)]
        with m.If(ends & scales):
            m.d.sync += [
                pace.eq(config.vector_groups - 1),
                no_pace.eq(config.vector_groups == 1),
            ]

        return m
