"""The sum of two floating-point numbers, rounded once."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from weft.hw.lib.checks import require
from weft.hw.lib.delay import delay, register
from weft.hw.lib.float32 import SIGNIFICAND_BITS

from .number import EXPONENT_BITS, NORMALIZE_LATENCY, Float, normalized, rounded

__all__ = ["Addend", "FloatSum", "addend_of"]


_BITS = 2 * SIGNIFICAND_BITS
_SPARE = 4      # bits below those of an addend: three for a shift by few, one for the rest
_FINE = 3       # bits of a shift that are left to its second half


class Addend(data.Struct):
    """``significand * 2**(exponent - 47)``, negative or not: a :class:`Float`, or the product of
    two. One of the first two bits of the significand is set; without them the number is zero."""
    significand: _BITS
    exponent:    signed(EXPONENT_BITS + 1)
    negative:    1


def addend_of(m: Module, number: Any, name: str, *, minus: bool = False) -> Any:
    """A :class:`Float`, or what is to be added to take it away."""
    addend = Signal(Addend, name=name)
    m.d.comb += [
        addend.significand.eq(Cat(C(0, _BITS - SIGNIFICAND_BITS), number.significand)),
        addend.exponent.eq(number.exponent),
        addend.negative.eq(~number.negative if minus else number.negative),
    ]
    return addend


class FloatSum(wiring.Component):
    """``fl32(a + b)``, one in each cycle, :attr:`LATENCY` cycles later; half to even.

    The exponent of the result has no bounds but those of its field. What cancels is zero.

    Members
    -------
    a, b : :py:`In(Addend)`
    o : :py:`Out(Float)`

    Attributes
    ----------
    LATENCY : :class:`int`
    """

    # Compare, swap, two for the shift, add, magnitude, round.
    LATENCY = 7 + NORMALIZE_LATENCY

    def __init__(self) -> None:
        super().__init__({"a": In(Addend), "b": In(Addend), "o": Out(Float)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        for name, addend in (("a", self.a), ("b", self.b)):
            require(m, addend.significand[-2:].any() | (addend.significand == 0),
                    f"{name} is zero or has a one at the top")

        # The one of the smaller exponent is shifted. A zero counts as the smaller one.
        apart = Signal(signed(EXPONENT_BITS + 2), reset_less=True)
        m.d.sync += apart.eq(self.a.exponent - self.b.exponent)
        a, b = (register(m, value, name) for value, name in ((self.a, "a_held"),
                                                             (self.b, "b_held")))
        zero_a, zero_b = (~item.significand[-2:].any() for item in (a, b))
        swaps  = ~zero_b & (zero_a | apart[-1])
        places = Signal(range(_BITS + _SPARE))
        gap    = Mux(apart[-1], -apart, apart)
        m.d.comb += places.eq(Mux(zero_a | zero_b | (gap > _BITS + _SPARE - 1),
                                  _BITS + _SPARE - 1, gap[:len(places)]))
        large  = register(m, Mux(swaps, b.significand, a.significand), "large")
        small  = register(m, Mux(swaps, a.significand, b.significand), "small")
        places = register(m, places, "places")
        exponent = register(m, Mux(swaps, b.exponent, a.exponent).as_signed(), "exponent")
        negative = register(m, Mux(swaps, b.negative, a.negative), "negative")
        takes    = register(m, a.negative ^ b.negative, "takes")

        fine  = register(m, places[:_FINE], "fine_places")
        small = _shifted(m, Cat(C(0, _SPARE), small), places[_FINE:] << _FINE, "coarse")
        small = _shifted(m, small, fine, "fine")
        large, exponent, negative, takes = (
            delay(m, value, 2, name=f"{name}_aligned", reset_less=True) for value, name in (
                (large, "large"), (exponent, "exponent"), (negative, "negative"),
                (takes, "takes")))

        total = Signal(signed(_BITS + _SPARE + 2), reset_less=True)
        upper = Cat(C(0, _SPARE), large)
        m.d.sync += total.eq(Mux(takes, upper - small, upper + small))
        exponent = delay(m, exponent.as_signed(), 2 + NORMALIZE_LATENCY, name="exponent_of",
                         reset_less=True)
        negative = register(m, negative, "negative_total")
        magnitude = register(m, Mux(total[-1], -total, total)[:_BITS + _SPARE + 1], "magnitude")
        negative  = delay(m, register(m, negative ^ total[-1], "negative_magnitude"),
                          NORMALIZE_LATENCY, name="negative_of", reset_less=True)
        whole, zeros = normalized(m, magnitude, "whole")
        below = _BITS + _SPARE + 1 - SIGNIFICAND_BITS
        m.d.comb += self.o.eq(rounded(
            m, whole[below:], whole[below - 1], whole[:below - 1].any(),
            exponent.as_signed() + 1 - zeros, negative, "sum"))
        return m


def _shifted(m: Module, value: Value, places: Value, name: str) -> Any:
    """A value shifted to the right, a cycle later; a one that falls out stays as the last bit."""
    most = (1 << len(places)) - 1
    wide = Signal(len(value) + most, name=f"{name}_wide")
    m.d.comb += wide.eq(Cat(C(0, most), value) >> places)
    return register(m, Cat(wide[:most + 1].any(), wide[most + 1:]), f"small_{name}")
