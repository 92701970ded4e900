"""A value some cycles later."""

from amaranth import *

__all__ = ["delay", "register"]


def delay(m: Module, value: Value, cycles: int, *, name: str, reset_less: bool = False) -> Value:
    """``value`` after ``cycles`` registers, which start at zero; with ``reset_less`` a reset leaves
    them as they are, which is right for data that a valid bit goes along with."""
    for number in range(cycles):
        following = Signal.like(value, name=f"{name}_{number}", reset_less=reset_less)
        m.d.sync += following.eq(value)
        value = following
    return value


def register(m: Module, value: Value, name: str) -> Signal:
    """``value`` a cycle later; not reset."""
    following = Signal(Value.cast(value).shape(), name=name, reset_less=True)
    m.d.sync += following.eq(value)
    return following
