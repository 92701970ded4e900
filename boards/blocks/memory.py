"""Memories in the block memories of an FPGA, with their output registers."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import ceil

from amaranth import *

from weft.hw.memory.registered import MemoryRole, RegisteredMemory

__all__ = ["Block", "MemoryBlocks", "block_count"]


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


@dataclass(frozen=True, kw_only=True)
class Block:
    """What is connected to a block memory of 18 Kbit, one port of which writes and one reads.

    Parameters
    ----------
    width : :class:`int`
        Bits of a row: 36, 18, 9, 4, 2 or 1.
    write, read : :class:`Value`
        Data, 36 bits, of which a narrower row has the lowest.
    write_address, read_address : :class:`Value`
        14 bits, of which the lowest choose among narrower rows. In the shapes with several bytes
        those of a write are the bytes' enables.
    write_enable, read_enable : :class:`Value`
    """

    width: int
    write: Value
    read: Value
    write_address: Value
    read_address: Value
    write_enable: Value
    read_enable: Value

    @property
    def has_bytes(self) -> bool:
        """Whether there are write enables for bytes of 9 bits."""
        return self.width > _BYTE


class MemoryBlocks(ABC):
    """Gives registered memories the blocks of an FPGA: a mixin for a platform, and the base of one
    for each family.

    A memory becomes a row of blocks of the widest shape that is as deep, each with one port to
    write and one to read. One that is deeper than 16384 rows is left to synthesis.
    """

    @abstractmethod
    def make_memory_block(self, m: Module, block: Block, *, name: str, bel: str | None) -> None:
        """Adds a block, with its output register."""

    def memory_bel(self, role: MemoryRole) -> str | None:
        """Where the next block of a memory of ``role`` goes; :py:`None` leaves it to the placer."""
        return None

    def get_registered_memory(self, memory: RegisteredMemory) -> Module | None:
        """What to elaborate in place of ``memory``, if there is anything better."""
        shape = _shape(memory.depth)
        if shape is None:
            return None
        block_width, _skip = shape

        m = Module()
        # Parts with a write enable of their own, and how a block is cut into such.
        part = memory.granularity
        lane = min(block_width, _BYTE)
        lanes = block_width // lane
        pieces = [(start, min(start + lane, end), index)
                  for index, end in enumerate(range(part, memory.width + 1, part))
                  for start in range(end - part, end, lane)]
        for number, first in enumerate(range(0, len(pieces), lanes)):
            name = f"block_{number}"
            block = _connected(m, memory, shape, lane, pieces[first:first + lanes], name)
            self.make_memory_block(m, block, name=name, bel=self.memory_bel(memory.role))
        return m


def _connected(m: Module, memory: RegisteredMemory, shape: tuple[int, int], lane: int,
               pieces: list[tuple[int, int, int]], name: str) -> Block:
    """A block for ``pieces`` of ``memory``: the bits from, up to, and their write enable."""
    width, skip = shape
    write = Signal(36, name=f"{name}_write")
    read = Signal(36, name=f"{name}_read")
    enable = Signal(4, name=f"{name}_enable")
    for k, (start, end, index) in enumerate(pieces):
        place = slice(k * lane, k * lane + end - start)
        m.d.comb += [
            write[place].eq(memory.write_data[start:end]),
            enable[k].eq(memory.write_enable[index]),
            memory.read_data[start:end].eq(read[place]),
        ]
    write_address = Signal(_ADDRESS, name=f"{name}_write_address")
    read_address = Signal(_ADDRESS, name=f"{name}_read_address")
    m.d.comb += [
        write_address.eq(memory.write_address << skip),
        read_address.eq(memory.read_address << skip),
    ]
    if width > _BYTE:
        m.d.comb += write_address[:width // _BYTE].eq(enable)
    return Block(width=width, write=write, read=read, write_address=write_address,
                 read_address=read_address, write_enable=enable.any(),
                 read_enable=memory.read_enable)
