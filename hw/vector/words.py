"""From groups of taps to their words, one per cycle."""

from dataclasses import dataclass
from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import Fault
from weft.hw.isa.registers import Error
from weft.hw.lib.checks import require
from weft.hw.lib.delay import unreset

from .tap import group_layout, placed_layout

__all__ = ["VectorWords"]


@dataclass(frozen=True, kw_only=True)
class _Word:
    """The next word of the group at hand."""
    active:  Value  # there is one
    group:   Any    # as of `group_layout`
    address: Value
    x:       Value
    first:   Value  # of its group, of those that are read


class VectorWords(wiring.Component):
    """Computes the address of each word of a group, and whether it is inside the input.

    One word per cycle, and groups follow each other without a gap. There is no backpressure: the
    first word of a group comes out :attr:`LATENCY` cycles after it, the others in the cycles after.

    Members
    -------
    group : :py:`In(group_layout(config))`
    valid : :py:`In(1)`
        ``group`` is to be taken, which may only be while ``last`` is set.
    last : :py:`Out(1)`
        The group at hand, if any, gives its last word.
    o : :py:`Out(stream.Signature(placed_layout(config), always_ready=True))`
    passed : :py:`Out(1)`
        The last word of a command has come out in the cycle before.
    earlier : :py:`In(1)`
        A command of which all words have passed is not done yet.
    fault : :py:`Out(Fault)`
        Held until reset. The word at fault does not pass, nor does any after it, and the fault
        comes when all commands before are done. ``ADDRESS``: outside the activation, the weight or
        the parameter memory. ``ARGUMENT``: a window of too many groups to slide.

    Attributes
    ----------
    LATENCY : :class:`int`
    """

    LATENCY = 2

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "group":   In(group_layout(config)),
            "valid":   In(1),
            "last":    Out(1),
            "o":       Out(stream.Signature(placed_layout(config), always_ready=True)),
            "passed":  Out(1),
            "earlier": In(1),
            "fault":   Out(Fault),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        require(m, ~self.valid | self.last, "a group comes when the one before has ended")
        self._elaborate_bounds(m, self._elaborate_loop(m))

        return m

    def _elaborate_loop(self, m: Module) -> _Word:
        """Steps through the words of a group."""
        taps    = self._config.vector_taps
        active  = Signal()
        group   = Signal(group_layout(self._config), reset_less=True)
        address = Signal(24, reset_less=True)
        x       = Signal(signed(19), reset_less=True)
        more    = Signal(range(taps), reset_less=True)  # words after this one
        first   = Signal(reset_less=True)
        new     = self.group
        with m.If(self.last):
            m.d.sync += [
                active.eq(self.valid),
                group.eq(new),
                address.eq(new.address + new.offset),
                x.eq(new.x + new.x_offset),
                first.eq(1),
            ]
        if taps == 1:
            m.d.comb += self.last.eq(1)
        else:
            last = Signal(init=1)
            m.d.comb += self.last.eq(last)
            with m.If(last):
                m.d.sync += [
                    more.eq(new.size - new.start - 1),
                    last.eq(~self.valid | (new.start + 1 == new.size)),
                ]
            with m.Else():
                m.d.sync += [
                    address.eq(address + group.step),
                    x.eq(x + group.x_step),
                    more.eq(more - 1),
                    first.eq(0),
                    last.eq(more == 1),
                ]
        return _Word(active=active, group=group, address=address, x=x, first=first)

    def _elaborate_bounds(self, m: Module, word: _Word) -> None:
        """Checks a word against the bounds of input and memory, and passes it on, or a fault."""
        group  = word.group
        inside = Signal()
        legal  = Signal()
        no_word = group.no_entry | (inside & ~legal)
        if self._config.vector_pairs:
            no_word |= group.fetches & (group.second >= self._config.activation_depth)
        early  = group.tap.lines.early if self._config.vector_lines else C(0)
        m.d.comb += [
            inside.eq((group.y >= 0) & (word.x >= 0) & (group.y < group.in_outer)
                      & (word.x < group.in_inner) & (early == 0)),
            legal.eq(word.address < self._config.activation_depth),
        ]
        valid  = Signal()
        ends   = Signal(reset_less=True)
        wrong  = Signal(reset_less=True)
        code   = Signal(Error, reset_less=True)
        index  = Signal(16, reset_less=True)
        placed = unreset(m, self.o.payload, "placed")
        m.d.sync += [
            valid.eq(word.active),
            index.eq(group.index),
            ends.eq(group.command_end & self.last),
            *(placed[name].eq(word.address if name == "address" else group[name])
              for name, _ in placed.shape() if name != "tap"),
            *(placed.tap[name].eq(group.tap[name]) for name, _ in group.tap.shape()),
            placed.tap.inside.eq(inside),
            placed.tap.first.eq(word.first),
            placed.tap.last.eq(self.last),
            placed.tap.end.eq(group.tap.end & self.last),
            wrong.eq(no_word | (group.no_slot & self.last)),
            code.eq(Mux(group.no_slot & self.last, Error.ARGUMENT, Error.ADDRESS)),
        ]

        found  = Signal(Fault)
        failed = Signal()  # a word before this one
        m.d.comb += self.o.valid.eq(valid & ~wrong & ~failed)
        m.d.sync += self.passed.eq(self.o.valid & ends)
        with m.If(valid & wrong & ~failed):
            m.d.sync += [failed.eq(1), found.code.eq(code), found.index.eq(index)]
        with m.If(~self.earlier):
            m.d.sync += self.fault.eq(found)
