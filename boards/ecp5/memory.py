"""Lattice ECP5: block memories (``DP16KD``) with their output registers."""

from math import ceil
from typing import Any

from amaranth import *

from weft.hw.memory.registered import RegisteredMemory

from .memory_floorplan import MemoryFloorplan

__all__ = ["ECP5Memories", "block_count"]


# Bits of a row in each shape of a block, and address bits that lie below the row's number.
_SHAPES = ((36, 5), (18, 4), (9, 3), (4, 2), (2, 1), (1, 0))
_ADDRESS = 14
_BYTE = 9  # bits with a write enable of their own, in the wider shapes


def _shape(depth: int) -> tuple[int, int] | None:
    """The widest shape of a block that is as deep."""
    return next((shape for shape in _SHAPES if depth <= 1 << (_ADDRESS - shape[1])), None)


def block_count(*, depth: int, width: int, granularity: int | None = None) -> int | None:
    """Blocks of a registered memory; :py:`None` if it is left to synthesis."""
    shape = _shape(depth)
    if shape is None:
        return None
    part, lane = granularity or width, min(shape[0], _BYTE)
    return ceil(width // part * ceil(part / lane) / (shape[0] // lane))


class ECP5Memories:
    """Gives registered memories the blocks of an ECP5: a mixin for a platform.

    A memory becomes a row of blocks of the widest shape that is as deep, each with port A to write
    and port B to read. One that is deeper than 16384 rows is left to synthesis.

    Attributes
    ----------
    memory_floorplan : :class:`MemoryFloorplan` or ``None``
        Where they go; ``None`` leaves it to the placer.
    """

    memory_floorplan: MemoryFloorplan | None = None

    def get_registered_memory(self, memory: RegisteredMemory) -> Module | None:
        """What to elaborate in place of ``memory``, if there is anything better."""
        shape = _shape(memory.depth)
        if shape is None:
            return None
        block_width, _skip = shape

        m = Module()
        # Parts with a write enable of their own, and how a block is cut into such.
        part, enables = memory.granularity, memory.write_enable
        lane = min(block_width, _BYTE)
        lanes = block_width // lane
        pieces = [(start, min(start + lane, end), index)
                  for index, end in enumerate(range(part, memory.width + 1, part))
                  for start in range(end - part, end, lane)]
        for number, first in enumerate(range(0, len(pieces), lanes)):
            bel = self.memory_floorplan and self.memory_floorplan.bel(memory.role)
            _block(m, memory, shape, lane, pieces[first:first + lanes], enables, f"block_{number}",
                   bel)
        return m


def _block(m: Module, memory: RegisteredMemory, shape: tuple[int, int], lane: int,
           pieces: list[tuple[int, int, int]], enables: Value, name: str,
           bel: str | None) -> None:
    """Adds a block for ``pieces``: the bits from, up to, and their write enable."""
    width, skip = shape
    write = Signal(36, name=f"{name}_write")
    read = Signal(36, name=f"{name}_read")
    enable = Signal(4, name=f"{name}_enable")
    for k, (start, end, index) in enumerate(pieces):
        place = slice(k * lane, k * lane + end - start)
        m.d.comb += [
            write[place].eq(memory.write_data[start:end]),
            enable[k].eq(enables[index]),
            memory.read_data[start:end].eq(read[place]),
        ]

    # In the wider shapes the lowest address bits of a write are its byte enables.
    has_bytes = width > _BYTE
    address_a = Signal(_ADDRESS, name=f"{name}_write_address")
    address_b = Signal(_ADDRESS, name=f"{name}_read_address")
    m.d.comb += [
        address_a.eq(memory.write_address << skip),
        address_b.eq(memory.read_address << skip),
    ]
    if has_bytes:
        m.d.comb += address_a[:width // _BYTE].eq(enable)

    # A row of 36 bits leaves by both ports, the lower half by port A.
    low = Signal(18, name=f"{name}_low")
    high = Signal(18, name=f"{name}_high")
    m.d.comb += read.eq(Cat(low, high) if width == 36 else high)

    ports: dict[str, Any] = {}
    for k in range(18):
        ports |= {f"i_DIA{k}": write[k], f"i_DIB{k}": write[18 + k],
                  f"o_DOA{k}": low[k], f"o_DOB{k}": high[k]}
    for k in range(_ADDRESS):
        ports |= {f"i_ADA{k}": address_a[k], f"i_ADB{k}": address_b[k]}
    for port in "AB":
        ports |= {f"i_CLK{port}": ClockSignal(), f"i_OCE{port}": Const(1),
                  f"i_RST{port}": Const(0), f"p_DATA_WIDTH_{port}": width,
                  f"p_REGMODE_{port}": "OUTREG", f"p_CSDECODE_{port}": "0b000",
                  f"p_WRITEMODE_{port}": "NORMAL",
                  **{f"i_CS{port}{k}": Const(0) for k in range(3)}}
    if bel is not None:
        ports["a_BEL"] = bel
    m.submodules[name] = Instance(
        "DP16KD", i_CEA=enable.any(), i_WEA=Const(1) if has_bytes else enable[0],
        i_CEB=memory.read_enable, i_WEB=Const(0),
        p_RESETMODE="SYNC", p_GSR="DISABLED", **ports)
