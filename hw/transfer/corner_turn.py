"""A block of words whose lanes become words, and words lanes."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["CornerTurn"]


class CornerTurn(wiring.Component):
    """``size x size`` bytes that words enter along one axis and leave along the other.

    Blocks of ``size`` words follow each other without a gap: while one enters, the one before it
    leaves, so the axes change places with each block. There is one register for each byte, which
    takes what its neighbour has along either axis.

    If the words of a block are ``w[size - 1]`` to ``w[0]``, in this order, what leaves are lanes
    ``size - 1`` to ``0``: with lane ``k``, lane ``n`` of what leaves is lane ``k`` of ``w[n]``.

    Parameters
    ----------
    size : :class:`int`
        Words of a block, and lanes of a word; at least 2.

    Members
    -------
    i : :py:`In(data.ArrayLayout(8, size))`
        The word that enters with this step.
    step : :py:`In(1)`
        A word enters and one leaves.
    last : :py:`In(1)`
        It is the last one of its block.
    o : :py:`Out(data.ArrayLayout(8, size))`
        The word that leaves with this step; from registers.
    """

    def __init__(self, size: int):
        if size < 2:
            raise ValueError(f"Size must be at least 2, not {size}")
        self._size = size
        super().__init__({
            "i":    In(data.ArrayLayout(8, size)),
            "step": In(1),
            "last": In(1),
            "o":    Out(data.ArrayLayout(8, size)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        size   = self._size
        across = Signal()  # words enter at the first place of each row, not as the first row
        rows   = [Signal(data.ArrayLayout(8, size), name=f"row_{number}", reset_less=True)
                  for number in range(size)]
        with m.If(self.step):
            with m.If(self.last):
                m.d.sync += across.eq(~across)
            for number, row in enumerate(rows):
                above: Any = rows[number - 1] if number else self.i
                m.d.sync += Value.cast(row).eq(Mux(
                    across, Cat(self.i[number], Value.cast(row)[:-8]), Value.cast(above)))
        m.d.comb += Value.cast(self.o).eq(Mux(
            across, Cat(row[-1] for row in rows), Value.cast(rows[-1])))
        return m
