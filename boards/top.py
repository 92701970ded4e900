"""What a board's bitstream holds: clock, serial port and light-emitting diodes around a system."""

from typing import Any

from amaranth import *
from amaranth.lib import io

from weft.boards.board import Board, Family
from weft.boards.harness import Harness
from weft.boards.pll import Ecp5Pll, Ice40Pll, PllClock
from weft.boards.registry import make_platform
from weft.hw.accelerator import Accelerator

__all__ = ["Top"]


class Top(Elaboratable):
    """The design of ``board``.

    Attributes
    ----------
    clock_mhz : :class:`float`
        What the board's oscillator is turned into: as near to the board's ``clock_mhz`` as it
        goes.
    """

    def __init__(self, board: Board):
        self._board = board
        loops = {Family.ECP5: Ecp5Pll, Family.ICE40: Ice40Pll}
        self._pll = loops[board.family].nearest(
            make_platform(board).default_clk_frequency / 1e6, board.clock_mhz)

    @property
    def clock_mhz(self) -> float:
        return self._pll.output_mhz

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.clock = PllClock(self._pll)
        m.submodules.system = system = Harness(Accelerator(self._board.config))

        uart = platform.request("uart", dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [
            system.i.eq(rx.i),
            tx.o.eq(system.o),
        ]
        return m
