"""Which command waits for which, as tokens between engines.

A command must wait for every earlier one whose result it reads (RAW), whose input it overwrites
(WAR), or whose output it overwrites (WAW). Engines take their commands in order and report them
done in order, so of all commands of one engine only the latest matters, and one token from it
stands for everything before it.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

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
        self._starts: list[float] = [0, inf]    # what begins at the end is never used
        # The op that wrote a range, or -1, and those that read it since.
        self._writers = [-1, -1]
        self._readers: list[list[int]] = [[], []]

    def _cut(self, index: int, at: int) -> None:
        """Has the range number ``index`` begin at ``at``, inside the one before."""
        self._starts.insert(index, at)
        self._writers.insert(index, self._writers[index - 1])
        self._readers.insert(index, self._readers[index - 1].copy())

    def _between(self, start: int, stop: int, after: int) -> tuple[int, int]:
        """Numbers of the first range from ``start`` to ``stop`` and of that behind the last one,
        which begin there; none of them is before number ``after``."""
        starts = self._starts
        first = bisect_left(starts, start, after)
        if starts[first] != start:
            self._cut(first, start)
        last = bisect_left(starts, stop, first)
        if starts[last] != stop:
            self._cut(last, stop)
        return first, last

    def read(self, region: Region, base: int, op: int, written: set[int]) -> None:
        """A region of a buffer at ``base`` is read: adds those that wrote it."""
        writers, readers = self._writers, self._readers
        size, last = region.stop - region.start, 0
        for start in region.starts(base):
            first, last = self._between(start, start + size, last)
            for number in range(first, last):
                written.add(writers[number])
                readers[number].append(op)

    def write(self, region: Region, base: int, op: int, overwritten: set[int],
              read: set[int]) -> None:
        """A region is written; that it was read before no longer matters. Adds those that wrote
        it, and those that have read it since."""
        starts, writers, readers = self._starts, self._writers, self._readers
        size, last = region.stop - region.start, 0
        for start in region.starts(base):
            first, last = self._between(start, start + size, last)
            overwritten.update(writers[first:last])
            read.update(*readers[first:last])
            starts[first:last] = [start]
            writers[first:last] = [op]
            readers[first:last] = [[]]
            last = first + 1


# By the value of the consumer and what overlaps, for each producer by its value.
_HAZARDS = [[[pair in hazards(producer, consumer) for producer in Engine]
             for pair in (("write", "read"), ("read", "write"), ("write", "write"))]
            for consumer in Engine]


@dataclass(eq=False, slots=True)    # not frozen, which would take its time
class Conflicts:
    """What an op must not overtake. It never changes.

    Attributes
    ----------
    done : :class:`set` of :class:`int`
        Those before it that must be done before it starts.
    started : :class:`set` of :class:`int`
        Those of its engine that must only have started: engines read and write in order, and
        accumulators hold the sums of one command at a time.
    """
    done: set[int]
    started: set[int]


def conflicts(ops: Sequence[Op], allocation: Allocation) -> Iterator[Conflicts]:
    """For each op those before it that touch the same: all that wrote what it touches, and all
    that have read what it writes."""
    memories = {space: _Memory() for space in Space}
    addresses = allocation.addresses
    engines = [op.engine.value for op in ops]
    for index, (op, held) in enumerate(zip(ops, sum_order(ops), strict=True)):
        written: set[int] = set()
        read: set[int] = set()
        overwritten: set[int] = set()
        for region in op.reads:
            buffer = region.buffer
            memories[buffer.space].read(region, addresses[buffer], index, written)
        for region in op.writes:
            buffer = region.buffer
            memories[buffer.space].write(region, addresses[buffer], index, overwritten, read)
        done = {before for those, found in zip((written, read, overwritten),
                                               _HAZARDS[engines[index]], strict=True)
                for before in those if found[engines[before]]}
        done -= {index, -1}
        written.update(read, overwritten, held)
        written -= done
        written -= {index, -1}
        yield Conflicts(done, written)


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
