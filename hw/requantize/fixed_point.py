"""An integer times a fixed-point number, rounded twice or once as TensorFlow Lite does it."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from weft.hw.lib.delay import delay, register
from weft.hw.lib.derived import derived

from .float32 import FloatScale

__all__ = ["FixedPointScale"]


# Result bits: magnitudes of 2**8 and more are all alike to an int8 with an int8 zero point.
_INTEGER = 8

_AT_ONCE = 6  # bits whose disjunction takes little


class FixedPointScale(wiring.Component):
    """Computes ``RDBPOT(SRDHM(i << max(shift, 0), M), max(-shift, 0))`` of a multiplier ``M``, or
    with ``once`` ``i * M * 2**(shift - 31)`` in one rounding, half away from zero; both saturated.

    In the terms of gemmlowp, from which TFLite has them::

        SRDHM(a, M)  = (a * M + (2**30 if a * M >= 0 else 1 - 2**30)) / 2**31     truncating
        RDBPOT(x, e) = (x >> e) + (x mod 2**e > ((2**e - 1) >> 1) + (x < 0))

    The first rounds half up, since to truncate after a nudge that depends on the sign is to take
    the floor of ``a * M / 2**31 + 1/2``; the second rounds half away from zero. The shift to the
    left drops bits beyond the 32nd. To round once is to leave out the first rounding, and to shift
    the bits that it would have dropped into those that the second one looks at; what the shift to
    the left would drop saturates.

    One result per cycle, :attr:`latency` cycles after its operands, which is the time that
    :class:`~weft.hw.requantize.float32.FloatScale` takes: both fit one pipeline, and so both leave
    the multiplier to their user, who may share it.

    Members
    -------
    i : :py:`In(signed(32))`
        Integer.
    multiplier : :py:`In(31)`
    shift : :py:`In(signed(6))`
        To the left if positive, -32..31. At -32 every result is zero.
    once : :py:`In(1)`
        Round once.
    a, b : :py:`Out(signed(32))`
        Factors of a product that must be in ``product`` ``FloatScale.MULTIPLIER_LATENCY`` cycles
        later.
    product : :py:`In(signed(64))`
        The product of the factors.
    o : :py:`Out(signed(10))`
        Result. Exact from -255 to 256; any other is beyond these, on its side.

    Attributes
    ----------
    latency : :class:`int`
        Cycles from operands to result.
    """

    @derived
    def latency(cls) -> int:
        return FloatScale.latency

    i: In(signed(32))
    multiplier: In(31)
    shift: In(signed(6))
    once: In(1)
    a: Out(signed(32))
    b: Out(signed(32))
    product: In(signed(64))
    o: Out(signed(_INTEGER + 2))

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        value, lost = self._elaborate_left(m)
        m.d.comb += [
            self.a.eq(value),
            self.b.eq(delay(m, self.multiplier, 3, name="multiplier", reset_less=True)),
        ]

        # The upper 32 bits of the product, rounded half up. Otherwise the bit below them is the
        # guard bit, and the others count as sticky.
        once = delay(m, self.once, 3 + FloatScale.MULTIPLIER_LATENCY, name="once", reset_less=True)
        half = self.product[30]
        high = register(m, (self.product[31:63] + (half & ~once))[:32], "high")
        guard = register(m, half & once, "guard")
        below = register(m, Cat(once & self.product[low:low + _AT_ONCE].any()
                                for low in range(0, 30, _AT_ONCE)), "below")

        # To the right in two stages, with a guard bit below the integer and a sticky bit for the
        # others that are dropped. 32 places leave the sign.
        value = Cat(guard, high).as_signed()
        places = delay(m, Mux(self.shift < 0, -self.shift, 0)[:6],
                       4 + FloatScale.MULTIPLIER_LATENCY, name="right", reset_less=True)
        value, sticky = self._shift_right(value, places, (5, 4, 3), below.any())
        value, sticky = register(m, value, "coarse"), register(m, sticky, "coarse_sticky")
        value, sticky = self._shift_right(value, register(m, places[:3], "fine_right"), (2, 1, 0),
                                          sticky)

        # Rounded half away from zero: for a negative number the floor already is that.
        integer, half, rest = value[1:], value[0], value[1 + _INTEGER:]
        lost = delay(m, lost, 2 + FloatScale.MULTIPLIER_LATENCY, name="lost", reset_less=True)
        negative = Mux(lost, delay(m, self.i[31], 5 + FloatScale.MULTIPLIER_LATENCY,
                                   name="negative", reset_less=True), value[-1])
        fits = (rest.all() | ~rest.any()) & ~lost
        kept = register(m, Mux(fits, integer[:_INTEGER + 2],
                               Cat((~negative).replicate(_INTEGER + 1), negative)).as_signed(),
                        "kept")
        up = register(m, fits & half & (sticky | ~negative), "up")
        o = register(m, (kept + up)[:_INTEGER + 2].as_signed(), "result")
        m.d.comb += self.o.eq(o)
        return m

    def _elaborate_left(self, m: Module) -> tuple[Value, Value]:
        """``i`` shifted to the left, in the three stages in which a float is normalized, and
        whether it is rounded once and does not fit."""
        value: Value = self.i
        places: Value = Mux(self.shift < 0, 0, self.shift)[:5]
        lost: Value = Const(0, 1)
        for bits in ((4, 3), (2, 1), (0,)):
            for bit in bits:
                count = 1 << bit
                dropped = value[31 - count:]
                lost = lost | (places[bit] & dropped.any() & ~dropped.all())
                value = Mux(places[bit], value << count, value)[:32]
            value = register(m, value, f"shifted_{bits[0]}")
            places = register(m, places[:bits[-1]], f"left_{bits[0]}")
            lost = register(m, lost, f"lost_{bits[0]}")
        once = delay(m, self.once, 3, name="once_left", reset_less=True)
        return value.as_signed(), lost & once

    @staticmethod
    def _shift_right(value: Value, places: Value, bits: tuple[int, ...],
                     sticky: Value) -> tuple[Value, Value]:
        """``value`` shifted by those powers of 2 that ``bits`` of ``places`` ask for, and
        ``sticky`` or whether a bit was set that is dropped."""
        for bit in bits:
            count = 1 << bit
            sticky = sticky | (places[bit] & value[:count].any())
            value = Mux(places[bit], value >> count, value)
        return value, sticky
