"""Requantization of one value at a time, a bit per cycle where that saves logic."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from weft.hw.isa.commands import ChannelParameters

__all__ = ["SerialRequantizer"]


_MANTISSA = 24  # bits of a float32's mantissa, the leading one included
_BIAS = 127     # of a float32's exponent
_INTEGER = 8    # result bits before the zero point: greater magnitudes are all alike


class SerialRequantizer(wiring.Component):
    """Computes ``clamp(RNE(fl32(fl32(acc + bias) * scale)) + out_zero)``, to the last bit as
    :class:`~weft.hw.requantize.float32.FloatScale` does, where the roundings are explained.

    There is one adder of 32 bits, and a product of mantissas takes a cycle for each bit. A value
    takes :attr:`CYCLES`, and one more for each step of a shift.

    Members
    -------
    start : :py:`In(1)`
        Pulse. ``acc`` and what follows stay until ``done``.
    acc : :py:`In(signed(32))`
    out_zero, clamp_min, clamp_max : :py:`In(signed(8))`
    read, part : :py:`Out(1)`
        Read a half of the channel's :class:`ChannelParameters`: first bias, then scale.
    parameter : :py:`In(32)`
        That half, a cycle later and until the next.
    done : :py:`Out(1)`
        Pulse.
    o : :py:`Out(signed(8))`
        The result, with ``done``.

    Attributes
    ----------
    CYCLES : :class:`int`
        From ``start`` until another value can be started, with no shift.
    MEAN_SHIFTS : :class:`int`
        Steps of shifts of a value of a typical network; the values themselves decide.
    """
    CYCLES      = 36
    MEAN_SHIFTS = 9

    start:     In(1)
    acc:       In(signed(32))
    out_zero:  In(signed(8))
    clamp_min: In(signed(8))
    clamp_max: In(signed(8))
    read:      Out(1)
    part:      Out(1)
    parameter: In(32)
    done:      Out(1)
    o:         Out(signed(8))

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        # `value` holds, one after the other: the sum, its magnitude, its mantissa, the mantissa of
        # the product, and that with the integer above bit 24.
        value    = Signal(_MANTISSA + 1 + _INTEGER, reset_less=True)
        high     = Signal(_MANTISSA + 1, reset_less=True)  # of the product
        low      = Signal(_MANTISSA, reset_less=True)
        negative = Signal(reset_less=True)
        power    = Signal(signed(9), reset_less=True)      # of 2
        bits     = Signal(range(_MANTISSA), reset_less=True)
        result   = Signal(signed(11), reset_less=True)
        scale    = ChannelParameters(Cat(C(0, 32), self.parameter)).scale
        fraction, exponent = scale[:_MANTISSA - 1], scale[_MANTISSA - 1:31]

        # The adder.
        left, right, carry, total = Signal(32), Signal(32), Signal(), Signal(32)
        m.d.comb += total.eq(left + right + carry)
        product = Signal(_MANTISSA + 2)
        m.d.comb += product.eq(high + Mux(low[0], value[:_MANTISSA + 1], 0))

        # The product of mantissas is at least 2**46; its 24 highest bits are kept.
        upper = high[_MANTISSA - 1]
        digits = Cat(low, high)
        kept = Mux(upper, digits[_MANTISSA:], digits[_MANTISSA - 1:])[:_MANTISSA]
        # Whether there is anything in the lower bits, a cycle late.
        below_product = Signal()
        below_value   = Signal()
        m.d.sync += [
            below_product.eq(low[:_MANTISSA - 2].any()),
            below_value.eq(value[:_MANTISSA - 1].any()),
        ]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.read.eq(self.start)
                with m.If(self.start):
                    m.next = "BIAS"

            with m.State("BIAS"):
                m.d.comb += [left.eq(self.acc), right.eq(self.parameter)]
                m.d.comb += [self.read.eq(1), self.part.eq(1)]
                m.d.sync += value.eq(total)
                m.next = "MAGNITUDE"

            with m.State("MAGNITUDE"):
                m.d.comb += [left.eq(value ^ value[31].replicate(32)), carry.eq(value[31])]
                m.d.sync += [
                    value.eq(total),
                    negative.eq(value[31]),
                    low.eq(Cat(fraction, 1)),
                    power.eq(exponent + (31 - _BIAS)),
                ]
                m.next = "NORMALIZE"

            with m.State("NORMALIZE"):
                with m.If(value[31]):
                    m.next = "ROUND"
                with m.Elif(value[24:32].any()):
                    m.d.sync += [value.eq(value << 1), power.eq(power - 1)]
                with m.Elif(value[:24].any()):
                    m.d.sync += [value.eq(value << 8), power.eq(power - 8)]
                with m.Else():
                    m.d.sync += result.eq(0)
                    m.next = "ZERO"

            with m.State("ROUND"):
                m.d.comb += left.eq(value[8:32])
                m.d.comb += carry.eq(value[7] & (value[8] | value[:7].any()))
                m.d.sync += [value.eq(total), high.eq(0), bits.eq(_MANTISSA - 1)]
                m.next = "MULTIPLY"

            with m.State("MULTIPLY"):
                m.d.sync += [Cat(low, high).eq(Cat(low[1:], product)), bits.eq(bits - 1)]
                with m.If(bits == 0):
                    m.next = "SETTLE"

            with m.State("SETTLE"):
                m.next = "ROUND_PRODUCT"

            with m.State("ROUND_PRODUCT"):
                m.d.comb += left.eq(kept)
                m.d.comb += carry.eq(Mux(
                    upper, low[-1] & (high[0] | low[-2] | below_product),
                    low[-2] & (low[-1] | below_product)))
                m.d.sync += [value.eq(total), power.eq(power + upper)]
                m.next = "ALIGN"

            # The binary point goes to bit 24. The power counts down to -1; what is below that from
            # the beginning is less than a half.
            with m.State("ALIGN"):
                with m.If(power < 0):
                    m.d.sync += result.eq(Mux(power == -1, value[_MANTISSA:], 0))
                    m.next = "ROUND_INTEGER"
                with m.Elif(power >= _INTEGER):
                    m.d.sync += result.eq((1 << _INTEGER + 1) - 1)
                    m.next = "SIGN"
                with m.Else():
                    m.d.sync += [value.eq(value << 1), power.eq(power - 1)]

            with m.State("ROUND_INTEGER"):
                m.d.sync += result.eq(result + (
                    (power == -1) & value[_MANTISSA - 1] & (value[_MANTISSA] | below_value)))
                m.next = "SIGN"

            with m.State("SIGN"):
                with m.If(negative):
                    m.d.sync += result.eq(-result)
                m.next = "ZERO"

            with m.State("ZERO"):
                m.d.sync += result.eq(result + self.out_zero)
                m.next = "CLAMP"

            with m.State("CLAMP"):
                m.d.comb += [self.done.eq(1), self.o.eq(result)]
                with m.If(result < self.clamp_min):
                    m.d.comb += self.o.eq(self.clamp_min)
                with m.Elif(result > self.clamp_max):
                    m.d.comb += self.o.eq(self.clamp_max)
                m.next = "IDLE"
        return m
