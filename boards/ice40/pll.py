"""Lattice iCE40: the phase-locked loop (``SB_PLL40_PAD``)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from amaranth import *

from weft.boards.clock import Pll

__all__ = ["Ice40Pll"]


@dataclass(frozen=True, kw_only=True)
class Ice40Pll(Pll):
    """Settings of an ``SB_PLL40_PAD`` with simple feedback, which has the pin of the oscillator to
    itself.

    Limits: phase detector 10..133 MHz, oscillator 533..1066 MHz, output 16..275 MHz, dividers 1..16
    for the input, 1..128 for the feedback, and 2**1..2**6 for the output; Lattice FPGA-DS-02008,
    "iCE40 UltraPlus Family".
    """

    @property
    def output_mhz(self) -> float:
        """Frequency of the output."""
        return self.vco_mhz / self.output_divider

    @property
    def vco_mhz(self) -> float:
        """Frequency of the oscillator."""
        return self.input_mhz * self.feedback_divider / self.input_divider

    @classmethod
    def possible(cls, input_mhz: float) -> Iterator[Self]:
        for input_divider in range(1, min(16, int(input_mhz / 10)) + 1):
            for feedback_divider in range(1, 129):
                for exponent in range(1, 7):
                    pll = cls(input_mhz=input_mhz, input_divider=input_divider,
                              feedback_divider=feedback_divider, output_divider=1 << exponent)
                    if 533 <= pll.vco_mhz <= 1066 and 16 <= pll.output_mhz <= 275:
                        yield pll

    def instance(self, m: Module, *, port: Any, clock_out: Value, locked: Value) -> Instance:
        """The primitive, with the oscillator at ``port``."""
        # The filter follows the frequency of the phase detector, as `icepll` chooses it.
        detector_mhz = self.input_mhz / self.input_divider
        filter_range = 1 + sum(detector_mhz >= limit for limit in (17, 26, 44, 66, 101))
        return Instance(
            "SB_PLL40_PAD",
            p_FEEDBACK_PATH="SIMPLE", p_PLLOUT_SELECT="GENCLK",
            p_DIVR=Const(self.input_divider - 1, 4), p_DIVF=Const(self.feedback_divider - 1, 7),
            p_DIVQ=Const(self.output_divider.bit_length() - 1, 3),
            p_FILTER_RANGE=Const(filter_range, 3),
            i_PACKAGEPIN=port.io, i_RESETB=Const(1), i_BYPASS=Const(0),
            o_PLLOUTGLOBAL=clock_out, o_LOCK=locked)
