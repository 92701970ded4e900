"""A value some cycles later."""

from amaranth import *

__all__ = ["delay"]


def delay(m: Module, value: Value, cycles: int, *, name: str) -> Value:
    """``value`` after ``cycles`` registers, which start at zero."""
    for number in range(cycles):
        following = Signal.like(value, name=f"{name}_{number}")
        m.d.sync += following.eq(value)
        value = following
    return value
