"""Multipliers in the blocks of an FPGA, and in LUTs where blocks run out."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from amaranth import *

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.lib.adder_tree import adder_tree_multiplier
from weft.hw.lib.delay import delay, register
from weft.hw.lib.multiplier import Multiplier

__all__ = ["MultiplierBlocks"]


_WIDTH = 18            # bits of a signed factor of a block
_LIMB  = _WIDTH - 1    # bits of an unsigned one
_COMPOSED_BLOCKS  = 4  # of a product wider than a block
_COMPOSED_SUMS    = 2  # cycles that its sums take, behind the blocks
_VECTOR_WIDTH     = 9  # bits of a factor of a lane of the vector engine


class MultiplierBlocks(ABC):
    """Gives multipliers the blocks of 18 x 18 bits of an FPGA: a mixin for a platform, and the base
    of one for each family.

    Blocks are set aside for the array, and for requantization, whose products would take hundreds
    of LUTs for each block that they do without. What is left goes to the other multipliers in the
    order in which they are elaborated; who comes too late, or has a latency too short for the
    number of blocks that it takes, is built of LUTs and carry chains. Synthesis must not choose
    blocks by itself.

    A block has registers for its factors and for its product, which makes two cycles of latency,
    and in some families one in between. A third goes in there, or else in front of the block: an
    adder then does not share a cycle with the long way into a block. Any further ones are behind
    it.

    Attributes
    ----------
    multiplier_blocks : :class:`int`
        Blocks to give away.
    reserved_blocks : :class:`dict`
        Blocks set aside by role; those of ``"array"`` must be enough for all of that role.
    multiplier_report : :class:`dict`
        For each role met in elaboration a :class:`Counter` of ``"blocks"`` taken, and of
        multipliers ``"in blocks"`` and ``"in LUTs"``.
    block_latencies : :class:`tuple` of :class:`int`
        Cycles that a block may take, by the registers in it that are in use; from 2 on.
    """

    block_latencies: Sequence[int] = (2,)
    multiplier_blocks: int
    reserved_blocks: Mapping[str, int] = MappingProxyType({})

    @property
    def multiplier_report(self) -> dict[str, Counter[str]]:
        return self.__dict__.setdefault("_multiplier_report", {})

    @abstractmethod
    def make_block(self, m: Module, a: Value, b: Value, *, latency: int, name: str,
                   bel: str | None) -> Value:
        """Adds a block; its product is that of ``a`` and ``b``, of up to 18 bits, ``latency``
        cycles ago, which is one of :attr:`block_latencies`."""

    def block_parts(self, width: int) -> int:
        """What a product of factors of up to ``width`` bits, 18 at most, takes of the blocks."""
        return 1

    def array_bel(self, position: tuple[int, int]) -> str | None:
        """Where the block of the PE at ``position`` goes; :py:`None` leaves it to the placer."""
        return None

    def neighbours(self, count: int) -> Sequence[str] | None:
        """Where so many blocks of one product go."""
        return None

    def reserve_blocks(self, config: AcceleratorConfig, blocks: int) -> None:
        """Sets the attributes for an accelerator of ``config`` on a device with so many
        ``blocks``."""
        self.reserved_blocks = {
            "array": config.multipliers * self.block_parts(max(config.array.factor_widths)),
            "requantize": _COMPOSED_BLOCKS * self.block_parts(_WIDTH)
            * config.requant_lanes * (2 if config.vector else 1)}
        # The vector engine's lanes are alike: if not all of them can have a block, those that did
        # would only have a long way to it.
        left = max(0, blocks - sum(self.reserved_blocks.values()))
        lanes = (config.word_lanes * config.vector_taps * self.block_parts(_VECTOR_WIDTH)
                 if config.vector else 0)
        self.multiplier_blocks = blocks - (left if lanes > left else 0)

    def get_multiplier(self, multiplier: Multiplier) -> Module:
        """What to elaborate in place of ``multiplier``."""
        report = self.multiplier_report
        counts = report.setdefault(multiplier.role, Counter())
        left = self.multiplier_blocks - counts["blocks"] - sum(
            max(report.get(role, Counter())["blocks"], self.reserved_blocks.get(role, 0))
            for role in {*report, *self.reserved_blocks} - {multiplier.role})
        is_array = multiplier.role == "array"

        number = self._blocks(multiplier)
        if number is None or not (is_array or number <= left):
            counts["in LUTs"] += 1
            return adder_tree_multiplier(multiplier)
        counts["in blocks"] += 1
        counts["blocks"] += number
        if max(len(multiplier.a), len(multiplier.b)) > _WIDTH:
            return self._composed(multiplier)
        bel = None
        if is_array and multiplier.position is not None:
            bel = self.array_bel(multiplier.position)
        return self._single(multiplier, bel)

    def _blocks(self, multiplier: Multiplier) -> int | None:
        """Number of blocks for ``multiplier``; :py:`None` if blocks do not do."""
        widest = max(len(multiplier.a), len(multiplier.b))
        if widest <= _WIDTH:
            return self.block_parts(widest)
        if (widest <= _LIMB + _WIDTH
                and multiplier.latency >= self.block_latencies[0] + _COMPOSED_SUMS):
            return _COMPOSED_BLOCKS * self.block_parts(_WIDTH)
        return None

    def _registers(self, latency: int) -> tuple[int, int, int]:
        """How so many cycles are shared: in front of a block, in it, and behind it."""
        inside = max(cycles for cycles in self.block_latencies if cycles <= latency)
        front = min(latency - inside, 3 - inside)
        return front, inside, latency - inside - front

    def _single(self, multiplier: Multiplier, bel: str | None) -> Module:
        m = Module()
        front, inside, behind = self._registers(multiplier.latency)
        product = self.make_block(
            m, delay(m, multiplier.a, front, name="a", reset_less=True),
            delay(m, multiplier.b, front, name="b", reset_less=True), latency=inside, name="block",
            bel=bel)
        product = product[:len(multiplier.o)].as_signed()
        m.d.comb += multiplier.o.eq(delay(m, product, behind, name="product", reset_less=True))
        return m

    def _composed(self, multiplier: Multiplier) -> Module:
        """A product of two limbs each: ``(ah * 2**17 + al) * (bh * 2**17 + bl)``."""
        m = Module()
        front, inside, behind = self._registers(multiplier.latency - _COMPOSED_SUMS)
        a, b = (delay(m, value, front, name=name, reset_less=True)
                for name, value in (("a", multiplier.a), ("b", multiplier.b)))
        limbs = [[value[:_LIMB].as_unsigned(), value[_LIMB:].as_signed()] for value in (
            _extended(a, _LIMB + 2), _extended(b, _LIMB + 2))]
        places: Sequence[str | None] = (self.neighbours(_COMPOSED_BLOCKS)
                                        or [None] * _COMPOSED_BLOCKS)
        low, middle_a, middle_b, high = (
            self.make_block(m, limbs[0][i], limbs[1][j], latency=inside, name=f"block_{i}_{j}",
                            bel=bel)
            for (i, j), bel in zip(((0, 0), (1, 0), (0, 1), (1, 1)), places, strict=True))

        # The products of the lower and the upper limbs stand side by side: there is nothing to
        # add.
        outer = register(m, Cat(low[:2 * _LIMB], high), "outer")
        middle = register(m, middle_a + middle_b, "middle")
        upper = register(m, outer[_LIMB:].as_signed() + middle, "upper")
        lower = register(m, outer[:_LIMB], "lower")
        product = Cat(lower, upper)[:len(multiplier.o)].as_signed()
        m.d.comb += multiplier.o.eq(delay(m, product, behind, name="product", reset_less=True))
        return m


def _extended(value: Value, width: int) -> Value:
    """``value``, at least ``width`` bits wide."""
    return value if len(value) >= width else Cat(value, value[-1].replicate(width - len(value)))
