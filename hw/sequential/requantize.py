"""Requantization of one value at a time, a bit per cycle where that saves logic."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from weft.hw.isa.constants import ChannelParameters
from weft.hw.lib.float32 import BIAS, SIGNIFICAND_BITS

__all__ = ["SerialRequantizer"]


_INTEGER = 8    # result bits before the zero point: greater magnitudes are all alike


class _Registers:
    """Registers and adders that the steps share.

    ``value`` holds, one after the other: the sum, its magnitude, its mantissa, the mantissa of the
    product, and that with the integer above bit 24.
    """

    def __init__(self, m: Module):
        self.value    = Signal(SIGNIFICAND_BITS + 1 + _INTEGER, reset_less=True)
        self.high     = Signal(SIGNIFICAND_BITS + 1, reset_less=True)  # of the product
        self.low      = Signal(SIGNIFICAND_BITS, reset_less=True)
        self.negative = Signal(reset_less=True)
        self.power    = Signal(signed(9), reset_less=True)      # of 2
        self.bits     = Signal(range(SIGNIFICAND_BITS), reset_less=True)
        self.result   = Signal(signed(11), reset_less=True)

        self.left, self.right, self.carry = Signal(32), Signal(32), Signal()
        self.total = Signal(32)
        m.d.comb += self.total.eq(self.left + self.right + self.carry)

        self.product = Signal(SIGNIFICAND_BITS + 2)
        m.d.comb += self.product.eq(
            self.high + Mux(self.low[0], self.value[:SIGNIFICAND_BITS + 1], 0))

        # Whether any of the lower bits is set, a cycle late.
        self.below_product = Signal()
        self.below_value   = Signal()
        m.d.sync += [
            self.below_product.eq(self.low[:SIGNIFICAND_BITS - 2].any()),
            self.below_value.eq(self.value[:SIGNIFICAND_BITS - 1].any()),
        ]


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
        r = _Registers(m)
        with m.FSM():
            self._normalize(m, r)
            self._multiply(m, r)
            self._round(m, r)
        return m

    def _normalize(self, m: Module, r: _Registers) -> None:
        """The sum, its magnitude, and the mantissa of that."""
        scale = ChannelParameters(Cat(C(0, 32), self.parameter)).scale
        fraction, exponent = scale[:SIGNIFICAND_BITS - 1], scale[SIGNIFICAND_BITS - 1:31]

        with m.State("IDLE"):
            m.d.comb += self.read.eq(self.start)
            with m.If(self.start):
                m.next = "BIAS"

        with m.State("BIAS"):
            m.d.comb += [r.left.eq(self.acc), r.right.eq(self.parameter)]
            m.d.comb += [self.read.eq(1), self.part.eq(1)]
            m.d.sync += r.value.eq(r.total)
            m.next = "MAGNITUDE"

        with m.State("MAGNITUDE"):
            m.d.comb += [r.left.eq(r.value ^ r.value[31].replicate(32)), r.carry.eq(r.value[31])]
            m.d.sync += [
                r.value.eq(r.total),
                r.negative.eq(r.value[31]),
                r.low.eq(Cat(fraction, 1)),
                r.power.eq(exponent + (31 - BIAS)),
            ]
            m.next = "NORMALIZE"

        with m.State("NORMALIZE"):
            with m.If(r.value[31]):
                m.next = "ROUND"
            with m.Elif(r.value[24:32].any()):
                m.d.sync += [r.value.eq(r.value << 1), r.power.eq(r.power - 1)]
            with m.Elif(r.value[:24].any()):
                m.d.sync += [r.value.eq(r.value << 8), r.power.eq(r.power - 8)]
            with m.Else():
                m.d.sync += r.result.eq(0)
                m.next = "ZERO"

        with m.State("ROUND"):
            m.d.comb += r.left.eq(r.value[8:32])
            m.d.comb += r.carry.eq(r.value[7] & (r.value[8] | r.value[:7].any()))
            m.d.sync += [r.value.eq(r.total), r.high.eq(0), r.bits.eq(SIGNIFICAND_BITS - 1)]
            m.next = "MULTIPLY"

    def _multiply(self, m: Module, r: _Registers) -> None:
        """The product of mantissas, which is at least 2**46, to its 24 highest bits."""
        upper = r.high[SIGNIFICAND_BITS - 1]
        digits = Cat(r.low, r.high)
        kept = Mux(upper, digits[SIGNIFICAND_BITS:],
                   digits[SIGNIFICAND_BITS - 1:])[:SIGNIFICAND_BITS]

        with m.State("MULTIPLY"):
            m.d.sync += [Cat(r.low, r.high).eq(Cat(r.low[1:], r.product)), r.bits.eq(r.bits - 1)]
            with m.If(r.bits == 0):
                m.next = "SETTLE"

        with m.State("SETTLE"):
            m.next = "ROUND_PRODUCT"

        with m.State("ROUND_PRODUCT"):
            m.d.comb += r.left.eq(kept)
            m.d.comb += r.carry.eq(Mux(
                upper, r.low[-1] & (r.high[0] | r.low[-2] | r.below_product),
                r.low[-2] & (r.low[-1] | r.below_product)))
            m.d.sync += [r.value.eq(r.total), r.power.eq(r.power + upper)]
            m.next = "ALIGN"

    def _round(self, m: Module, r: _Registers) -> None:
        """The integer, with the zero point and in its bounds."""
        # The binary point goes to bit 24. The power counts down to -1; what is below that from
        # the beginning is less than a half.
        with m.State("ALIGN"):
            with m.If(r.power < 0):
                m.d.sync += r.result.eq(Mux(r.power == -1, r.value[SIGNIFICAND_BITS:], 0))
                m.next = "ROUND_INTEGER"
            with m.Elif(r.power >= _INTEGER):
                m.d.sync += r.result.eq((1 << _INTEGER + 1) - 1)
                m.next = "SIGN"
            with m.Else():
                m.d.sync += [r.value.eq(r.value << 1), r.power.eq(r.power - 1)]

        with m.State("ROUND_INTEGER"):
            m.d.sync += r.result.eq(r.result + (
                (r.power == -1) & r.value[SIGNIFICAND_BITS - 1]
                & (r.value[SIGNIFICAND_BITS] | r.below_value)))
            m.next = "SIGN"

        with m.State("SIGN"):
            with m.If(r.negative):
                m.d.sync += r.result.eq(-r.result)
            m.next = "ZERO"

        with m.State("ZERO"):
            m.d.sync += r.result.eq(r.result + self.out_zero)
            m.next = "CLAMP"

        with m.State("CLAMP"):
            m.d.comb += [self.done.eq(1), self.o.eq(r.result)]
            with m.If(r.result < self.clamp_min):
                m.d.comb += self.o.eq(self.clamp_min)
            with m.Elif(r.result > self.clamp_max):
                m.d.comb += self.o.eq(self.clamp_max)
            m.next = "IDLE"
