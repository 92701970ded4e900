"""A multiplier of LUTs and carry chains."""

from typing import Any

from amaranth import *

from .delay import register
from .multiplier import Multiplier

__all__ = ["adder_tree_multiplier"]


def adder_tree_multiplier(multiplier: Multiplier) -> Module:
    """What to elaborate in place of ``multiplier``: a tree of adders, and registers between its
    levels, as evenly as its latency allows.

    A product of ``n`` bits has ``ceil(log2(n))`` levels, so that with a latency of one more than
    that there is a single adder between any two registers.
    """
    m = Module()
    a = register(m, multiplier.a, "a")
    b = register(m, multiplier.b, "b")
    if len(a) < len(b):
        a, b = b, a

    # One row for each bit of the shorter factor; the sign bit of that counts negative. A row is a
    # value and the weight of its lowest bit.
    rows: list[tuple[Any, int]] = [(Mux(bit, a, 0), k) for k, bit in enumerate(b[:-1])]
    rows.append((Mux(b[-1], -a, 0), len(b) - 1))

    levels = (len(rows) - 1).bit_length()
    cycles = multiplier.latency - 1
    for cycle in range(cycles):
        # The sooner, the narrower the adders: that is where two of them follow each other.
        for _ in range(levels // cycles + (cycle < levels % cycles)):
            rows = [_pair(rows[k:k + 2]) for k in range(0, len(rows), 2)]
        rows = [(register(m, value, f"sum_{cycle}_{k}"), weight)
                for k, (value, weight) in enumerate(rows)]
    (product, _weight), = rows
    m.d.comb += multiplier.o.eq(product)
    return m


def _pair(rows: list[tuple[Any, int]]) -> tuple[Any, int]:
    """The sum of one or two neighbouring rows. Bits below the upper one's pass by the adder."""
    if len(rows) == 1:
        return rows[0]
    (low, weight), (high, high_weight) = rows
    places = high_weight - weight
    return Cat(low[:places], (low >> places) + high).as_signed(), weight
