"""Lattice ECP5: multipliers in its blocks (``MULT18X18D``), and in LUTs where blocks run out."""

from collections.abc import Sequence
from typing import Any

from amaranth import *

from weft.boards.blocks.multiplier import MultiplierBlocks
from weft.hw.isa.config import AcceleratorConfig

from .floorplan import Floorplan, MultiplierSites
from .memory import ECP5Memories

__all__ = ["ECP5Multipliers", "ECP5Primitives"]


_WIDTH = 18  # bits of a factor


class ECP5Multipliers(MultiplierBlocks):
    """Gives multipliers the blocks of an ECP5: a mixin for a platform. Synthesis is ``synth_ecp5
    -nodsp``, and :data:`~weft.boards.family.KEEP_FLAGS` comes before it.

    Attributes
    ----------
    floorplan : :class:`Floorplan` or ``None``
        Where blocks go; ``None`` leaves it to the placer.
    """

    floorplan: Floorplan | None = None

    def assign_multipliers(self, config: AcceleratorConfig, sites: MultiplierSites) -> None:
        """Sets the attributes for an accelerator of ``config`` on a device with ``sites``.

        Raises
        ------
        ConfigError
            If the array does not fit.
        """
        self.reserve_blocks(config, sites.blocks)
        self.floorplan = Floorplan(config, sites)

    def array_bel(self, position: tuple[int, int]) -> str | None:
        return None if self.floorplan is None else self.floorplan.bel(position)

    def neighbours(self, count: int) -> Sequence[str] | None:
        return None if self.floorplan is None else self.floorplan.neighbours(count)

    def make_block(self, m: Module, a: Value, b: Value, *, latency: int, name: str,
                   bel: str | None) -> Value:
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
