"""From groups of taps to their words, one per cycle."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from weft.config import AcceleratorConfig

from .fault import Fault
from .queue import Queue
from .registers import Error
from .vector_tap import group_layout, placed_layout

__all__ = ["VectorWords"]


_QUEUED = 8   # words between here and the memory
_MARGIN = 3   # of those, words that may still come after the queue was found full


class VectorWords(wiring.Component):
    """Gives each word of a group its address, and finds out whether it is inside the input.

    One word per cycle, and groups follow each other without a gap. A word is in the queue, whose
    output is ``o``, three cycles after its group was taken. The queue keeps the memory's ``ready``
    away from the loops.

    Members
    -------
    groups : :py:`In(stream.Signature(group_layout(config)))`
    o : :py:`Out(stream.Signature(placed_layout(config)))`
    passed : :py:`Out(1)`
        The last word of a command goes into the queue.
    earlier : :py:`In(1)`
        A command of which all words have passed is not done yet.
    fault : :py:`Out(Fault)`
        Held until reset. The word at fault does not pass, nor does any after it, and the fault
        comes when all commands before are done. ``ADDRESS``: outside the activation, the weight or
        the parameter memory. ``ARGUMENT``: a window of too many groups to slide.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "groups":  In(stream.Signature(group_layout(config))),
            "o":       Out(stream.Signature(placed_layout(config))),
            "passed":  Out(1),
            "earlier": In(1),
            "fault":   Out(Fault),
        })

    def elaborate(self, platform):
        m = Module()

        config = self._config
        layout = placed_layout(config)
        m.submodules.queue = queue = Queue(shape=layout, depth=_QUEUED)

        # The group at hand, and its next word.
        active  = Signal()
        group   = Signal(group_layout(config), reset_less=True)
        address = Signal(24, reset_less=True)
        x       = Signal(signed(19), reset_less=True)
        more    = Signal(range(config.vector_taps), reset_less=True)  # words after this one
        first   = Signal(reset_less=True)
        last    = Signal(reset_less=True)
        room    = Signal()
        new     = self.groups.p
        m.d.sync += room.eq(queue.level <= _QUEUED - _MARGIN)
        m.d.comb += self.groups.ready.eq(~active | (room & last))
        with m.If(active & room):
            m.d.sync += [
                address.eq(address + group.step),
                x.eq(x + group.x_step),
                more.eq(more - 1),
                first.eq(0),
                last.eq(more == 1),
            ]
        with m.If(self.groups.ready):
            m.d.sync += [
                active.eq(self.groups.valid),
                group.eq(new),
                address.eq(new.address + new.offset),
                x.eq(new.x + new.x_offset),
                more.eq(new.size - new.start - 1),
                first.eq(1),
                last.eq(new.start + 1 == new.size),
            ]

        inside = Signal()
        legal  = Signal()
        m.d.comb += [
            inside.eq((group.y >= 0) & (x >= 0) & (group.y < group.in_outer)
                      & (x < group.in_inner)),
            legal.eq(address < config.activation_depth),
        ]
        valid  = Signal()
        ends   = Signal(reset_less=True)
        code   = Signal(Error, reset_less=True)
        index  = Signal(16, reset_less=True)
        placed = Signal(layout, reset_less=True)
        m.d.sync += [
            valid.eq(active & room),
            index.eq(group.index),
            ends.eq(group.command_end & last),
            placed.address.eq(address),
            *(placed.tap[name].eq(group.tap[name]) for name, _ in group.tap.shape()),
            placed.tap.inside.eq(inside),
            placed.tap.first.eq(first),
            placed.tap.last.eq(last),
            placed.tap.end.eq(group.tap.end & last),
            code.eq(Error.NONE),
        ]
        with m.If(group.no_entry | (inside & ~legal)):
            m.d.sync += code.eq(Error.ADDRESS)
        with m.If(group.no_slot & last):
            m.d.sync += code.eq(Error.ARGUMENT)

        found = Signal(Fault)
        ill   = Signal()  # this word, or one before it
        m.d.comb += [
            ill.eq((code != Error.NONE) | (found.code != Error.NONE)),
            queue.i.valid.eq(valid & ~ill),
            queue.i.payload.eq(placed),
            self.passed.eq(valid & ~ill & ends),
            self.o.valid.eq(queue.o.valid),
            self.o.payload.eq(queue.o.payload),
            queue.o.ready.eq(self.o.ready),
        ]
        with m.If(valid & (found.code == Error.NONE)):
            m.d.sync += [found.code.eq(code), found.index.eq(index)]
        with m.If(~self.earlier):
            m.d.sync += self.fault.eq(found)

        return m
