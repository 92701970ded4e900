"""Registers that are kept several times, so that none of them drives many bits or waits for them.

A wire to many bits is long, and tools copy no registers by themselves.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from amaranth.hdl import Module, Signal, Value

from .delay import register

__all__ = ["SINKS", "alike", "assign", "copies", "parts"]


SINKS = 64
"""Bits that a register may drive all over the device."""


def parts(bits: int, part: int = SINKS) -> list[slice]:
    """A word of ``bits`` bits in parts of ``part`` bits; the last one may be shorter."""
    return [slice(start, min(start + part, bits)) for start in range(0, bits, part)]


def copies(m: Module, value: Value, name: str, *, bits: int,
           part: int = SINKS) -> Iterator[tuple[slice, Value]]:
    """For each part of a word: where it lies, and ``value`` a cycle later, in a register for that
    part alone."""
    for where in parts(bits, part):
        yield where, register(m, value, f"{name}_{where.start}", keep=True)


def alike(name: str, count: int, **options: Any) -> list[Signal]:
    """Registers of a bit to be assigned alike: one for the logic whose next state must not wait for
    a net of many sinks, and others for what they control. Not reset, unless ``options`` of
    :class:`Signal` say so."""
    return [Signal(name=f"{name}_{number}", attrs={"keep": 1}, **(options or {"reset_less": True}))
            for number in range(count)]


def assign(signals: Iterable[Signal], value: Any) -> list[Any]:
    """Statements that assign ``value`` to each of the signals."""
    return [signal.eq(value) for signal in signals]
