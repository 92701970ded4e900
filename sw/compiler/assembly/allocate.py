"""Every buffer gets an address."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from weft.compiler.misfit import MisfitError
from weft.compiler.ops import Buffer, Lowered, Space
from weft.errors import CompileError
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.limits import PAGE_BYTES

__all__ = ["Allocation", "allocate", "SECTION_BYTES"]


SECTION_BYTES = 64
"""Alignment of sections in external memory: a command, and the widest beat."""


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """Addresses of all buffers, and the size of external memory.

    Attributes
    ----------
    addresses : :class:`dict`
        By buffer: units on chip, bytes in external memory.
    memory_bytes : :class:`int`
        External memory in use from address 0, whole sections.
    peak_words : :class:`int`
        Activation words in use at most.
    """

    addresses: dict[Buffer, int]
    memory_bytes: int
    peak_words: int


def allocate(lowered: Lowered, config: AcceleratorConfig, *,
             streams: Sequence[Buffer], base: int = 0) -> Allocation:
    """Addresses for all buffers of ``lowered``, and for the command ``streams``, which come first
    in external memory, from the first page that begins at ``base`` or behind it.

    What is on chip has one already: what a later command overwrites too early by the clock, the
    schedule holds back.

    Raises
    ------
    MisfitError
        If external memory is too small; it names the layers that take the most of it.
    """
    addresses = dict(lowered.placed)
    end = base + -base % PAGE_BYTES
    for buffer in (*streams, *lowered.external):
        end += -end % SECTION_BYTES
        addresses[buffer] = end
        end += buffer.size
    memory_bytes = end + -end % SECTION_BYTES
    depth = Space.EXTERNAL.depth(config)
    if memory_bytes > depth:
        error = CompileError(f"Model needs {memory_bytes} bytes of external memory, "
                             f"{config.axi_addr_width} address bits reach {depth}")
        raise MisfitError(dict.fromkeys(_largest(lowered, memory_bytes - depth), error))
    peak = max((address + buffer.size for buffer, address in lowered.placed.items()
                if buffer.space is Space.ACTIVATION), default=0)
    return Allocation(addresses=addresses, memory_bytes=memory_bytes, peak_words=peak)


def _largest(lowered: Lowered, excess: int) -> list[int]:
    """The layers that take the most external memory, for their constants and what they read and
    write: as many as it takes to save ``excess`` bytes without them."""
    taken: dict[int, set[Buffer]] = defaultdict(set)
    for op in lowered.ops:
        if op.layer is not None:
            taken[op.layer].update(region.buffer for region in (*op.reads, *op.writes)
                                   if region.buffer.space is Space.EXTERNAL)
    sizes = {layer: sum(buffer.size for buffer in buffers) for layer, buffers in taken.items()}
    found: list[int] = []
    for layer in sorted(sizes, key=lambda layer: -sizes[layer]):
        if excess <= 0:
            break
        found.append(layer)
        excess -= sizes[layer]
    return found or [0]
