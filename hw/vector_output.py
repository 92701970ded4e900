"""The write side of the vector engine."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from weft.config import AcceleratorConfig

from .commands import VectorCommand
from .fault import Fault
from .queue import Queue
from .registers import Error
from .scratch_memory import unit_write_layout

__all__ = ["VectorOutput"]


class VectorOutput(wiring.Component):
    """Queues the words of a command and writes them where its output positions are.

    The queue has no backpressure: whoever makes the words takes a credit for each, of ``depth``,
    and gets it back with ``credit``.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
    depth : :class:`int`
        Words queued.

    Members
    -------
    command : :py:`In(VectorCommand)`
    index : :py:`In(16)`
    start : :py:`In(1)`
        A command begins.
    i : :py:`In(data.ArrayLayout(signed(8), rows))`
        The next word, in the one cycle in which ``i_valid`` is set.
    i_valid : :py:`In(1)`
    write : :py:`Out(stream.Signature(unit_write_layout(rows)))`
        To the activation memory.
    credit : :py:`Out(1)`
        A word has left.
    finished : :py:`Out(1)`
        The last word of the command leaves.
    fault : :py:`Out(Fault)`
        Held until reset. ``ADDRESS``: outside the activation memory; nothing further is
        written.
    """

    def __init__(self, config: AcceleratorConfig, *, depth: int):
        self._config = config
        self._depth  = depth
        super().__init__({
            "command":  In(VectorCommand),
            "index":    In(16),
            "start":    In(1),
            "i":        In(data.ArrayLayout(signed(8), config.word_lanes)),
            "i_valid":  In(1),
            "write":    Out(stream.Signature(unit_write_layout(config.word_lanes))),
            "credit":   Out(1),
            "finished": Out(1),
            "fault":    Out(Fault),
        })

    def elaborate(self, platform):
        m = Module()

        command = self.command
        m.submodules.words = words = Queue(shape=8 * self._config.word_lanes, depth=self._depth)

        blocks_left   = Signal(16, reset_less=True)
        outer_left    = Signal(16, reset_less=True)
        inner_left    = Signal(16, reset_less=True)
        block_address = Signal(24, reset_less=True)
        outer_address = Signal(24, reset_less=True)
        address       = Signal(24, reset_less=True)
        last_inner    = inner_left == 1
        last_outer    = outer_left == 1
        next_block    = (block_address + command.out_block_step)[:24]
        next_outer    = Mux(last_outer, next_block, outer_address + command.out_outer_step)[:24]

        legal = Signal()
        leave = Signal()
        m.d.comb += [
            words.i.valid.eq(self.i_valid),
            words.i.payload.eq(Value.cast(self.i)),
            legal.eq(address < self._config.activation_depth),
            self.write.valid.eq(words.o.valid & legal),
            self.write.p.address.eq(address),
            Value.cast(self.write.p.data).eq(words.o.payload),
            self.write.p.mask.eq(~0),
            leave.eq(self.write.valid & self.write.ready),
            words.o.ready.eq(leave),
            self.credit.eq(leave),
            self.finished.eq(leave & last_inner & last_outer & (blocks_left == 1)),
        ]

        with m.If(leave):
            m.d.sync += [
                inner_left.eq(inner_left - 1),
                address.eq(address + command.out_inner_step),
            ]
            with m.If(last_inner):
                m.d.sync += [
                    inner_left.eq(command.out_inner),
                    address.eq(next_outer),
                    outer_address.eq(next_outer),
                    outer_left.eq(outer_left - 1),
                ]
                with m.If(last_outer):
                    m.d.sync += [
                        outer_left.eq(command.out_outer),
                        block_address.eq(next_block),
                        blocks_left.eq(blocks_left - 1),
                    ]
        with m.If(words.o.valid & ~legal & (self.fault.code == Error.NONE)):
            m.d.sync += [self.fault.code.eq(Error.ADDRESS), self.fault.index.eq(self.index)]

        with m.If(self.start):
            m.d.sync += [
                blocks_left.eq(command.blocks),
                outer_left.eq(command.out_outer),
                inner_left.eq(command.out_inner),
                block_address.eq(command.out_base),
                outer_address.eq(command.out_base),
                address.eq(command.out_base),
            ]

        return m
