"""From AXI4-Lite to reads and writes of registers that take one cycle."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .axi import LiteSignature, Response

__all__ = ["LiteTarget"]


_ADDR_WIDTH = 12


class LiteTarget(wiring.Component):
    """AXI4-Lite on one side, one-cycle reads and writes of 32-bit words on the other.

    Address and data of a write may come in either order. One read and one write are in progress
    at a time; a read takes four cycles, a write two, plus what the bus stalls. All responses are
    OKAY.

    Members
    -------
    bus : :py:`In(LiteSignature())`
        The bus.
    write : :py:`Out(1)`
        Pulse; ``write_data`` is to be written to word ``write_word``, where ``write_mask`` is set.
        All three are still there in the cycle after it.
    write_word : :py:`Out(10)`
        Address of the word, in words.
    write_data, write_mask : :py:`Out(32)`
        Data, and a mask of its bits from ``wstrb``.
    read_word : :py:`Out(10)`
        Address of the word to be read, in words.
    read_data : :py:`In(32)`
        Content of ``read_word`` two cycles later.
    """
    bus:        In(LiteSignature(addr_width=_ADDR_WIDTH))
    write:      Out(1)
    write_word: Out(_ADDR_WIDTH - 2)
    write_data: Out(32)
    write_mask: Out(32)
    read_word:  Out(_ADDR_WIDTH - 2)
    read_data:  In(32)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        bus = self.bus

        has_address = Signal()
        has_data    = Signal()
        strobes     = Signal(4, reset_less=True)
        m.d.comb += [
            bus.awready.eq(~has_address),
            bus.wready.eq(~has_data),
            bus.bresp.eq(Response.OKAY),
            self.write.eq(has_address & has_data & ~bus.bvalid),
            self.write_mask.eq(Cat(strobe.replicate(8) for strobe in strobes)),
        ]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += has_address.eq(1)
            m.d.sync += self.write_word.eq(bus.awaddr[2:])
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += has_data.eq(1)
            m.d.sync += self.write_data.eq(bus.wdata)
            m.d.sync += strobes.eq(bus.wstrb)
        with m.If(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        with m.If(self.write):
            m.d.sync += has_address.eq(0)
            m.d.sync += has_data.eq(0)
            m.d.sync += bus.bvalid.eq(1)

        has_read = Signal()
        chosen   = Signal()
        is_read  = Signal()  # `read_data` is there
        m.d.comb += bus.arready.eq(~has_read)
        m.d.comb += bus.rresp.eq(Response.OKAY)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += has_read.eq(1)
            m.d.sync += self.read_word.eq(bus.araddr[2:])
        m.d.sync += [chosen.eq(has_read), is_read.eq(chosen)]
        with m.If(bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        with m.If(is_read & (~bus.rvalid | bus.rready)):
            m.d.sync += [has_read.eq(0), chosen.eq(0), is_read.eq(0)]
            m.d.sync += bus.rdata.eq(self.read_data)
            m.d.sync += bus.rvalid.eq(1)

        return m
