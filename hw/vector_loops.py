"""Registers that the loops of the vector engine keep several times."""

from collections.abc import Iterable
from typing import Any

from amaranth.hdl import Signal

__all__ = ["assign", "copies"]


def copies(name: str, count: int, **options: Any) -> list[Signal]:
    """Registers to be assigned alike: one for the counters of the loops, whose next state must not
    wait for a net of many sinks, and others for what they control. Not reset, unless ``options`` of
    :class:`Signal` say so."""
    return [Signal(name=f"{name}_{number}", attrs={"keep": 1}, **(options or {"reset_less": True}))
            for number in range(count)]


def assign(signals: Iterable[Signal], value: Any) -> list[Any]:
    """Statements that assign ``value`` to each of the signals."""
    return [signal.eq(value) for signal in signals]
