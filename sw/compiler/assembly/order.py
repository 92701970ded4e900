"""In which order commands are fetched: that in which they are likely to start.

Lowering goes layer by layer, and so would the engines if their commands were fetched like that: a
queue that is full of one layer's commands holds up those of the next, though another engine could
begin with them. Here all commands are played through with estimated durations, and put in the
order of their starts. No command comes before one that it must wait for, so the result is the same.

This chooses an order, and so can neither know when commands are fetched nor which queue is full;
:mod:`weft.compiler.timing.player` plays a stream that has one, with all of that. What a command
takes both have from the same models.
"""

from collections.abc import Sequence
from heapq import heappop, heappush

from weft.compiler.ops import Op, Space
from weft.compiler.timing.engines import (
    MEMORY,
    Cost,
    MatrixTiming,
    MemoryTiming,
    command_cost,
)
from weft.hw.control.dispatch import Dispatcher
from weft.hw.isa.commands import ROW_OPCODES, Engine, Opcode
from weft.hw.isa.config import AcceleratorConfig

from .allocate import Allocation
from .schedule import conflicts

__all__ = ["ListSchedule"]

_BEGIN = 60  # cycles from the doorbell to the first command
_SLACK = 2   # how much longer than expected loads may take without being late


class ListSchedule:
    """When commands start and end, by an estimate.

    An engine that is free takes what can start: of several loads the one that is needed first, of
    other commands the one of the first layer.

    Parameters
    ----------
    ops : list of :class:`Op`
        As they were lowered.
    allocation : :class:`Allocation`
    config : :class:`AcceleratorConfig`
    memory : :class:`MemoryTiming`
    costs : :class:`dict`
        By op, what is known of them from other lists of some of the same ones: filled, too.
    """

    def __init__(self, ops: Sequence[Op], allocation: Allocation, config: AcceleratorConfig,
                 memory: MemoryTiming = MEMORY, costs: dict[Op, Cost] | None = None):
        self._ops = ops
        self._config = config
        self._before = list(conflicts(ops, allocation))
        # Those that wait for an op: until it is done, and until it has started.
        self._behind: list[list[int]] = [[] for _ in ops]
        self._beside: list[list[int]] = [[] for _ in ops]
        for index, before in enumerate(self._before):
            for other in before.done:
                self._behind[other].append(index)
            for other in before.started:
                self._beside[other].append(index)
        self._starts, self._ends = [0.0] * len(ops), [0.0] * len(ops)
        if costs is None:
            costs = {}
        for op in ops:
            if op not in costs and op.engine is not Engine.MATRIX:
                costs[op] = command_cost(config, op.opcode, op.fields, memory)
        self._costs = costs
        self._play(range(len(ops)), loading=False)
        keys = list(zip(self._wanted(), self._starts, range(len(ops)), strict=True))
        ranks = list(range(len(ops)))
        loads = [index for index, op in enumerate(ops) if op.engine is Engine.LOAD]
        for rank, index in enumerate(sorted(loads, key=keys.__getitem__)):
            ranks[index] = rank
        self._play(ranks, loading=True)

    @property
    def cycles(self) -> float:
        """Cycles of all commands together."""
        return max(self._ends, default=0.0)

    def order(self) -> list[Op]:
        """The ops as they are to be fetched."""
        # A LOAD may start long before it is needed. A bit ahead of when it must start is early
        # enough, and holds up nothing if those before it take longer than expected.
        wanted = self._wanted()
        keys = list(self._starts)
        loads = [index for index, op in enumerate(self._ops) if op.engine is Engine.LOAD]
        latest = self.cycles
        for index in sorted(loads, key=lambda index: (self._starts[index], index), reverse=True):
            busy = self._ends[index] - self._starts[index]
            latest = min(latest, wanted[index]) - _SLACK * busy
            keys[index] = max(keys[index], latest)
        return [self._ops[index] for index in sorted(range(len(self._ops)),
                                                     key=lambda index: (keys[index], index))]

    def _play(self, ranks: Sequence[int], *, loading: bool) -> None:
        """Plays all commands. Of those that can start an engine takes the one with the lowest
        rank; without ``loading`` loads take no time, but softmax and normalization do."""
        ops, starts, ends = self._ops, self._starts, self._ends
        engines = [op.engine.value for op in ops]
        matrix_engine, load_engine = Engine.MATRIX.value, Engine.LOAD.value
        free = [float(_BEGIN)] * len(Engine)    # when an engine can begin
        done = [0.0] * len(Engine)              # when its last command is done
        matrix = MatrixTiming(self._config)
        token = Dispatcher.TOKEN_LATENCY
        missing = [len(before.done) + len(before.started) for before in self._before]
        # Commands that wait only for a time, by that time, and for their turn, by rank.
        later: list[list[tuple[float, int]]] = [[] for _ in Engine]
        now: list[list[tuple[int, int]]] = [[] for _ in Engine]

        ready = [0.0] * len(ops)    # when all are done that a command waits for
        for index, count in enumerate(missing):
            if not count:
                heappush(later[engines[index]], (0.0, index))
        for _ in ops:
            # The first engine of those that can begin a command soonest.
            start, engine = float("inf"), 0
            for each in range(len(free)):
                begin = free[each]
                if not now[each]:
                    if not later[each]:
                        continue
                    begin = max(begin, later[each][0][0])
                if begin < start:
                    start, engine = begin, each
            while later[engine] and later[engine][0][0] <= start:
                _, index = heappop(later[engine])
                heappush(now[engine], (ranks[index], index))
            _, index = heappop(now[engine])
            end: float
            if engine == matrix_engine:
                free[engine], end, _ = matrix.run(int(start), ops[index].fields)
            elif engine == load_engine and not loading and ops[index].opcode not in ROW_OPCODES:
                end = start
            else:
                cost = self._costs[ops[index]]
                free[engine], end = start + cost.busy, start + cost.latency
            starts[index] = start
            ends[index] = done[engine] = max(done[engine], end)
            seen = ends[index] + token
            for after in self._behind[index]:
                if seen > ready[after]:
                    ready[after] = seen
                missing[after] -= 1
                if not missing[after]:
                    heappush(later[engines[after]], (ready[after], after))
            for after in self._beside[index]:
                missing[after] -= 1
                if not missing[after]:
                    heappush(later[engines[after]], (ready[after], after))

    def _wanted(self) -> list[float]:
        """When commands start; of a LOAD, when the first command starts that waits for it or for
        a later one into the same memory. What the same engine makes of it, a TURN, a softmax or a
        normalization, must start so much earlier as it takes."""
        wanted = list(self._starts)
        first: dict[int, float] = {}
        for index, before in enumerate(self._before):
            for load in before.done:
                first[load] = min(first.get(load, self._starts[index]), self._starts[index])
        following: dict[Space, float] = {}
        last = max(self._starts, default=0.0)
        for index in range(len(self._ops) - 1, -1, -1):
            op = self._ops[index]
            if op.engine is Engine.LOAD:
                space = op.writes[0].buffer.space
                wanted[index] = following[space] = min(
                    following.get(space, last),
                    first.get(index, float("inf")))
                if op.opcode is not Opcode.LOAD:
                    start = wanted[index] - self._costs[op].busy
                    for load in self._before[index].started:
                        first[load] = min(first.get(load, start), start)
        return wanted
