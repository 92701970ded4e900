"""Gowin GW2A: multiplier blocks (``MULT9X9``, ``MULT18X18``) and block memories (``SDPX9B``) with
their registers."""


from amaranth import *

from weft.boards.blocks.memory import Block, MemoryBlocks
from weft.boards.blocks.multiplier import MultiplierBlocks
from weft.hw.lib.delay import register

__all__ = ["GowinMemories", "GowinMultipliers", "GowinPrimitives"]


class GowinMultipliers(MultiplierBlocks):
    """Gives multipliers the blocks of a Gowin FPGA: a mixin for a platform. Blocks are counted in
    those of 9 x 9 bits, two of which are one of 18 x 18.

    Synthesis is ``synth_gowin -nodsp``, and :data:`~weft.boards.family.KEEP_FLAGS` comes before it.
    """

    block_latencies = (2, 3)

    def block_parts(self, width: int) -> int:
        return 1 if width <= 9 else 2

    def make_block(self, m: Module, a: Value, b: Value, *, latency: int, name: str,
                   bel: str | None) -> Value:
        width = 9 * self.block_parts(max(len(a), len(b)))
        factors = []
        for letter, value in (("a", a), ("b", b)):
            factor = Signal(Shape(width, value.shape().signed), name=f"{name}_{letter}")
            m.d.comb += factor.eq(value)
            factors.append(factor)
        product = Signal(signed(2 * width), name=f"{name}_product")
        m.submodules[name] = Instance(
            f"MULT{width}X{width}",
            p_AREG=Const(1, 1), p_BREG=Const(1, 1), p_PIPE_REG=Const(latency - 2, 1),
            p_OUT_REG=Const(1, 1), p_ASIGN_REG=Const(0, 1), p_BSIGN_REG=Const(0, 1),
            p_SOA_REG=Const(0, 1), p_MULT_RESET_MODE="SYNC",
            i_A=factors[0], i_B=factors[1], i_SIA=Const(0, width), i_SIB=Const(0, width),
            i_ASIGN=Const(1), i_BSIGN=Const(1), i_ASEL=Const(0), i_BSEL=Const(0),
            i_CE=Const(1), i_CLK=ClockSignal(), i_RESET=Const(0), o_DOUT=product)
        return product


class GowinMemories(MemoryBlocks):
    """Gives registered memories the blocks of a Gowin FPGA: a mixin for a platform. Port A of a
    block writes, port B reads.

    The output register of a block works with rows of 36 bits only, as Project Apicula found out of
    what the vendor's tool makes; behind a narrower one there are flip-flops.
    """

    def make_memory_block(self, m: Module, block: Block, *, name: str, bel: str | None) -> None:
        registered = block.width == 36
        width = 36 if block.width >= 9 else 32
        output = Signal(width, name=f"{name}_output")
        m.submodules[name] = Instance(
            "SDPX9B" if block.width >= 9 else "SDPB",
            p_READ_MODE=Const(registered, 1), p_BIT_WIDTH_0=block.width, p_BIT_WIDTH_1=block.width,
            p_BLK_SEL_0=Const(0, 3), p_BLK_SEL_1=Const(0, 3), p_RESET_MODE="SYNC",
            i_CLKA=ClockSignal(), i_CEA=block.write_enable, i_RESETA=Const(0),
            i_CLKB=ClockSignal(), i_CEB=block.read_enable, i_RESETB=Const(0),
            # Without the register its enable must be that of the block.
            i_OCE=Const(1) if registered else block.read_enable,
            i_ADA=block.write_address, i_ADB=block.read_address,
            i_BLKSELA=Const(0, 3), i_BLKSELB=Const(0, 3), i_DI=block.write[:width], o_DO=output)
        m.d.comb += block.read.eq(
            output if registered else register(m, output[:block.width], f"{name}_read"))


class GowinPrimitives(GowinMultipliers, GowinMemories):
    """All that a platform for a Gowin FPGA adds to Amaranth's, to be mixed in in front of that."""
