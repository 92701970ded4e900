"""Which command waits for which, as tokens between engines.

A command must wait for every earlier one whose result it reads (RAW), whose input it overwrites
(WAR), or whose output it overwrites (WAW). Engines take their commands in order and report them
done in order, so of all commands of one engine only the latest matters, and one token from it
stands for everything before it.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from weft.compiler.ops import Op, Region, Space
from weft.hw.control.dispatch import Dispatcher
from weft.hw.isa.commands import Engine
from weft.hw.isa.config import AcceleratorConfig

from .allocate import Allocation
from .sum_order import sum_order

__all__ = ["Tokens", "Conflicts", "schedule", "conflicts", "hazards"]


@dataclass(frozen=True)
class Tokens:
    """Masks of the engines that a command takes a token from, and gives one to."""
    wait: int = 0
    post: int = 0


def hazards(producer: Engine, consumer: Engine) -> tuple[tuple[str, str], ...]:
    """What must not overlap without a token: (access of the earlier, of the later command).

    Engines take up their commands in order and each reads, and each writes, in order. MATRIX and
    VECTOR start on a command while the one before it is still under way, so a command that reads
    what the one before it writes needs a token; what it writes comes after all that was read
    before. STORE never reads what it writes; on the LOAD engine each TURN waits for all before
    it, and what follows for it.
    """
    if producer is not consumer:
        return ("write", "read"), ("read", "write"), ("write", "write")
    if producer in (Engine.MATRIX, Engine.VECTOR):
        return (("write", "read"),)
    return ()


class _Memory:
    """Who used each unit of a memory last: ranges in order, from one start to the next."""

    def __init__(self) -> None:
        self._starts = [0]
        # The op that wrote a range, or -1, and those that read it since.
        self._writers = [-1]
        self._readers: list[list[int]] = [[]]

    def _cut(self, at: int, low: int) -> int:
        """The number of the range that begins at ``at``, from now on; it is ``low`` at least."""
        starts = self._starts
        index = bisect_left(starts, at, low)
        if index == len(starts) or starts[index] != at:
            starts.insert(index, at)
            self._writers.insert(index, self._writers[index - 1])
            self._readers.insert(index, self._readers[index - 1].copy())
        return index

    def read(self, start: int, stop: int, op: int) -> list[int]:
        """A range is read: those that wrote it."""
        first = self._cut(start, 0)
        last = self._cut(stop, first)
        for readers in self._readers[first:last]:
            readers.append(op)
        return self._writers[first:last]

    def write(self, start: int, stop: int, op: int) -> tuple[list[int], list[list[int]]]:
        """A range is written; that it was read before no longer matters. Those that wrote it, and
        that have read it since."""
        first = self._cut(start, 0)
        last = self._cut(stop, first)
        before = self._writers[first:last], self._readers[first:last]
        self._starts[first:last] = [start]
        self._writers[first:last] = [op]
        self._readers[first:last] = [[]]
        return before


# By what overlaps, and the values of both engines.
_HAZARDS = {pair: [[pair in hazards(producer, consumer) for consumer in Engine]
                   for producer in Engine]
            for pair in (("write", "read"), ("read", "write"), ("write", "write"))}


@dataclass(frozen=True)
class Conflicts:
    """What an op must not overtake.

    Attributes
    ----------
    done : :class:`frozenset` of :class:`int`
        Those before it that must be done before it starts.
    started : :class:`frozenset` of :class:`int`
        Those of its engine that must only have started: engines read and write in order, and
        accumulators hold the sums of one command at a time.
    """
    done: frozenset[int]
    started: frozenset[int]


def conflicts(ops: Sequence[Op], allocation: Allocation) -> Iterator[Conflicts]:
    """For each op those before it that touch the same: all that wrote what it touches, and all
    that have read what it writes."""
    memories = {space: _Memory() for space in Space}

    def span(region: Region) -> tuple[_Memory, int, int]:
        base = allocation.addresses[region.buffer]
        return memories[region.buffer.space], base + region.start, base + region.stop

    engines = [op.engine.value for op in ops]
    tables = tuple(_HAZARDS.values())
    for index, (op, held) in enumerate(zip(ops, sum_order(ops), strict=True)):
        me = engines[index]
        written: set[int] = set()
        read: set[int] = set()
        overwritten: set[int] = set()
        for memory, start, stop in map(span, op.reads):
            written.update(memory.read(start, stop, index))
        for memory, start, stop in map(span, op.writes):
            writers, readers = memory.write(start, stop, index)
            overwritten.update(writers)
            read.update(*readers)
        none = {index, -1}
        done = {before for those, found in zip((written, read, overwritten), tables, strict=True)
                for before in those if found[engines[before]][me]} - none
        yield Conflicts(frozenset(done),
                        frozenset((written | read | overwritten | held) - done - none))


def schedule(ops: Sequence[Op], allocation: Allocation,
             config: AcceleratorConfig) -> list[Tokens]:
    """Tokens of every op: no more than are needed beside the order of the engines.

    The k-th token from one engine to another always comes from the command that the k-th wait
    means, because both follow the order of the stream.
    """
    engines = len(Engine)
    wait, post = [0] * len(ops), [0] * len(ops)
    # What is known to be done, as the latest op of each engine: when an op starts, when it ends,
    # and the same of the latest op of each engine. An engine may start an op before the one in
    # front of it has ended.
    nothing = (-1,) * engines
    ends = [nothing] * len(ops)
    last_start, last_end = [nothing] * engines, [nothing] * engines
    by_engine: list[list[int]] = [[] for _ in Engine]

    for index, (op, before) in enumerate(zip(ops, conflicts(ops, allocation), strict=True)):
        me = op.engine.value
        known = last_start[me]
        needed: dict[Engine, int] = {}
        for producer in sorted(before.done):  # the latest of each engine
            needed[ops[producer].engine] = producer
        for engine, producer in sorted(needed.items(), key=lambda item: -item[1]):
            if known[engine.value] >= producer:
                continue
            # Queues are finite, so this op is not even fetched before all but the last few ops of
            # an engine are done. To wait for one of them costs nothing, saves tokens later, and
            # bounds how many can be outstanding.
            certain = len(by_engine[engine.value]) - config.queue_depth - Dispatcher.IN_FLIGHT - 1
            if certain >= 0:
                producer = max(producer, by_engine[engine.value][certain])
            wait[index] |= 1 << engine.value
            post[producer] |= 1 << me
            known = tuple(map(max, known, ends[producer]))
        last_start[me] = known
        end = list(map(max, last_end[me], known))
        end[me] = index
        last_end[me] = ends[index] = tuple(end)
        by_engine[me].append(index)
    return [Tokens(*masks) for masks in zip(wait, post, strict=True)]
