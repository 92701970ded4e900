"""Lattice ECP5: multipliers in its blocks (``MULT18X18D``), and in LUTs where blocks run out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from amaranth import *

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.lib.adder_tree import adder_tree_multiplier
from weft.hw.lib.delay import delay, register
from weft.hw.lib.multiplier import Multiplier

from .floorplan import Floorplan, MultiplierSites
from .memory import ECP5Memories

__all__ = ["ECP5Multipliers", "ECP5Primitives"]


_WIDTH = 18            # bits of a signed factor of a block
_LIMB  = _WIDTH - 1    # bits of an unsigned one
_COMPOSED_BLOCKS  = 4  # of a product wider than a block
_COMPOSED_LATENCY = 4  # of it: the block's own 2, and two sums


class ECP5Multipliers:
    """Gives multipliers the blocks of an ECP5: a mixin for a platform.

    Blocks are set aside for the array, and for requantization, whose products would take hundreds
    of LUTs for each block that they do without. What is left goes to the other multipliers in the
    order in which they are elaborated; who comes too late, or has a latency too short for the
    number of blocks that it takes, is built of LUTs and carry chains. Synthesis must not choose
    blocks by itself, so it is ``synth_ecp5 -nodsp``, and
    :data:`~weft.boards.ecp5.floorplan.KEEP_FLAGS` comes before it.

    A block has registers for its factors and for its product, which makes two cycles of latency.
    A third goes in front of the block: an adder then does not share a cycle with the long way into
    a block. Any further ones are behind it.

    Attributes
    ----------
    multiplier_blocks : :class:`int`
        Blocks to give away.
    reserved_blocks : :class:`dict`
        Blocks set aside by role; those of ``"array"`` must be enough for all of that role.
    floorplan : :class:`Floorplan` or ``None``
        Where those go; ``None`` leaves it to the placer.
    multiplier_report : :class:`dict`
        For each role met in elaboration a :class:`Counter` of ``"blocks"`` taken, and of
        multipliers ``"in blocks"`` and ``"in LUTs"``.
    """

    multiplier_blocks: int
    reserved_blocks: Mapping[str, int] = MappingProxyType({})
    floorplan: Floorplan | None = None

    @property
    def multiplier_report(self) -> dict[str, Counter[str]]:
        return self.__dict__.setdefault("_multiplier_report", {})

    def assign_multipliers(self, config: AcceleratorConfig, sites: MultiplierSites) -> None:
        """Sets the attributes for an accelerator of ``config`` on a device with ``sites``.

        Raises
        ------
        ConfigError
            If the array does not fit.
        """
        self.reserved_blocks = {
            "array": config.multipliers,
            "requantize": _COMPOSED_BLOCKS * config.requant_lanes * (2 if config.vector else 1)}
        # The vector engine's lanes are alike: if not all of them can have a block, those that did
        # would only have a long way to it.
        left = max(0, sites.blocks - sum(self.reserved_blocks.values()))
        lanes = config.word_lanes * config.vector_taps if config.vector else 0
        self.multiplier_blocks = sites.blocks - (left if lanes > left else 0)
        self.floorplan = Floorplan(config, sites)

    def get_multiplier(self, multiplier: Multiplier) -> Module:
        """What to elaborate in place of ``multiplier``."""
        report = self.multiplier_report
        counts = report.setdefault(multiplier.role, Counter())
        left = self.multiplier_blocks - counts["blocks"] - sum(
            max(report.get(role, Counter())["blocks"], self.reserved_blocks.get(role, 0))
            for role in {*report, *self.reserved_blocks} - {multiplier.role})
        is_array = multiplier.role == "array"

        number = _blocks(multiplier)
        if number is None or not (is_array or number <= left):
            counts["in LUTs"] += 1
            return adder_tree_multiplier(multiplier)
        counts["in blocks"] += 1
        counts["blocks"] += number
        if number > 1:
            return _composed(multiplier, self.floorplan and self.floorplan.neighbours(number))
        bel = None
        if is_array and self.floorplan is not None and multiplier.position is not None:
            bel = self.floorplan.bel(multiplier.position)
        return _single(multiplier, bel)


def _blocks(multiplier: Multiplier) -> int | None:
    """Number of blocks for ``multiplier``; ``None`` if blocks do not do."""
    widest = max(len(multiplier.a), len(multiplier.b))
    if widest <= _WIDTH:
        return 1
    if widest <= _LIMB + _WIDTH and multiplier.latency >= _COMPOSED_LATENCY:
        return _COMPOSED_BLOCKS
    return None


def _single(multiplier: Multiplier, bel: str | None) -> Module:
    m = Module()
    extra = multiplier.latency - 2
    front = min(extra, 1)
    product = _block(m, delay(m, multiplier.a, front, name="a", reset_less=True),
                     delay(m, multiplier.b, front, name="b", reset_less=True), bel=bel)
    product = product[:len(multiplier.o)].as_signed()
    m.d.comb += multiplier.o.eq(delay(m, product, extra - front, name="product", reset_less=True))
    return m


def _composed(multiplier: Multiplier, bels: Sequence[str] | None) -> Module:
    """A product of two limbs each: ``(ah * 2**17 + al) * (bh * 2**17 + bl)``; in ``bels``, if there
    are such."""
    m = Module()
    extra = multiplier.latency - _COMPOSED_LATENCY
    front = min(extra, 1)
    a, b = (delay(m, value, front, name=name, reset_less=True)
            for name, value in (("a", multiplier.a), ("b", multiplier.b)))
    limbs = [[value[:_LIMB].as_unsigned(), value[_LIMB:].as_signed()] for value in (
        _extended(a, _LIMB + 2), _extended(b, _LIMB + 2))]
    places: Sequence[str | None] = bels or [None] * _COMPOSED_BLOCKS
    low, middle_a, middle_b, high = (
        _block(m, limbs[0][i], limbs[1][j], name=f"block_{i}_{j}", bel=bel)
        for (i, j), bel in zip(((0, 0), (1, 0), (0, 1), (1, 1)), places, strict=True))

    # The products of the lower and the upper limbs stand side by side: there is nothing to add.
    outer = register(m, Cat(low[:2 * _LIMB], high), "outer")
    middle = register(m, middle_a + middle_b, "middle")
    upper = register(m, outer[_LIMB:].as_signed() + middle, "upper")
    lower = register(m, outer[:_LIMB], "lower")
    product = Cat(lower, upper)[:len(multiplier.o)].as_signed()
    m.d.comb += multiplier.o.eq(delay(m, product, extra - front, name="product", reset_less=True))
    return m


def _extended(value: Value, width: int) -> Value:
    """``value``, at least ``width`` bits wide."""
    return value if len(value) >= width else Cat(value, value[-1].replicate(width - len(value)))


def _block(m: Module, a: Value, b: Value, *, name: str = "block", bel: str | None = None) -> Value:
    """Adds a block; its product is that of ``a`` and ``b`` two cycles ago."""
    product = Signal(signed(2 * _WIDTH), name=f"{name}_product")
    ports: dict[str, Any] = {}
    for letter, value in (("A", a), ("B", b)):
        sign = value[-1] if value.shape().signed else Const(0)
        ports |= {f"i_{letter}{k}": value[k] if k < len(value) else sign for k in range(_WIDTH)}
    ports |= {f"i_C{k}": Const(0) for k in range(_WIDTH)}
    ports |= {f"o_P{k}": product[k] for k in range(2 * _WIDTH)}
    m.submodules[name] = Instance(
        "MULT18X18D",
        **({} if bel is None else {"a_BEL": bel}),
        p_REG_INPUTA_CLK="CLK0", p_REG_INPUTB_CLK="CLK0", p_REG_OUTPUT_CLK="CLK0",
        p_GSR="DISABLED",
        i_CLK0=ClockSignal(), i_CE0=Const(1), i_RST0=Const(0),
        i_SIGNEDA=Const(1), i_SIGNEDB=Const(1), i_SOURCEA=Const(0), i_SOURCEB=Const(0),
        **ports)
    return product


class ECP5Primitives(ECP5Multipliers, ECP5Memories):
    """All that a platform for an ECP5 adds to Amaranth's.

    It is mixed in in front of that::

        class Platform(ECP5Primitives, ULX3S_85F_Platform):
            pass

        platform = Platform()
        platform.assign_multipliers(config, ECP5_SITES["85F"])
    """
