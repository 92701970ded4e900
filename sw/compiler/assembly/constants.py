"""Where constants lie on chip: each memory for them is a ring buffer.

What was loaded first is overwritten first. Constants that take more than half of their memory
alternate between its two ends, so that each overwrites as little as possible of the one before.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from weft.compiler.ops import Buffer, Lowered, Op, Space
from weft.errors import CompileError
from weft.hw.isa.commands import Opcode
from weft.hw.isa.config import AcceleratorConfig

__all__ = ["place_constants"]


def place_constants(lowered: Lowered, config: AcceleratorConfig) -> Lowered:
    """The same with addresses for all constants.

    Raises
    ------
    CompileError
        If a layer uses more constants at a time than fit.
    """
    lives = _lifetimes(lowered.ops)
    placed: dict[Buffer, int] = {}
    settled = True
    for space in Space:
        if space.ring:
            of_space = [life for life in lives if life.buffer.space is space]
            settled &= sum(life.buffer.size for life in of_space) <= space.depth(config)
            placed |= _ring(of_space, space, config)
    return replace(lowered, placed=lowered.placed | placed, settled=settled)


@dataclass(frozen=True)
class _Life:
    buffer: Buffer
    first: int  # index of the op that writes it
    last: int   # and of the one that uses it last


def _lifetimes(ops: Sequence[Op]) -> list[_Life]:
    """Of all constants on chip, in the order of their loads."""
    spans: dict[Buffer, tuple[int, int]] = {}
    for index, op in enumerate(ops):
        # A load writes constants at most, and a store has none; both may have many regions. What a
        # TURN makes of a tensor lies there as constants do.
        regions = {Opcode.LOAD: op.writes, Opcode.TURN: op.writes, Opcode.STORE: ()}.get(
            op.opcode, (*op.reads, *op.writes))
        for region in regions:
            if region.buffer.space.ring:
                first, _ = spans.get(region.buffer, (index, index))
                spans[region.buffer] = (first, index)
    return [_Life(buffer, first, last) for buffer, (first, last) in spans.items()]


def _ring(lives: Iterable[_Life], space: Space, config: AcceleratorConfig) -> dict[Buffer, int]:
    """Addresses of buffers one behind the other, over those no longer in use. One that would cross
    the end of the memory starts at 0 or ends at the end, whichever overlaps the one before less."""
    placed: dict[Buffer, int] = {}
    head = before = 0
    for together in _clusters(lives):
        # From where the last one ended or, if they do not fit there together, from the start.
        misfit: _Life | None = None
        for first in (head, 0):
            addresses, misfit = _row(together, space.depth(config), first, before)
            if misfit is None:
                break
        if misfit is not None:
            unit_bytes = space.unit_data_bytes(config)
            needed = sum(life.buffer.size for life in together
                         if life.first <= misfit.first <= life.last)
            raise CompileError(f"Layer {misfit.buffer.layer!r} needs {needed * unit_bytes} bytes "
                               f"of {space.value.replace('_', ' ')} memory, "
                               f"{space.depth(config) * unit_bytes} are available")
        placed |= addresses
        last = together[-1].buffer
        before = addresses[last]
        head = before + last.size
    return placed


def _clusters(lives: Iterable[_Life]) -> Iterator[list[_Life]]:
    """Those that follow each other while one of them is in use."""
    cluster: list[_Life] = []
    for life in lives:
        if cluster and all(other.last < life.first for other in cluster):
            yield cluster
            cluster = []
        cluster.append(life)
    if cluster:
        yield cluster


def _row(lives: Iterable[_Life], depth: int, head: int,
         before: int) -> tuple[dict[Buffer, int], _Life | None]:
    """Addresses of buffers that begin at ``head``, behind one at ``before``; or the first that
    there is no room for."""
    placed: dict[Buffer, int] = {}
    live: list[_Life] = []
    for life in lives:
        size = life.buffer.size
        live = [other for other in live if other.last >= life.first]
        taken = sorted((placed[other.buffer], placed[other.buffer] + other.buffer.size)
                       for other in live)
        again = (0, depth - size) if size - before <= head - depth + size else (depth - size, 0)
        address = _free((head, *again), size, taken, depth)
        if address is None:
            return {}, life
        placed[life.buffer] = before = address
        live.append(life)
        head = address + size
    return placed, None


def _free(starts: Sequence[int], size: int, taken: Sequence[tuple[int, int]],
          depth: int) -> int | None:
    """The next address with room, from the first of ``starts`` on or else from the others."""
    for address in starts:
        for start, stop in taken:
            if address + size <= start:
                break
            address = max(address, stop)
        if address + size <= depth:
            return address
    return None
