"""Lattice iCE40 UltraPlus: multiplier blocks (``SB_MAC16``), two small multipliers to a block."""

from collections import Counter
from typing import Any

from amaranth import *

from weft.boards.primitives.adder_tree import adder_tree_multiplier
from weft.hw.delay import delay
from weft.hw.multiplier import Multiplier

__all__ = ["ICE40Multipliers"]


_WIDTH = 16  # bits of a signed factor of a block
_HALF  = 8   # of half a block


class ICE40Multipliers:
    """Gives multipliers the blocks of an iCE40: a mixin for a platform.

    A block is one multiplier of 16 x 16 bits or two of 8 x 8, with registers for factors and
    products; latency beyond these two cycles becomes registers behind it. Blocks are set aside for
    the array, in halves; the others get what is left in the order in which they are elaborated, or
    LUTs.

    Attributes
    ----------
    multiplier_blocks : :class:`int`
        Blocks of the device.
    array_halves : :class:`int`
        Halves of blocks set aside for multipliers of the role ``"array"``: one for each without the
        fast inner product, whose factors have 8 bits, and two with it.
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
        others = sum(counts["halves"] for role, counts in report.items() if role != "array")
        counts = report.setdefault(multiplier.role, Counter())
        is_array = multiplier.role == "array"

        widest = max(len(multiplier.a), len(multiplier.b))
        halves = 1 if widest <= _HALF else 2
        # A half that is taken by itself may leave the other one of its block unused.
        left = 2 * self.multiplier_blocks - self.array_halves - self.array_halves % 2 - others
        if widest > _WIDTH or not (is_array or halves <= left - (left % 2 if halves == 2 else 0)):
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


def _block(m: Module, a: Value, b: Value, *, halves: bool) -> Signal:
    """Adds a block. Its modes are those that Lattice calls ``MULT_8X8_ALL_PIPELINED`` and
    ``MULT_16X16_INTERMEDIATE_REGISTER_BYPASSED``."""
    product = Signal(2 * _WIDTH)
    parameters: dict[str, Any] = {
        "A_REG": 1, "B_REG": 1, "A_SIGNED": 1, "B_SIGNED": 1, "MODE_8x8": int(halves),
        "TOP_8x8_MULT_REG": int(halves), "BOT_8x8_MULT_REG": int(halves),
        "PIPELINE_16x16_MULT_REG1": 0, "PIPELINE_16x16_MULT_REG2": int(not halves),
        # 2 is the product of the half, 3 is that of the block.
        "TOPOUTPUT_SELECT": 2 if halves else 3, "BOTOUTPUT_SELECT": 2 if halves else 3,
    }
    zeros = ("AHOLD", "BHOLD", "CHOLD", "DHOLD", "IRSTTOP", "IRSTBOT", "ORSTTOP", "ORSTBOT",
             "OLOADTOP", "OLOADBOT", "ADDSUBTOP", "ADDSUBBOT", "OHOLDTOP", "OHOLDBOT", "CI",
             "ACCUMCI", "SIGNEXTIN")
    widths = {name: 2 if name.endswith("SELECT") else 1 for name in parameters}
    m.submodules.block = Instance(
        "SB_MAC16",
        **{f"p_{name}": Const(value, widths[name]) for name, value in parameters.items()},
        **{f"i_{name}": Const(0) for name in zeros},
        i_CLK=ClockSignal(), i_CE=Const(1), i_A=a, i_B=b, i_C=Const(0, _WIDTH),
        i_D=Const(0, _WIDTH), o_O=product)
    return product
