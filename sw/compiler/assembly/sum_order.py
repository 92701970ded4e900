"""Commands that add up the same sums stay together: no other MATRIX comes between them."""

from collections.abc import Iterator, Sequence

from weft.compiler.ops import Op
from weft.hw.isa.commands import Opcode

__all__ = ["sum_order"]


def sum_order(ops: Sequence[Op]) -> Iterator[set[int]]:
    """For each op those before it that it must not overtake because of the accumulators: a MATRIX
    that keeps sums, or goes on with them, comes behind all before it and in front of all after it.
    """
    fixed: set[int] = set()     # the latest that does
    since: set[int] = set()     # all behind it
    for index, op in enumerate(ops):
        if op.opcode is not Opcode.MATRIX:
            yield set()
        elif op.fields["keep"] or op.fields["accumulate"]:
            yield fixed | since
            fixed, since = {index}, set()
        else:
            yield set(fixed)
            since.add(index)
