"""Copies of a control bit, none of which drives many bits."""

from collections.abc import Iterator

from amaranth.hdl import Module, Value

from .delay import register

__all__ = ["copies"]


_SINKS = 64


def copies(m: Module, value: Value, name: str, *, bits: int) -> Iterator[tuple[slice, Value]]:
    """For each part of a word of ``bits`` bits: where it lies, and ``value`` a cycle later, in a
    register for this part alone. A wire to the whole of the word would be long; tools copy no
    registers by themselves."""
    for start in range(0, bits, _SINKS):
        yield (slice(start, min(start + _SINKS, bits)),
               register(m, value, f"{name}_{start}", keep=True))
