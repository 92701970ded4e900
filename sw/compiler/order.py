"""In which order commands are fetched: that in which they are likely to start.

Lowering goes layer by layer, and so would the engines if their commands were fetched like that: a
queue that is full of one layer's commands holds up those of the next, though another engine could
begin with them. Here all commands are played through with estimated durations, and put in the
order of their starts. No command comes before one that it must wait for, so the result is the same.
"""

from collections.abc import Sequence

from weft.config import AcceleratorConfig
from weft.hw.commands import Engine, VectorOp

from .allocate import Allocation
from .engine_timing import MatrixTiming, command_cost, sweep_cycles, window_words
from .ops import Op, Space
from .schedule import conflicts

__all__ = ["Timeline"]

_BEGIN = 60   # cycles from the doorbell to the first command
_TOKEN = 2    # from the end of a command to the start of one that waits for it
_VECTOR = 35  # of a VECTOR beside its words, most of them beside those of the next one
_SLACK = 2    # how much longer than expected loads may take without being late


class Timeline:
    """When commands start and end, by an estimate.

    Loads are taken in the order in which they are needed, as far as they fill different memories;
    the order of the commands on every other engine stays.

    Parameters
    ----------
    ops : list of :class:`Op`
        As they were lowered.
    allocation : :class:`Allocation`
    config : :class:`AcceleratorConfig`
    """

    def __init__(self, ops: Sequence[Op], allocation: Allocation, config: AcceleratorConfig):
        self._ops = ops
        self._config = config
        self._before = [tuple(before) for before in conflicts(ops, allocation)]
        self._starts, self._ends = [0.0] * len(ops), [0.0] * len(ops)
        self._costs = [(0, 0) if op.engine is Engine.MATRIX else _cost(op, config) for op in ops]
        self._play(range(len(ops)), loading=False)
        keys = list(zip(self._wanted(), self._starts, range(len(ops)), strict=True))
        self._play(sorted(range(len(ops)), key=keys.__getitem__), loading=True)

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

    def _play(self, sequence: Sequence[int], *, loading: bool) -> None:
        """Plays all commands; without ``loading`` loads take no time."""
        starts, ends = self._starts, self._ends
        free = dict.fromkeys(Engine, float(_BEGIN))  # when an engine can begin
        done = dict.fromkeys(Engine, 0.0)            # when its last command is done
        matrix = MatrixTiming(self._config)
        for index in sequence:
            op = self._ops[index]
            engine = op.engine
            start = max([free[engine], *(ends[before] + _TOKEN for before in self._before[index])])
            end: float
            if engine is Engine.MATRIX:
                free[engine], end, _ = matrix.run(int(start), op.fields)
            elif engine is Engine.LOAD and not loading:
                end = start
            else:
                busy, latency = self._costs[index]
                free[engine] = start + busy
                end = start + latency
            starts[index] = start
            ends[index] = done[engine] = max(done[engine], end)

    def _wanted(self) -> list[float]:
        """When commands start; of a LOAD, when the first command starts that waits for it or for
        a later one into the same memory."""
        wanted = list(self._starts)
        first: dict[int, float] = {}
        for index, before in enumerate(self._before):
            for load in before:
                first[load] = min(first.get(load, self._starts[index]), self._starts[index])
        following: dict[Space, float] = {}
        for index in range(len(self._ops) - 1, -1, -1):
            op = self._ops[index]
            if op.engine is Engine.LOAD:
                space = op.writes[0].buffer.space
                wanted[index] = following[space] = min(
                    following.get(space, max(self._starts, default=0.0)),
                    first.get(index, float("inf")))
        return wanted


def _cost(op: Op, config: AcceleratorConfig) -> tuple[int, int]:
    """Cycles until the engine can begin with the next command, and until this one is done."""
    if op.engine is not Engine.VECTOR:
        cost = command_cost(config, op.opcode, op.fields)
        return cost.busy, cost.latency
    blocks, outer, inner, rows, taps, stride, pad, slide = (
        _int(op.fields[name]) for name in (
            "blocks", "out_outer", "out_inner", "kernel_outer", "kernel_inner", "stride_inner",
            "pad_inner", "slide"))
    words = window_words(config, (rows, taps), stride=stride, pad=pad, slide=bool(slide))
    cycles = sweep_cycles(config, blocks * outer, inner, words,
                          scaled=op.fields["op"] not in (VectorOp.MAX, VectorOp.LOOKUP))
    return cycles, cycles + _VECTOR


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
