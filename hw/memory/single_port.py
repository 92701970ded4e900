"""A memory with one port, to read or to write, which a board may replace by its large memories."""

from typing import Any

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from weft.hw.lib.replacement import replacement

__all__ = ["SinglePortMemory"]


class SinglePortMemory(wiring.Component):
    """``depth`` words of ``word_bytes`` bytes behind one port.

    Tools do not infer the large memories of some FPGAs. So a platform may define
    ``get_single_port_memory(memory)``, which returns a component to elaborate instead, or ``None``
    for the portable description. It must keep ports and latency; a word is undefined before it is
    written.

    Parameters
    ----------
    depth : :class:`int`
        Words, at least 2.
    word_bytes : :class:`int`
        Bytes of a word, at least 1.

    Members
    -------
    address : :py:`In(ceil_log2(depth))`
    enable : :py:`In(1)`
        Reads or writes in this cycle.
    write : :py:`In(word_bytes)`
        Bytes to write; zero to read.
    write_data : :py:`In(8 * word_bytes)`
    read_data : :py:`Out(8 * word_bytes)`
        The word that was read, a cycle later and until the memory is enabled again.
    """

    def __init__(self, *, depth: int, word_bytes: int):
        if not isinstance(depth, int) or depth < 2:
            raise ValueError(f"Depth must be an integer of at least 2, not {depth!r}")
        if not isinstance(word_bytes, int) or word_bytes < 1:
            raise ValueError(f"Word bytes must be a positive integer, not {word_bytes!r}")
        self._depth = depth
        self._word_bytes = word_bytes
        super().__init__({
            "address":    In(ceil_log2(depth)),
            "enable":     In(1),
            "write":      In(word_bytes),
            "write_data": In(8 * word_bytes),
            "read_data":  Out(8 * word_bytes),
        })

    @property
    def depth(self) -> int:
        return self._depth

    @property
    def word_bytes(self) -> int:
        return self._word_bytes

    def elaborate(self, platform: Any) -> Any:
        substitute = replacement(platform, "get_single_port_memory", self)
        if substitute is not None:
            return substitute

        m = Module()
        m.submodules.storage = storage = memory.Memory(
            shape=unsigned(8 * self._word_bytes), depth=self._depth, init=[])
        write = storage.write_port(granularity=8)
        read = storage.read_port()
        m.d.comb += [
            write.addr.eq(self.address),
            write.data.eq(self.write_data),
            write.en.eq(Mux(self.enable, self.write, 0)),
            read.addr.eq(self.address),
            read.en.eq(self.enable & ~self.write.any()),
            self.read_data.eq(read.data),
        ]
        return m
