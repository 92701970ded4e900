"""A signed multiplier between registers, the one place where a board puts its DSP blocks."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .replacement import replacement

__all__ = ["Multiplier", "multiple"]


class Multiplier(wiring.Component):
    """Signed product with registered operands and a registered result.

    One product per cycle, ``latency`` cycles after its operands. A platform with multiplier blocks
    of its own may define ``get_multiplier(multiplier)``, which returns what to elaborate instead;
    it must keep ports and latency. It is told what the multiplier is for, by which it may choose
    where to place it and whether it is worth a block.

    Parameters
    ----------
    a_width, b_width : :class:`int`
        Bits of the operands, at least 2.
    latency : :class:`int`
        Cycles from operands to product, at least 2. Those above 2 are registers behind the
        product, for an implementation of several blocks to use between them.
    role : :class:`str`
        What it is used for, such as ``"array"``. Without effect on the function.
    position : :class:`tuple` of two :class:`int`, or ``None``
        Row and column in a regular grid of multipliers of that role, if it stands in one.

    Members
    -------
    a : :py:`In(signed(a_width))`
        First factor.
    b : :py:`In(signed(b_width))`
        Second factor.
    o : :py:`Out(signed(a_width + b_width))`
        Product of the factors of ``latency`` cycles ago.
    """

    def __init__(self, *, a_width: int, b_width: int, latency: int = 2,
                 role: str = "other", position: tuple[int, int] | None = None):
        for noun, value in (("A width", a_width), ("B width", b_width), ("Latency", latency)):
            if not isinstance(value, int) or value < 2:
                raise ValueError(f"{noun} must be an integer of at least 2, not {value!r}")
        self._latency = latency
        self._role = role
        self._position = position
        super().__init__({
            "a": In(signed(a_width)),
            "b": In(signed(b_width)),
            "o": Out(signed(a_width + b_width)),
        })

    @property
    def latency(self) -> int:
        return self._latency

    @property
    def role(self) -> str:
        return self._role

    @property
    def position(self) -> tuple[int, int] | None:
        return self._position

    def elaborate(self, platform: Any) -> Any:
        substitute = replacement(platform, "get_multiplier", self)
        if substitute is not None:
            return substitute

        m = Module()
        a = Signal.like(self.a, reset_less=True)
        b = Signal.like(self.b, reset_less=True)
        m.d.sync += [a.eq(self.a), b.eq(self.b)]
        product: Any = a * b
        for k in range(2, self._latency + 1):
            register = Signal.like(self.o, name=f"product_{k}", reset_less=True)
            m.d.sync += register.eq(product)
            product = register
        m.d.comb += self.o.eq(product)
        return m


def multiple(value: Value, factor: int) -> Value:
    """``value * factor`` as a sum, which takes no multiplier block."""
    return sum(value << bit for bit in range(factor.bit_length()) if factor >> bit & 1)
