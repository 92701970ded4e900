"""A register between the two sides of an AXI4 memory port."""

from typing import Any

from amaranth.hdl import Module, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from weft.hw.lib.half_slice import HalfSlice
from weft.hw.lib.register_slice import RegisterSlice

from .axi import MemorySignature

__all__ = ["AxiSlice"]


class AxiSlice(wiring.Component):
    """Cuts all paths through a memory port: a :class:`~weft.hw.lib.register_slice.RegisterSlice` in
    each channel of data, and a :class:`~weft.hw.lib.half_slice.HalfSlice` in those of addresses and
    responses.

    Each way takes a cycle longer. One beat per cycle passes, and one address or response every
    second cycle.

    Parameters
    ----------
    data_width : :class:`int`
        Bits of a beat: 32, 64, 128, 256 or 512.
    addr_width : :class:`int`
        Bits of an address, 12..64.
    id_width : :class:`int`
        Bits of a transaction identifier.

    Members
    -------
    i : :py:`In(MemorySignature(...))`
        From the manager.
    o : :py:`Out(MemorySignature(...))`
        To the memory.
    """

    def __init__(self, *, data_width: int, addr_width: int, id_width: int = 1):
        signature = MemorySignature(data_width=data_width, addr_width=addr_width,
                                    id_width=id_width)
        super().__init__({"i": In(signature), "o": Out(signature)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for channel in ("ar", "aw", "w", "r", "b"):
            back = channel in ("r", "b")
            source, target = (self.o, self.i) if back else (self.i, self.o)
            fields = [name for name in self.i.signature.members
                      if name.startswith(channel)
                      and name not in (f"{channel}valid", f"{channel}ready")]
            slice_type: Any = RegisterSlice if channel in ("w", "r") else HalfSlice
            m.submodules[channel] = link = slice_type(shape=data.StructLayout(
                {name: self.i.signature.members[name].shape for name in fields}))
            m.d.comb += [
                link.i.valid.eq(getattr(source, f"{channel}valid")),
                getattr(source, f"{channel}ready").eq(link.i.ready),
                getattr(target, f"{channel}valid").eq(link.o.valid),
                link.o.ready.eq(getattr(target, f"{channel}ready")),
            ]
            for name in fields:
                m.d.comb += [
                    Value.cast(link.i.payload[name]).eq(getattr(source, name)),
                    getattr(target, name).eq(link.o.payload[name]),
                ]
        return m
