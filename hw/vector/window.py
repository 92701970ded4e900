"""The words of a window, of which the next position uses some again."""

from typing import Any

from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from weft.hw.isa.commands import VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.limits import WINDOW_GROUPS
from weft.hw.lib.delay import register

from .lines import VectorLines
from .tap import tap_layout

__all__ = ["VectorWindow"]


_SHARING = 8  # lanes that share a register for whether there is a word


class VectorWindow(wiring.Component):
    """The last ``vector_taps`` words of each group of taps, newest last.

    A word pushes out the oldest one of its group. Groups are kept in distributed memory between
    positions, so a window that slides by ``s`` needs only ``s`` new words per group. Padding
    enters as the zero point of the input, or as -128 for a maximum. With lines, a group has the
    words of several kernel rows, and each row gets a new one.

    Members
    -------
    valid : :py:`In(1)`
    tap : :py:`In(tap_layout(config))`
    next_tap : :py:`In(tap_layout(config))`
        The tap of the next cycle.
    word : :py:`In(data.ArrayLayout(8, rows))`
        The word of ``tap``, if it has one.
    o : :py:`Out(data.ArrayLayout(data.ArrayLayout(signed(8), rows), vector_taps))`
        The group's words, this one included, :attr:`LATENCY` cycles later.

    Attributes
    ----------
    LATENCY : :class:`int`
    """

    LATENCY = 1

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "valid":       In(1),
            "tap":         In(tap_layout(config)),
            "next_tap":    In(tap_layout(config)),
            "word":        In(data.ArrayLayout(8, config.word_data_bytes)),
            "o":           Out(data.ArrayLayout(
                data.ArrayLayout(signed(8), config.word_lanes), config.vector_taps)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        lanes     = self._config.word_lanes
        taps      = self._config.vector_taps
        word_bits = 8 * lanes
        kept_bits = word_bits * (taps - 1)

        coming  = self.next_tap
        padding = register(m, Mux(coming.operation.op == VectorOp.MAX, C(-128, signed(8)),
                                  coming.operation.in_zero).as_unsigned(), "padding")
        newest  = []  # byte by byte
        for lane in range(lanes):
            if lane % _SHARING == 0:
                inside = register(m, coming.inside, f"inside_{lane}", keep=True)
            newest.append(Mux(inside, self.word[lane], padding))

        if not kept_bits:
            m.d.sync += Value.cast(self.o).eq(Cat(newest))
            return m

        m.submodules.groups = groups = memory.Memory(
            shape=unsigned(kept_bits), depth=WINDOW_GROUPS, init=[])
        write  = groups.write_port()
        read   = groups.read_port(domain="comb")
        recent = Signal(kept_bits)  # words of the group at hand
        whole  = Signal(kept_bits + word_bits)
        m.d.comb += [
            read.addr.eq(self.tap.slot),
            recent.eq(Value.cast(self.o)[word_bits:]),
            whole.eq(Cat(recent, *newest)),
            write.addr.eq(self.tap.slot),
            write.data.eq(whole[word_bits:]),
            write.en.eq(self.valid & self.tap.last),
        ]
        first = self.tap.first
        if self._config.vector_lines:
            self._elaborate_lines(m, whole, Cat(newest), padding)
            first |= self.tap.lines.on
        with m.If(first):
            m.d.comb += recent.eq(Mux(self.tap.fill, padding.replicate(lanes * (taps - 1)),
                                      read.data))
        with m.If(self.valid):
            m.d.sync += Value.cast(self.o).eq(whole)

        return m

    def _elaborate_lines(self, m: Module, whole: Signal, newest: Value, padding: Value) -> None:
        """Words of kept rows enter ``whole`` at the ends of kernel rows."""
        m.submodules.lines = lines = VectorLines(self._config)
        m.d.comb += [
            lines.valid.eq(self.valid),
            lines.tap.eq(self.tap),
            lines.next_tap.eq(self.next_tap),
            lines.newest.eq(newest),
            lines.padding.eq(padding),
        ]
        for number, place in enumerate(lines.places):
            with m.If(lines.enters[number]):
                m.d.comb += whole.word_select(place, len(newest)).eq(lines.o[number])
