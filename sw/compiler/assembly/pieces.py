"""Loads of weights in pieces.

What was loaded first is overwritten first, and often a load overwrites what several commands read.
It is cut where the last of these changes: each piece waits for what it overwrites alone, so the
memory port has something to do as soon as any place is free. Other constants are so short that a
command more would cost what it saves.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from math import gcd

from weft.compiler.ops import Address, Buffer, Lowered, Op, Region, Space
from weft.hw.isa.commands import COMMAND_BYTES, Opcode
from weft.hw.isa.config import AcceleratorConfig

__all__ = ["cut_loads"]


# A piece is no less than this part of its memory, nor than this many times its own command.
_LEAST_PART = 64
_LEAST_COMMANDS = 4


def cut_loads(lowered: Lowered, config: AcceleratorConfig) -> Lowered:
    """The same with loads of weights, which have been placed, in pieces."""
    readers: dict[Buffer, list[tuple[int, Region]]] = {}
    for index, op in enumerate(lowered.ops):
        for region in op.reads:
            if region.buffer.space is Space.WEIGHT:
                readers.setdefault(region.buffer, []).append((index, region))
    memory = _Occupied()
    ops: list[Op] = []
    for op in lowered.ops:
        if op.opcode is not Opcode.LOAD or op.writes[0].buffer.space is not Space.WEIGHT:
            ops.append(op)
            continue
        region, = op.writes
        base = lowered.placed[region.buffer]
        cuts = memory.changes(base + region.start, base + region.stop)
        ops += _pieces(op, [cut - base for cut in cuts], config)
        memory.fill(region, base, readers.get(region.buffer, ()))
    return replace(lowered, ops=tuple(ops))


class _Occupied:
    """Which op is the last one to read the units of a memory, as ranges in order: each from its
    start to the next one's."""

    def __init__(self) -> None:
        self._starts = [0]
        self._last = [-1]   # none

    def changes(self, start: int, stop: int) -> list[int]:
        """Units between two where that is another op than of the unit before."""
        first, end = bisect_left(self._starts, start + 1), bisect_left(self._starts, stop)
        return [self._starts[number] for number in range(first, end)
                if self._last[number] != self._last[number - 1]]

    def fill(self, written: Region, base: int, readers: Iterable[tuple[int, Region]]) -> None:
        """Units of a buffer at ``base`` are written, and then read by ``readers``, in order."""
        self._set(written, base, -1)
        for index, region in readers:
            self._set(region, base, index)

    def _set(self, region: Region, base: int, index: int) -> None:
        starts, last = self._starts, self._last
        for start in region.starts(base):
            stop = start + region.stop - region.start
            first, end = bisect_left(starts, start), bisect_left(starts, stop + 1)
            behind = last[end - 1]
            starts[first:end] = [start, stop]
            last[first:end] = [index, behind]


def _pieces(op: Op, cuts: Iterable[int], config: AcceleratorConfig) -> Iterator[Op]:
    """A load that is cut before these units of its buffer, or as near to them that each piece
    begins with a beat in external memory."""
    (target,), unit_bytes = op.writes, _unit_bytes(op)
    align = config.axi_bytes // gcd(config.axi_bytes, unit_bytes)
    least = max(config.weight_depth // _LEAST_PART, _LEAST_COMMANDS * COMMAND_BYTES // unit_bytes)
    bounds = [target.start]
    for cut in cuts:
        cut -= (cut - target.start) % align
        if cut - bounds[-1] >= least and target.stop - cut >= least:
            bounds.append(cut)
    if len(bounds) == 1:
        yield op
        return
    for start, stop in pairwise([*bounds, target.stop]):
        yield _part(op, range(start, stop))


def _unit_bytes(op: Op) -> int:
    """Of a load, in external memory."""
    (source,), (target,) = op.reads, op.writes
    return (source.stop - source.start) // (target.stop - target.start)


def _part(op: Op, units: range) -> Op:
    """The load of some units of a constant."""
    (source,), (target,), unit_bytes = op.reads, op.writes, _unit_bytes(op)
    first, last = (source.start + (unit - target.start) * unit_bytes
                   for unit in (units.start, units.stop))
    return replace(
        op, text=f"{op.text} rows {units.start}..{units.stop - 1}",
        fields=op.fields | {"units": len(units), "address": Address(source.buffer, first),
                            "local_address": Address(target.buffer, units.start)},
        reads=(Region(source.buffer, first, last),),
        writes=(Region(target.buffer, units.start, units.stop),))
