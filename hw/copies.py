"""Copies of a control bit, none of which drives many bits."""

from collections.abc import Iterator

from amaranth.hdl import Module, Value

from .delay import register

__all__ = ["copies"]


def copies(m: Module, value: Value, name: str, *, bits: int,
           part: int = 64) -> Iterator[tuple[slice, Value]]:
    """For each ``part`` bits of a word of ``bits`` bits: where they lie, and ``value`` a cycle
    later, in a register for them alone. A wire to the whole of the word would be long; tools copy
    no registers by themselves."""
    for start in range(0, bits, part):
        yield (slice(start, min(start + part, bits)),
               register(m, value, f"{name}_{start}", keep=True))
