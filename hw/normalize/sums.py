"""Exact sums of the values of rows."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from weft.hw.floating.number import NORMALIZE_LATENCY, Float, normalized
from weft.hw.floating.sum import Addend
from weft.hw.isa.limits import MOST_NORMALIZED
from weft.hw.lib.checks import require
from weft.hw.lib.delay import delay, register
from weft.hw.lib.float32 import BIAS, SIGNIFICAND_BITS
from weft.hw.rows.walk import ROWS

__all__ = ["ExactSums"]


_REACH = 8      # the largest value is below 2**_REACH times the first that has this exponent
_LENGTH_BITS = exact_log2(MOST_NORMALIZED)
_BITS = 2 * SIGNIFICAND_BITS


class ExactSums(wiring.Component):
    """Sums of rows of float32 values that are multiples of one number, without rounding.

    Members
    -------
    exponent : :py:`In(8)`
        Values are multiples of ``2**(exponent - 150)``, and below ``2**(exponent - 118)``.
    row : :py:`In(range(ROWS))`
        The row of this cycle.
    value : :py:`In(Float)`
    add : :py:`In(1)`
        Add it to the sum of the row.
    first : :py:`In(1)`
        To nothing, in place of the sum so far.
    asked : :py:`In(range(ROWS))`
        Row whose sum is wanted.
    sum : :py:`Out(Addend)`
        Its sum, :attr:`LATENCY` cycles later, if what was added was there :attr:`ADD_LATENCY`
        cycles before. Its first bit is set if it is not zero.

    Attributes
    ----------
    ADD_LATENCY, LATENCY : :class:`int`
    """

    ADD_LATENCY = 2
    LATENCY = 1 + NORMALIZE_LATENCY

    def __init__(self) -> None:
        super().__init__({
            "exponent": In(8),
            "row":      In(range(ROWS)),
            "value":    In(Float),
            "add":      In(1),
            "first":    In(1),
            "asked":    In(range(ROWS)),
            "sum":      Out(Addend),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        apart  = self.value.exponent + BIAS - self.exponent
        places = apart[:_REACH.bit_length()]
        with m.If(self.add & self.value.significand[-1]):
            require(m, (apart >= 0) & (apart <= _REACH), "a value is within the reach of its row")
        size   = Signal(SIGNIFICAND_BITS + _REACH)
        fixed  = Signal(signed(SIGNIFICAND_BITS + _REACH + 1), reset_less=True)
        m.d.comb += size.eq(self.value.significand << places)
        m.d.sync += fixed.eq(Mux(self.value.negative, -size, size))
        row, first = (register(m, item, f"{name}_held")
                      for item, name in ((self.row, "row"), (self.first, "first")))
        add  = delay(m, self.add, 1, name="add")
        sums = Signal(data.ArrayLayout(signed(len(fixed) + _LENGTH_BITS), ROWS), reset_less=True)
        with m.If(add):
            m.d.sync += sums[row].eq(Mux(first, 0, sums[row]) + fixed)

        chosen    = sums[self.asked]
        magnitude = register(m, Mux(chosen < 0, -chosen, chosen)[:len(fixed) + _LENGTH_BITS],
                             "magnitude")
        found, zeros = normalized(m, Cat(magnitude, C(0, _BITS - len(magnitude))), "sum")
        m.d.comb += [
            self.sum.significand.eq(found),
            self.sum.exponent.eq(self.exponent - BIAS + _BITS - SIGNIFICAND_BITS - zeros),
            self.sum.negative.eq(delay(m, chosen < 0, self.LATENCY, name="negative",
                                       reset_less=True)),
        ]
        return m
