"""An integer times a float32 with float32's own rounding, and back to an integer."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from weft.hw.lib.delay import delay, register
from weft.hw.lib.derived import derived
from weft.hw.lib.float32 import BIAS, SIGNIFICAND_BITS

__all__ = ["FloatScale"]



_AT_ONCE = 6    # bits whose disjunction takes little

# Result bits: magnitudes of 2**8 and more are all alike to an int8 with an int8 zero point.
_INTEGER = 8


class FloatScale(wiring.Component):
    """Computes ``RNE(fl32(fl32(i) * scale))``, saturated, with float32 arithmetic to the last bit.

    ``fl32`` rounds to float32 and ``RNE`` to an integer, both to nearest, halves to even. This is
    how onnxruntime requantizes. One result per cycle, :attr:`latency` cycles after its operands.

    The three roundings are one each of: 32 to 24 bits of the integer, 48 to 24 bits of the product
    of mantissas, and the binary point. Overflow and underflow of float32 do not matter: both are
    far beyond where the result saturates or is zero.

    The multiplier of the mantissas is left to the user, so that it can be shared with another
    rounding rule.

    Members
    -------
    i : :py:`In(signed(32))`
        Integer.
    scale : :py:`In(32)`
        Bits of a float32 that is zero, or positive and normal.
    byte : :py:`In(1)`
        In the place of the integer take one of its four bytes, as a number from 0 to 255: the one
        that the two lowest bits of ``scale`` name.
    a, b : :py:`Out(signed(26))`, :py:`Out(signed(25))`
        Factors of a product that must be in ``product`` :attr:`MULTIPLIER_LATENCY` cycles later.
    product : :py:`In(signed(51))`
        The product of the factors.
    o : :py:`Out(signed(10))`
        Result. Exact up to 256; any greater magnitude is 511.

    Attributes
    ----------
    MULTIPLIER_LATENCY : :class:`int`
        Cycles from the factors to their product, at least 2.
    latency : :class:`int`
        Cycles from operands to result.
    factors_latency : :class:`int`
        Cycles from operands to factors.
    """

    MULTIPLIER_LATENCY = 5

    # From integer to the multiplier: magnitude, two of normalization.
    factors_latency = 3

    @derived
    def latency(cls) -> int:
        # Behind the multiplier: rounding (2), alignment, rounding to integer and sign.
        return cls.factors_latency + cls.MULTIPLIER_LATENCY + 4

    i: In(signed(32))
    scale: In(32)
    byte: In(1)
    a: Out(signed(SIGNIFICAND_BITS + 2))
    b: Out(signed(SIGNIFICAND_BITS + 1))
    product: In(signed(2 * SIGNIFICAND_BITS + 3))
    o: Out(signed(_INTEGER + 2))

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        # Sign and magnitude. The sign waits for the last stage.
        negative = delay(m, (self.i < 0) & ~self.byte, self.latency - 1, name="negative",
                         reset_less=True)
        magnitude = register(m, Mux(self.byte, self.i.as_unsigned().word_select(self.scale[:2], 8),
                                    Mux(self.i < 0, -self.i, self.i)[:32]), "magnitude")
        normal, shift = self._elaborate_normalization(m, magnitude)

        # fl32(i). Rounding up may carry into a 25th bit, and then all others are zero. The
        # multiplier's own operand registers end this stage.
        mantissa = Signal(SIGNIFICAND_BITS + 1)
        m.d.comb += mantissa.eq(normal[8:] + _rounds_up(normal[8], normal[:8]))
        scale = delay(m, self.scale, 3, name="scale", reset_less=True)
        fraction, exponent = scale[:SIGNIFICAND_BITS - 1], scale[SIGNIFICAND_BITS - 1:31]
        m.d.comb += [self.a.eq(mantissa), self.b.eq(Cat(fraction, 1))]

        # The value is (product / 2**46) * 2**power, with 2**46 <= product <= 2**48 - 2**24. The
        # carried-out mantissa is 2**24, an ordinary factor: no exponent to correct. A scale of zero
        # reads as 2**-127, which makes any integer as good as zero.
        power = delay(m, (exponent - BIAS + (31 - shift))[:10].as_signed(),
                      self.MULTIPLIER_LATENCY, name="power", reset_less=True)
        nonzero = delay(m, normal[31], self.MULTIPLIER_LATENCY, name="nonzero", reset_less=True)

        rounded, power = self._elaborate_rounding(m, power)
        nonzero = register(m, nonzero, "kept_nonzero")
        integer, up = self._elaborate_integer(m, rounded, power, nonzero)

        # With the sign: -(integer + up) is ~integer + ~up, of one bit.
        signs = negative.replicate(_INTEGER + 2)
        o = register(m, ((integer ^ signs) + (up ^ negative))[:_INTEGER + 2].as_signed(), "result")
        m.d.comb += self.o.eq(o)
        return m

    def _elaborate_normalization(self, m: Module, magnitude: Value) -> tuple[Value, Value]:
        """Shifts the leading one of 32 bits to the top, in two stages. Returns the bits, and the
        places by which they were shifted."""
        # How far the leading one is from the top of the upper 16 bits, and how far from that of the
        # lower, and then the shift.
        octets = [magnitude[8 * number:8 * number + 8] for number in range(4)]
        clear = [~octet.any() for octet in octets]
        zeros = [_leading_zeros(octet) for octet in octets]
        upper = Cat(Mux(clear[3], zeros[2], zeros[3]), clear[3])
        lower = Cat(Mux(clear[1], zeros[0], zeros[1]), clear[1])
        magnitude = register(m, magnitude, "later_magnitude")
        halves = []
        for number in range(2):  # of the bits, each with registers of its own for the shift
            by_16, above, below = (
                register(m, value, f"{name}_{number}", keep=True) for name, value in (
                    ("by_16", clear[3] & clear[2]), ("upper", upper), ("lower", lower)))
            places = Mux(by_16, below, above)
            shifted = Mux(by_16, magnitude << 16, magnitude)[:32] << places
            halves.append(shifted[16 * number:16 * number + 16])
        return register(m, Cat(halves), "fine"), register(m, Cat(places, by_16), "shift")

    def _elaborate_rounding(self, m: Module, power: Value) -> tuple[Value, Value]:
        """fl32 of the product, in two stages. Returns the mantissa, and its power of 2 a cycle
        earlier."""
        # Select the 24 bits, then round. The sticky bits, those below half the lowest one that is
        # kept, are reduced in two stages.
        product = self.product[:48]
        upper = product[47]
        kept = register(m, Mux(upper, product[24:], product[23:47]), "kept")
        kept_half = register(m, Mux(upper, product[23], product[22]), "kept_half")
        kept_below = register(m, Cat(upper & product[22], (
            product[low:min(low + _AT_ONCE, 22)].any() for low in range(0, 22, _AT_ONCE))),
            "kept_below")
        up = kept_half & (kept[0] | kept_below.any())
        rounded = register(m, kept + up, "rounded")  # up to 2**24: the carry needs no correction
        return rounded, register(m, power + upper, "kept_power")

    def _elaborate_integer(self, m: Module, rounded: Value, power: Value,
                           nonzero: Value) -> tuple[Value, Value]:
        """The integer part of ``rounded * 2**power``, saturated, and whether to round it up.
        ``power`` and ``nonzero`` come a cycle before ``rounded``."""
        # A magnitude below 2**-1 gives zero, one of 2**8 or more saturates. The carry needs no
        # regard: what it makes 2**-1 still rounds to zero, and there is room for a 2**8 below.
        places = register(m, (power + 1)[:4], "places")
        few = register(m, Cat((power + 1)[:4] < _INTEGER - k for k in range(_INTEGER)), "few")
        tiny = register(m, ~nonzero | (power < -1), "tiny")
        huge = register(m, nonzero & (power >= _INTEGER), "huge")

        # The binary point goes to bit 24, which leaves at most 8 integer bits, and 2**8 by carry.
        aligned = Signal(SIGNIFICAND_BITS + _INTEGER + 1)
        m.d.comb += aligned.eq(rounded << places)
        integer = register(m, Mux(tiny, 0, aligned[24:]) | huge.replicate(_INTEGER + 1), "integer")
        half = register(m, ~tiny & ~huge & aligned[23], "half")
        # Sticky: the bits below that at any shift, and those that depend on the shift.
        dropped = SIGNIFICAND_BITS - 1 - _INTEGER
        below = register(m, rounded[:dropped].any() | Cat(
            rounded[dropped + k] & few[k] for k in range(_INTEGER)).any(), "below")
        return integer, half & (integer[0] | below)


def _rounds_up(lowest: Value, below: Value) -> Value:
    """Whether to round up: ``lowest`` is the lowest bit kept, ``below`` the bits dropped."""
    return below[-1] & (lowest | below[:-1].any())


def _leading_zeros(octet: Value) -> Value:
    """Of 8 bits of which one is set, how many are above the first one."""
    by_4 = ~octet[4:].any()
    by_2 = Mux(by_4, ~octet[2:4].any(), ~octet[6:].any())
    odd = octet[7] | (~octet[6] & (octet[5] | (~octet[4] & (octet[3] | (~octet[2] & octet[1])))))
    by_1 = ~odd  # the first one is at none of the odd places
    return Cat(by_1, by_2, by_4)
