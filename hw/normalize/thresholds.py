"""From real numbers to bytes, by thresholds."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from weft.hw.floating.number import Float
from weft.hw.lib.delay import delay, register
from weft.hw.lib.float32 import BIAS, SIGNIFICAND_BITS
from weft.hw.lib.multiplier import Multiplier
from weft.hw.memory.registered import RegisteredMemory

__all__ = ["ThresholdQuantizer"]


_RATE_BITS = 16
_MULTIPLIER_LATENCY = 3
_QUARTERS = 2   # fraction bits of a number of steps
_FAR = 9        # a number of 2**_FAR steps is beyond all


class ThresholdQuantizer(wiring.Component):
    """Bytes of numbers, one in each cycle, :attr:`LATENCY` cycles later.

    A product with few bits tells the number of steps of the output to within less than half a one,
    so one threshold is left that decides.

    Members
    -------
    i : :py:`In(Float)`
    rate : :py:`In(16)`
    rate_exponent : :py:`In(signed(8))`
    zero : :py:`In(signed(8))`
        Fields of the command.
    index : :py:`Out(8)`
        A threshold to look at.
    threshold : :py:`In(32)`
        It, ``RegisteredMemory.LATENCY`` cycles later.
    o : :py:`Out(8)`

    Attributes
    ----------
    LATENCY : :class:`int`
    """

    # Product, shift, place, threshold, comparison.
    LATENCY = _MULTIPLIER_LATENCY + 2 + RegisteredMemory.LATENCY + 1

    def __init__(self) -> None:
        super().__init__({
            "i":             In(Float),
            "rate":          In(_RATE_BITS),
            "rate_exponent": In(signed(8)),
            "zero":          In(signed(8)),
            "index":         Out(8),
            "threshold":     In(32),
            "o":             Out(8),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.product = product = Multiplier(
            a_width=_RATE_BITS + 1, b_width=_RATE_BITS + 1, latency=_MULTIPLIER_LATENCY)
        m.d.comb += [
            product.a.eq(Cat(self.i.significand[-_RATE_BITS:], C(0, 1)).as_signed()),
            product.b.eq(Cat(self.rate, C(0, 1)).as_signed()),
        ]
        # The product is from 1 to below 4 where its 30 last bits are the fraction.
        one      = 2 * (_RATE_BITS - 1)
        exponent = register(m, (self.i.exponent + self.rate_exponent).as_signed(), "exponent")
        least    = -1 - _QUARTERS - 1
        bounded  = Signal(signed(6), reset_less=True)
        m.d.sync += bounded.eq(Mux(exponent > _FAR, _FAR, Mux(exponent < least, least, exponent)))
        places   = Signal(range(one - _QUARTERS - _FAR, one - _QUARTERS - least + 1),
                          reset_less=True)
        m.d.sync += places.eq(one - _QUARTERS - bounded)
        steps = Signal(_FAR + _QUARTERS + 2, reset_less=True)
        m.d.sync += steps.eq(product.o[:2 * _RATE_BITS] >> places)
        negative = delay(m, self.i.negative, _MULTIPLIER_LATENCY + 1, name="negative",
                         reset_less=True)
        whole = Mux(negative, -steps, steps) >> _QUARTERS
        place = Signal(signed(len(whole) + 2))
        m.d.comb += place.eq(whole + self.zero + 128)
        m.d.sync += self.index.eq(Mux(place < 0, 0, Mux(place > 255, 255, place))[:8])

        # In the order of the values. What is too small for a float32 is zero.
        bits = Signal(data.StructLayout({"fraction": SIGNIFICAND_BITS - 1, "exponent": 8}))
        biased = Signal(signed(len(self.i.exponent) + 1))
        there = (biased > 0) & self.i.significand[-1]
        m.d.comb += [
            biased.eq(self.i.exponent + BIAS),
            bits.fraction.eq(Mux(there, self.i.significand[:-1], 0)),
            bits.exponent.eq(Mux(there, biased[:8], 0)),
        ]
        below = there & self.i.negative
        order = register(m, Cat(Mux(below, ~bits.as_value(), bits.as_value()), ~below), "order")
        order = delay(m, order, self.LATENCY - 2, name="order_of", reset_less=True)
        index = delay(m, self.index, RegisteredMemory.LATENCY, name="index_of", reset_less=True)
        value = Signal(8, reset_less=True)
        m.d.sync += value.eq(index - 128 + (order >= self.threshold))
        m.d.comb += self.o.eq(value)
        return m
