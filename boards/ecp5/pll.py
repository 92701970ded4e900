"""Lattice ECP5: the phase-locked loop (``EHXPLLL``)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from amaranth import *
from amaranth.lib import io

from weft.boards.clock import OutputFedPll, UsbClocks
from weft.hw.isa.config import ConfigError

__all__ = ["Ecp5Pll"]


_USB_MHZ = 48


@dataclass(frozen=True, kw_only=True)
class Ecp5Pll(OutputFedPll):
    """Settings of an ``EHXPLLL`` whose feedback is its output.

    Limits: phase detector 3.125..400 MHz, oscillator 400..800 MHz, dividers 1..128 (feedback
    1..80); Lattice FPGA-TN-02200, "ECP5 and ECP5-5G sysCLOCK PLL/DLL".
    """

    gated: ClassVar[bool] = True
    shifts: ClassVar[bool] = True
    makes_usb: ClassVar[bool] = True

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

    @classmethod
    def for_usb(cls, input_mhz: float) -> Self:
        """The settings whose oscillator can be divided down to 48 MHz.

        Raises
        ------
        ConfigError
            If there are none.
        """
        fitting = [pll for pll in cls.possible(input_mhz) if pll.vco_mhz % _USB_MHZ == 0]
        if not fitting:
            raise ConfigError(f"Clocks of USB must be made from the board's oscillator, which "
                              f"{input_mhz:g} MHz does not allow")
        return min(fitting, key=lambda pll: pll.input_divider)

    def instance(self, m: Module, *, port: Any, clock_out: Value, locked: Value,
                 shifted: tuple[Value, float] | None = None,
                 usb: UsbClocks | None = None) -> Instance:
        """The primitive, a buffer for the oscillator at ``port``, and a gate that keeps the clock
        still until the loop has locked."""
        m.submodules.oscillator = oscillator = io.Buffer("i", port)
        running = Signal()
        m.submodules.gate = Instance("DCCA", i_CLKI=running, i_CE=locked, o_CLKO=clock_out)
        second: dict[str, Any] = {}
        if shifted is not None:
            second = self._output("CLKOS", self.output_divider, shifted[0], shifted[1])
        if usb is not None:
            loop = self.for_usb(self.input_mhz)
            divider = round(loop.vco_mhz / _USB_MHZ)
            m.submodules.usb_pll = loop._loop(
                oscillator.i, Signal(name="usb_feedback"), usb.running,
                loop._output("CLKOS", divider, usb.fast)
                | loop._output("CLKOS2", 4 * divider, usb.slow))
        return self._loop(oscillator.i, running, locked, second)

    @property
    def _phase(self) -> int:
        """The phase at which an output is in step with the feedback, as ``ecppll`` has it."""
        return self.output_divider // 2

    def _output(self, name: str, divider: int, clock: Value, degrees: float = 0) -> dict[str, Any]:
        """Another output, so many degrees late."""
        # In periods of the oscillator, and eighths of one.
        whole, eighths = divmod(round(8 * divider * degrees / 360), 8)
        return {f"p_{name}_ENABLE": "ENABLED", f"p_{name}_DIV": divider,
                f"p_{name}_CPHASE": self._phase + whole, f"p_{name}_FPHASE": eighths,
                f"i_EN{name}": Const(0), f"o_{name}": clock}

    def _loop(self, oscillator: Value, feedback: Value, locked: Value,
              others: dict[str, Any]) -> Instance:
        """The primitive; its output is the feedback."""
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
            p_CLKOP_CPHASE=self._phase, p_CLKOP_FPHASE=0,
            i_CLKI=oscillator, i_CLKFB=feedback, i_RST=Const(0), i_STDBY=Const(0),
            i_PHASESEL0=Const(0), i_PHASESEL1=Const(0), i_PHASEDIR=Const(1),
            i_PHASESTEP=Const(1), i_PHASELOADREG=Const(1), i_PLLWAKESYNC=Const(0),
            i_ENCLKOP=Const(0),
            o_CLKOP=feedback, o_LOCK=locked, **others)
