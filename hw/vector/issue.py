"""The read side of the vector engine."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from weft.hw.isa.commands import VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.vector_rules import PAIRS
from weft.hw.lib.checks import require
from weft.hw.lib.promise import promised
from weft.hw.lib.queue import Queue
from weft.hw.lib.register_slice import RegisterSlice

from .tap import FEW_WORDS, placed_layout, tap_layout
from .words import VectorWords

__all__ = ["VectorIssue"]


class VectorIssue(wiring.Component):
    """Requests the words of taps, and sends each tap after its word.

    Taps are queued, so that the loops do not depend on the memory's ``ready`` in the same cycle:
    they stop before the queue is full, early enough for the taps that are still on their way.

    All stages behind this one have a fixed latency and no backpressure. So the last tap of a
    position waits here: for room for the position's result in the output queue; if results are
    requantized, until ``vector_groups`` cycles after the position before; and if they are not,
    until none that are requantized are under way, as those take longer and must not be overtaken.

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
    large : :py:`In(1)`
        It may have more than ``FEW_WORDS`` words.
    request : :py:`Out(stream.Signature(24))`
        Words to read; the first one :meth:`latency` cycles after its tap came in.
    tap : :py:`Out(tap_layout(config))`
    tap_valid : :py:`Out(1)`
        ``tap`` goes out. If it is inside, its request was accepted in the cycle before.
    second : :py:`Out(stream.Signature(24, always_ready=True))`
        Words of second operands, for :class:`VectorSeconds`; with ``vector_pairs`` only, as the
        following ones.
    second_ready : :py:`In(1)`
        The next of them was asked for. Before, no tap goes that needs it.
    second_taken : :py:`Out(1)`
        The last tap that needs it goes.
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
            "large":     In(1),
            "request":   Out(stream.Signature(24)),
            "tap":       Out(tap_layout(config)),
            "tap_valid": Out(1),
            "scaled":    In(1),
            "credit":    In(1),
            **({
                "second":       Out(stream.Signature(24, always_ready=True)),
                "second_ready": In(1),
                "second_taken": Out(1),
            } if config.vector_pairs else {}),
        })

    @classmethod
    def latency(cls) -> int:
        """Cycles from a tap to the request of its word."""
        return Queue.latency(cls.QUEUE_DEPTH) + 1

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        permit = Signal()  # the next tap may go
        sent   = Signal()  # and goes
        head   = self._elaborate_requests(m, permit, sent)
        self._elaborate_permit(m, head, permit, sent)

        return m

    def _elaborate_requests(self, m: Module, permit: Value, sent: Signal) -> Any:
        """Queues taps, and requests their words. Returns the head of the queue: the fields of the
        next tap on which its request depends."""
        config = self._config

        # Two queues of the same taps: the fields on which the next request depends go through a
        # register, and the others stay in their queue until the request has been accepted.
        m.submodules.heads = heads = Queue(depth=self.QUEUE_DEPTH, shape=data.StructLayout({
            "address": 24, "inside": 1, "ends_scaled": 1, "ends_plain": 1,
            **({"pair": 1, "pops": 1} if config.vector_pairs else {})}))
        m.submodules.front = front = RegisterSlice(shape=heads.o.payload.shape())
        m.submodules.taps  = taps  = Queue(shape=tap_layout(config), depth=self.QUEUE_DEPTH)
        new_head, new_tap = (
            promised(m, queue.i, name=f"promised_{name}",
                     because="the loops stop before the queue is full")
            for name, queue in (("heads", heads), ("taps", taps)))
        connect(m, heads.o, front.i)
        new   = self.i.p.tap
        plain = (new.operation.op == VectorOp.MAX) | (new.operation.op == VectorOp.LOOKUP)
        m.d.comb += [
            new_head.valid.eq(self.i.valid),
            new_head.p.address.eq(self.i.p.address),
            new_head.p.inside.eq(new.inside),
            new_head.p.ends_scaled.eq(new.end & ~plain),
            new_head.p.ends_plain.eq(new.end & plain),
            new_tap.valid.eq(self.i.valid),
            new_tap.payload.eq(new),
        ]
        # Room for the next group, and for a word in each stage of `VectorWords` and at `i`.
        few, most = (self.QUEUE_DEPTH - VectorWords.LATENCY - 1 - words
                     for words in (min(FEW_WORDS, config.vector_taps), config.vector_taps))
        m.d.comb += self.room.eq(taps.level <= (few if few == most else Mux(self.large, most, few)))

        head = front.o.p
        if config.vector_pairs:
            m.d.comb += [
                self.second.valid.eq(self.i.valid & self.i.p.fetches),
                self.second.payload.eq(self.i.p.second),
                new_head.p.pair.eq(Cat(new.operation.op == op for op in PAIRS).any()),
                new_head.p.pops.eq(new.pops),
                self.second_taken.eq(sent & head.pops),
            ]
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
        return head

    def _elaborate_permit(self, m: Module, head: Any, permit: Signal, sent: Value) -> None:
        """Makes the last tap of a position wait for credit, pace and order."""
        config  = self._config
        credits = Signal(range(self._credits + 1), init=self._credits)
        scaling = Signal(range(self._credits + 1))
        pace    = Signal(range(max(2, config.vector_groups)))
        # Whether these are zero, in registers, so that no comparison lies behind them.
        no_credit  = Signal()
        no_scaling = Signal(init=1)
        no_pace    = Signal(init=1)
        may_scaled = Signal(init=1)  # a last tap may go whose result is requantized
        may_plain  = Signal(init=1)  # one whose result is not
        may = (may_scaled | ~head.ends_scaled) & (may_plain | ~head.ends_plain)
        if config.vector_pairs:
            may &= self.second_ready | ~head.pair
        m.d.comb += permit.eq(may)

        # `sent` arrives late: compute both next states, with a result more and with none, and let
        # it select.
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
