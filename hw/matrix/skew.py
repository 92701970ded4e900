"""The triangle of registers that turns a word into a wavefront."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Skew"]


class Skew(wiring.Component):
    """Delays lane ``k`` of a word by ``k`` cycles; lane 0 passes straight through.

    One word per cycle, no handshake.

    Parameters
    ----------
    lanes : :class:`int`
        Lanes of a word, at least 1.
    width : :class:`int`
        Bits of a lane, at least 1.

    Members
    -------
    i : :py:`In(data.ArrayLayout(width, lanes))`
        One word per cycle.
    o : :py:`Out(data.ArrayLayout(width, lanes))`
        Lane ``k`` of the word of ``k`` cycles ago.
    """

    def __init__(self, *, lanes: int, width: int):
        for noun, value in (("Lanes", lanes), ("Width", width)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{noun} must be a positive integer, not {value!r}")
        self._lanes = lanes
        self._width = width
        super().__init__({
            "i": In(data.ArrayLayout(width, lanes)),
            "o": Out(data.ArrayLayout(width, lanes)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        # Stage k carries the lanes from k on, with lane k on top: a stage is the stage before less
        # its top lane. One wide register for each stage is quick to simulate.
        stage = Cat(reversed([Value.cast(self.i[k]) for k in range(self._lanes)]))
        for k in range(self._lanes):
            if k > 0:
                register = Signal(self._width * (self._lanes - k), name=f"stage_{k}",
                                  reset_less=True)
                m.d.sync += register.eq(stage)
                stage = register
            m.d.comb += self.o[k].eq(stage[-self._width:])
        return m
