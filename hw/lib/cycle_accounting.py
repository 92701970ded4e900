"""What each engine does with every cycle, for the performance counters."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from weft.hw.isa.commands import Engine
from weft.hw.isa.registers import Counter, cycle_counters

from .delay import register

__all__ = ["COUNTED", "COUNT_LAYOUT", "CycleAccounting", "activity_layout"]


COUNTED = tuple(counter for counter in Counter if counter is not Counter.CYCLES)
"""Counters that are told from outside when to count."""

COUNT_LAYOUT = data.StructLayout({counter.name.lower(): 1 for counter in COUNTED})
"""A bit for each of :data:`COUNTED`, of its name in lower case: it counts this cycle."""

_WITHOUT_COMMAND = ("semaphore", "fetch", "idle")


def activity_layout(engine: Engine) -> data.StructLayout:
    """What an engine reports of a cycle: a bit for each name of its counters that it can tell.

    The first one that is set counts. The last one may be set in every cycle in which the engine
    has a command: it stands for what the others leave.
    """
    return data.StructLayout({name: 1 for name in cycle_counters(engine)
                              if name not in _WITHOUT_COMMAND})


class CycleAccounting(wiring.Component):
    """Puts each cycle of each engine under one name.

    An engine that executes a command is busy, or stalled for the first cause that holds. Others
    are explained by the command that is missing. All a cycle late: the inputs are registered, so
    that they are no load on the signals that move data.

    Members
    -------
    load, matrix, vector, store : :py:`In(activity_layout(engine))`
        Of the engines.
    pending : :py:`In(4)`
        Bit for each :class:`Engine`: its queue holds a command.
    fetching : :py:`In(1)`
        The next command of the stream is on its way from memory.
    read_beat, write_beat : :py:`In(1)`
        A beat moves on the memory port.
    count_up : :py:`Out(COUNT_LAYOUT)`
        Counters that count this cycle.
    """

    def __init__(self) -> None:
        super().__init__({
            **{engine.name.lower(): In(activity_layout(engine)) for engine in Engine},
            "pending":    In(len(Engine)),
            "fetching":   In(1),
            "read_beat":  In(1),
            "write_beat": In(1),
            "count_up":   Out(COUNT_LAYOUT),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        pending  = register(m, self.pending, "pending_before")
        fetching = register(m, self.fetching, "fetching_before")
        m.d.sync += [
            self.count_up.read_beats.eq(self.read_beat),
            self.count_up.write_beats.eq(self.write_beat),
        ]
        for engine in Engine:
            name = engine.name.lower()
            reported = register(m, getattr(self, name), f"{name}_before")
            holds = {name: reported[name] for name, _ in activity_layout(engine)} | {
                "semaphore": pending[engine.value], "fetch": fetching, "idle": C(1)}
            taken = C(0)
            for name, counter in cycle_counters(engine).items():
                m.d.comb += self.count_up[counter.name.lower()].eq(holds[name] & ~taken)
                taken = taken | holds[name]

        return m
