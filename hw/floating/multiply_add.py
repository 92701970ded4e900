"""A product and a sum of floating-point numbers, rounded once."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from weft.hw.lib.delay import delay
from weft.hw.lib.float32 import SIGNIFICAND_BITS
from weft.hw.lib.multiplier import Multiplier

from .number import EXPONENT_BITS, Float
from .sum import Addend, FloatSum, addend_of

__all__ = ["MultiplyAdd"]


_MULTIPLIER_LATENCY = 4


class MultiplyAdd(wiring.Component):
    """``fl32(a * b + c)``, one in each cycle, :attr:`LATENCY` cycles later; half to even.

    Members
    -------
    a, b, c : :py:`In(Float)`
        The exponents of ``a`` and ``b`` are such that their sum is one of a :class:`Float`.
    o : :py:`Out(Float)`

    Attributes
    ----------
    LATENCY : :class:`int`
    """

    LATENCY = _MULTIPLIER_LATENCY + FloatSum.LATENCY

    def __init__(self) -> None:
        super().__init__({"a": In(Float), "b": In(Float), "c": In(Float), "o": Out(Float)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.multiplier = multiplier = Multiplier(
            a_width=SIGNIFICAND_BITS + 1, b_width=SIGNIFICAND_BITS + 1,
            latency=_MULTIPLIER_LATENCY)
        m.d.comb += [
            multiplier.a.eq(Cat(self.a.significand, C(0, 1)).as_signed()),
            multiplier.b.eq(Cat(self.b.significand, C(0, 1)).as_signed()),
        ]
        exponent = Signal(signed(EXPONENT_BITS + 1))
        # The product of 1.0 and 1.0 has its one in the second bit.
        m.d.comb += exponent.eq(self.a.exponent + self.b.exponent + 1)
        product: Any = Signal(Addend)
        m.d.comb += [
            product.significand.eq(multiplier.o[:2 * SIGNIFICAND_BITS]),
            product.exponent.eq(delay(m, exponent, _MULTIPLIER_LATENCY, name="exponent",
                                      reset_less=True)),
            product.negative.eq(delay(m, self.a.negative ^ self.b.negative, _MULTIPLIER_LATENCY,
                                      name="negative", reset_less=True)),
        ]
        m.submodules.sum = total = FloatSum()
        m.d.comb += [
            total.a.eq(product),
            total.b.eq(delay(m, addend_of(m, self.c, "addend"), _MULTIPLIER_LATENCY, name="c_held",
                             reset_less=True)),
            self.o.eq(total.o),
        ]
        return m
