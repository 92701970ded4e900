"""Gowin GW2A: the phase-locked loop (``rPLL``)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from amaranth import *
from amaranth.lib import io

from weft.boards.clock import OutputFedPll

__all__ = ["GowinPll"]


_OUTPUT_DIVIDERS = (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)
_PHASES = 16  # of a period, by which the second output can be late


@dataclass(frozen=True, kw_only=True)
class GowinPll(OutputFedPll):
    """Settings of an ``rPLL`` with internal feedback, whose output is gated by a ``DQCE`` until the
    loop has locked.

    Limits: phase detector 3..500 MHz, oscillator 500..1250 MHz, output 3.90625..625 MHz, dividers
    1..64 for the input and the feedback; of a GW2A of speed grade C8/I7, Gowin DS226E.
    """

    gated: ClassVar[bool] = True
    shifts: ClassVar[bool] = True

    @classmethod
    def possible(cls, input_mhz: float) -> Iterator[Self]:
        for input_divider in range(1, min(64, int(input_mhz / 3)) + 1):
            for feedback_divider in range(1, 65):
                for output_divider in _OUTPUT_DIVIDERS:
                    pll = cls(input_mhz=input_mhz, input_divider=input_divider,
                              feedback_divider=feedback_divider, output_divider=output_divider)
                    if 500 < pll.vco_mhz < 1250 and 3.90625 < pll.output_mhz < 625:
                        yield pll

    def instance(self, m: Module, *, port: Any, clock_out: Value, locked: Value,
                 shifted: tuple[Value, float] | None = None) -> Instance:
        """The primitive, with the oscillator at ``port``."""
        m.submodules.oscillator = oscillator = io.Buffer("i", port)
        running = Signal()
        m.submodules.gate = Instance("DQCE", i_CLKIN=running, i_CE=locked, o_CLKOUT=clock_out)
        second: dict[str, Any] = {}
        phase = 0
        if shifted is not None:
            clock, degrees = shifted
            phase = round(_PHASES * degrees / 360) % _PHASES
            second = {"o_CLKOUTP": clock}
        return Instance(
            "rPLL",
            p_FCLKIN=f"{self.input_mhz:g}", p_IDIV_SEL=self.input_divider - 1,
            p_FBDIV_SEL=self.feedback_divider - 1, p_ODIV_SEL=self.output_divider,
            p_DYN_IDIV_SEL="false", p_DYN_FBDIV_SEL="false", p_DYN_ODIV_SEL="false",
            # The other output is high for half a period from its phase on.
            p_DYN_DA_EN="false", p_PSDA_SEL=f"{phase:04b}", p_DUTYDA_SEL="1000",
            p_CLKOUT_FT_DIR=Const(1, 1), p_CLKOUTP_FT_DIR=Const(1, 1),
            p_CLKOUT_DLY_STEP=0, p_CLKOUTP_DLY_STEP=0, p_CLKFB_SEL="internal",
            p_CLKOUT_BYPASS="false", p_CLKOUTP_BYPASS="false", p_CLKOUTD_BYPASS="false",
            p_DYN_SDIV_SEL=2, p_CLKOUTD_SRC="CLKOUT", p_CLKOUTD3_SRC="CLKOUT",
            p_DEVICE="GW2A-18C",
            i_CLKIN=oscillator.i, i_CLKFB=Const(0), i_RESET=Const(0), i_RESET_P=Const(0),
            i_FBDSEL=Const(0, 6), i_IDSEL=Const(0, 6), i_ODSEL=Const(0, 6), i_PSDA=Const(0, 4),
            i_DUTYDA=Const(0, 4), i_FDLY=Const(0, 4),
            o_CLKOUT=running, o_LOCK=locked, **second)
