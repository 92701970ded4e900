"""A memory with an output register, which a board may replace by its block memories."""

from typing import Any, Literal

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from weft.hw.lib.replacement import replacement

__all__ = ["MemoryRole", "RegisteredMemory"]


MemoryRole = Literal["accumulators", "activation", "staging", "weights", "other"]


class RegisteredMemory(wiring.Component):
    """One write port, one read port, and an output register.

    The data of a block memory arrives late in a cycle, unless its own output register is used,
    which tools do not infer. So a platform may define ``get_registered_memory(memory)``, which
    returns a component to elaborate instead, or ``None`` for the portable description. It must keep
    ports and latency, and hold zeros at the start.

    A write takes effect for reads of later cycles. A read of a row that is written in the same
    cycle returns undefined data.

    Parameters
    ----------
    depth : :class:`int`
        Rows, at least 1.
    width : :class:`int`
        Bits of a row, at least 1.
    granularity : :class:`int`
        Bits of a part of a row that has a write enable of its own; divides ``width``.
    role : :class:`str`
        What the memory is for, by which a platform may choose a place for it.

    Members
    -------
    write_address, read_address : :py:`In(ceil_log2(depth))`
        Rows; of a ``depth`` that is no power of 2 only those that there are.
    write_data : :py:`In(width)`
    write_enable : :py:`In(width // granularity)`
    read_enable : :py:`In(1)`
    read_data : :py:`Out(width)`
        The row, :attr:`LATENCY` cycles after its address; it stays while ``read_enable``, a cycle
        earlier, is low.

    Attributes
    ----------
    LATENCY : :class:`int`
        Cycles from an address to its data.
    """

    LATENCY = 2

    def __init__(self, *, depth: int, width: int, granularity: int | None = None,
                 role: MemoryRole = "other"):
        for noun, value in (("Depth", depth), ("Width", width)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{noun} must be a positive integer, not {value!r}")
        granularity = width if granularity is None else granularity
        if not isinstance(granularity, int) or granularity < 1 or width % granularity:
            raise ValueError(f"Granularity must divide the width ({width}), not {granularity!r}")
        self._depth = depth
        self._width = width
        self._granularity = granularity
        self._role: MemoryRole = role
        address = max(1, ceil_log2(depth))
        super().__init__({
            "write_address": In(address),
            "write_data":    In(width),
            "write_enable":  In(width // granularity),
            "read_address":  In(address),
            "read_enable":   In(1),
            "read_data":     Out(width),
        })

    @property
    def depth(self) -> int:
        return self._depth

    @property
    def width(self) -> int:
        return self._width

    @property
    def role(self) -> MemoryRole:
        return self._role

    @property
    def granularity(self) -> int:
        return self._granularity

    def elaborate(self, platform: Any) -> Any:
        substitute = replacement(platform, "get_registered_memory", self)
        if substitute is not None:
            return substitute

        m = Module()
        m.submodules.storage = storage = memory.Memory(
            shape=unsigned(self._width), depth=self._depth, init=[])
        write = storage.write_port(granularity=self._granularity)
        read = storage.read_port()
        output = Signal(self._width, reset_less=True)
        m.d.comb += [
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            write.en.eq(self.write_enable),
            read.addr.eq(self.read_address),
            read.en.eq(self.read_enable),
            self.read_data.eq(output),
        ]
        m.d.sync += output.eq(read.data)
        return m
