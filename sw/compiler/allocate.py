"""Every buffer gets an address."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from weft.config import AcceleratorConfig
from weft.errors import CompileError

from .ops import Buffer, Lowered, Op, Space

__all__ = ["Allocation", "allocate", "SECTION_BYTES"]


SECTION_BYTES = 64
"""Alignment of sections in external memory: a command, and the widest beat."""

_PAGE_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """Addresses of all buffers, and the size of external memory.

    Attributes
    ----------
    addresses : :class:`dict`
        By buffer: units on chip, bytes in external memory.
    memory_bytes : :class:`int`
        External memory in use from address 0, whole pages.
    peak_words : :class:`int`
        Activation words in use at most.
    settled : :class:`bool`
        No constant overwrites another: all are still on chip at the end.
    """

    addresses: dict[Buffer, int]
    memory_bytes: int
    peak_words: int
    settled: bool


def allocate(lowered: Lowered, config: AcceleratorConfig, *,
             streams: Sequence[Buffer], base: int = 0) -> Allocation:
    """Addresses for all buffers of ``lowered``, and for the command ``streams``, which come first
    in external memory, from ``base`` on.

    Activations stay where the plan put them: what a later command overwrites too early by the
    clock, the schedule holds back. Constants fill their memories round and round.

    Raises
    ------
    CompileError
        If external memory is too small, or a layer holds on to more constants than fit.
    """
    addresses = dict(lowered.placed)
    lives = _lifetimes(lowered.ops)
    settled = True
    for space in Space:
        if space.ring:
            of_space = [life for life in lives if life.buffer.space is space]
            settled &= (sum(life.buffer.size for life in of_space) <= space.depth(config))
            addresses |= _ring(of_space, space, config)

    end = base
    for buffer in (*streams, *lowered.external):
        end += -end % SECTION_BYTES
        addresses[buffer] = end
        end += buffer.size
    memory_bytes = end + -end % _PAGE_BYTES
    if memory_bytes > Space.EXTERNAL.depth(config):
        raise CompileError(f"Model needs {memory_bytes} bytes of external memory, "
                           f"{config.axi_addr_width} address bits reach "
                           f"{Space.EXTERNAL.depth(config)}")
    peak = max((addresses[buffer] + buffer.size for buffer in lowered.placed), default=0)
    return Allocation(addresses=addresses, memory_bytes=memory_bytes, peak_words=peak,
                      settled=settled)


@dataclass(frozen=True)
class _Life:
    buffer: Buffer
    first: int  # index of the op that writes it
    last: int   # and of the one that uses it last


def _lifetimes(ops: Sequence[Op]) -> list[_Life]:
    """Of all constants on chip, in the order of their loads."""
    spans: dict[Buffer, tuple[int, int]] = {}
    for index, op in enumerate(ops):
        for region in (*op.reads, *op.writes):
            if region.buffer.space.ring:
                first, _ = spans.get(region.buffer, (index, index))
                spans[region.buffer] = (first, index)
    return [_Life(buffer, first, last) for buffer, (first, last) in spans.items()]


def _ring(lives: Iterable[_Life], space: Space, config: AcceleratorConfig) -> dict[Buffer, int]:
    """One buffer after the other, over what is no longer in use; one that would run over the end
    starts again at 0."""
    depth = space.depth(config)
    placed: dict[Buffer, int] = {}
    live: list[_Life] = []
    head = 0
    for life in lives:
        live = [other for other in live if other.last >= life.first]
        address = _free(head, life.buffer.size, live, placed, depth)
        if address is None:
            lanes = space.unit_lanes(config)
            needed = life.buffer.size + sum(other.buffer.size for other in live)
            raise CompileError(f"Layer {life.buffer.layer!r} needs {needed * lanes} bytes of "
                               f"{space.value.replace('_', ' ')} memory, {depth * lanes} are "
                               f"available")
        placed[life.buffer] = address
        live.append(life)
        head = address + life.buffer.size
    return placed


def _free(head: int, size: int, live: Sequence[_Life], placed: dict[Buffer, int],
          depth: int) -> int | None:
    """The next address from ``head`` on, or else from 0, with room."""
    taken = sorted((placed[life.buffer], placed[life.buffer] + life.buffer.size)
                   for life in live)
    for address in (head, 0):
        for start, stop in taken:
            if address + size <= start:
                break
            address = max(address, stop) if stop > address else address
        if address + size <= depth:
            return address
    return None
