"""The memory ROW_CONSTANT: each of its tables is a memory of its own."""

from typing import Any

from amaranth import *

from weft.hw.memory.scratch import ScratchMemory

__all__ = ["constant_memory"]


def constant_memory(m: Module, writes: Any, start: int, depth: int, step: int = 1) -> ScratchMemory:
    """A memory that takes its part of the writes, to be made a submodule.

    Parameters
    ----------
    m : :class:`Module`
    writes : stream
        Of ``unit_write_layout(4)``, always ready.
    start : :class:`int`
        Address of the first entry.
    depth : :class:`int`
        Entries.
    step : :class:`int`
        From entry to entry, a power of 2, of which ``start`` is a multiple plus at most ``step -
        1``.
    """
    first  = start // step * step
    table  = ScratchMemory(depth=depth, unit_bytes=4)
    address = writes.p.address
    # Wraps around for an address below the table, to an offset beyond its end.
    offset  = (address - first)[:len(address)]
    m.d.comb += [
        table.write.valid.eq(writes.valid & (offset < depth * step)
                             & (address % step == start % step)),
        table.write.p.address.eq(offset // step),
        table.write.p.data.eq(writes.p.data),
        table.write.p.mask.eq(writes.p.mask),
    ]
    return table
