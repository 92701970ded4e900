"""The write side of the vector engine."""

from typing import Any

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import Fault
from weft.hw.isa.registers import Error
from weft.hw.lib.checks import require
from weft.hw.lib.delay import register
from weft.hw.lib.half_slice import HalfSlice
from weft.hw.lib.loop import LoopNest
from weft.hw.lib.promise import promised
from weft.hw.lib.queue import Queue
from weft.hw.lib.register_slice import RegisterSlice
from weft.hw.memory.scratch import unit_write_layout

__all__ = ["OutputJob", "VectorOutput"]


class OutputJob(data.Struct):
    """Where the words of a command go: fields of the command."""
    index:          unsigned(16)
    blocks:         unsigned(16)
    out_outer:      unsigned(16)
    out_inner:      unsigned(16)
    out_base:       unsigned(24)
    out_block_step: unsigned(24)
    out_outer_step: unsigned(24)
    out_inner_step: unsigned(24)
    one_outer:      unsigned(1)   # loops of a single round
    one_inner:      unsigned(1)


_MARGIN = 3  # of the addresses ahead, some that may still come after the queue was found full


def _target_layout() -> data.StructLayout:
    """Where a word goes."""
    return data.StructLayout({
        "address": 24,
        "legal":   1,  # inside the activation memory
        "last":    1,  # the last word of a command
    })


class VectorOutput(wiring.Component):
    """Gives the words of each command their addresses, and queues and writes them.

    A word may come every cycle, also from command to command. The addresses are worked out before
    the words come, and wait for them in a queue of their own; the words wait in a memory. There is
    no backpressure: whoever makes the words takes a credit for each, of ``depth``, and gets it back
    with ``credit``.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
    depth : :class:`int`
        Words that can wait, a power of 2.

    Members
    -------
    jobs : :py:`In(stream.Signature(OutputJob))`
        Taken one every second cycle while none is waiting.
    i : :py:`In(stream.Signature(data.ArrayLayout(signed(8), rows), always_ready=True))`
        Words.
    write : :py:`Out(stream.Signature(unit_write_layout(word_data_bytes)))`
        To the activation memory.
    credit : :py:`Out(1)`
        A word has left in the cycle before.
    done : :py:`Out(1)`
        The last word of a command has left in the cycle before.
    fault : :py:`Out(Fault)`
        Held until reset. ``ADDRESS``: outside the activation memory; nothing further is
        written.

    Attributes
    ----------
    ADDRESSES_AHEAD : :class:`int`
        Addresses that are worked out in advance.
    LATENCY : :class:`int`
        Cycles from a word to ``done``, if the memory takes it at once.
    """

    ADDRESSES_AHEAD = 16
    LATENCY         = 3

    def __init__(self, config: AcceleratorConfig, *, depth: int):
        if not isinstance(depth, int) or depth < 1 or depth & (depth - 1):
            raise ValueError(f"Output depth must be a power of 2, not {depth!r}")
        self._config = config
        self._depth  = depth
        super().__init__({
            "jobs":    In(stream.Signature(OutputJob)),
            "i":       In(stream.Signature(
                data.ArrayLayout(signed(8), config.word_lanes), always_ready=True)),
            "write":   Out(stream.Signature(unit_write_layout(config.word_data_bytes))),
            "credit":  Out(1),
            "done":    Out(1),
            "fault":   Out(Fault),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.addresses = addresses = Queue(
            depth=self.ADDRESSES_AHEAD, shape=_target_layout())
        targets = promised(m, addresses.i, name="promised",
                           because="the loops stop before the queue is full")
        self._elaborate_addresses(m, targets, addresses.level)
        self._elaborate_words(m, addresses.o)

        return m

    def _elaborate_addresses(self, m: Module, targets: Any, level: Value) -> None:
        """Works out the addresses of a job while their queue, which holds ``level``, has room."""
        m.submodules.held = held = HalfSlice(shape=OutputJob)
        connect(m, flipped(self.jobs), held.i)
        m.submodules.nest = nest = LoopNest({"inner": 16, "outer": 16, "block": 16}, copies=2)
        flags, block_flags = nest.flags
        new = self.jobs.p
        m.d.comb += [
            nest.start.eq(self.jobs.valid & self.jobs.ready),
            nest.counts.inner.eq(new.out_inner),
            nest.counts.outer.eq(new.out_outer),
            nest.counts.block.eq(new.blocks),
            nest.ones.inner.eq(new.one_inner),
            nest.ones.outer.eq(new.one_outer),
            nest.room.eq(level <= self.ADDRESSES_AHEAD - _MARGIN),
            nest.enable.eq(1),
            held.o.ready.eq(nest.ended),
        ]

        job        = held.o.p
        address    = Signal(24, reset_less=True)
        next_outer = Signal(24, reset_less=True)
        next_block = Signal(24, reset_less=True)
        outer      = Mux(flags.last.outer, next_block, next_outer)
        with m.If(flags.step):
            m.d.sync += address.eq(Mux(flags.last.inner, outer, address + job.out_inner_step))
            with m.If(flags.last.inner):
                m.d.sync += next_outer.eq(outer + job.out_outer_step)
        with m.If(block_flags.step & block_flags.last.inner & block_flags.last.outer):
            m.d.sync += next_block.eq(next_block + job.out_block_step)
        with m.If(block_flags.idle):
            m.d.sync += next_block.eq(new.out_base)

        legal  = Signal(reset_less=True)
        placed = Signal()
        failed = Signal()  # all addresses from here on are in vain
        m.d.sync += [
            placed.eq(block_flags.step & nest.active),
            legal.eq(address < self._config.activation_depth),
        ]
        m.d.comb += [
            targets.valid.eq(placed),
            targets.p.address.eq(register(m, address, "placed_address")),
            targets.p.legal.eq(legal),
            targets.p.last.eq(register(m, block_flags.last.as_value().all(), "placed_last")),
        ]
        index = register(m, job.index, "placed_index")
        with m.If(~failed):  # the index before there is a fault is nobody's
            m.d.sync += [failed.eq(placed & ~legal), self.fault.index.eq(index)]

    def _elaborate_words(self, m: Module, target: Any) -> None:
        """Keeps each word until its address, ``target``, is there and it is written."""
        width = 8 * self._config.word_data_bytes
        m.submodules.words = words = memory.Memory(
            shape=unsigned(width), depth=self._depth, init=[])
        write = words.write_port()
        read  = words.read_port(domain="comb")
        level = Signal(range(self._depth + 1))
        some  = Signal()  # whether it is not zero, without the comparison
        leave = Signal()
        m.d.comb += [write.data.eq(Value.cast(self.i.payload)), write.en.eq(self.i.valid)]
        m.d.sync += [
            write.addr.eq(write.addr + write.en),
            read.addr.eq(read.addr + leave),
            level.eq(level + write.en - leave),
        ]
        require(m, (level != self._depth) | ~write.en | leave, "a word has room by its credit")
        with m.If(write.en != leave):
            m.d.sync += some.eq(write.en | (level != 1))

        # Which bank is asked depends on the address, and whether it answers on others: both meet
        # their words in registers.
        m.submodules.leaving = leaving = RegisterSlice(shape=data.StructLayout({
            "address": 24, "data": width, "last": 1}))
        m.d.comb += [
            leaving.i.valid.eq(target.valid & target.p.legal & some),
            leaving.i.p.address.eq(target.p.address),
            leaving.i.p.data.eq(read.data),
            leaving.i.p.last.eq(target.p.last),
            leave.eq(leaving.i.valid & leaving.i.ready),
            target.ready.eq(target.p.legal & some & leaving.i.ready),
            self.write.valid.eq(leaving.o.valid),
            self.write.p.address.eq(leaving.o.p.address),
            Value.cast(self.write.p.data).eq(leaving.o.p.data),
            self.write.p.mask.eq(~0),
            leaving.o.ready.eq(self.write.ready),
        ]
        m.d.sync += [
            self.credit.eq(leave),
            self.done.eq(leaving.o.valid & leaving.o.ready & leaving.o.p.last),
        ]
        with m.If(target.valid & ~target.p.legal & some):
            m.d.sync += self.fault.code.eq(Error.ADDRESS)
