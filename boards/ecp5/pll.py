"""Lattice ECP5: the phase-locked loop (``EHXPLLL``)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from amaranth import *
from amaranth.lib import io

from weft.boards.clock import Pll

__all__ = ["Ecp5Pll"]


@dataclass(frozen=True, kw_only=True)
class Ecp5Pll(Pll):
    """Settings of an ``EHXPLLL`` whose feedback is its output.

    Limits: phase detector 3.125..400 MHz, oscillator 400..800 MHz, dividers 1..128 (feedback
    1..80); Lattice FPGA-TN-02200, "ECP5 and ECP5-5G sysCLOCK PLL/DLL".
    """

    gated: ClassVar[bool] = True
    shifts: ClassVar[bool] = True

    @property
    def output_mhz(self) -> float:
        """Frequency of the output."""
        return self.input_mhz * self.feedback_divider / self.input_divider

    @property
    def vco_mhz(self) -> float:
        """Frequency of the oscillator."""
        return self.output_mhz * self.output_divider

    @classmethod
    def possible(cls, input_mhz: float) -> Iterator[Self]:
        for input_divider in range(1, int(input_mhz / 3.125) + 1):
            for feedback_divider in range(1, 81):
                # The oscillator is to be near the middle of its range.
                output_mhz = input_mhz * feedback_divider / input_divider
                pll = cls(input_mhz=input_mhz, input_divider=input_divider,
                          feedback_divider=feedback_divider,
                          output_divider=max(1, round(600 / output_mhz)))
                if pll.output_divider <= 128 and 400 <= pll.vco_mhz <= 800:
                    yield pll

    def instance(self, m: Module, *, port: Any, clock_out: Value, locked: Value,
                 shifted: tuple[Value, float] | None = None) -> Instance:
        """The primitive, a buffer for the oscillator at ``port``, and a gate that keeps the clock
        still until the loop has locked."""
        m.submodules.oscillator = oscillator = io.Buffer("i", port)
        running = Signal()
        m.submodules.gate = Instance("DCCA", i_CLKI=running, i_CE=locked, o_CLKO=clock_out)
        # The phase at which the output is in step with the feedback, as `ecppll` has it.
        phase = self.output_divider // 2
        second: dict[str, Any] = {}
        if shifted is not None:
            # In periods of the oscillator, and eighths of one.
            whole, eighths = divmod(round(8 * self.output_divider * shifted[1] / 360), 8)
            second = {"p_CLKOS_ENABLE": "ENABLED", "p_CLKOS_DIV": self.output_divider,
                      "p_CLKOS_CPHASE": phase + whole, "p_CLKOS_FPHASE": eighths,
                      "i_ENCLKOS": Const(0), "o_CLKOS": shifted[0]}
        return Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=f"{self.input_mhz:g}",
            a_FREQUENCY_PIN_CLKOP=f"{self.output_mhz:g}",
            a_ICP_CURRENT="12", a_LPF_RESISTOR="8", a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED", p_INTFB_WAKE="DISABLED", p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED", p_FEEDBK_PATH="CLKOP",
            p_OUTDIVIDER_MUXA="DIVA", p_OUTDIVIDER_MUXB="DIVB",
            p_OUTDIVIDER_MUXC="DIVC", p_OUTDIVIDER_MUXD="DIVD",
            p_CLKI_DIV=self.input_divider, p_CLKFB_DIV=self.feedback_divider,
            p_CLKOP_ENABLE="ENABLED", p_CLKOP_DIV=self.output_divider,
            p_CLKOP_CPHASE=phase, p_CLKOP_FPHASE=0,
            i_CLKI=oscillator.i, i_CLKFB=running, i_RST=Const(0), i_STDBY=Const(0),
            i_PHASESEL0=Const(0), i_PHASESEL1=Const(0), i_PHASEDIR=Const(1),
            i_PHASESTEP=Const(1), i_PHASELOADREG=Const(1), i_PLLWAKESYNC=Const(0),
            i_ENCLKOP=Const(0),
            o_CLKOP=running, o_LOCK=locked, **second)
