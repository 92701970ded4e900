"""Where block memories go on an ECP5."""

from collections.abc import Iterator
from dataclasses import dataclass

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.memory.registered import MemoryRole

__all__ = ["ECP5_MEMORY_SITES", "MemoryFloorplan", "MemorySites"]


@dataclass(frozen=True)
class MemorySites:
    """The rows of block memories of a device, all alike.

    Parameters
    ----------
    rows : :class:`tuple` of :class:`int`
        Y of each row, from the top of the device down.
    groups : :class:`tuple` of :class:`int`
        X of each group of four blocks, from left to right.
    """

    rows: tuple[int, ...]
    groups: tuple[int, ...]

    _OFFSETS = (0, 2, 4, 6)  # of the blocks of a group

    @property
    def columns(self) -> int:
        """Blocks in a row."""
        return len(self.groups) * len(self._OFFSETS)

    def bel(self, row: int, column: int) -> str:
        """What nextpnr calls the block in ``row``, the ``column``-th from the left."""
        group, place = divmod(column, len(self._OFFSETS))
        return f"X{self.groups[group] + self._OFFSETS[place]}/Y{self.rows[row]}/EBR{place}"


# Project Trellis lists the tiles of a device; a group starts where a tile MIB_EBR0 lies.
ECP5_MEMORY_SITES = {
    "85F": MemorySites((22, 46, 70, 82), (4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114)),
}
"""Block memories by size of the device, of those on which their places matter."""


class MemoryFloorplan:
    """Puts the large memories around the array, whose multipliers lie between the rows.

    Left to itself a placer spreads them over all rows, and logic with them. From the top down come
    the weights, spread over the columns of the array; activations, from the side where pixels go
    in; accumulators, below the columns; and the staging memory, furthest from the array and at
    both ends of the row above. All other memories, and what of these finds no place, are left to
    the placer.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
    sites : :class:`MemorySites`
        Of a device with four rows.
    """

    def __init__(self, config: AcceleratorConfig, sites: MemorySites):
        columns = sites.columns
        top, upper, lower, bottom = range(4)
        spread = max(1, columns // config.cols)
        banks = 2 * config.array_columns
        start = max(0, (columns - banks) // 2)
        below = range(start, min(columns, start + banks))
        self._sites = sites
        self._free: dict[MemoryRole, Iterator[tuple[int, int]]] = {
            "weights": iter([(top, column) for column in range(spread // 2, columns, spread)]),
            "activation": iter([(upper, column) for column in range(columns)]),
            "accumulators": iter([(lower, column) for column in below]),
            "staging": iter([(bottom, column) for column in range(columns)]
                            + [(lower, column) for column in range(columns)
                               if column not in below]),
        }

    def bel(self, role: MemoryRole) -> str | None:
        """The next block for a memory of ``role``; ``None`` leaves it to the placer."""
        site = next(self._free.get(role, iter(())), None)
        return None if site is None else self._sites.bel(*site)
