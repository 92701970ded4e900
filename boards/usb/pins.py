"""The pins of a USB port that is wired to the FPGA."""

from typing import Any

from amaranth import *
from amaranth.lib import io, wiring
from amaranth.lib.wiring import In

from .wires import UsbWires

__all__ = ["UsbPins"]


class UsbPins(wiring.Component):
    """Buffers in the pins.

    Parameters
    ----------
    port
        A platform's ``usb`` resource, as ``amaranth_boards`` describes it.

    Members
    -------
    wires : :py:`In(UsbWires())`
    """

    wires: In(UsbWires())

    def __init__(self, port: Any):
        self._port = port
        super().__init__()

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        wires = self.wires
        m.submodules.d_p = d_p = io.Buffer("io", self._port.d_p)
        m.submodules.d_n = d_n = io.Buffer("io", self._port.d_n)
        m.submodules.pullup = pullup = io.Buffer("o", self._port.pullup)
        m.d.comb += [
            wires.p_i.eq(d_p.i),
            wires.n_i.eq(d_n.i),
            d_p.o.eq(wires.p_o),
            d_n.o.eq(wires.n_o),
            d_p.oe.eq(wires.oe),
            d_n.oe.eq(wires.oe),
            pullup.o.eq(wires.pullup),
        ]
        return m
