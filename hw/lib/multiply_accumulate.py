"""A signed multiplier with an accumulator, where a board puts blocks that have both."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .replacement import replacement

__all__ = ["MultiplyAccumulate"]


class MultiplyAccumulate(wiring.Component):
    """Adds a product to its sum in every cycle in which it is told to.

    A platform may define ``get_multiply_accumulate(component)``, which returns what to elaborate
    instead, or ``None`` to have the portable description. It must keep ports and latency.

    Parameters
    ----------
    a_width, b_width : :class:`int`
        Bits of the factors, at least 2.

    Members
    -------
    a : :py:`In(signed(a_width))`
        First factor.
    b : :py:`In(signed(b_width))`
        Second factor.
    clear : :py:`In(1)`
        Set the sum to zero; goes before ``enable``.
    enable : :py:`In(1)`
        Add the product, in this very cycle.
    o : :py:`Out(signed(32))`
        The sum, modulo 2**32.
    """

    def __init__(self, *, a_width: int = 8, b_width: int = 8):
        for noun, value in (("A width", a_width), ("B width", b_width)):
            if not isinstance(value, int) or value < 2:
                raise ValueError(f"{noun} must be an integer of at least 2, not {value!r}")
        super().__init__({
            "a":      In(signed(a_width)),
            "b":      In(signed(b_width)),
            "clear":  In(1),
            "enable": In(1),
            "o":      Out(signed(32)),
        })

    def elaborate(self, platform: Any) -> Any:
        substitute = replacement(platform, "get_multiply_accumulate", self)
        if substitute is not None:
            return substitute

        m = Module()
        with m.If(self.clear):
            m.d.sync += self.o.eq(0)
        with m.Elif(self.enable):
            m.d.sync += self.o.eq(self.o + self.a * self.b)
        return m
