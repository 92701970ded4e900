"""Second pass: every buffer gets an address."""

from collections.abc import Callable, Iterable, Sequence
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
    """

    addresses: dict[Buffer, int]
    memory_bytes: int
    peak_words: int


@dataclass(frozen=True)
class _Life:
    buffer: Buffer
    first: int  # index of the op that writes it
    last: int   # and of the one that uses it last

    def meets(self, other: "_Life") -> bool:
        return self.first <= other.last and other.first <= self.last


def allocate(lowered: Lowered, config: AcceleratorConfig, *,
             commands: Buffer) -> Allocation:
    """Addresses for all buffers of ``lowered``, and for the ``commands`` section at address 0.

    Tensors share the activation memory by their lifetimes in stream order: what a later command
    overwrites too early by the clock, the schedule holds back. The weight and parameter memories
    are filled round and round.

    Raises
    ------
    CompileError
        If the tensors that a layer needs at a time do not fit, or external memory is too small.
    """
    lives = _lifetimes(lowered.ops)
    addresses: dict[Buffer, int] = {}
    tensors = [life for life in lives if life.buffer.space is Space.ACTIVATION]
    addresses |= _share(tensors, config)
    for space in (Space.WEIGHT, Space.PARAMETER):
        addresses |= _ring([life.buffer for life in lives if life.buffer.space is space],
                           space.depth(config))

    end = 0
    for buffer in (commands, *lowered.external):
        end += -end % SECTION_BYTES
        addresses[buffer] = end
        end += buffer.size
    memory_bytes = end + -end % _PAGE_BYTES
    if memory_bytes > Space.EXTERNAL.depth(config):
        raise CompileError(f"Model needs {memory_bytes} bytes of external memory, "
                           f"{config.axi_addr_width} address bits reach "
                           f"{Space.EXTERNAL.depth(config)}")
    peak = max((addresses[life.buffer] + life.buffer.size for life in tensors), default=0)
    return Allocation(addresses=addresses, memory_bytes=memory_bytes, peak_words=peak)


def _lifetimes(ops: Sequence[Op]) -> list[_Life]:
    """Of all on-chip buffers, in the order of their first use."""
    spans: dict[Buffer, tuple[int, int]] = {}
    for index, op in enumerate(ops):
        for region in (*op.reads, *op.writes):
            if region.buffer.space is not Space.EXTERNAL:
                first, _ = spans.get(region.buffer, (index, index))
                spans[region.buffer] = (first, index)
    return [_Life(buffer, first, last) for buffer, (first, last) in spans.items()]


def _share(lives: list[_Life], config: AcceleratorConfig) -> dict[Buffer, int]:
    depth = Space.ACTIVATION.depth(config)
    lanes = Space.ACTIVATION.unit_lanes(config)
    # No order is best for all graphs: the first leaves the most room between a tensor and what
    # comes next, the second packs closer.
    orders: tuple[Callable[[_Life], object], ...] = (
        lambda life: life.first,
        lambda life: (-life.buffer.size, life.first),
        lambda life: (life.first - life.last, -life.buffer.size),
    )
    for order in orders:
        placed = _first_fit(sorted(lives, key=order), depth)  # type: ignore[arg-type]
        if placed is not None:
            return placed

    worst, needed = None, 0
    for life in lives:
        at_once = sum(other.buffer.size for other in lives if other.first <= life.first
                      <= other.last)
        if at_once > needed:
            worst, needed = life.buffer, at_once
    assert worst is not None
    if needed > depth:
        raise CompileError(f"Layer {worst.layer!r} needs {needed * lanes} bytes of activation "
                           f"memory, {depth * lanes} are available")
    raise CompileError(f"Layer {worst.layer!r} needs {needed * lanes} bytes of activation memory "
                       f"in one piece, the {depth * lanes} available are too fragmented")


def _first_fit(lives: Iterable[_Life], depth: int) -> dict[Buffer, int] | None:
    """Each buffer at the lowest address that is free for its whole life; None if one has none."""
    placed: list[tuple[_Life, int]] = []
    for life in lives:
        address = 0
        for other, start in sorted(placed, key=lambda entry: entry[1]):
            if not life.meets(other):
                continue
            if address + life.buffer.size <= start:
                break
            address = max(address, start + other.buffer.size)
        if address + life.buffer.size > depth:
            return None
        placed.append((life, address))
    return {life.buffer: address for life, address in placed}


def _ring(buffers: Iterable[Buffer], depth: int) -> dict[Buffer, int]:
    """One buffer after the other; one that would run over the end starts again at 0."""
    placed: dict[Buffer, int] = {}
    head = 0
    for buffer in buffers:
        if head + buffer.size > depth:
            head = 0
        placed[buffer] = head
        head += buffer.size
    return placed
