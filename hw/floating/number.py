"""Floating-point numbers inside the accelerator."""

from typing import Any

from amaranth import *
from amaranth.lib import data

from weft.hw.lib.delay import register
from weft.hw.lib.float32 import BIAS, SIGNIFICAND_BITS

__all__ = ["EXPONENT_BITS", "NORMALIZE_LATENCY", "Float", "float_of", "leading_zeros",
           "normalized", "rounded"]


EXPONENT_BITS = 10
"""Two more than a float32 has: for sums and products on the way."""

_FINE = 3       # bits of a shift that are left to its second half


class Float(data.Struct):
    """``significand * 2**(exponent - 23)``, negative or not. The first bit of the significand is
    set; without it, all of it and the number are zero, whatever the exponent."""
    significand: SIGNIFICAND_BITS
    exponent:    signed(EXPONENT_BITS)
    negative:    1


def float_of(m: Module, bits: Value, name: str) -> Any:
    """The :class:`Float` that a float32 that is zero or normal is, from its bits."""
    number = Signal(Float, name=name)
    biased = bits[SIGNIFICAND_BITS - 1:-1]
    m.d.comb += [
        number.significand.eq(Mux(biased == 0, 0, Cat(bits[:SIGNIFICAND_BITS - 1], C(1, 1)))),
        number.exponent.eq(biased - BIAS),
        number.negative.eq(bits[-1]),
    ]
    return number


def leading_zeros(m: Module, value: Value, name: str) -> Value:
    """How many zeros are in front of the first one, as a tree; of zero, at least as many as there
    are bits."""
    width = 1 << (len(value) - 1).bit_length()
    parts: list[Value] = [~bit for bit in Cat(C(0, width - len(value)), value)]
    while len(parts) > 1:
        # Of 2**n bits, n + 1 bits, the top one if there is no one. Signals, as a value that is used
        # twice is described twice.
        following: list[Value] = []
        for low, high in zip(parts[::2], parts[1::2], strict=True):
            both = Signal(len(low) + 1, name=f"{name}_{len(parts)}_{len(following)}")
            m.d.comb += both.eq(Mux(high[-1], Cat(low[:-1], ~low[-1], low[-1]), high))
            following.append(both)
        parts = following
    return parts[0]


NORMALIZE_LATENCY = 3


def normalized(m: Module, value: Value, name: str) -> tuple[Value, Value]:
    """A value shifted to the left until its first bit is set, :data:`NORMALIZE_LATENCY` cycles
    later, and by how many places. Zero stays zero."""
    counted = register(m, value, f"{name}_counted")
    zeros   = register(m, leading_zeros(m, value, f"{name}_count"), f"{name}_zeros")
    coarse, fine = (Signal.like(value, name=f"{name}_{step}", reset_less=True)
                    for step in ("coarse", "fine"))
    known = register(m, zeros, f"{name}_known")
    m.d.sync += [
        coarse.eq(counted << (zeros[_FINE:] << _FINE)),
        fine.eq(coarse << known[:_FINE]),
    ]
    return fine, register(m, known, f"{name}_places")


def rounded(m: Module, whole: Value, half: Value, further: Value, exponent: Value, negative: Value,
            name: str) -> Any:
    """The :class:`Float` nearest to a number, halves to even, a cycle later.

    Parameters
    ----------
    whole : value
        :data:`SIGNIFICAND_BITS` bits; the number is zero if the first one is not set.
    half, further : value
        The bit behind them; and whether any behind that is set.
    exponent, negative : value
        As of a :class:`Float`.
    """
    number = Signal(Float, name=name, reset_less=True)
    total  = Signal(SIGNIFICAND_BITS + 1, name=f"{name}_total")
    over   = total[-1]      # and then all others are zero
    m.d.comb += total.eq(whole + (half & (further | whole[0])))
    m.d.sync += [
        number.significand.eq(Mux(whole[-1], Cat(total[:-2], total[-2] | over), 0)),
        number.exponent.eq(exponent + over),
        number.negative.eq(negative),
    ]
    return number
