"""The tests of a memory name what is broken in one."""

import math
import re

import pytest

from weft.selftest.memory import (
    BLOCK_BYTES,
    Flaw,
    check_address_lines,
    check_data_lines,
    check_random_data,
)


class BrokenMemory:
    """A memory of 8-byte words with lines that can be stuck or lost.

    Parameters
    ----------
    low, high : :class:`int`
        Data lines, as bits, that read as 0, as 1.
    lost : :class:`int`
        Bits of an address that are taken for zero.
    decay : :class:`range`
        Addresses whose bytes lose a bit when any other byte is read.
    retention : :class:`float`
        Seconds until a byte that is not read loses a bit. A byte takes 10 us to write or read.
    """

    def __init__(self, low=0, high=0, lost=0, decay=range(0), retention=math.inf):
        self._now, self._retention = 0.0, retention
        self._touched = dict.fromkeys(range(32 * 1024), 0.0)
        self._bytes = bytearray(32 * 1024)
        self._low, self._high, self._lost, self._decay = (
            low.to_bytes(8, "little"), high.to_bytes(8, "little"), lost, decay)

    @property
    def memory_bytes(self):
        return len(self._bytes)

    def write_memory(self, address, data):
        for place, byte in enumerate(data, address):
            self._bytes[place & ~self._lost] = byte
            self._touched[place] = self._now
            self._now += 1e-5

    def read_memory(self, address, count):
        def byte(place):
            if self._now - self._touched[place] > self._retention:
                self._bytes[place & ~self._lost] ^= 8
            self._touched[place] = self._now
            self._now += 1e-5
            stored = self._bytes[place & ~self._lost] ^ (4 if place in self._decay else 0)
            return stored & ~self._low[place % 8] | self._high[place % 8]
        return bytes(map(byte, range(address, address + count)))

    def pause(self, seconds):
        self._now += seconds


def test_a_sound_memory_passes():
    memory = BrokenMemory()
    assert check_data_lines(memory, 8) == "64 lines, walking ones and zeros"
    assert check_address_lines(memory) == "15 lines"
    assert check_random_data(memory, 5000) == "5,120 of 32,768 bytes"
    assert check_random_data(memory, 1 << 20) == "32,768 of 32,768 bytes"


@pytest.mark.parametrize("line", [0, 7, 13, 63])
def test_a_stuck_data_line_is_named(line):
    for fault, text in (({"low": 1 << line}, "read as 0"), ({"high": 1 << line}, "read as 1")):
        with pytest.raises(Flaw, match=f"^Memory has broken data lines, of 64: line {line} "
                                        f"{text}$"):
            check_data_lines(BrokenMemory(**fault), 8)


def test_several_stuck_data_lines_are_named():
    with pytest.raises(Flaw, match=r"^Memory has broken data lines, of 64: lines 3, 40 read as 0; "
                                    "line 5 read as 1$"):
        check_data_lines(BrokenMemory(low=1 << 40 | 1 << 3, high=1 << 5), 8)


@pytest.mark.parametrize("line", range(15))
def test_a_lost_address_line_is_named(line):
    message = f"Memory has a broken address line, {line} of 15: what is written at "
    with pytest.raises(Flaw, match=f"^{re.escape(message)}0x"):
        check_address_lines(BrokenMemory(lost=1 << line))


def test_an_address_line_is_not_blamed_for_data():
    with pytest.raises(Flaw, match=r"^Memory at 0x0 must hold 0x55, as it was written, not 0xd5$"):
        check_address_lines(BrokenMemory(high=0x80))


@pytest.mark.parametrize("place", [0, 32 * 1024 - 1])
def test_lost_bytes_are_counted(place):
    with pytest.raises(Flaw, match=f"^Memory lost 1 of 2,048 random bytes: the first at "
                                    f"{place:#x}, 0x.. written and 0x.. read$"):
        check_random_data(BrokenMemory(decay=range(place, place + 1)), 2 * BLOCK_BYTES)


@pytest.mark.parametrize("retention", [0.01, 0.2])
def test_a_refresh_that_does_not_work_is_named(retention):
    """Whether bytes are lost while others are written, or only when all are left alone."""
    memory = BrokenMemory(retention=retention)
    with pytest.raises(Flaw, match=r"^Memory lost [\d,]+ of 4,096 random bytes, which it keeps if "
                                   r"they are read at once and not 0\.3 s later: its refresh does "
                                   r"not work$"):
        check_random_data(memory, 4096, hold_seconds=0.3)


def test_a_memory_that_keeps_its_bytes_passes():
    memory = BrokenMemory(retention=0.5)
    assert check_random_data(memory, 4096, hold_seconds=0.3) == \
        "4,096 of 32,768 bytes, held for 0.3 s"


@pytest.mark.parametrize("fault", [{"low": 1 << 3}, {"decay": range(32 * 1024)}])
def test_the_refresh_is_not_blamed_for_another_fault(fault):
    with pytest.raises(Flaw, match=r"^Memory lost [\d,]+ of 4,096 random bytes: the first at 0x"):
        check_random_data(BrokenMemory(**fault), 4096, hold_seconds=0.3)
