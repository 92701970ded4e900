"""Cycles that are lost where two engines want the same bank of the activation memory."""

from collections import deque
from dataclasses import dataclass
from functools import cache

from weft.hw.vector.seconds import VectorSeconds

__all__ = ["Spans", "Stream", "pair_cycles", "stall_rate"]


_TRIALS = 32  # positions; about a row, after which the addresses jump


@dataclass(frozen=True)
class Stream:
    """Words of the activation memory that one engine reads, or writes, before another may.

    Attributes
    ----------
    step : :class:`int`
        From word to word, modulo the number of banks.
    every : :class:`int`
        Cycles from word to word.
    """

    step: int
    every: int


@cache
def stall_rate(banks: int, pattern: tuple[int | None, ...], step: int, other: Stream,
               second: int | None = None) -> float:
    """Cycles, of all, that are lost to a stream that goes first.

    Parameters
    ----------
    pattern : :class:`tuple` of :class:`int` or :py:`None`
        Addresses, modulo ``banks``, of one position of the one that has to wait. It accesses one
        in each cycle in which the bank is free, and none where there is no address.
    step : :class:`int`
        From position to position.
    second : :class:`int`
        From a word to that of a second operand, which is read beside it.
    """
    phases = range(banks * other.every)
    if second is not None:
        alone = _pair_cycles(banks, second, step, _TRIALS)
        cycles = [_pair_cycles(banks, second, step, _TRIALS, other, phase) for phase in phases]
        return 1 - len(cycles) * alone / sum(cycles)
    lost = 0
    for phase in phases:
        time = phase
        for position in range(_TRIALS):
            for offset in pattern:
                if offset is None:
                    time += 1
                    continue
                bank = (position * step + offset) % banks
                for _ in range(banks * other.every):
                    number, rest = divmod(time, other.every)
                    if rest or number * other.step % banks != bank:
                        break
                    time += 1
                    lost += 1
                time += 1
    return lost / (lost + banks * other.every * _TRIALS * len(pattern))


def pair_cycles(banks: int, second: int, step: int, positions: int) -> int:
    """Cycles in which the words of two operands are read, if nobody is in the way: one for each
    position, and some until they are in different banks, or two where they never are."""
    few = min(positions, _TRIALS)
    return round(_pair_cycles(banks, second, step, few) + (positions - few) * (
        _pair_cycles(banks, second, step, 2 * _TRIALS)
        - _pair_cycles(banks, second, step, _TRIALS)) / _TRIALS)


@cache
def _pair_cycles(banks: int, second: int, step: int, positions: int, other: Stream | None = None,
                 phase: int = 0) -> int:
    """The same, where another goes first that began ``phase`` cycles earlier. The second operand
    goes ahead of the first one, and before it."""
    asked = [0, 0]      # words of the first and the second operand
    time = phase
    while asked[0] < positions and time - phase < 4 * positions:
        busy = set()
        if other is not None and not time % other.every:
            busy.add(time // other.every * other.step % banks)
        lead = asked[1] - asked[0]
        for operand, may in ((1, lead < VectorSeconds.DEPTH and asked[1] < positions),
                             (0, lead > 0)):
            bank = (asked[operand] * step + operand * second) % banks
            if may and bank not in busy:
                busy.add(bank)
                asked[operand] += 1
        time += 1
    return time - phase


class Spans:
    """When there are which streams: spans of time in order, and in which share of each."""

    def __init__(self) -> None:
        self.last = -1  # end of all
        self._spans: deque[tuple[int, int, Stream, float]] = deque()

    def add(self, begin: int, end: int, stream: Stream, share: float = 1.0) -> None:
        """From ``begin`` to ``end`` there is a stream in a ``share`` of the cycles."""
        self._spans.append((begin, end, stream, share))
        if end > self.last:
            self.last = end

    def lost(self, begin: int, end: int, banks: int, pattern: tuple[int | None, ...],
             step: int, second: int | None = None) -> float:
        """Cycles between ``begin`` and ``end`` that are lost to them: see :func:`stall_rate`."""
        if self.last <= begin:
            return 0.0
        lost = 0.0
        for first, last, stream, share in reversed(self._spans):
            if last <= begin:
                break
            if first < end:
                cycles = (min(last, end) - max(first, begin)) * share
                lost += cycles * stall_rate(banks, pattern, step, stream, second)
        return lost
