"""Two readers on one memory port."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .axi import ReadSignature

__all__ = ["ReadArbiter"]


class ReadArbiter(wiring.Component):
    """Shares the read half of an AXI4 port between two readers.

    The first reader goes first when both have an address. Data goes to both; each knows its own
    by the identifier and must always be ready for it.

    Parameters
    ----------
    data_width, addr_width : :class:`int`
        Of the port.

    Members
    -------
    readers : :py:`In(ReadSignature(...)).array(2)`
    axi : :py:`Out(ReadSignature(...))`
    """

    def __init__(self, *, data_width: int, addr_width: int):
        signature = ReadSignature(data_width=data_width, addr_width=addr_width)
        super().__init__({
            "readers": In(signature).array(2),
            "axi":     Out(signature),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        # An address that is on the bus must stay there until it is taken: one of the first reader
        # does by itself.
        kept   = Signal()  # the second reader has the bus, and keeps it
        chosen = Signal()
        m.d.comb += chosen.eq(kept | ~self.readers[0].arvalid)
        m.d.sync += kept.eq(chosen & self.axi.arvalid & ~self.axi.arready)

        m.d.comb += self.axi.rready.eq(1)
        for number in range(2):
            reader = self.readers[number]
            with m.If(chosen == number):
                m.d.comb += reader.arready.eq(self.axi.arready)
                for name in ("arid", "araddr", "arlen", "arsize", "arburst", "arvalid"):
                    m.d.comb += getattr(self.axi, name).eq(getattr(reader, name))
            m.d.comb += reader.rvalid.eq(self.axi.rvalid)
            for name in ("rid", "rdata", "rresp", "rlast"):
                m.d.comb += getattr(reader, name).eq(getattr(self.axi, name))

        return m
