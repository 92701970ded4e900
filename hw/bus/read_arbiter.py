"""Several readers on one memory port."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .axi import ReadSignature, id_width

__all__ = ["ReadArbiter"]


class ReadArbiter(wiring.Component):
    """Shares the read half of an AXI4 port between readers.

    When several have an address, the first reader goes first, and the others take turns. None
    starves if the first one pauses for a cycle after each address, as a read engine does: while a
    reader waits, each of those that take turns goes at most once, and the first reader once before
    each of them. Data goes to all; each knows its own by the identifier and must always be ready
    for it.

    Parameters
    ----------
    data_width, addr_width : :class:`int`
        Of the port.
    readers : :class:`int`
        Number of readers, at least 1. The port has identifiers of ``id_width(readers)`` bits.

    Members
    -------
    readers : :py:`In(ReadSignature(...)).array(readers)`
    axi : :py:`Out(ReadSignature(...))`

    Raises
    ------
    ValueError
        If the number of readers is not a positive integer.
    """

    def __init__(self, *, data_width: int, addr_width: int, readers: int = 2):
        if not isinstance(readers, int) or isinstance(readers, bool) or readers < 1:
            raise ValueError(f"Readers must be a positive integer, not {readers!r}")
        signature = ReadSignature(data_width=data_width, addr_width=addr_width,
                                  id_width=id_width(readers))
        super().__init__({
            "readers": In(signature).array(readers),
            "axi":     Out(signature),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        # An address that is on the bus must stay there until it is taken: one of the first reader
        # does by itself.
        kept   = Signal()  # another reader has the bus, and keeps it
        others = Signal()
        chosen = Signal(range(len(self.readers)))
        m.d.comb += others.eq(kept | ~self.readers[0].arvalid)
        m.d.comb += chosen.eq(self._turn(m, kept, others) & others.replicate(len(chosen)))
        m.d.sync += kept.eq(others & self.axi.arvalid & ~self.axi.arready)

        m.d.comb += self.axi.rready.eq(1)
        for number, reader in enumerate(self.readers):
            with m.If(chosen == number):
                m.d.comb += reader.arready.eq(self.axi.arready)
                for name in ("arid", "araddr", "arlen", "arsize", "arburst", "arvalid"):
                    m.d.comb += getattr(self.axi, name).eq(getattr(reader, name))
            m.d.comb += reader.rvalid.eq(self.axi.rvalid)
            for name in ("rid", "rdata", "rresp", "rlast"):
                m.d.comb += getattr(reader, name).eq(getattr(self.axi, name))

        return m

    def _turn(self, m: Module, kept: Signal, others: Signal) -> Value:
        """Which of the readers but the first has the bus, or would have it: the one that keeps it,
        or else the next one in turn that has an address."""
        count = len(self.readers)
        if count <= 2:
            return C(count - 1)
        turn = Signal(range(count))
        last = Signal(range(count), init=count - 1)  # the last of them that had the bus
        with m.Switch(last):
            for number in range(1, count):
                with m.Case(number):
                    m.d.comb += turn.eq(number)
                    # The last statement counts: the nearest successor goes first.
                    for step in reversed(range(1, count - 1)):
                        successor = (number + step - 1) % (count - 1) + 1
                        with m.If(~kept & self.readers[successor].arvalid):
                            m.d.comb += turn.eq(successor)
        with m.If(others & self.axi.arvalid):
            m.d.sync += last.eq(turn)
        return turn
