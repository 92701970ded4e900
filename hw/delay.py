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


def register(m: Module, value: Value, name: str, *, keep: bool = False) -> Signal:
    """``value`` a cycle later; not reset. With ``keep`` synthesis does not make one register of
    this and others that are equal."""
    following = Signal(Value.cast(value).shape(), name=name, reset_less=True,
                       attrs={"keep": 1} if keep else {})
    m.d.sync += following.eq(value)
    return following
