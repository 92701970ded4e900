"""Third pass: which command waits for which, as tokens between engines.

A command must wait for every earlier one whose result it reads (RAW), whose input it overwrites
(WAR), or whose output it overwrites (WAW). Engines take their commands in order and report them
done in order, so of all commands of one engine only the latest matters, and one token from it
stands for everything before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from weft.config import AcceleratorConfig
from weft.hw.commands import Engine
from weft.hw.dispatch import IN_FLIGHT

from .allocate import Allocation
from .ops import Op, Region, Space

__all__ = ["Tokens", "schedule", "hazards"]


@dataclass(frozen=True)
class Tokens:
    """Masks of the engines that a command takes a token from, and gives one to."""
    wait: int = 0
    post: int = 0


def hazards(producer: Engine, consumer: Engine) -> tuple[tuple[str, str], ...]:
    """What must not overlap without a token: (access of the earlier, of the later command).

    LOAD and STORE complete a command before the next one writes, and never read what they write.
    MATRIX starts on a command while it still drains the one before, but drains in order.
    """
    if producer is not consumer:
        return ("write", "read"), ("read", "write"), ("write", "write")
    if producer is Engine.MATRIX:
        return ("write", "read"), ("read", "write")
    return ()


class _History:
    """Accesses of one kind to one memory by one engine."""

    def __init__(self, capacity: int):
        self._spans = np.zeros((3, capacity), np.int64)  # start, stop, op
        self._count = 0

    def add(self, start: int, stop: int, op: int) -> None:
        self._spans[:, self._count] = start, stop, op
        self._count += 1

    def latest(self, start: int, stop: int) -> int:
        """The latest op with an access that meets this one, or -1."""
        starts, stops, ops = self._spans[:, :self._count]
        meeting = ops[(starts < stop) & (stops > start)]
        return int(meeting[-1]) if meeting.size else -1


def _dependencies(ops: Sequence[Op], allocation: Allocation) -> Iterator[dict[Engine, int]]:
    """For each op, the latest op of each engine that must be done before it starts."""
    histories: dict[tuple[Space, Engine, str], _History] = {}

    def accesses(op: Op) -> Iterator[tuple[str, Region, int, int]]:
        for kind, regions in (("read", op.reads), ("write", op.writes)):
            for region in regions:
                base = allocation.addresses[region.buffer]
                yield kind, region, base + region.start, base + region.stop

    for index, op in enumerate(ops):
        latest: dict[Engine, int] = {}
        for kind, region, start, stop in accesses(op):
            for producer in Engine:
                for earlier, later in hazards(producer, op.engine):
                    history = histories.get((region.buffer.space, producer, earlier))
                    if later == kind and history is not None:
                        found = history.latest(start, stop)
                        latest[producer] = max(latest.get(producer, -1), found)
        yield {engine: found for engine, found in latest.items() if found >= 0}
        for kind, region, start, stop in accesses(op):
            key = (region.buffer.space, op.engine, kind)
            if key not in histories:
                histories[key] = _History(sum(len(op.reads) + len(op.writes) for op in ops))
            histories[key].add(start, stop, index)


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
    ends = np.full((len(ops), engines), -1)
    last_start = np.full((engines, engines), -1)
    last_end = np.full((engines, engines), -1)
    by_engine: list[list[int]] = [[] for _ in Engine]

    for index, (op, needed) in enumerate(zip(ops, _dependencies(ops, allocation), strict=True)):
        me = op.engine.value
        known = last_start[me]
        for engine, producer in sorted(needed.items(), key=lambda item: -item[1]):
            if known[engine.value] >= producer:
                continue
            # Queues are finite, so this op is not even fetched before all but the last few ops of
            # an engine are done. To wait for one of them costs nothing, saves tokens later, and
            # bounds how many can be outstanding.
            certain = len(by_engine[engine.value]) - config.queue_depth - IN_FLIGHT - 1
            if certain >= 0:
                producer = max(producer, by_engine[engine.value][certain])
            wait[index] |= 1 << engine.value
            post[producer] |= 1 << me
            known = np.maximum(known, ends[producer])
        last_start[me] = known
        last_end[me] = np.maximum(last_end[me], known)
        last_end[me, me] = index
        ends[index] = last_end[me]
        by_engine[me].append(index)
    return [Tokens(*masks) for masks in zip(wait, post, strict=True)]
