"""Constants of the same contents, loaded once.

The time steps of a recurrent layer have the same weights, parameters and tables. Where all that
differs of a memory fits into it, each is loaded at its first use and stays for the others; where it
does not, they follow each other as any constants do.
"""

from collections.abc import Mapping
from dataclasses import replace

from weft.compiler.ops import Address, Buffer, Lowered, Op, Quotient, Space
from weft.hw.isa.commands import Opcode
from weft.hw.isa.config import AcceleratorConfig

__all__ = ["merge_constants"]


def merge_constants(lowered: Lowered, config: AcceleratorConfig) -> Lowered:
    """The same without loads of what another load has left on chip for good."""
    first: dict[Buffer, Buffer] = {}    # of each buffer, that of the same contents
    known: dict[tuple[Space, object, bytes], Buffer] = {}
    for op in lowered.ops:
        for region in op.writes:
            target = region.buffer
            if not target.space.ring or target in first:
                continue
            first[target] = target
            source = op.reads[0].buffer
            if op.opcode is Opcode.LOAD and source.data is not None:
                contents = source.data[op.reads[0].start:op.reads[0].stop]
                first[target] = known.setdefault((target.space, op.fields["memory"], contents),
                                                 target)
    totals = dict.fromkeys(Space, 0)
    for buffer, other in first.items():
        if buffer is other:
            totals[buffer.space] += buffer.size
    again = {buffer: other for buffer, other in first.items() if buffer is not other
             and totals[buffer.space] <= buffer.space.depth(config)}
    if not again:
        return lowered
    ops = tuple(_moved(op, again) for op in lowered.ops
                if not any(region.buffer in again for region in op.writes))
    needed = {region.buffer for op in ops for region in op.reads}
    return replace(lowered, ops=ops, external=tuple(
        buffer for buffer in lowered.external if buffer.data is None or buffer in needed))


def _moved(op: Op, again: Mapping[Buffer, Buffer]) -> Op:
    """The op with other buffers in the place of those that are not loaded."""
    # A MATRIX that keeps its sums names parameters that it does not read.
    if not any(region.buffer in again for region in op.reads) and not any(
            isinstance(value, Address) and value.buffer in again for value in op.fields.values()):
        return op

    def address(given: Address) -> Address:
        return Address(again.get(given.buffer, given.buffer), given.offset)

    fields = dict(op.fields)
    for name, value in op.fields.items():
        if isinstance(value, Address):
            fields[name] = address(value)
        elif isinstance(value, Quotient):
            fields[name] = Quotient(address(value.address), value.divisor)
    return replace(op, fields=fields, reads=tuple(
        replace(region, buffer=again.get(region.buffer, region.buffer))
        for region in op.reads))
