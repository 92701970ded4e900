"""From a board's oscillator to the clock of the accelerator: through a phase-locked loop or not."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from amaranth import *
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from weft.hw.isa.config import ConfigError

__all__ = ["ClockSource", "OutputFedPll", "PlainClock", "Pll", "PllClock", "UsbClocks"]


@dataclass(frozen=True, kw_only=True)
class UsbClocks:
    """The clocks of full-speed USB, as a primitive drives them.

    Parameters
    ----------
    fast, slow : :class:`Value`
        Of 48 MHz, and of 12 MHz in step with it.
    running : :class:`Value`
        They run.
    """

    fast: Value
    slow: Value
    running: Value


@dataclass(frozen=True, kw_only=True)
class Pll(ABC):
    """Settings of a phase-locked loop.

    Parameters
    ----------
    input_mhz : :class:`float`
        Of the board's oscillator.
    input_divider, feedback_divider, output_divider : :class:`int`

    Attributes
    ----------
    gated : :class:`bool`
        The primitive keeps the clock still until the loop has locked.
    shifts : :class:`bool`
        It has a second output of another phase.
    makes_usb : :class:`bool`
        There is a second loop for the clocks of USB.
    """

    gated: ClassVar[bool] = False
    shifts: ClassVar[bool] = False
    makes_usb: ClassVar[bool] = False

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
        """The primitive, with the oscillator at ``port``. One that ``shifts`` also takes
        ``shifted``, a clock and by how many degrees it is later than ``clock_out``; one that
        ``makes_usb``, ``usb``, the :class:`UsbClocks`."""

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
class OutputFedPll(Pll):
    """Settings of a phase-locked loop whose feedback is its output, behind its divider."""

    @property
    def output_mhz(self) -> float:
        """Frequency of the output."""
        return self.input_mhz * self.feedback_divider / self.input_divider

    @property
    def vco_mhz(self) -> float:
        """Frequency of the oscillator."""
        return self.output_mhz * self.output_divider


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
        self._shifted: tuple[str, float] | None = None
        self._usb = False
        self.reset_less = pll.gated
        self.running = Signal()

    @property
    def output_mhz(self) -> float:
        """Frequency of the clock."""
        return self._pll.output_mhz

    def shift(self, domain: str, degrees: float) -> None:
        """Drive the clock of a second domain too, so many degrees later; it runs while the loop
        locks.

        Raises
        ------
        ConfigError
            If the primitive cannot.
        """
        if not self._pll.shifts:
            raise ConfigError(f"Clock must come from a phase-locked loop with a second output, not "
                              f"{type(self._pll).__name__}")
        self._shifted = domain, degrees

    def add_usb(self) -> None:
        """Drive the domains ``usb_io``, of 48 MHz, and ``usb``, of 12 MHz, too; both are in reset
        until their loop has locked.

        Raises
        ------
        ConfigError
            If the primitive cannot.
        """
        if not self._pll.makes_usb:
            raise ConfigError(f"Clocks of USB must come from a second phase-locked loop, not "
                              f"beside a {type(self._pll).__name__}")
        self._usb = True

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        options: dict[str, Any] = {}
        if self._shifted is not None:
            domain, degrees = self._shifted
            options["shifted"] = ClockSignal(domain), degrees
        if self._usb:
            usb_running = Signal()
            options["usb"] = UsbClocks(fast=ClockSignal("usb_io"), slow=ClockSignal("usb"),
                                       running=usb_running)
            for domain in ("usb_io", "usb"):
                m.submodules[f"{domain}_reset"] = ResetSynchronizer(~usb_running, domain=domain)
        m.submodules.pll = self._pll.instance(
            m, port=platform.request(platform.default_clk, dir="-"),
            clock_out=ClockSignal("sync"), locked=self.running, **options)
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

    def shift(self, domain: str, degrees: float) -> None:
        """Raises :class:`ConfigError`: an oscillator has one output."""
        raise ConfigError("Clock must come from a phase-locked loop with a second output, not "
                          "from the oscillator")

    def add_usb(self) -> None:
        """Raises :class:`ConfigError`: an oscillator is not of 48 MHz."""
        raise ConfigError("Clocks of USB must come from a phase-locked loop, not from the "
                          "oscillator")

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


ClockSource = PllClock | PlainClock
"""What drives the clock of a board's design."""
