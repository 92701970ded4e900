"""Lattice ECP5: multiplier blocks (``MULT18X18D``)."""

from collections import Counter
from typing import Any

from amaranth import *

from weft.boards.floorplan import Floorplan
from weft.hw.delay import delay
from weft.hw.multiplier import Multiplier

__all__ = ["ECP5Multipliers"]


_WIDTH = 18


class ECP5Multipliers:
    """Gives multipliers the blocks of an ECP5: a mixin for a platform.

    A multiplier that has a position in the array gets the block that the floorplan says. Blocks
    are set aside for all of those; what is left goes to the others, in the order in which they are
    elaborated, and who comes too late is left to LUTs and carry chains.

    A block has registers for its operands and for its product. What latency there is beyond these
    two cycles becomes registers in the fabric, the first in front of the block: this way no
    adder shares a cycle with the long way into a block. All others are behind it.

    Attributes
    ----------
    multiplier_blocks : :class:`int`
        Blocks of the device.
    array_multipliers : :class:`int`
        Blocks set aside for multipliers with the role ``"array"``.
    floorplan : :class:`Floorplan` or ``None``
        Where those go; ``None`` leaves it to the placer.
    multiplier_report : :class:`dict`
        For each role, after elaboration: a :class:`Counter` of ``"blocks"`` in use, and of
        multipliers by ``"in blocks"`` and ``"in LUTs"``.
    """

    multiplier_blocks: int
    array_multipliers: int = 0
    floorplan: Floorplan | None = None

    def get_multiplier(self, multiplier: Multiplier) -> Any:
        """What to elaborate instead of ``multiplier``."""
        report = self.__dict__.setdefault("multiplier_report", {})
        used = sum(counts["blocks"] for role, counts in report.items() if role != "array")
        counts = report.setdefault(multiplier.role, Counter())
        needed = blocks(multiplier)
        is_array = multiplier.role == "array"
        if is_array or used + needed <= self.multiplier_blocks - self.array_multipliers:
            counts["blocks"] += needed
            counts["in blocks"] += 1
            bel = None
            if is_array and self.floorplan is not None and multiplier.position is not None:
                bel = self.floorplan.bel(multiplier.position)
            return _single(multiplier, bel)
        counts["in LUTs"] += 1
        return None


def blocks(multiplier: Multiplier) -> int:
    return 1


def _single(multiplier: Multiplier, bel: str | None) -> Module:
    m = Module()
    extra = multiplier.latency - 2
    front = min(extra, 1)
    a = delay(m, multiplier.a, front, name="a", reset_less=True)
    b = delay(m, multiplier.b, front, name="b", reset_less=True)
    m.submodules.block, product = block(a, b, bel=bel)
    product = product[:len(multiplier.o)].as_signed()
    m.d.comb += multiplier.o.eq(delay(m, product, extra - front, name="product", reset_less=True))
    return m


def block(a: Value, b: Value, *, bel: str | None = None) -> tuple[Instance, Value]:
    """A block with registered operands and product, both factors signed."""
    product = Signal(signed(2 * _WIDTH))
    operand = {"A": _extend(a), "B": _extend(b)}
    ports: dict[str, Any] = {f"i_{name}{k}": value[k]
                             for name, value in operand.items() for k in range(_WIDTH)}
    ports |= {f"i_C{k}": Const(0) for k in range(_WIDTH)}
    ports |= {f"o_P{k}": product[k] for k in range(2 * _WIDTH)}
    instance = Instance(
        "MULT18X18D",
        **({} if bel is None else {"a_BEL": bel}),
        p_REG_INPUTA_CLK="CLK0", p_REG_INPUTB_CLK="CLK0", p_REG_OUTPUT_CLK="CLK0",
        p_GSR="DISABLED",
        i_CLK0=ClockSignal(), i_CE0=Const(1), i_RST0=Const(0),
        i_SIGNEDA=Const(1), i_SIGNEDB=Const(1), i_SOURCEA=Const(0), i_SOURCEB=Const(0),
        **ports)
    return instance, product


def _extend(value: Value) -> list[Value]:
    return [value[min(k, len(value) - 1)] for k in range(_WIDTH)]
