"""The arithmetic of a softmax: sums of float32 terms in order, and shares in such a sum."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from weft.hw.isa.constants import Exponential
from weft.hw.lib.checks import require
from weft.hw.lib.delay import delay, register
from weft.hw.lib.multiplier import Multiplier

__all__ = ["RowSum", "RowSums", "ShareDivider"]


_BITS = dict(data.Layout.cast(Exponential))["fraction"].width + 1   # of a significand
_EXPONENT_BITS = dict(data.Layout.cast(Exponential))["exponent"].width
_FACTOR_BITS = 16


class RowSum(data.Struct):
    """``significand * 2**exponent``; the first bit of the significand is set but in a sum of
    zero, in which both are. The exponent has room for any number of terms."""
    significand: _BITS
    exponent:    _EXPONENT_BITS + 1


def _significand(term: Any) -> Value:
    """Of an :class:`Exponential`."""
    return Mux(term.exponent == 0, 0, Cat(term.fraction, C(1, 1)))


class RowSums(wiring.Component):
    """Sums of as many rows as an addition takes cycles, one term of one row in a cycle.

    Members
    -------
    row : :py:`In(range(ROWS))`
        The row of this cycle; not one of the three cycles before.
    term : :py:`In(Exponential)`
    add : :py:`In(1)`
        Add the term to the sum of the row, rounded to nearest, half to even.
    first : :py:`In(1)`
        To nothing, in place of the sum so far.
    sum : :py:`Out(RowSum)`
        The sum of the row, without the term.

    Attributes
    ----------
    ROWS : :class:`int`
        Rows, and cycles from a term to its sum.
    """

    ROWS = 4

    def __init__(self) -> None:
        super().__init__({
            "row":   In(range(self.ROWS)),
            "term":  In(Exponential),
            "add":   In(1),
            "first": In(1),
            "sum":   Out(RowSum),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        sums = Signal(data.ArrayLayout(RowSum, self.ROWS), reset_less=True)
        m.d.comb += self.sum.eq(sums[self.row])

        # The smaller one is shifted: the one of the smaller exponent, if there is one.
        so_far: Any = Signal(RowSum)
        m.d.comb += Value.cast(so_far).eq(Mux(self.first, 0, Value.cast(self.sum)))
        term  = Signal(_BITS)
        m.d.comb += term.eq(_significand(self.term))
        above = Signal(signed(_EXPONENT_BITS + 2))
        m.d.comb += above.eq(self.term.exponent - so_far.exponent)
        swaps = above > 0
        apart = Mux(swaps, above, -above)[:_EXPONENT_BITS + 1]
        most  = _BITS + 2   # as good as any further
        large = register(m, Mux(swaps, term, so_far.significand), "large")
        small = register(m, Mux(swaps, so_far.significand, term), "small")
        shift = Signal(range(most + 1), reset_less=True)
        m.d.sync += shift.eq(Mux(apart > most, most, apart))
        exponent = register(m, Mux(swaps, self.term.exponent, so_far.exponent)
                            [:_EXPONENT_BITS + 1], "exponent")

        # Two bits below the last one, and one for all further.
        wide    = Signal(2 * _BITS + 2)
        m.d.comb += wide.eq(Cat(C(0, _BITS + 2), small) >> shift)
        shifted = register(m, Cat(wide[:_BITS].any(), wide[_BITS:]), "shifted")
        large   = register(m, large, "large_aligned")

        total    = register(m, (Cat(C(0, 3), large) + shifted)[:_BITS + 4], "total")
        exponent = delay(m, exponent, 2, name="exponent_of", reset_less=True)

        carry   = total[-1]
        whole   = Mux(carry, total[4:], total[3:-1])
        half    = Mux(carry, total[3], total[2])
        further = total[:2].any() | (carry & total[2])
        rounded = Signal(_BITS + 1)
        m.d.comb += rounded.eq(whole + (half & (further | whole[0])))
        over  = rounded[-1]     # and then all others are zero
        adds  = delay(m, self.add, self.ROWS - 1, name="adds")
        row   = delay(m, self.row, self.ROWS - 1, name="row_of", reset_less=True)
        with m.If(adds):
            m.d.sync += [
                sums[row].significand.eq(Cat(rounded[:-2], rounded[-2] | over)),
                sums[row].exponent.eq(exponent + carry + over),
            ]
            require(m, exponent <= (1 << _EXPONENT_BITS + 1) - 3, "the exponent of a sum has room")
        return m


class ShareDivider(wiring.Component):
    """``RNE(factor * 2**(exponent - 15) * term / sum)``, one in each cycle, :attr:`LATENCY` cycles
    later. A step of long division is a stage.

    Members
    -------
    term : :py:`In(Exponential)`
    sum : :py:`In(RowSum)`
        At least ``term``.
    used : :py:`In(1)`
        The result is to be that; otherwise 0.
    factor : :py:`In(16)`
        The first bit is set.
    exponent : :py:`In(4)`
    o : :py:`Out(11)`
        The result; of one that is not below 256, something above 255.

    Attributes
    ----------
    LATENCY : :class:`int`
    """

    _PREPARED = 3   # cycles to the product
    _STEPS    = 11  # bits of twice a quotient below 1024
    LATENCY   = _PREPARED + _STEPS + 1

    def __init__(self) -> None:
        super().__init__({
            "term":     In(Exponential),
            "sum":      In(RowSum),
            "used":     In(1),
            "factor":   In(_FACTOR_BITS),
            "exponent": In(4),
            "o":        Out(self._STEPS),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.product = product = Multiplier(
            a_width=_BITS + 1, b_width=_FACTOR_BITS + 1, latency=self._PREPARED)
        m.d.comb += [
            product.a.eq(Cat(_significand(self.term), C(0, 1)).as_signed()),
            product.b.eq(Cat(self.factor, C(0, 1)).as_signed()),
        ]
        # With significands of 24 bits and a factor of 16, product / sum is from 2**14 up to 2**17.
        # Twice the quotient is that times 2**(scale - 14): it has `scale + 3` bits.
        behind = register(m, (self.sum.exponent - self.term.exponent).as_signed(), "behind")
        scale  = Signal(signed(_EXPONENT_BITS + 3), reset_less=True)
        m.d.sync += scale.eq(register(m, self.exponent, "exponent") - behind)
        steps, huge = Signal(range(self._STEPS + 1), reset_less=True), Signal(reset_less=True)
        m.d.sync += [
            steps.eq(Mux(scale < -2, 0, (scale + 3)[:steps.shape().width])),
            huge.eq(scale > self._STEPS - 3),
        ]
        used    = delay(m, self.used & (self.term.exponent != 0), self._PREPARED, name="used_for",
                        reset_less=True)
        divisor = delay(m, self.sum.significand, self._PREPARED, name="divisor", reset_less=True)
        huge    = huge & used
        steps   = Mux(used & ~huge, steps, 0)

        remainder: Value = product.o[_BITS + _FACTOR_BITS - 23:_BITS + _FACTOR_BITS]
        below: Value     = product.o[:_BITS + _FACTOR_BITS - 23]
        quotient: Value  = C(0, 1)
        for number in range(self._STEPS):
            require(m, (steps == 0) | (remainder < divisor), "a remainder is below its divisor")
            doubled = Cat(below[-1], remainder)
            less    = Signal(signed(_BITS + 2), name=f"less_{number}")
            m.d.comb += less.eq(doubled - divisor)
            bit     = ~less[-1]
            takes   = steps != 0
            fields  = {
                "remainder": Mux(takes, Mux(bit, less[:_BITS], doubled[:_BITS]), remainder),
                "below":     Mux(takes, Cat(C(0, 1), below[:-1]), below),
                "quotient":  Mux(takes, Cat(bit, quotient), quotient),
                "divisor":   divisor,
                "steps":     Mux(takes, steps - 1, 0)[:steps.shape().width],
                "huge":      huge,
                "used":      used,
            }
            widths = {"remainder": _BITS, "quotient": min(number + 1, self._STEPS)}
            following = {}
            for name, value in fields.items():
                following[name] = Signal(widths.get(name, len(value)), name=f"{name}_{number}",
                                         reset_less=True)
                m.d.sync += following[name].eq(value)
            remainder, below, quotient, divisor, steps, huge, used = (
                following[name] for name in fields)

        sticky  = remainder.any() | below.any()
        whole   = quotient[1:]
        rounded = Signal(self._STEPS, reset_less=True)
        m.d.sync += rounded.eq(Mux(huge, (1 << self._STEPS - 1) - 1, whole + (
            used & quotient[0] & (sticky | whole[0]))))
        m.d.comb += self.o.eq(rounded)
        return m
