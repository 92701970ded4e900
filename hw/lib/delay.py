"""A value some cycles later."""

from typing import Any

from amaranth import *

__all__ = ["delay", "register", "unreset"]


def delay(m: Module, value: Value, cycles: int, *, name: str, reset_less: bool = False) -> Value:
    """``value`` after ``cycles`` registers, which start at zero; with ``reset_less`` a reset leaves
    them as they are, which is right for data that a valid bit goes along with."""
    for number in range(cycles):
        following = Signal.like(value, name=f"{name}_{number}", reset_less=reset_less)
        m.d.sync += following.eq(value)
        value = following
    return value


def register(m: Module, value: Any, name: str, *, keep: bool = False) -> Any:
    """``value`` a cycle later; not reset. With ``keep`` synthesis does not make one register of
    this and others that are equal. Not to be called inside ``m.If`` or ``m.Case``, where the
    assignment would be conditional; the same goes for :func:`delay`."""
    following = Signal.like(value, name=name, reset_less=True, attrs={"keep": 1} if keep else {})
    m.d.sync += following.eq(value)
    return following


def unreset(m: Module, port: Any, name: str) -> Any:
    """A register that drives ``port``, which a reset leaves alone: right for data that a valid bit
    goes along with."""
    held = Signal.like(port, name=name, reset_less=True)
    m.d.comb += Value.cast(port).eq(Value.cast(held))
    return held
