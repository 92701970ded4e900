"""Look-up tables of 256 entries for all lanes at once."""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from weft.config import AcceleratorConfig

from .scratch_memory import unit_write_layout

__all__ = ["VectorTable"]


class VectorTable(wiring.Component):
    """A copy of all tables for every two lanes, read by both at once.

    The write port shares an address with one of the two read ports, so that a copy fits a
    true dual-port block memory. Writes wait while words are looked up.

    Members
    -------
    write : :py:`In(stream.Signature(unit_write_layout(1)))`
        Bytes of the tables.
    table : :py:`In(8)`
    word : :py:`In(data.ArrayLayout(signed(8), rows))`
    enable : :py:`In(1)`
        Look ``word`` up in this cycle.
    o : :py:`Out(data.ArrayLayout(signed(8), rows))`
        The entries, :attr:`LATENCY` cycles after ``enable``.

    Attributes
    ----------
    LATENCY : :class:`int`
    """

    LATENCY = 1

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        lanes = data.ArrayLayout(signed(8), config.word_lanes)
        super().__init__({
            "write":  In(stream.Signature(unit_write_layout(1))),
            "table":  In(8),
            "word":   In(lanes),
            "enable": In(1),
            "o":      Out(lanes),
        })

    def elaborate(self, platform):
        m = Module()

        depth = self._config.vector_table_bytes
        lanes = self._config.word_lanes
        m.d.comb += self.write.ready.eq(~self.enable)
        write_enable = self.write.valid & ~self.enable & self.write.p.mask[0] \
            & (self.write.p.address < depth)

        for first in range(0, lanes, 2):
            m.submodules[f"copy_{first}"] = copy = memory.Memory(
                shape=unsigned(8), depth=depth, init=[])
            write = copy.write_port()
            m.d.comb += [
                write.addr.eq(self.write.p.address),
                write.data.eq(self.write.p.data),
                write.en.eq(write_enable),
            ]
            for lane in range(first, min(first + 2, lanes)):
                read = copy.read_port()
                index = Cat(Value.cast(self.word[lane]), self.table)
                if lane == first:
                    with m.If(self.enable):
                        m.d.comb += write.addr.eq(index)
                    m.d.comb += read.addr.eq(write.addr)
                else:
                    m.d.comb += read.addr.eq(index)
                m.d.comb += [read.en.eq(self.enable), self.o[lane].eq(read.data)]

        return m
