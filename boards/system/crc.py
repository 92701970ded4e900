"""CRC-32 of IEEE 802.3, a bit per cycle."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .protocol import CRC_POLYNOMIAL, CRC_RESIDUE

__all__ = ["Crc32"]


class Crc32(wiring.Component):
    """The register of a CRC. It takes 8 cycles for a byte, far less than a UART.

    Members
    -------
    clear : :py:`In(1)`
        Start anew.
    valid : :py:`In(1)`
        Append ``data``; only while not ``busy``.
    data : :py:`In(8)`
    register : :py:`Out(32)`
        Inverted, this is the CRC; its low byte goes on the wire first. Appending the low byte of
        the register itself shifts it down by a byte, so that each byte of the CRC is found there.
    busy : :py:`Out(1)`
        The register is on its way.
    intact : :py:`Out(1)`
        The data so far ended in the CRC of what was before it.
    """
    clear:    In(1)
    valid:    In(1)
    data:     In(8)
    register: Out(32, init=0xFFFF_FFFF)
    busy:     Out(1)
    intact:   Out(1)

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        left = Signal(range(9))
        register = self.register
        m.d.comb += self.busy.eq(left != 0)
        m.d.comb += self.intact.eq(register == CRC_RESIDUE)
        with m.If(self.clear):
            m.d.sync += register.eq(0xFFFF_FFFF)
            m.d.sync += left.eq(0)
        with m.Elif(self.valid):
            m.d.sync += register[:8].eq(register[:8] ^ self.data)
            m.d.sync += left.eq(8)
        with m.Elif(self.busy):
            m.d.sync += register.eq((register >> 1) ^ Mux(register[0], CRC_POLYNOMIAL, 0))
            m.d.sync += left.eq(left - 1)

        return m
