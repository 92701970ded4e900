"""A memory of wide units with lane masks: one write port, one read port."""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["ScratchMemory", "unit_write_layout"]


def unit_write_layout(lanes: int) -> data.StructLayout:
    """Payload of a write: an address in units, ``lanes`` bytes, and which of them to write."""
    return data.StructLayout({
        "address": 24,
        "data":    data.ArrayLayout(8, lanes),
        "mask":    lanes,
    })


class ScratchMemory(wiring.Component):
    """On-chip memory of ``depth`` units of ``lanes`` bytes.

    A write is accepted every cycle. Read data appears the cycle after its address, and is held
    while ``read_enable`` is low. Reading a unit in the cycle in which it is written gives its old
    contents.

    Parameters
    ----------
    depth : :class:`int`
        Units, at least 1.
    lanes : :class:`int`
        Bytes of a unit, at least 1.

    Members
    -------
    write : :py:`In(stream.Signature(unit_write_layout(lanes)))`
        Writes; an address outside the memory is ignored.
    read_address : :py:`In(ceil_log2(depth))`
    read_enable : :py:`In(1)`
    read_data : :py:`Out(data.ArrayLayout(8, lanes))`
    """

    def __init__(self, *, depth: int, lanes: int):
        if not isinstance(depth, int) or depth < 1:
            raise ValueError(f"Depth must be a positive integer, not {depth!r}")
        if not isinstance(lanes, int) or lanes < 1:
            raise ValueError(f"Lanes must be a positive integer, not {lanes!r}")
        self._depth = depth
        self._lanes = lanes
        super().__init__({
            "write":        In(stream.Signature(unit_write_layout(lanes))),
            "read_address": In(max(1, ceil_log2(depth))),
            "read_enable":  In(1),
            "read_data":    Out(data.ArrayLayout(8, lanes)),
        })

    def elaborate(self, platform):
        m = Module()

        m.submodules.storage = storage = memory.Memory(
            shape=unsigned(8 * self._lanes), depth=self._depth, init=[])
        write = storage.write_port(granularity=8)
        read = storage.read_port()

        request = self.write.p
        m.d.comb += [
            self.write.ready.eq(1),
            write.addr.eq(request.address),
            write.data.eq(request.data),
            write.en.eq(Mux(self.write.valid & (request.address < self._depth), request.mask, 0)),
            read.addr.eq(self.read_address),
            read.en.eq(self.read_enable),
            self.read_data.eq(read.data),
        ]

        return m
