"""The rows of a window, of which the next row of positions uses some again."""

from typing import Any

from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.limits import LINE_KERNELS, LINE_WORDS
from weft.hw.isa.vector_rules import line_groups
from weft.hw.lib.delay import register

from .tap import tap_layout

__all__ = ["VectorLines"]


class VectorLines(wiring.Component):
    """The last words of each column, newest last, and from them the words of a group.

    A word pushes out the oldest one of its column. Columns are kept in a memory from one row of
    positions to the next, so a window that goes down by ``s`` needs only ``s`` new words of each,
    and from one command to the next, for one that resumes.
    What is read from there is in time for the word that follows, except when both are of the same
    column: that one is at hand.

    Members
    -------
    valid : :py:`In(1)`
    tap : :py:`In(tap_layout(config))`
    next_tap : :py:`In(tap_layout(config))`
        The tap of the next cycle.
    newest : :py:`In(8 * rows)`
        The word of ``tap``, or its padding.
    padding : :py:`In(8)`
        A byte of padding.
    o : :py:`Out(data.ArrayLayout(8 * rows, len(places)))`
        In the same cycle, the word that is to enter the window at each of the places, if its bit in
        ``enters`` is set.
    enters : :py:`Out(len(places))`

    Attributes
    ----------
    places : :class:`tuple` of :class:`int`
        Those of a group at which a kernel row may end.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        word = 8 * config.word_lanes
        self.places = tuple(sorted({
            config.vector_taps - 1 - row * kernel for kernel in LINE_KERNELS
            for rows in line_groups(config, kernel) for row in range(rows)}))
        super().__init__({
            "valid":    In(1),
            "tap":      In(tap_layout(config)),
            "next_tap": In(tap_layout(config)),
            "newest":   In(word),
            "padding":  In(8),
            "o":        Out(data.ArrayLayout(word, len(self.places))),
            "enters":   Out(len(self.places)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        self._elaborate_rows(m, self._elaborate_column(m))

        return m

    def _elaborate_column(self, m: Module) -> Value:
        """The words of the column up to this one, oldest first."""
        lanes = self._config.word_lanes
        word  = 8 * lanes
        tap   = self.tap.lines

        m.submodules.columns = columns = memory.Memory(
            shape=unsigned(LINE_WORDS * word), depth=self._config.vector_lines, init=[])
        write = columns.write_port()
        read  = columns.read_port()
        held  = Signal(LINE_WORDS * word, reset_less=True)  # those that the tap before has left
        at_hand = register(
            m, self.valid & tap.on & (tap.column == self.next_tap.lines.column), "at_hand")

        above  = Signal.like(held)
        column = Cat(above, self.newest)
        left   = Mux(tap.early == 0, column[word:], above)
        begins = self.tap.first & tap.begins
        m.d.comb += [
            read.addr.eq(self.next_tap.lines.column),
            above.eq(Mux(at_hand | ~begins, held, read.data)),
            write.addr.eq(tap.column),
            write.data.eq(left),
            write.en.eq(self.valid & tap.on),
        ]
        with m.If(begins & tap.top):
            m.d.comb += above.eq(self.padding.replicate(lanes * LINE_WORDS))
        with m.If(self.valid):
            m.d.sync += held.eq(left)
        return column

    def _elaborate_rows(self, m: Module, column: Value) -> None:
        """The group's words of the column, at the ends of its kernel rows."""
        taps  = self._config.vector_taps
        tap   = self.tap.lines
        words = [column.word_select(number, 8 * self._config.word_lanes)
                 for number in range(LINE_WORDS + 1)]
        for wide, kernel in enumerate(LINE_KERNELS):
            groups = line_groups(self._config, kernel)
            for behind, rows in enumerate(reversed(groups)):
                # The words that are still to come, one with each group, are not in the column yet.
                newest = LINE_WORDS - sum(groups[len(groups) - behind:]) + behind
                for early in range(behind + 1):
                    with m.If((tap.wide == wide) & (tap.behind == behind) & (tap.early == early)):
                        for row in range(rows):
                            place = self.places.index(taps - 1 - row * kernel)
                            m.d.comb += [self.o[place].eq(words[newest - early - row]),
                                         self.enters[place].eq(tap.on)]
