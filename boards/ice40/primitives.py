"""Lattice iCE40 UltraPlus: multiplier blocks (``SB_MAC16``), two small multipliers to a block, and
large memories (``SB_SPRAM256KA``)."""

from collections import Counter
from typing import Any

from amaranth import *

from weft.hw.isa.array import ArrayShape
from weft.hw.lib.adder_tree import adder_tree_multiplier
from weft.hw.lib.delay import delay
from weft.hw.lib.multiplier import Multiplier
from weft.hw.lib.multiply_accumulate import MultiplyAccumulate
from weft.hw.memory.single_port import SinglePortMemory

__all__ = ["ICE40Memories", "ICE40Multipliers", "ICE40Primitives", "array_halves"]


_WIDTH = 16  # bits of a signed factor of a block
_HALF  = 8   # of half a block

_SPRAM_DEPTH = 1 << 14  # words of 16 bits


def array_halves(array: ArrayShape) -> int:
    """Halves of blocks that the multipliers of an array take: one for a product of factors of up to
    8 bits, two for one of up to 16. Wider ones are built of LUTs."""
    return array.pe_rows * array.columns * (_halves(*array.factor_widths) or 0)


def _halves(a_width: int, b_width: int) -> int | None:
    """Halves of blocks for a product; ``None`` if it is too wide for a block."""
    widest = max(a_width, b_width)
    if widest > _WIDTH:
        return None
    return 1 if widest <= _HALF else 2


class ICE40Multipliers:
    """Gives multipliers the blocks of an iCE40: a mixin for a platform.

    A multiply-accumulate unit takes a block of its own, accumulator and all.

    A block is one multiplier of 16 x 16 bits or two of 8 x 8, with registers for factors and
    products; latency beyond these two cycles becomes registers behind it. Blocks are set aside for
    the array, in halves; the others get what is left in the order in which they are elaborated, or
    LUTs.

    Attributes
    ----------
    multiplier_blocks : :class:`int`
        Blocks of the device.
    array_halves : :class:`int`
        Halves of blocks set aside for multipliers of the role ``"array"``, as :func:`array_halves`
        tells. It may take more as long as there are any, and is built of LUTs beyond that.
    multiplier_report : :class:`dict`
        For each role met in elaboration a :class:`Counter` of ``"halves"`` taken, and of
        multipliers ``"in blocks"`` and ``"in LUTs"``.
    """

    multiplier_blocks: int
    array_halves: int = 0
    _open: tuple[Signal, Signal, Value] | None = None  # the half of a block that is still free

    @property
    def multiplier_report(self) -> dict[str, Counter[str]]:
        return self.__dict__.setdefault("_multiplier_report", {})

    def get_multiplier(self, multiplier: Multiplier) -> Module:
        """What to elaborate in place of ``multiplier``."""
        report = self.multiplier_report
        counts = report.setdefault(multiplier.role, Counter())
        left = 2 * self.multiplier_blocks - sum(taken["halves"] for taken in report.values())
        if multiplier.role != "array":
            # A half that is taken by itself may leave the other one of its block unused.
            aside = self.array_halves + self.array_halves % 2
            left -= max(0, aside - report.get("array", Counter())["halves"])

        halves = _halves(len(multiplier.a), len(multiplier.b))
        if halves is None or halves > left - (left % 2 if halves == 2 else 0):
            counts["in LUTs"] += 1
            return adder_tree_multiplier(multiplier)
        counts["in blocks"] += 1
        counts["halves"] += halves

        m = Module()
        if halves == 2:
            a, b = Signal(signed(_WIDTH)), Signal(signed(_WIDTH))
            product: Value = _block(m, a, b, halves=False)
        elif self._open is not None:
            a, b, product = self._open
            self._open = None
        else:
            a, b, spare_a, spare_b = (Signal(signed(_HALF), name=name)
                                      for name in ("a", "b", "spare_a", "spare_b"))
            both = _block(m, Cat(a, spare_a), Cat(b, spare_b), halves=True)
            product, spare = both[:2 * _HALF], both[2 * _HALF:]
            self._open = spare_a, spare_b, spare
        m.d.comb += [a.eq(multiplier.a), b.eq(multiplier.b)]
        product = product[:len(multiplier.o)].as_signed()
        m.d.comb += multiplier.o.eq(delay(m, product, multiplier.latency - 2, name="product",
                                          reset_less=True))
        return m


    def get_multiply_accumulate(self, unit: MultiplyAccumulate) -> Module | None:
        """What to elaborate in place of ``unit``; ``None`` if no block is left, or its factors are
        too wide for one."""
        counts = self.multiplier_report.setdefault("accumulate", Counter())
        taken = sum(counts["halves"] for counts in self.multiplier_report.values())
        if 2 * self.multiplier_blocks - taken < 2 or max(len(unit.a), len(unit.b)) > _WIDTH:
            counts["in LUTs"] += 1
            return None
        counts["in blocks"] += 1
        counts["halves"] += 2

        m = Module()
        a, b = Signal(signed(_WIDTH)), Signal(signed(_WIDTH))
        m.d.comb += [a.eq(unit.a), b.eq(unit.b)]
        total = _cell(m, a, b,
                      # The accumulator is loaded with zero, or with the sum of itself and the
                      # product of both halves; with carry from the lower to the upper half.
                      {"TOPOUTPUT_SELECT": 1, "TOPADDSUB_LOWERINPUT": 2, "TOPADDSUB_UPPERINPUT": 0,
                       "TOPADDSUB_CARRYSELECT": 2, "BOTOUTPUT_SELECT": 1,
                       "BOTADDSUB_LOWERINPUT": 2, "BOTADDSUB_UPPERINPUT": 0,
                       "BOTADDSUB_CARRYSELECT": 0, "A_SIGNED": 1, "B_SIGNED": 1},
                      OLOADTOP=unit.clear, OLOADBOT=unit.clear,
                      OHOLDTOP=~(unit.clear | unit.enable), OHOLDBOT=~(unit.clear | unit.enable))
        m.d.comb += unit.o.eq(total)
        return m


class ICE40Memories:
    """Gives memories with a single port the 32 KiB blocks of an iCE40: a mixin for a platform.

    Attributes
    ----------
    large_memories : :class:`int`
        Blocks of the device. Who comes too late gets small blocks.
    """

    large_memories: int
    _taken: int = 0

    def get_single_port_memory(self, memory: SinglePortMemory) -> Module | None:
        """What to elaborate in place of ``memory``; ``None`` if it is too small, or no blocks are
        left."""
        ranks = -(-memory.depth // _SPRAM_DEPTH)
        files = -(-memory.word_bytes // 2)
        if memory.depth < _SPRAM_DEPTH // 2 or self._taken + ranks * files > self.large_memories:
            return None
        self._taken += ranks * files

        m = Module()
        rank = memory.address[14:]
        # Only the address of the last read tells which rank drives the output.
        last = Signal.like(rank)
        with m.If(memory.enable):
            m.d.sync += last.eq(rank)
        outputs = []
        for number in range(ranks):
            words = []
            for file in range(files):
                word = Signal(16, name=f"read_{number}_{file}")
                mask = memory.write[2 * file:2 * file + 2]
                m.submodules[f"block_{number}_{file}"] = Instance(
                    "SB_SPRAM256KA",
                    i_CLOCK=ClockSignal(), i_STANDBY=Const(0), i_SLEEP=Const(0),
                    i_POWEROFF=Const(1),  # active low
                    i_ADDRESS=memory.address[:14],
                    i_DATAIN=Cat(memory.write_data[16 * file:16 * file + 16], C(0, 16))[:16],
                    i_MASKWREN=Cat(bit.replicate(2) for bit in Cat(mask, C(0, 2))[:2]),
                    i_WREN=memory.write.any(),
                    i_CHIPSELECT=memory.enable & (rank == number),
                    o_DATAOUT=word)
                words.append(word)
            outputs.append(Cat(words)[:8 * memory.word_bytes])
        m.d.comb += memory.read_data.eq(Array(outputs)[last] if ranks > 1 else outputs[0])
        return m


class ICE40Primitives(ICE40Multipliers, ICE40Memories):
    """All that a platform for an iCE40 UltraPlus adds to Amaranth's, to be mixed in in front of
    that."""


def _block(m: Module, a: Value, b: Value, *, halves: bool) -> Signal:
    """Adds a multiplier. Its modes are those that Lattice calls ``MULT_8X8_ALL_PIPELINED`` and
    ``MULT_16X16_INTERMEDIATE_REGISTER_BYPASSED``."""
    return _cell(m, a, b, {
        "A_REG": 1, "B_REG": 1, "A_SIGNED": 1, "B_SIGNED": 1, "MODE_8x8": int(halves),
        "TOP_8x8_MULT_REG": int(halves), "BOT_8x8_MULT_REG": int(halves),
        "PIPELINE_16x16_MULT_REG1": 0, "PIPELINE_16x16_MULT_REG2": int(not halves),
        # 2 is the product of the half, 3 is that of the block.
        "TOPOUTPUT_SELECT": 2 if halves else 3, "BOTOUTPUT_SELECT": 2 if halves else 3,
    })


def _cell(m: Module, a: Value, b: Value, parameters: dict[str, int], **inputs: Any) -> Signal:
    """Adds a block with such parameters; those inputs that are not given are zero."""
    output = Signal(2 * _WIDTH)
    zeros = ("AHOLD", "BHOLD", "CHOLD", "DHOLD", "IRSTTOP", "IRSTBOT", "ORSTTOP", "ORSTBOT",
             "OLOADTOP", "OLOADBOT", "ADDSUBTOP", "ADDSUBBOT", "OHOLDTOP", "OHOLDBOT", "CI",
             "ACCUMCI", "SIGNEXTIN")
    widths = {name: 2 if name.endswith(("SELECT", "LOWERINPUT")) else 1 for name in parameters}
    m.submodules.block = Instance(
        "SB_MAC16",
        **{f"p_{name}": Const(value, widths[name]) for name, value in parameters.items()},
        **{f"i_{name}": inputs.get(name, Const(0)) for name in zeros},
        i_CLK=ClockSignal(), i_CE=Const(1), i_A=a, i_B=b, i_C=Const(0, _WIDTH),
        i_D=Const(0, _WIDTH), o_O=output)
    return output
