"""From a board's oscillator to the clock of the accelerator: through a phase-locked loop or not."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from amaranth import *
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from weft.boards.board import Family
from weft.hw.isa.config import ConfigError

__all__ = ["Ecp5Pll", "Ice40Pll", "PlainClock", "Pll", "PllClock", "clock_source"]


@dataclass(frozen=True, kw_only=True)
class Pll(ABC):
    """Settings of a phase-locked loop.

    Parameters
    ----------
    input_mhz : :class:`float`
        Of the board's oscillator.
    input_divider, feedback_divider, output_divider : :class:`int`
    """

    input_mhz: float
    input_divider: int
    feedback_divider: int
    output_divider: int

    @property
    @abstractmethod
    def output_mhz(self) -> float:
        """Frequency of the output."""

    @classmethod
    @abstractmethod
    def possible(cls, input_mhz: float) -> Iterator[Self]:
        """All settings for an oscillator that keep the limits of the primitive."""

    @abstractmethod
    def instance(self, m: Module, *, port: Any, clock_out: Value, locked: Value) -> Instance:
        """The primitive, with the oscillator at ``port``."""

    @classmethod
    def nearest(cls, input_mhz: float, asked_mhz: float) -> Self:
        """The settings whose output is nearest to ``asked_mhz``; of several, those with the
        fastest phase detector.

        Raises
        ------
        ConfigError
            If no output is within a tenth of ``asked_mhz``.
        """
        best = min(cls.possible(input_mhz), key=lambda pll: (
            round(abs(pll.output_mhz - asked_mhz), 6), pll.input_divider))
        if abs(best.output_mhz - asked_mhz) > asked_mhz / 10:
            raise ConfigError(f"Clock must be one that the board's {input_mhz:g} MHz can be turned "
                              f"into, not {asked_mhz:g} MHz")
        return best


@dataclass(frozen=True, kw_only=True)
class Ecp5Pll(Pll):
    """Settings of an ``EHXPLLL`` whose feedback is its output.

    Limits: phase detector 3.125..400 MHz, oscillator 400..800 MHz, dividers 1..128 (feedback
    1..80); Lattice FPGA-TN-02200, "ECP5 and ECP5-5G sysCLOCK PLL/DLL".
    """

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

    def instance(self, m: Module, *, port: Any, clock_out: Value, locked: Value) -> Instance:
        """The primitive, a buffer for the oscillator at ``port``, and a gate that keeps the clock
        still until the loop has locked."""
        m.submodules.oscillator = oscillator = io.Buffer("i", port)
        running = Signal()
        m.submodules.gate = Instance("DCCA", i_CLKI=running, i_CE=locked, o_CLKO=clock_out)
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
            i_CLKI=oscillator.i, i_CLKFB=running, i_RST=Const(0), i_STDBY=Const(0),
            i_PHASESEL0=Const(0), i_PHASESEL1=Const(0), i_PHASEDIR=Const(1),
            i_PHASESTEP=Const(1), i_PHASELOADREG=Const(1), i_PLLWAKESYNC=Const(0),
            i_ENCLKOP=Const(0),
            o_CLKOP=running, o_LOCK=locked)


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


class PllClock(Elaboratable):
    """Drives the ``sync`` domain from the board's oscillator, once the loop has locked.

    The domain itself is the parent's.

    Parameters
    ----------
    pll : :class:`Pll`

    Attributes
    ----------
    reset_less : :class:`bool`
        The clock stands still until then, and the domain needs no reset: one would drive thousands
        of registers, which start as the bitstream says. Otherwise it is in reset.
    running : :class:`~amaranth.hdl.Signal`
        The clock runs.
    """

    def __init__(self, pll: Pll):
        self._pll = pll
        self.reset_less = isinstance(pll, Ecp5Pll)
        self.running = Signal()

    @property
    def output_mhz(self) -> float:
        """Frequency of the clock."""
        return self._pll.output_mhz

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.pll = self._pll.instance(
            m, port=platform.request(platform.default_clk, dir="-"),
            clock_out=ClockSignal("sync"), locked=self.running)
        if not self.reset_less:
            m.submodules.reset = ResetSynchronizer(~self.running, domain="sync")
        return m


class PlainClock(Elaboratable):
    """Drives the ``sync`` domain with the board's oscillator; in reset for some 15 us, which block
    memories of an iCE40 need after the FPGA is configured.

    The domain itself is the parent's.

    Parameters
    ----------
    output_mhz : :class:`float`
        Of the oscillator.

    Attributes
    ----------
    reset_less, running
        As of :class:`PllClock`.
    """

    reset_less = False

    def __init__(self, output_mhz: float):
        self.output_mhz = output_mhz
        self.running = Signal()

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.oscillator = oscillator = io.Buffer(
            "i", platform.request(platform.default_clk, dir="-"))
        m.domains.start = ClockDomain("start", reset_less=True, local=True)
        timer = Signal(range(round(15 * self.output_mhz) + 1))
        with m.If(timer == round(15 * self.output_mhz)):
            m.d.start += self.running.eq(1)
        with m.Else():
            m.d.start += timer.eq(timer + 1)
        m.d.comb += [
            ClockSignal("start").eq(oscillator.i),
            ClockSignal("sync").eq(oscillator.i),
            ResetSignal("sync").eq(~self.running),
        ]
        return m


def clock_source(family: Family, *, oscillator_mhz: float,
                 asked_mhz: float) -> PllClock | PlainClock:
    """What drives the ``sync`` domain with ``asked_mhz``, or as near to it as it goes.

    Raises
    ------
    ConfigError
        If it does not go near enough.
    """
    if family is Family.ECP5:
        return PllClock(Ecp5Pll.nearest(oscillator_mhz, asked_mhz))
    if asked_mhz == oscillator_mhz:
        return PlainClock(oscillator_mhz)
    return PllClock(Ice40Pll.nearest(oscillator_mhz, asked_mhz))
