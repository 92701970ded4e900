"""The host's bytes in an SDRAM: single ones, between the runs of an accelerator."""

from typing import Any

from amaranth import *
from amaranth.lib import data

from weft.hw.lib.promise import promised
from weft.hw.lib.queue import Queue

__all__ = ["HostBytes"]


class HostBytes:
    """Byte accesses, one at a time: those that write first.

    ``wants`` a run of one beat for ``address``, which ``stores`` or not; ``taken`` starts it, and
    it ends as ``written`` or, with its ``beat``, ``arrived``. What is stored are the bytes
    ``enabled`` of ``stored``. While it ``writes``, nobody else may: bytes come without being asked
    for.

    A chip without byte masks gets whole beats. So a byte takes two runs there: one that reads the
    beat, and one that writes it with the byte in its place.

    Parameters
    ----------
    m : :class:`Module`
        That it is a part of.
    port : :class:`~weft.boards.system.staging.ByteSignature`
        As its target.
    byte_bits : :class:`int`
        Logarithm of the bytes of a beat.
    depth : :class:`int`
        Bytes that may wait.
    byte_masks : :class:`bool`
        See :class:`~weft.boards.sdram.chip.SdramChip`.
    """

    def __init__(self, m: Module, port: Any, byte_bits: int, *, depth: int, byte_masks: bool):
        self.taken   = Signal()
        self.written = Signal()
        self.arrived = Signal()
        self.beat    = Signal(8 << byte_bits)
        self.byte    = Signal(8, reset_less=True)
        self.lane    = Signal(byte_bits, reset_less=True)
        m.submodules.host_bytes = pending = Queue(
            shape=data.StructLayout({"address": len(port.write_address), "byte": 8}),
            depth=depth)
        writing = promised(m, pending.i, name="host_writing",
                           because="bytes are far apart, and take precedence")
        busy = Signal()
        self.writes  = pending.o.valid
        fetching: Value = Const(0)  # a run that reads is for a write
        if byte_masks:
            self.stores  = self.writes
            self.stored  = self.byte.replicate(1 << byte_bits)
            self.enabled = 1 << self.lane
        else:
            fetching = self._merge(m, byte_bits)
        self.wants   = ~busy & (pending.o.valid | (port.read & ~port.read_ready))
        self.address = Mux(pending.o.valid, pending.o.p.address, port.read_address)
        m.d.comb += [
            writing.valid.eq(port.write),
            writing.p.address.eq(port.write_address),
            writing.p.byte.eq(port.write_data),
            pending.o.ready.eq(self.taken if byte_masks else self.taken & self.stores),
        ]
        m.d.sync += [
            port.read_ready.eq(self.arrived if byte_masks else self.arrived & ~fetching),
            busy.eq(self.taken | (busy & ~(self.written | self.arrived))),
        ]
        with m.If(self.taken):
            m.d.sync += [self.byte.eq(pending.o.p.byte), self.lane.eq(self.address[:byte_bits])]
        with m.If(self.arrived if byte_masks else self.arrived & ~fetching):
            m.d.sync += port.read_data.eq(self.beat.word_select(self.lane, 8))

    def _merge(self, m: Module, byte_bits: int) -> Signal:
        """Stores whole beats, once they are known; returns a register: what is read is such a
        beat."""
        merged   = Signal(8 << byte_bits, reset_less=True)
        known    = Signal()
        fetching = Signal()
        self.stores  = self.writes & known
        self.stored  = merged
        self.enabled = Const(-1, 1 << byte_bits)
        with m.If(self.taken):
            m.d.sync += [fetching.eq(self.writes & ~known), known.eq(0)]
        with m.If(self.arrived & fetching):
            m.d.sync += [merged.eq(self.beat), merged.word_select(self.lane, 8).eq(self.byte),
                         known.eq(1)]
        return fetching
