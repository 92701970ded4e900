"""When the row of each bank may be closed."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .chip import SdramTiming

__all__ = ["PrechargeTimers"]


class PrechargeTimers(wiring.Component):
    """Counts, for each bank, how long its row must still stay open.

    Parameters
    ----------
    timing : :class:`~weft.boards.sdram.chip.SdramTiming`
    burst : :class:`int`
        Words that a READ or WRITE moves.

    Members
    -------
    activate, read, write : :py:`In(1)`
        Pulses: such a command is given.
    activated, accessed : :py:`In`
        The bank it is for: of an ACTIVATE, and of a READ or WRITE.
    ready : :py:`Out`
        For each bank, whether a PRECHARGE may be given in this cycle. Registers.
    """

    def __init__(self, timing: SdramTiming, *, burst: int):
        self._timing = timing
        self._burst = burst
        bits = timing.chip.bank_bits
        super().__init__({
            "activate":  In(1),
            "read":      In(1),
            "write":     In(1),
            "activated": In(bits),
            "accessed":  In(bits),
            "ready":     Out(1 << bits, init=-1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        # A PRECHARGE in the cycle after the command would be a cycle later.
        row_open = self._timing.ras - 1
        reading  = self._burst - 1
        writing  = self._burst - 1 + self._timing.wr - 1
        for bank in range(len(self.ready)):
            left = Signal(range(max(row_open, reading, writing) + 1), name=f"left_{bank}")
            following = Signal.like(left, name=f"following_{bank}")
            m.d.comb += following.eq(Mux(self.ready[bank], 0, left - 1))
            accessed = self.accessed == bank
            for pulse, cycles in ((self.read & accessed, reading), (self.write & accessed, writing),
                                  (self.activate & (self.activated == bank), row_open)):
                with m.If(pulse & (self.ready[bank] | (left <= cycles))):
                    m.d.comb += following.eq(cycles)
            m.d.sync += [left.eq(following), self.ready[bank].eq(following == 0)]
        return m
