"""Phase-locked loops: from a board's oscillator to the clock of the accelerator."""

from dataclasses import dataclass
from typing import Any, Self

from amaranth import *
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from weft.config import ConfigError

__all__ = ["Ecp5Pll", "Ice40Pll", "PllClock"]


@dataclass(frozen=True, kw_only=True)
class Ecp5Pll:
    """Settings of an ``EHXPLLL`` whose feedback is its output.

    Limits: phase detector 3.125..400 MHz, oscillator 400..800 MHz, dividers 1..128 (feedback
    1..80); Lattice FPGA-TN-02200, "ECP5 and ECP5-5G sysCLOCK PLL/DLL".

    Parameters
    ----------
    input_mhz : :class:`float`
    input_divider, feedback_divider, output_divider : :class:`int`
    """

    input_mhz: float
    input_divider: int
    feedback_divider: int
    output_divider: int

    @property
    def output_mhz(self) -> float:
        """Frequency of the output."""
        return self.input_mhz * self.feedback_divider / self.input_divider

    @property
    def vco_mhz(self) -> float:
        """Frequency of the oscillator."""
        return self.output_mhz * self.output_divider

    @classmethod
    def nearest(cls, input_mhz: float, asked_mhz: float) -> Self:
        """The settings whose output is nearest to ``asked_mhz``; of several, those with the
        fastest phase detector.

        Raises
        ------
        ConfigError
            If no output is within a tenth of ``asked_mhz``.
        """
        found = [
            pll for input_divider in range(1, int(input_mhz / 3.125) + 1)
            for feedback_divider in range(1, 81)
            for pll in [cls(input_mhz=input_mhz, input_divider=input_divider,
                            feedback_divider=feedback_divider,
                            output_divider=_vco_divider(
                                input_mhz * feedback_divider / input_divider))]
            if pll.output_divider <= 128 and 400 <= pll.vco_mhz <= 800]
        return _choose(found, input_mhz, asked_mhz, lambda pll: pll.input_divider)

    def instance(self, *, clock_in: Value, clock_out: Value, locked: Value) -> Instance:
        """The primitive."""
        # The phase at which the output is in step with the feedback, as `ecppll` has it.
        phase = self.output_divider // 2
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
            i_CLKI=clock_in, i_CLKFB=clock_out, i_RST=Const(0), i_STDBY=Const(0),
            i_PHASESEL0=Const(0), i_PHASESEL1=Const(0), i_PHASEDIR=Const(1),
            i_PHASESTEP=Const(1), i_PHASELOADREG=Const(1), i_PLLWAKESYNC=Const(0),
            i_ENCLKOP=Const(0),
            o_CLKOP=clock_out, o_LOCK=locked)


@dataclass(frozen=True, kw_only=True)
class Ice40Pll:
    """Settings of an ``SB_PLL40_CORE`` with simple feedback.

    Limits: phase detector 10..133 MHz, oscillator 533..1066 MHz, output 16..275 MHz; Lattice
    FPGA-TN-02052, "iCE40 sysCLOCK PLL".

    Parameters
    ----------
    input_mhz : :class:`float`
    input_divider : :class:`int`
        1..16: ``DIVR + 1``.
    feedback_divider : :class:`int`
        1..128: ``DIVF + 1``.
    output_exponent : :class:`int`
        1..6: ``DIVQ``; the oscillator is divided by two to this power.
    """

    input_mhz: float
    input_divider: int
    feedback_divider: int
    output_exponent: int

    @property
    def output_mhz(self) -> float:
        """Frequency of the output."""
        return self.vco_mhz / (1 << self.output_exponent)

    @property
    def vco_mhz(self) -> float:
        """Frequency of the oscillator."""
        return self.input_mhz / self.input_divider * self.feedback_divider

    @property
    def filter_range(self) -> int:
        """Setting of the loop filter for the frequency of the phase detector."""
        detector_mhz = self.input_mhz / self.input_divider
        return 1 + sum(detector_mhz >= limit for limit in (17, 26, 44, 66, 101))

    @classmethod
    def nearest(cls, input_mhz: float, asked_mhz: float) -> Self:
        """The settings whose output is nearest to ``asked_mhz``.

        Raises
        ------
        ConfigError
            If no output is within a tenth of ``asked_mhz``.
        """
        found = [
            pll for input_divider in range(1, min(16, int(input_mhz / 10)) + 1)
            for feedback_divider in range(1, 129)
            for output_exponent in range(1, 7)
            for pll in [cls(input_mhz=input_mhz, input_divider=input_divider,
                            feedback_divider=feedback_divider, output_exponent=output_exponent)]
            if 533 <= pll.vco_mhz <= 1066 and 16 <= pll.output_mhz <= 275]
        return _choose(found, input_mhz, asked_mhz, lambda pll: pll.input_divider)

    def instance(self, *, clock_in: Value, clock_out: Value, locked: Value) -> Instance:
        """The primitive."""
        return Instance(
            "SB_PLL40_CORE",
            p_FEEDBACK_PATH="SIMPLE", p_DIVR=Const(self.input_divider - 1, 4),
            p_DIVF=Const(self.feedback_divider - 1, 7), p_DIVQ=Const(self.output_exponent, 3),
            p_FILTER_RANGE=Const(self.filter_range, 3), p_PLLOUT_SELECT="GENCLK",
            i_REFERENCECLK=clock_in, i_RESETB=Const(1), i_BYPASS=Const(0),
            o_PLLOUTGLOBAL=clock_out, o_LOCK=locked)


def _vco_divider(output_mhz: float) -> int:
    """The output divider that brings the oscillator nearest to the middle of its range."""
    return max(1, round(600 / output_mhz))


def _choose(found: list, input_mhz: float, asked_mhz: float, preference: Any) -> Any:
    best = min(found, default=None, key=lambda pll: (
        round(abs(pll.output_mhz - asked_mhz), 6), preference(pll)))
    if best is None or abs(best.output_mhz - asked_mhz) > asked_mhz / 10:
        raise ConfigError(f"Clock must be one that the board's {input_mhz:g} MHz can be turned "
                          f"into, not {asked_mhz:g} MHz")
    return best


class PllClock(Elaboratable):
    """Makes the ``sync`` domain from the board's oscillator; in reset until the loop has locked.

    Parameters
    ----------
    pll : :class:`Ecp5Pll` or :class:`Ice40Pll`
    """

    def __init__(self, pll: Ecp5Pll | Ice40Pll):
        self._pll = pll

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.oscillator = oscillator = io.Buffer(
            "i", platform.request(platform.default_clk, dir="-"))
        m.domains.sync = sync = ClockDomain("sync")
        locked = Signal()
        m.submodules.pll = self._pll.instance(clock_in=oscillator.i, clock_out=sync.clk,
                                              locked=locked)
        m.submodules.reset = ResetSynchronizer(~locked, domain="sync")
        return m
