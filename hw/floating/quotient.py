"""Quotients and square roots of floating-point numbers, a bit in a cycle."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from weft.hw.lib.checks import are_on, require
from weft.hw.lib.float32 import SIGNIFICAND_BITS

from .number import EXPONENT_BITS, Float, rounded
from .sum import Addend

__all__ = ["QuotientOrRoot"]


_DIGITS = SIGNIFICAND_BITS + 2      # one of a quotient below 1, and one to round by
_BITS = 2 * SIGNIFICAND_BITS


class QuotientOrRoot(wiring.Component):
    """``fl32(a / b)`` or ``fl32(sqrt(a))``, :attr:`LATENCY` cycles after ``start``; half to even.

    Division and square root by digits, restoring: for a quotient the remainder is doubled and the
    divisor taken off where it can be; for a root it is quadrupled, and four times what there is
    of the root, plus 1, is taken off.

    Members
    -------
    start : :py:`In(1)`
        Begin, and forget what was begun before, unless its result is due in the next cycle.
    root : :py:`In(1)`
        The root of ``a``, which is positive.
    a : :py:`In(Addend)`
        The first bit of its significand is set, if it is not zero.
    b : :py:`In(Float)`
        Not zero, and positive.
    o : :py:`Out(Float)`
        In that cycle alone.

    Attributes
    ----------
    LATENCY : :class:`int`
    """

    LATENCY = 1 + _DIGITS + 1

    def __init__(self) -> None:
        super().__init__({
            "start": In(1), "root": In(1), "a": In(Addend), "b": In(Float), "o": Out(Float)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        root      = Signal(reset_less=True)
        negative  = Signal(reset_less=True)
        exponent  = Signal(signed(EXPONENT_BITS + 2), reset_less=True)
        divisor   = Signal(SIGNIFICAND_BITS, reset_less=True)
        remainder = Signal(_DIGITS + 3, reset_less=True)
        below     = Signal(2 * _DIGITS, reset_less=True)    # of the operand, not yet looked at
        digits    = Signal(_DIGITS, reset_less=True)

        shifted = Mux(root, Cat(below[-2:], remainder), Cat(below[-1], remainder))
        less    = Signal(signed(_DIGITS + 6))
        m.d.comb += less.eq(shifted - Mux(root, Cat(C(1, 2), digits), divisor))
        digit   = ~less[-1]
        m.d.sync += [
            remainder.eq(Mux(digit, less, shifted)),
            below.eq(Mux(root, below << 2, below << 1)),
            digits.eq(Cat(digit, digits)),
        ]
        with m.If(self.start):
            # All but one of the bits that a divisor has are the remainder at first. A root has half
            # the exponent, of a number from 1 to below 4: of two bits in front of the point.
            odd, ahead  = self.a.exponent[0], SIGNIFICAND_BITS - 1
            significand = self.a.significand
            radicand    = Mux(odd, Cat(C(0, 1), significand), significand)
            m.d.sync += [
                root.eq(self.root),
                negative.eq(self.a.negative),
                exponent.eq(Mux(self.root, self.a.exponent >> 1,
                                self.a.exponent - self.b.exponent)),
                divisor.eq(self.b.significand),
                remainder.eq(Mux(self.root, 0, significand[-ahead:])),
                below.eq(Mux(self.root, radicand << len(below) - _BITS - 1,
                             significand[:-ahead] << len(below) - _BITS + ahead)),
                digits.eq(0),
            ]

        if are_on():
            self._check(m, root, divisor, remainder, digits)

        whole    = digits[-1]   # otherwise a quotient is below 1, and the next digit is not zero
        sticky   = remainder.any() | below.any()
        m.d.comb += self.o.eq(rounded(
            m, Mux(whole, digits[2:], digits[1:-1]), Mux(whole, digits[1], digits[0]),
            (whole & digits[0]) | sticky, exponent - ~whole, negative, "quotient"))
        return m

    def _check(self, m: Module, root: Signal, divisor: Signal, remainder: Signal,
               digits: Signal) -> None:
        """What is left can give no larger digits than it has given, so no bits of it are lost."""
        made = Signal(range(_DIGITS + 2), init=_DIGITS + 1)     # digits; or nothing was begun
        with m.If(self.start):
            m.d.sync += made.eq(0)
        with m.Elif(made <= _DIGITS):
            m.d.sync += made.eq(made + 1)
        with m.If(made <= _DIGITS):
            require(m, root | ~divisor[-1] | (remainder < divisor),
                    "a remainder is below its divisor")
            require(m, ~root | (remainder <= digits << 1),
                    "what is left of a number is below what the next root would take")
