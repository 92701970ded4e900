"""Brings programs into a device's memory, unless they are there already."""

import hashlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from weft.compiler import Program

from .device import Device

__all__ = ["Keeper", "load_programs", "programs_digest"]


@runtime_checkable
class Keeper(Protocol):
    """A device whose memory outlives a session."""

    def holds(self, digest: bytes, end: int) -> bool:
        """Whether the memory up to ``end`` is as :meth:`remember` was told of last, with the same
        digest, but for what programs write there."""
        ...

    def remember(self, digest: bytes | None, end: int = 0) -> None:
        """Note that the memory up to ``end`` holds what has this digest of 32 bytes; with
        :py:`None` that it no longer holds what it did."""
        ...


def programs_digest(programs: Sequence[Program]) -> bytes:
    """Of all that is to lie in memory before programs run, and where."""
    digest = hashlib.sha256()
    for program in programs:
        for address, data in program.image:
            digest.update(f"{address} {len(data)} ".encode())
            digest.update(data)
    return digest.digest()


def load_programs(device: Device, programs: Sequence[Program]) -> bool:
    """Copies constants and command streams of ``programs`` to the memory of ``device``. Of one that
    keeps them and has them from a session before, nothing is sent.

    Returns
    -------
    :class:`bool`
        Whether they were sent.
    """
    digest, end = programs_digest(programs), max(program.memory_bytes for program in programs)
    keeper = device if isinstance(device, Keeper) else None
    if keeper is not None:
        if keeper.holds(digest, end):
            return False
        keeper.remember(None)
    for program in programs:
        for address, data in program.image:
            device.write_memory(address, data)
    if keeper is not None:
        keeper.remember(digest, end)
    return True
