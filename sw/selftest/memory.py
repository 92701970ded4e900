"""Tests of a device's memory, which name the line that is broken."""

import random
from collections.abc import Iterator
from typing import Protocol

from weft.errors import WeftError

__all__ = ["BLOCK_BYTES", "Flaw", "Memory", "check_address_lines", "check_data_lines",
           "check_random_data"]


BLOCK_BYTES = 1024
"""Of random data, which lie in so large blocks."""

_RECALL_BYTES = 64
"""So few that they are read before a memory without refresh has lost them."""

_SEED = 1


class Flaw(WeftError):
    """Something on the board that is not as it must be."""


class Memory(Protocol):
    """The part of a :class:`~weft.runtime.device.Device` that is tested here."""

    @property
    def memory_bytes(self) -> int: ...

    def write_memory(self, address: int, data: bytes) -> None: ...

    def read_memory(self, address: int, count: int) -> bytes: ...

    def pause(self, seconds: float) -> None: ...


def check_data_lines(memory: Memory, beat_bytes: int) -> str:
    """Writes a walking one, and a walking zero, into words of ``beat_bytes``.

    Returns
    -------
    :class:`str`
        What was tested.

    Raises
    ------
    Flaw
        If a bit is wrong; it names all data lines that are stuck.
    """
    bits = 8 * beat_bytes
    ones = [1 << bit for bit in range(bits)]
    words = ones + [~word & (1 << bits) - 1 for word in ones]
    found = _exchange(memory, b"".join(word.to_bytes(beat_bytes, "little") for word in words))
    low = high = 0     # wrong bits that read as 0, as 1
    for number, word in enumerate(words):
        got = int.from_bytes(found[number * beat_bytes:][:beat_bytes], "little")
        low |= word & ~got
        high |= got & ~word
    faults = [f"{_lines(which)} {text}" for which, text in (
        (low & ~high, "read as 0"), (high & ~low, "read as 1"),
        (low & high, "read as 0 and as 1 where the other was written"))if which]
    if faults:
        raise Flaw(f"Memory has broken data lines, of {bits}: {'; '.join(faults)}")
    return f"{bits} lines, walking ones and zeros"


def _lines(bits: int) -> str:
    numbers = [str(bit) for bit in range(bits.bit_length()) if bits >> bit & 1]
    return f"line{'s' * (len(numbers) > 1)} {', '.join(numbers)}"


def _exchange(memory: Memory, data: bytes) -> bytes:
    memory.write_memory(0, data)
    return memory.read_memory(0, len(data))


def check_address_lines(memory: Memory) -> str:
    """Writes a different byte at zero and at each power of 2, forwards and backwards.

    Returns
    -------
    :class:`str`
        What was tested.

    Raises
    ------
    Flaw
        If a byte is found at another place; it names the address line.
    """
    lines = (memory.memory_bytes - 1).bit_length()
    places = [0, *(1 << line for line in range(lines))]
    # Whichever of two places that are one is written last, the other one shows it.
    for order in (places, places[::-1]):
        marks = {place: 0x55 ^ 3 * number for number, place in enumerate(places)}
        for place in order:
            memory.write_memory(place, bytes([marks[place]]))
        for number, place in enumerate(places):
            got, = memory.read_memory(place, 1)
            if got == marks[place]:
                continue
            other = next((other for other in places if marks[other] == got), None)
            if other is None:
                raise Flaw(f"Memory at {place:#x} must hold {marks[place]:#04x}, as it was "
                           f"written, not {got:#04x}")
            line = (number or places.index(other)) - 1
            raise Flaw(f"Memory has a broken address line, {line} of {lines}: what is written at "
                       f"{other:#x} is found at {place:#x}")
    return f"{lines} lines"


def check_random_data(memory: Memory, sample_bytes: int, *, hold_seconds: float = 0) -> str:
    """Writes random data to blocks all over the memory, and reads them once all are written.

    Parameters
    ----------
    sample_bytes : :class:`int`
        How much of the memory, at least; the first and the last block are part of it.
    hold_seconds : :class:`float`
        Of a memory that has to be refreshed: how long it is left alone in between.

    Returns
    -------
    :class:`str`
        What was tested.

    Raises
    ------
    Flaw
        If a byte is wrong; it names the first and the number of those that are, and the refresh if
        it is to blame.
    """
    blocks = list(_blocks(memory.memory_bytes, sample_bytes))
    data = {block: random.Random(_SEED + block).randbytes(BLOCK_BYTES) for block in blocks}
    for block in blocks:
        memory.write_memory(block, data[block])
    if hold_seconds:
        memory.pause(hold_seconds)
    wrong = [(block + offset, written, got) for block in blocks
             for offset, (written, got) in enumerate(zip(
                 data[block], memory.read_memory(block, BLOCK_BYTES), strict=True))
             if written != got]
    total = len(blocks) * BLOCK_BYTES
    held = f", held for {hold_seconds:g} s" if hold_seconds else ""
    if wrong:
        address, written, got = wrong[0]
        lost = f"Memory lost {len(wrong):,} of {total:,} random bytes"
        start = address - address % _RECALL_BYTES
        around = data[address - address % BLOCK_BYTES][start % BLOCK_BYTES:][:_RECALL_BYTES]
        if hold_seconds and _forgets(memory, start, around, hold_seconds):
            raise Flaw(f"{lost}, which it keeps if they are read at once and not "
                       f"{hold_seconds:g} s later: its refresh does not work")
        raise Flaw(f"{lost}: the first at {address:#x}, {written:#04x} written and {got:#04x} read")
    return f"{total:,} of {memory.memory_bytes:,} bytes{held}"


def _forgets(memory: Memory, address: int, data: bytes, seconds: float) -> bool:
    """Whether ``data`` is right if it is read at once, and wrong after so long."""
    memory.write_memory(address, data)
    if memory.read_memory(address, len(data)) != data:
        return False
    memory.pause(seconds)
    return memory.read_memory(address, len(data)) != data


def _blocks(memory_bytes: int, sample_bytes: int) -> Iterator[int]:
    """Addresses of blocks, evenly spread."""
    there = memory_bytes // BLOCK_BYTES
    count = min(there, max(2, -(-sample_bytes // BLOCK_BYTES)))
    for number in range(count):
        yield number * (there - 1) // max(1, count - 1) * BLOCK_BYTES
