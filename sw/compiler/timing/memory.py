"""The external memory and its port, as far as time goes."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from weft.errors import InputError
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.limits import PAGE_BYTES

__all__ = ["MEMORY", "MemoryTiming", "ReadPort", "bursts"]


@dataclass(frozen=True, kw_only=True)
class MemoryTiming:
    """What is assumed of the external memory.

    Parameters
    ----------
    latency : :class:`int`
        Cycles from an address to its first beat, and from the last beat written to the response.
    rate : :class:`float` or :py:`None`
        Beats per cycle that each direction has for itself, at most 1; without it, 1.
    shared : :class:`bool`
        Both directions have one ``rate`` between them, as at the data lines of a memory chip.
    turnaround : :class:`int`
        Cycles that are lost if a burst of writes comes between reads.

    Raises
    ------
    InputError
        If one of them is not positive, or of a turnaround negative, or the rate is above 1.
    """

    latency: int = 32
    rate: float | None = None
    shared: bool = False
    turnaround: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.latency, int) or self.latency < 1:
            raise InputError(f"Memory latency must be an integer of at least 1, "
                             f"not {self.latency!r}")
        if self.rate is not None and not 0 < self.rate <= 1:
            raise InputError(f"Memory rate must be above 0 and at most 1 beat per cycle, "
                             f"not {self.rate!r}")
        if self.turnaround < 0:
            raise InputError(f"Memory turnaround must be at least 0 cycles, "
                             f"not {self.turnaround!r}")

    def cycles(self, beats: int) -> int:
        """From the first of some beats to the last."""
        return beats - 1 if self.rate is None else ceil((beats - 1) / self.rate)


MEMORY = MemoryTiming()
"""What is assumed if nothing else is said: the memory of the simulator."""


def bursts(config: AcceleratorConfig, address: int, beats: int) -> Iterator[int]:
    """Lengths of the bursts that a run of beats is cut into: see
    :class:`~weft.hw.bus.burst.BurstSplitter`."""
    page = (PAGE_BYTES - address % PAGE_BYTES) // config.axi_bytes
    while beats:
        length = min(beats, page, config.axi_burst_beats)
        yield length
        beats -= length
        page -= length
        if not page:
            page = PAGE_BYTES // config.axi_bytes


class ReadPort:
    """The read half of the memory port: bursts are answered in the order of their addresses.

    Attributes
    ----------
    beats : :class:`int`
        Transferred so far.
    """

    def __init__(self, memory: MemoryTiming):
        self._memory = memory
        self._latency = memory.latency
        self._address = -1  # cycle of the last address
        self._free = 0      # first cycle without a beat
        self._writes: deque[tuple[int, int]] = deque()  # that take turns with reads: when, cycles
        self.beats = 0

    def write(self, cycle: int, beats: int) -> None:
        """Beats are written from ``cycle`` on, no earlier than those before."""
        if self._memory.shared:
            self._writes.append((cycle, self._memory.cycles(beats + 1)))

    def read(self, cycle: int, beats: int) -> tuple[int, int, int]:
        """An address that wants the bus from ``cycle`` on: when it gets it, and the cycles of its
        first and its last beat."""
        address = self._address + 1
        if address < cycle:
            address = cycle
        self._address = address
        first = address + self._latency
        if first < self._free:
            first = self._free
        if self._writes:
            first = self._give_way(first)
        last = first + self._memory.cycles(beats)
        self._free = last + 1
        self.beats += beats
        return address, first, last

    def _give_way(self, first: int) -> int:
        """When a beat that could be read in cycle ``first`` is, behind the writes before it."""
        free, writes = self._free, self._writes
        while writes and writes[0][0] <= max(first, free):
            cycle, cycles = writes.popleft()
            free = max(cycle, free) + cycles + (self._memory.turnaround if cycle <= free else 0)
        return max(first, free)
