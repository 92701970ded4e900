"""A memory of wide units with byte masks: one write port, one read port."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from weft.hw.lib.delay import register

from .registered import MemoryRole, RegisteredMemory

__all__ = ["ScratchMemory", "unit_write_layout"]


def unit_write_layout(unit_bytes: int) -> data.StructLayout:
    """Payload of a write: an address in units, ``unit_bytes`` bytes, and which of them to write."""
    return data.StructLayout({
        "address": 24,
        "data":    data.ArrayLayout(8, unit_bytes),
        "mask":    unit_bytes,
    })


class ScratchMemory(wiring.Component):
    """On-chip memory of ``depth`` units of ``unit_bytes`` bytes.

    A write is accepted every cycle, and takes effect for reads from the cycle after the next one
    on. It is registered on the way, as block memories lie far from the source of writes. A read of
    the unit in the cycle between returns undefined data, see
    :class:`~weft.hw.memory.registered.RegisteredMemory`.

    Parameters
    ----------
    depth : :class:`int`
        Units, at least 1.
    unit_bytes : :class:`int`
        Bytes of a unit, at least 1.
    role : :class:`str`
        What it is for, as for :class:`~weft.hw.memory.registered.RegisteredMemory`.

    Members
    -------
    write : :py:`In(stream.Signature(unit_write_layout(unit_bytes), always_ready=True))`
        Writes. Addresses are inside the memory: whoever writes has checked them.
    read_address : :py:`In(ceil_log2(depth))`
    read_enable : :py:`In(1)`
    read_data : :py:`Out(data.ArrayLayout(8, unit_bytes))`
        The unit, ``RegisteredMemory.LATENCY`` cycles after its address; it stays while
        ``read_enable``, a cycle earlier, is low.
    """

    def __init__(self, *, depth: int, unit_bytes: int, role: MemoryRole = "other"):
        if not isinstance(depth, int) or depth < 1:
            raise ValueError(f"Depth must be a positive integer, not {depth!r}")
        if not isinstance(unit_bytes, int) or unit_bytes < 1:
            raise ValueError(f"Unit bytes must be a positive integer, not {unit_bytes!r}")
        self._depth = depth
        self._unit_bytes = unit_bytes
        self._role: MemoryRole = role
        super().__init__({
            "write":        In(stream.Signature(unit_write_layout(unit_bytes), always_ready=True)),
            "read_address": In(max(1, ceil_log2(depth))),
            "read_enable":  In(1),
            "read_data":    Out(data.ArrayLayout(8, unit_bytes)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.storage = storage = RegisteredMemory(
            depth=self._depth, width=8 * self._unit_bytes, granularity=8, role=self._role)
        request = self.write.p
        mask    = Mux(self.write.valid, request.mask, 0)
        # Kept, so that memories with a common source of writes have input registers of their own.
        m.d.comb += [
            storage.write_address.eq(register(
                m, request.address[:len(storage.write_address)], "write_address", keep=True)),
            storage.write_data.eq(register(m, Value.cast(request.data), "write_data", keep=True)),
            storage.write_enable.eq(register(m, mask, "write_enable", keep=True)),
            storage.read_address.eq(self.read_address),
            storage.read_enable.eq(self.read_enable),
            self.read_data.eq(storage.read_data),
        ]

        return m
