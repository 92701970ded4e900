"""A memory of wide units with lane masks: one write port, one read port."""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .registered_memory import RegisteredMemory

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
    contents. With ``registered`` data appear a cycle later, and what such a read gives is not
    defined: see :class:`~weft.hw.registered_memory.RegisteredMemory`.

    Parameters
    ----------
    depth : :class:`int`
        Units, at least 1.
    lanes : :class:`int`
        Bytes of a unit, at least 1.
    registered : :class:`bool`
        Whether there is an output register.

    Members
    -------
    write : :py:`In(stream.Signature(unit_write_layout(lanes)))`
        Writes; an address outside the memory is ignored.
    read_address : :py:`In(ceil_log2(depth))`
    read_enable : :py:`In(1)`
    read_data : :py:`Out(data.ArrayLayout(8, lanes))`
    """

    def __init__(self, *, depth: int, lanes: int, registered: bool = False):
        if not isinstance(depth, int) or depth < 1:
            raise ValueError(f"Depth must be a positive integer, not {depth!r}")
        if not isinstance(lanes, int) or lanes < 1:
            raise ValueError(f"Lanes must be a positive integer, not {lanes!r}")
        self._depth = depth
        self._lanes = lanes
        self._registered = registered
        super().__init__({
            "write":        In(stream.Signature(unit_write_layout(lanes))),
            "read_address": In(max(1, ceil_log2(depth))),
            "read_enable":  In(1),
            "read_data":    Out(data.ArrayLayout(8, lanes)),
        })

    def elaborate(self, platform):
        m = Module()

        request = self.write.p
        enable = Mux(self.write.valid & (request.address < self._depth), request.mask, 0)
        m.d.comb += self.write.ready.eq(1)

        if self._registered:
            m.submodules.storage = registered = RegisteredMemory(
                depth=self._depth, width=8 * self._lanes, granularity=8)
            m.d.comb += [
                registered.write_address.eq(request.address),
                registered.write_data.eq(request.data),
                registered.write_enable.eq(enable),
                registered.read_address.eq(self.read_address),
                registered.read_enable.eq(self.read_enable),
                self.read_data.eq(registered.read_data),
            ]
            return m

        m.submodules.storage = storage = memory.Memory(
            shape=unsigned(8 * self._lanes), depth=self._depth, init=[])
        write = storage.write_port(granularity=8)
        read = storage.read_port()
        m.d.comb += [
            write.addr.eq(request.address),
            write.data.eq(request.data),
            write.en.eq(enable),
            read.addr.eq(self.read_address),
            read.en.eq(self.read_enable),
            self.read_data.eq(read.data),
        ]
        return m
