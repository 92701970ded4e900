"""The write side of the vector engine."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from weft.config import AcceleratorConfig

from .fault import Fault
from .queue import Queue
from .registers import Error
from .scratch_memory import unit_write_layout

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


class VectorOutput(wiring.Component):
    """Gives the words of each command their addresses, and queues and writes them.

    A word may come every cycle, also from command to command. The queue has no backpressure:
    whoever makes the words takes a credit for each, of ``depth + 1``, and gets it back with
    ``credit``. One word is in a register behind the queue.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
    depth : :class:`int`
        Words queued.

    Members
    -------
    jobs : :py:`In(stream.Signature(OutputJob))`
        To be valid two cycles before the first word at the latest.
    i : :py:`In(data.ArrayLayout(signed(8), rows))`
        The next word, in the one cycle in which ``i_valid`` is set.
    i_valid : :py:`In(1)`
    write : :py:`Out(stream.Signature(unit_write_layout(rows)))`
        To the activation memory.
    credit : :py:`Out(1)`
        A word has left.
    done : :py:`Out(1)`
        The last word of a command has left in the cycle before.
    fault : :py:`Out(Fault)`
        Held until reset. ``ADDRESS``: outside the activation memory; nothing further is
        written.
    """

    def __init__(self, config: AcceleratorConfig, *, depth: int):
        self._config = config
        self._depth  = depth
        super().__init__({
            "jobs":    In(stream.Signature(OutputJob)),
            "i":       In(data.ArrayLayout(signed(8), config.word_lanes)),
            "i_valid": In(1),
            "write":   Out(stream.Signature(unit_write_layout(config.word_lanes))),
            "credit":  Out(1),
            "done":    Out(1),
            "fault":   Out(Fault),
        })

    def elaborate(self, platform):
        m = Module()

        lanes = self._config.word_lanes
        m.submodules.words = words = Queue(depth=self._depth, shape=data.StructLayout({
            "address": 24, "data": data.ArrayLayout(8, lanes), "last": 1}))

        active        = Signal()
        job           = Signal(OutputJob, reset_less=True)
        blocks_left   = Signal(16, reset_less=True)
        outer_left    = Signal(16, reset_less=True)
        inner_left    = Signal(16, reset_less=True)
        block_address = Signal(24, reset_less=True)
        outer_address = Signal(24, reset_less=True)
        address       = Signal(24, reset_less=True)
        # Whether a counter is at 1, without the comparison.
        last_inner    = Signal(reset_less=True)
        last_outer    = Signal(reset_less=True)
        last_block    = Signal(reset_less=True)
        last          = last_inner & last_outer & last_block
        next_block    = (block_address + job.out_block_step)[:24]
        next_outer    = Mux(last_outer, next_block, outer_address + job.out_outer_step)[:24]

        with m.If(self.i_valid):
            m.d.sync += [
                inner_left.eq(inner_left - 1),
                last_inner.eq(inner_left == 2),
                address.eq(address + job.out_inner_step),
            ]
            with m.If(last_inner):
                m.d.sync += [
                    inner_left.eq(job.out_inner),
                    last_inner.eq(job.out_inner == 1),
                    address.eq(next_outer),
                    outer_address.eq(next_outer),
                    outer_left.eq(outer_left - 1),
                    last_outer.eq(outer_left == 2),
                ]
                with m.If(last_outer):
                    m.d.sync += [
                        outer_left.eq(job.out_outer),
                        last_outer.eq(job.out_outer == 1),
                        block_address.eq(next_block),
                        blocks_left.eq(blocks_left - 1),
                        last_block.eq(blocks_left == 2),
                    ]
        m.d.comb += self.jobs.ready.eq(~active | (self.i_valid & last))
        with m.If(self.jobs.ready):
            new = self.jobs.p
            m.d.sync += [
                active.eq(self.jobs.valid),
                job.eq(new),
                blocks_left.eq(new.blocks),
                outer_left.eq(new.out_outer),
                inner_left.eq(new.out_inner),
                last_block.eq(new.blocks == 1),
                last_outer.eq(new.out_outer == 1),
                last_inner.eq(new.out_inner == 1),
                block_address.eq(new.out_base),
                outer_address.eq(new.out_base),
                address.eq(new.out_base),
            ]

        # The word and its address, a cycle later.
        placed = Signal(words.i.p.shape(), reset_less=True)
        index  = Signal(16, reset_less=True)
        legal  = Signal(reset_less=True)
        valid  = Signal()
        m.d.sync += [
            valid.eq(self.i_valid),
            index.eq(job.index),
            placed.address.eq(address),
            legal.eq(address < self._config.activation_depth),
            Value.cast(placed.data).eq(Value.cast(self.i)),
            placed.last.eq(last),
        ]
        m.d.comb += [
            words.i.valid.eq(valid & legal & (self.fault.code == Error.NONE)),
            words.i.payload.eq(placed),
        ]
        with m.If(valid & ~legal & (self.fault.code == Error.NONE)):
            m.d.sync += [self.fault.code.eq(Error.ADDRESS), self.fault.index.eq(index)]

        # A register of its own: what the memory sees does not come out of the queue in that cycle.
        leave   = Signal()
        written = Signal(reset_less=True)  # the last word of its command
        write   = Signal(words.o.p.shape(), reset_less=True)
        m.d.comb += [
            self.write.p.address.eq(write.address),
            self.write.p.data.eq(write.data),
            self.write.p.mask.eq(~0),
            words.o.ready.eq(~self.write.valid | self.write.ready),
            leave.eq(self.write.valid & self.write.ready),
            self.credit.eq(leave),
        ]
        with m.If(words.o.ready):
            m.d.sync += [
                self.write.valid.eq(words.o.valid),
                write.address.eq(words.o.p.address),
                write.data.eq(words.o.p.data),
                written.eq(words.o.p.last),
            ]
        m.d.sync += self.done.eq(leave & written)

        return m
