"""Which lines of the vector engine hold rows that a later command goes on with."""

from collections.abc import Hashable
from dataclasses import dataclass

from weft.compiler.ops import Buffer, Region, Space
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.limits import LINE_QUARTERS

__all__ = ["KeptLines"]


@dataclass(frozen=True)
class _Run:
    """Quarters of the lines, and the output row that is next."""
    quarters: range
    row: int


class KeptLines:
    """Gives the commands of a layer, or of a group, their lines: in order, as they are emitted.

    Commands that go on with one another have the same lines. Others have those that were not used
    for the longest time, and what was kept there is lost.
    """

    def __init__(self, config: AcceleratorConfig):
        self._lines = config.vector_lines
        self._runs: dict[Hashable, _Run] = {}
        self._free = 0
        self._buffer = Buffer(name="lines", space=Space.LINES, size=self._lines, layer="")

    @property
    def buffer(self) -> Buffer:
        """All lines."""
        return self._buffer

    def take(self, run: Hashable, rows: range, count: int) -> tuple[int, bool, Region]:
        """Lines for a command.

        Parameters
        ----------
        run : hashable
            What it may have in common with an earlier command, with which it goes on; none if
            :py:`None`.
        rows : :class:`range`
            Of its output.
        count : :class:`int`
            Lines that it uses; of too many it keeps nothing.

        Returns
        -------
        :class:`int`, :class:`bool`, :class:`Region`
            The quarter at which they begin, whether it resumes, and what it overwrites.
        """
        size = self._lines // LINE_QUARTERS
        quarters = min(-(-count // size), LINE_QUARTERS)
        found = self._runs.get(run)
        resumes = found is not None and found.row == rows.start and count <= self._lines
        if found is None or len(found.quarters) != quarters:
            first = self._free if self._free + quarters <= LINE_QUARTERS else 0
            found = _Run(range(first, first + quarters), 0)
            self._free = found.quarters.stop % LINE_QUARTERS
        mine = found.quarters
        self._runs = {other: its for other, its in self._runs.items()
                      if its.quarters.stop <= mine.start or mine.stop <= its.quarters.start}
        if run is not None:
            self._runs[run] = _Run(mine, rows.stop)
        return mine.start, resumes, Region(self._buffer, mine.start * size, mine.stop * size)
