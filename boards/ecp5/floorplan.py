"""Where multipliers go on an ECP5: those of the array, and those of several blocks each."""

from dataclasses import dataclass
from itertools import product

from weft.hw.isa.config import AcceleratorConfig, ConfigError

__all__ = ["ECP5_SITES", "Floorplan", "MultiplierSites"]


@dataclass(frozen=True)
class MultiplierSites:
    """The rows of multiplier blocks of a device, all alike.

    Parameters
    ----------
    rows : :class:`tuple` of :class:`int`
        Y of each row, from the top of the device down.
    groups : :class:`tuple` of :class:`int`
        X of each group of four blocks, from left to right.
    """

    rows: tuple[int, ...]
    groups: tuple[int, ...]

    _OFFSETS = (0, 1, 4, 5)  # of the blocks of a group; the offset is in a block's name, too

    @property
    def columns(self) -> int:
        """Blocks in a row."""
        return len(self.groups) * len(self._OFFSETS)

    @property
    def blocks(self) -> int:
        """Blocks of the device."""
        return len(self.rows) * self.columns

    def bel(self, row: int, column: int) -> str:
        """What nextpnr calls the block in ``row``, the ``column``-th from the left."""
        group, place = divmod(column, len(self._OFFSETS))
        offset = self._OFFSETS[place]
        return f"X{self.groups[group] + offset}/Y{self.rows[row]}/MULT18_{offset}"


# Project Trellis lists the tiles of a device; a group starts where a tile MIB_DSP0 lies.
ECP5_SITES = {
    "25F": MultiplierSites((13,), (4, 13, 22, 33, 42, 51, 60)),
    "45F": MultiplierSites((22, 46), (4, 13, 22, 31, 42, 51, 60, 69, 78)),
    "85F": MultiplierSites((10, 34, 58), (4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114)),
}
"""Multiplier blocks by size of the device. The 12F is a 25F."""


class Floorplan:
    """Puts the array's multipliers where their neighbours are near.

    Without it a placer spreads a regular array at random over the rows of multiplier blocks, and
    the wires between neighbours become as long as the device is wide. Rows of PEs are dealt to the
    rows of blocks in bands, top down, and the PEs of a column and band stand side by side. So
    partial sums and weights cross from one row of blocks to the next only between two bands, and
    pixels hop over as many blocks as a band has rows. The last band may have fewer rows. Each is in
    the middle of its row, and the blocks that are left for others lie together at both ends.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
    sites : :class:`MultiplierSites`

    Raises
    ------
    ConfigError
        If the array does not fit, even though there may be blocks enough: a row of PEs must fit
        into a row of blocks.
    """

    def __init__(self, config: AcceleratorConfig, sites: MultiplierSites):
        band = sites.columns // config.array_columns
        if band * len(sites.rows) < config.pe_rows:
            raise ConfigError(
                f"Array must fit into {len(sites.rows)} x {sites.columns} multipliers with no row "
                f"of PEs in two rows of them, not be {config.pe_rows} x {config.array_columns} PEs")
        # Few bands, of equal height but the last one.
        bands = -(-config.pe_rows // band)
        self._height = -(-config.pe_rows // bands)
        self._rows = config.pe_rows
        self._columns = config.array_columns
        self._first_row = (len(sites.rows) - bands) // 2
        self._sites = sites
        self._free = set(product(range(len(sites.rows)), range(sites.columns))) - {
            self._site(position) for position in product(range(self._rows), range(self._columns))}

    def bel(self, position: tuple[int, int]) -> str:
        """The block for the PE at ``position``, row and column in the array."""
        return self._sites.bel(*self._site(position))

    def neighbours(self, count: int) -> tuple[str, ...] | None:
        """``count`` blocks side by side that the array has left and that were not given away yet,
        from the bottom up, where the sums come out; ``None`` if there are none."""
        for row in reversed(range(len(self._sites.rows))):
            for column in range(self._sites.columns - count + 1):
                run = {(row, column + number) for number in range(count)}
                if run <= self._free:
                    self._free -= run
                    return tuple(self._sites.bel(*site) for site in sorted(run))
        return None

    def _site(self, position: tuple[int, int]) -> tuple[int, int]:
        """Row and column of blocks."""
        row, column = position
        band, place = divmod(row, self._height)
        height = min(self._height, self._rows - band * self._height)
        first = (self._sites.columns - height * self._columns) // 2
        return self._first_row + band, first + column * height + place
