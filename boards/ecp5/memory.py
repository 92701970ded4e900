"""Lattice ECP5: block memories (``DP16KD``) with their output registers."""

from typing import Any

from amaranth import *

from weft.boards.blocks.memory import Block, MemoryBlocks
from weft.hw.memory.registered import MemoryRole

from .memory_floorplan import MemoryFloorplan

__all__ = ["ECP5Memories"]


class ECP5Memories(MemoryBlocks):
    """Gives registered memories the blocks of an ECP5: a mixin for a platform. Port A of a block
    writes, port B reads.

    Attributes
    ----------
    memory_floorplan : :class:`MemoryFloorplan` or ``None``
        Where they go; ``None`` leaves it to the placer.
    """

    memory_floorplan: MemoryFloorplan | None = None

    def memory_bel(self, role: MemoryRole) -> str | None:
        return None if self.memory_floorplan is None else self.memory_floorplan.bel(role)

    def make_memory_block(self, m: Module, block: Block, *, name: str, bel: str | None) -> None:
        # A row of 36 bits leaves by both ports, the lower half by port A.
        low = Signal(18, name=f"{name}_low")
        high = Signal(18, name=f"{name}_high")
        m.d.comb += block.read.eq(Cat(low, high) if block.width == 36 else high)

        ports: dict[str, Any] = {}
        for k in range(18):
            ports |= {f"i_DIA{k}": block.write[k], f"i_DIB{k}": block.write[18 + k],
                      f"o_DOA{k}": low[k], f"o_DOB{k}": high[k]}
        for k in range(len(block.write_address)):
            ports |= {f"i_ADA{k}": block.write_address[k], f"i_ADB{k}": block.read_address[k]}
        for port in "AB":
            ports |= {f"i_CLK{port}": ClockSignal(), f"i_OCE{port}": Const(1),
                      f"i_RST{port}": Const(0), f"p_DATA_WIDTH_{port}": block.width,
                      f"p_REGMODE_{port}": "OUTREG", f"p_CSDECODE_{port}": "0b000",
                      f"p_WRITEMODE_{port}": "NORMAL",
                      **{f"i_CS{port}{k}": Const(0) for k in range(3)}}
        if bel is not None:
            ports["a_BEL"] = bel
        m.submodules[name] = Instance(
            "DP16KD", i_CEA=block.write_enable,
            i_WEA=Const(1) if block.has_bytes else block.write_enable,
            i_CEB=block.read_enable, i_WEB=Const(0),
            p_RESETMODE="SYNC", p_GSR="DISABLED", **ports)
