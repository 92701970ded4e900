"""The softmax engine: rows of words in the activation memory become their shares."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory as LutMemory
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.isa.commands import Exponential, Memory, SoftmaxCommand
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import INDEX_WIDTH, Fault, indexed_layout
from weft.hw.isa.memories import geometry
from weft.hw.isa.registers import Error
from weft.hw.lib.delay import delay, register
from weft.hw.memory.activation import ActivationMemory
from weft.hw.memory.registered import RegisteredMemory
from weft.hw.memory.scratch import ScratchMemory, unit_write_layout

from .arithmetic import RowSums, ShareDivider
from .largest import LargestLane
from .reader import GROUPS, SoftmaxReader
from .writer import SoftmaxWriter

__all__ = ["SoftmaxEngine"]


_ROWS = RowSums.ROWS


class SoftmaxEngine(wiring.Component):
    """Executes SOFTMAX commands, one after the other.

    Four rows make a batch, and the words of a channel block of a batch a group. All words of a
    batch are read three times: for the largest value of each row, then, a lane of a row in each
    cycle, for the sums, and for the shares. The rows take turns, as an addition takes four cycles.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
        With ``softmax``.

    Members
    -------
    commands : :py:`In(stream.Signature(indexed_layout(SoftmaxCommand)))`
    done : :py:`Out(1)`
        All of a command is written.
    fault : :py:`Out(Fault)`
        Held until reset. ``ARGUMENT``: no pixels or blocks, an impossible number of lanes, or a
        factor without its first bit. ``ADDRESS``: a word outside the memory.
    busy : :py:`Out(1)`
        A command is executing.
    moves : :py:`Out(1)`
        A lane is taken, or a word comes, in this cycle.
    refused : :py:`Out(1)`
        The activation memory refuses a word.
    request : :py:`Out(stream.Signature(24))`
        Words to read.
    word : :py:`In(data.ArrayLayout(8, rows))`
        The word, ``ActivationMemory.LATENCY`` cycles after its request was accepted.
    write : :py:`Out(stream.Signature(unit_write_layout(word_data_bytes)))`
        To the activation memory.
    exponential : :py:`In(stream.Signature(unit_write_layout(4), always_ready=True))`
        Entries of the table.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        bytes_ = config.word_data_bytes
        super().__init__({
            "commands":    In(stream.Signature(indexed_layout(SoftmaxCommand))),
            "done":        Out(1),
            "fault":       Out(Fault),
            "busy":        Out(1),
            "moves":       Out(1),
            "refused":     Out(1),
            "request":     Out(stream.Signature(24)),
            "word":        In(data.ArrayLayout(8, bytes_)),
            "write":       Out(stream.Signature(unit_write_layout(bytes_))),
            "exponential": In(stream.Signature(unit_write_layout(4), always_ready=True)),
        })

    @staticmethod
    def cycles(config: AcceleratorConfig, pixels: int, blocks: int) -> int:
        """Cycles of a command from when it is accepted to ``done``, if nobody is in the way."""
        lanes, batches = config.word_lanes, -(-pixels // _ROWS)
        # Its words are read for the largest values, then those of the first group; two passes over
        # all lanes follow.
        ahead  = ActivationMemory.LATENCY + LargestLane.latency(lanes) + 1
        passes = 2 * blocks * (_ROWS * lanes + 1)
        last   = pixels - (batches - 1) * _ROWS
        behind = 4 + RegisteredMemory.LATENCY + ShareDivider.LATENCY + last
        return pixels * (blocks + 1) + batches * (ahead + passes) + behind + 1

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.reader = reader = SoftmaxReader(self._config)
        m.submodules.writer = writer = SoftmaxWriter(self._config)
        job, start = self._take(m)
        for part, side in ((reader, "in"), (writer, "out")):
            m.d.comb += [
                part.start.eq(start),
                part.base.eq(job[f"{side}_base"]),
                part.plane.eq(job[f"{side}_plane"]),
                part.pixels.eq(job.pixels),
                part.blocks.eq(job.blocks),
            ]
        connect(m, reader.request, flipped(self.request))
        connect(m, writer.write, flipped(self.write))
        largest, ready = self._find_largest(m, job)
        use, value, valid = self._sweep(m, job, start, ready)
        self._evaluate(m, job, use, value, valid, largest)
        m.d.comb += [
            self.refused.eq(self.request.valid & ~self.request.ready),
            self.done.eq(writer.done),
        ]
        with m.If(reader.beyond | writer.beyond):
            m.d.sync += [self.fault.code.eq(Error.ADDRESS), self.fault.index.eq(job.index)]
        with m.If(self.done):
            m.d.sync += self.busy.eq(0)
        return m

    def _take(self, m: Module) -> tuple[Any, Signal]:
        """Takes a command while there is none, and checks it. Returns its fields, with its index,
        and a pulse for its start."""
        coming = self.commands.p.command
        job: Any = Signal(data.StructLayout({
            "index": INDEX_WIDTH, "in_base": 24, "in_plane": 24, "out_base": 24, "out_plane": 24,
            "out_zero": signed(8), "lanes": 8, "pixels": 16, "blocks": 16, "factor": 16,
            "exponent": 4}), reset_less=True)
        checking, start = Signal(), Signal()
        impossible = Cat(job.pixels == 0, job.blocks == 0, job.lanes == 0,
                         job.lanes > self._config.word_lanes, ~job.factor[-1]).any()
        m.d.comb += [
            self.commands.ready.eq(~self.busy),
            start.eq(checking & ~impossible),
        ]
        m.d.sync += checking.eq(self.commands.valid & ~self.busy)
        with m.If(self.commands.valid & ~self.busy):
            m.d.sync += self.busy.eq(1)
        with m.If(~self.busy):
            m.d.sync += job.index.eq(self.commands.p.index)
            m.d.sync += [job[name].eq(coming[name]) for name in job.shape().members
                         if name != "index"]
        with m.If(checking & impossible):
            m.d.sync += [self.fault.code.eq(Error.ARGUMENT), self.fault.index.eq(job.index)]
        return job, start

    def _find_largest(self, m: Module, job: Any) -> tuple[Any, Value]:
        """The largest value of each row of the batch; and when a group has come, and those of its
        rows are known."""
        reader = m.submodules.reader
        m.submodules.tree = tree = LargestLane(self._config.word_lanes)
        use = reader.use
        behind = LargestLane.latency(self._config.word_lanes)
        m.d.comb += [
            Value.cast(tree.i).eq(Value.cast(self.word)),
            tree.count.eq(Mux(use.tail, job.lanes, self._config.word_lanes)),
        ]
        known = delay(m, reader.here & use.largest, behind, name="known")
        row, first = (delay(m, value, behind, name=f"known_{name}", reset_less=True)
                      for name, value in (("row", use.row), ("first", use.first)))
        largest = Signal(data.ArrayLayout(signed(8), _ROWS), reset_less=True)
        with m.If(known & (first | (tree.o > largest[row]))):
            m.d.sync += largest[row].eq(tree.o)
        ready = delay(m, reader.here & ~use.largest & use.ends, behind, name="ready")
        return largest, ready

    def _sweep(self, m: Module, job: Any, start: Signal, ready: Value) -> tuple[Any, Value, Value]:
        """Goes through the lanes of each group, for the sums or for the shares. Returns what a
        value is for, the value, and whether there is one."""
        reader, writer = m.submodules.reader, m.submodules.writer
        lanes = self._config.word_lanes
        m.submodules.words = words = LutMemory(shape=unsigned(8 * lanes),
                                               depth=GROUPS * _ROWS, init=[])
        put = words.write_port()
        get = words.read_port(domain="comb")
        m.d.comb += [
            put.addr.eq(Cat(reader.use.row, reader.use.group)),
            put.data.eq(self.word),
            put.en.eq(reader.here & ~reader.use.largest),
        ]

        running = Signal()
        there   = Signal(range(GROUPS + 1))     # groups that have come, and are not begun
        group   = Signal(range(GROUPS))
        row     = Signal(range(_ROWS), reset_less=True)
        lane    = Signal(range(lanes), reset_less=True)
        share   = Signal(reset_less=True)       # of the two passes
        first   = Signal(reset_less=True)       # block of the row
        blocks  = Signal(16, reset_less=True)   # of the row, with this one
        left    = Signal(17, reset_less=True)   # rows, from the first one of this batch on
        begins  = ~running & (there != 0) & ~(share & writer.full)
        tail    = blocks == 1
        ends    = running & (row == _ROWS - 1) & (lane == lanes - 1)
        m.d.comb += [
            get.addr.eq(Cat(row, group)),
            writer.begins.eq(begins & share),
            reader.group_ends.eq(ends),
            reader.batch_ends.eq(ends & tail & share),
            self.moves.eq(running | reader.here),
        ]
        m.d.sync += there.eq(there + ready - begins)
        with m.If(begins):
            m.d.sync += [running.eq(1), row.eq(0), lane.eq(0)]
        with m.If(running):
            m.d.sync += row.eq(row + 1)
            with m.If(row == _ROWS - 1):
                m.d.sync += lane.eq(lane + 1)
        with m.If(ends):
            m.d.sync += [
                running.eq(0),
                group.eq(group + 1),
                first.eq(tail),
                blocks.eq(Mux(tail, job.blocks, blocks - 1)),
            ]
            with m.If(tail):
                m.d.sync += share.eq(~share)
                with m.If(share):
                    m.d.sync += left.eq(left - _ROWS)
        with m.If(start):
            m.d.sync += [share.eq(0), first.eq(1), blocks.eq(job.blocks), left.eq(job.pixels)]

        use: Any = Signal(data.StructLayout({
            "row": row.shape(), "lane": lane.shape(), "share": 1, "inside": 1, "first": 1,
            "whole": 1}))
        m.d.comb += [
            use.row.eq(row),
            use.lane.eq(lane),
            use.share.eq(share),
            use.inside.eq((row < left) & (~tail | (lane < job.lanes))),
            use.first.eq(first & (lane == 0)),
            use.whole.eq(ends),
        ]
        value = register(m, get.data.word_select(lane, 8).as_signed(), "value")
        return delay(m, use, 1, name="use", reset_less=True), value, \
            delay(m, running, 1, name="valid")

    def _evaluate(self, m: Module, job: Any, use: Any, value: Value, valid: Value,
                  largest: Any) -> None:
        """From values to their exponentials, and to sums or to shares."""
        writer = m.submodules.writer
        entry = register(m, ~(largest[use.row] - value)[:8], "entry")
        m.submodules.table = table = ScratchMemory(
            depth=geometry(Memory.ROW_CONSTANT, self._config).depth, unit_bytes=4)
        connect(m, flipped(self.exponential), table.write)
        m.d.comb += [table.read_address.eq(entry), table.read_enable.eq(1)]
        valid = delay(m, valid, 1 + RegisteredMemory.LATENCY, name="term_valid")
        use   = delay(m, use, 1 + RegisteredMemory.LATENCY, name="term_use", reset_less=True)

        term = data.View(Exponential, Value.cast(table.read_data))
        m.submodules.sums    = sums    = RowSums()
        m.submodules.divider = divider = ShareDivider()
        m.d.comb += [
            sums.row.eq(use.row),
            Value.cast(sums.term).eq(term.as_value()),
            sums.add.eq(valid & use.inside & ~use.share),
            sums.first.eq(use.first),
            Value.cast(divider.term).eq(term.as_value()),
            divider.sum.eq(sums.sum),
            divider.used.eq(valid & use.inside & use.share),
            divider.factor.eq(job.factor),
            divider.exponent.eq(job.exponent),
        ]
        valid = delay(m, valid & use.share, ShareDivider.LATENCY, name="share_valid")
        use   = delay(m, use, ShareDivider.LATENCY, name="share_use", reset_less=True)
        total = divider.o + job.out_zero
        m.d.comb += [
            writer.value.eq(Mux(total > 127, 127, total)[:8]),
            writer.row.eq(use.row),
            writer.lane.eq(use.lane),
            writer.valid.eq(valid),
            writer.whole.eq(valid & use.whole),
        ]
