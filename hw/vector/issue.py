"""The read side of the vector engine."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from weft.hw.isa.commands import VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.lib.checks import require
from weft.hw.lib.promise import Promise
from weft.hw.lib.queue import Queue
from weft.hw.lib.register_slice import RegisterSlice

from .tap import placed_layout, tap_layout
from .words import VectorWords

__all__ = ["VectorIssue"]


class VectorIssue(wiring.Component):
    """Requests the words of taps, and sends each tap after its word.

    Taps are queued, which keeps the memory's ``ready`` away from the loops: these stop when the
    queue gets full, early enough for what they have made by then.

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
    i : :py:`In(stream.Signature(placed_layout(config), always_ready=True))`
        Taps.
    room : :py:`Out(1)`
        Another group of taps may be made, in the next cycle.
    request : :py:`Out(stream.Signature(24))`
        Words to read; the first one :meth:`latency` cycles after its tap came in.
    tap : :py:`Out(tap_layout(config))`
    tap_valid : :py:`Out(1)`
        ``tap`` goes out. If it is inside, its request was accepted in the cycle before.
    scaled : :py:`In(1)`
        A result has been requantized.
    credit : :py:`In(1)`
        A result has left the output queue.

    Attributes
    ----------
    QUEUE_DEPTH : :class:`int`
        Words between the loops and the memory.
    SCALED_LATENCY : :class:`int`
        Cycles from ``scaled`` until a tap may go that waited for it.
    """

    QUEUE_DEPTH    = 16
    SCALED_LATENCY = 1

    def __init__(self, config: AcceleratorConfig, *, credits: int):
        if not isinstance(credits, int) or credits < 1:
            raise ValueError(f"Credits must be a positive integer, not {credits!r}")
        self._config  = config
        self._credits = credits
        super().__init__({
            "i":         In(stream.Signature(placed_layout(config), always_ready=True)),
            "room":      Out(1),
            "request":   Out(stream.Signature(24)),
            "tap":       Out(tap_layout(config)),
            "tap_valid": Out(1),
            "scaled":    In(1),
            "credit":    In(1),
        })

    @classmethod
    def latency(cls) -> int:
        """Cycles from a tap to the request of its word."""
        return Queue.latency(cls.QUEUE_DEPTH) + 1

    def elaborate(self, platform):
        m = Module()

        config = self._config

        # Two queues of the same taps: what the next request depends on goes into a register, and
        # what only follows it stays in its queue until the request has been accepted.
        m.submodules.heads = heads = Queue(depth=self.QUEUE_DEPTH, shape=data.StructLayout({
            "address": 24, "inside": 1, "ends_scaled": 1, "ends_plain": 1}))
        m.submodules.front = front = RegisterSlice(shape=heads.o.payload.shape())
        m.submodules.taps  = taps  = Queue(shape=tap_layout(config), depth=self.QUEUE_DEPTH)
        promised = {}
        for name, queue in (("heads", heads), ("taps", taps)):
            m.submodules[f"promised_{name}"] = promised[name] = Promise(
                shape=queue.i.payload.shape(), because="the loops stop before the queue is full")
            connect(m, promised[name].o, queue.i)
        connect(m, heads.o, front.i)
        new   = self.i.p.tap
        plain = (new.operation.op == VectorOp.MAX) | (new.operation.op == VectorOp.LOOKUP)
        m.d.comb += [
            promised["heads"].i.valid.eq(self.i.valid),
            promised["heads"].i.p.address.eq(self.i.p.address),
            promised["heads"].i.p.inside.eq(new.inside),
            promised["heads"].i.p.ends_scaled.eq(new.end & ~plain),
            promised["heads"].i.p.ends_plain.eq(new.end & plain),
            promised["taps"].i.valid.eq(self.i.valid),
            promised["taps"].i.payload.eq(new),
            # Beside the group that may come after this: a word on its way in each stage, and here.
            self.room.eq(taps.level <= self.QUEUE_DEPTH - config.vector_taps
                         - VectorWords.LATENCY - 1),
        ]

        head   = front.o.p
        permit = Signal()
        sent   = Signal()
        m.d.comb += [
            self.request.valid.eq(front.o.valid & head.inside & permit),
            self.request.payload.eq(head.address),
            sent.eq(front.o.valid & permit & (~head.inside | self.request.ready)),
            front.o.ready.eq(permit & (~head.inside | self.request.ready)),
            self.tap.eq(taps.o.payload),
            taps.o.ready.eq(self.tap_valid),
        ]
        m.d.sync += self.tap_valid.eq(sent)
        require(m, ~self.tap_valid | taps.o.valid, "a tap follows its request")

        credits = Signal(range(self._credits + 1), init=self._credits)
        scaling = Signal(range(self._credits + 1))
        pace    = Signal(range(config.vector_groups))
        # Whether these are zero, without the comparison.
        no_credit  = Signal()
        no_scaling = Signal(init=1)
        no_pace    = Signal(init=1)
        may_scaled = Signal(init=1)  # a last tap may go whose result is requantized
        may_plain  = Signal(init=1)  # one whose result is not
        m.d.comb += permit.eq((may_scaled | ~head.ends_scaled) & (may_plain | ~head.ends_plain))

        # All that is known without `sent`, which is late, comes before it: what is so in the next
        # cycle with a result more, and with none.
        ends_scaled  = Signal()
        ends         = Signal()
        less_credit  = ~self.credit & (credits == 1)
        same_credit  = ~self.credit & no_credit
        same_scaling = no_scaling | (self.scaled & (scaling == 1))
        same_pace    = no_pace | (pace == 1)
        at_once      = C(config.vector_groups == 1)
        m.d.comb += [
            ends_scaled.eq(sent & head.ends_scaled),
            ends.eq(sent & (head.ends_scaled | head.ends_plain)),
        ]
        require(m, credits.any() | ~ends, "a result has a credit")
        require(m, (credits != self._credits) | ~self.credit, "a credit that returns was taken")
        require(m, scaling.any() | ~self.scaled, "a result that is scaled is under way")
        m.d.sync += [
            credits.eq(credits - ends + self.credit),
            scaling.eq(scaling + ends_scaled - self.scaled),
            pace.eq(Mux(ends_scaled, config.vector_groups - 1, pace - 1)),
            no_credit.eq(Mux(ends, less_credit, same_credit)),
            no_scaling.eq(~ends_scaled & same_scaling),
            no_pace.eq(Mux(ends_scaled, at_once, same_pace)),
            may_scaled.eq(Mux(ends, ~less_credit & Mux(head.ends_scaled, at_once, same_pace),
                              ~same_credit & same_pace)),
            may_plain.eq(Mux(ends, ~less_credit & ~head.ends_scaled & same_scaling,
                             ~same_credit & same_scaling)),
        ]

        return m
