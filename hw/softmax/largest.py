"""The largest lane of a word."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["LargestLane"]


class LargestLane(wiring.Component):
    """A tree of comparisons, with a register behind every second level and the last one.

    Parameters
    ----------
    lanes : :class:`int`
        At least 2.

    Members
    -------
    i : :py:`In(data.ArrayLayout(signed(8), lanes))`
    count : :py:`In(range(lanes + 1))`
        Lanes that are looked at, the first ones; at least 1.
    o : :py:`Out(signed(8))`
        The largest one, :meth:`latency` cycles later.
    """

    def __init__(self, lanes: int):
        self._lanes = lanes
        super().__init__({
            "i":     In(data.ArrayLayout(signed(8), lanes)),
            "count": In(range(lanes + 1)),
            "o":     Out(signed(8)),
        })

    @staticmethod
    def latency(lanes: int) -> int:
        """Cycles from a word to its largest lane."""
        levels = (lanes - 1).bit_length()
        return -(-levels // 2)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        values: list[Value] = [Mux(self.count > lane, self.i[lane], -128)
                               for lane in range(self._lanes)]
        level = 0
        while len(values) > 1:
            level += 1
            values = [_larger(*values[first:first + 2]) for first in range(0, len(values), 2)]
            if level % 2 == 0 or len(values) == 1:
                for number, value in enumerate(values):
                    values[number] = held = Signal(signed(8), name=f"largest_{level}_{number}",
                                                   reset_less=True)
                    m.d.sync += held.eq(value)
        m.d.comb += self.o.eq(values[0])
        return m


def _larger(a: Value, b: Value | None = None) -> Value:
    return a if b is None else Mux(a > b, a, b)
