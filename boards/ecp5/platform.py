"""Lattice ECP5: a board's platform with the FPGA's own blocks."""

from typing import Any

from weft.hw.isa.config import AcceleratorConfig

from .floorplan import ECP5_SITES
from .memory_floorplan import ECP5_MEMORY_SITES, MemoryFloorplan
from .multiplier import ECP5Primitives

__all__ = ["ecp5_platform"]


def ecp5_platform(base: Any, config: AcceleratorConfig, size: str) -> Any:
    """Amaranth's platform ``base``, whose FPGA is of such a ``size`` (``"25F"``), with multiplier
    and memory blocks for ``config``."""

    class Platform(ECP5Primitives, base):  # type: ignore[misc]  # amaranth_boards has no types
        pass

    platform = Platform()
    platform.assign_multipliers(config, ECP5_SITES[size])
    if size in ECP5_MEMORY_SITES:
        platform.memory_floorplan = MemoryFloorplan(config, ECP5_MEMORY_SITES[size])
    return platform
