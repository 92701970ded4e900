"""The loops of the vector engine: every group of taps of every output position."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.isa.commands import VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.limits import LINE_QUARTERS, WINDOW_GROUPS
from weft.hw.lib.half_slice import HalfSlice
from weft.hw.lib.loop import LoopNest

from .decode import decoded_layout
from .tap import FEW_WORDS, group_layout

__all__ = ["VectorSequencer"]


_WALK = data.StructLayout({"base": 24, "step": 24, "first_x": signed(9), "stride": 8})
"""Where a command begins, and how it goes on from one inner position to the next."""

_LOOPS = {"group": 8, "row": 8, "inner": 16, "outer": 16, "block": 16}  # bits of trip counts


class VectorSequencer(wiring.Component):
    """Walks channel blocks, outer and inner positions, kernel rows and groups.

    With lines, an inner position is a column of the input, whose words go along the outer axis, and
    some columns end a window. There is a group for each of the weight entries: the last ones have
    one of the new words of the column each, the first one has all further words, and there are
    groups without a word in front if there are fewer words than groups.

    One group per cycle. The first one is there :attr:`LATENCY` cycles after its command was taken,
    and a command is taken :attr:`TURNAROUND` cycles after the last group of the one before it.

    A memory that is busy has no effect here in the same cycle: whether a group may be made is known
    a cycle before, and a group that is made is always accepted.

    Members
    -------
    commands : :py:`In(stream.Signature(decoded_layout(config)))`
    room : :py:`In(1)`
        A group may be made in the next cycle.
    last : :py:`In(1)`
        The group made before, if any, gives its last word in this cycle, and so another may be
        made.
    group : :py:`Out(group_layout(config))`
    valid : :py:`Out(1)`
        ``group`` is made, in this cycle.
    large : :py:`Out(1)`
        Groups may have more than ``FEW_WORDS`` words; so it was in the cycle before the first one.

    Attributes
    ----------
    LATENCY : :class:`int`
        Cycles from a command that is taken to its first group.
    TURNAROUND : :class:`int`
        Cycles from the last group of a command until the next command can be taken.
    """

    LATENCY    = 2
    TURNAROUND = 2

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "commands": In(stream.Signature(decoded_layout(config))),
            "room":     In(1),
            "last":     In(1),
            "group":    Out(group_layout(config)),
            "valid":    Out(1),
            "large":    Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.held = held = HalfSlice(shape=self.commands.payload.shape())
        connect(m, flipped(self.commands), held.i)
        # A copy of the flags for each consumer, to limit fan-out: for what follows from them at
        # once, for the position, for the operands, and for what changes once in a block.
        m.submodules.nest = nest = LoopNest(_LOOPS, copies=4)
        flags, position_flags, operand_flags, block_flags = nest.flags
        new = self.commands.p
        m.d.comb += [
            nest.start.eq(self.commands.valid & held.i.ready),
            nest.counts.group.eq(new.groups),
            nest.counts.row.eq(new.command.kernel_outer),
            nest.counts.inner.eq(new.command.out_inner),
            nest.counts.outer.eq(new.command.out_outer),
            nest.counts.block.eq(new.command.blocks),
            *(nest.ones[name].eq(new[f"one_{name}"]) for name, _ in nest.ones.shape()),
            nest.room.eq(self.room),
            nest.enable.eq(self.last),
            held.o.ready.eq(nest.ended),
        ]

        decoded = held.o.p
        command = decoded.command
        group   = self.group
        tap     = group.tap
        # Of their own, because nothing may hang on other parts of `group`, for a simulator.
        size    = Signal.like(group.size)
        m.d.comb += [
            self.valid.eq(flags.step & nest.active),
            size.eq(Mux(flags.last.group, decoded.last_size, decoded.full_size)),
            group.index.eq(decoded.index),
            group.size.eq(size),
            group.step.eq(command.kernel_inner_step),
            group.x_step.eq(command.dilation_inner),
            group.command_end.eq(flags.last.as_value().all()),
            tap.places.eq(self._last_places(size)),
            tap.end.eq(flags.last.group & flags.last.row),
        ]
        if self._config.vector_taps > FEW_WORDS:
            m.d.comb += self.large.eq(decoded.large)
        for name in ("op", "in_zero", "second_zero", "subtract"):
            m.d.comb += tap.operation[name].eq(command[name])
        for name, _ in tap.result.shape():
            if name not in ("parameter", "lookup"):
                m.d.comb += tap.result[name].eq(command[name])
        walk = Signal(_WALK)
        m.d.comb += [
            walk.base.eq(new.command.in_base),
            walk.step.eq(command.in_inner_step),
            walk.first_x.eq(decoded.first_x),
            walk.stride.eq(command.stride_inner),
        ]
        if self._config.vector_pairs:
            self._elaborate_pairs(m, decoded, nest)
        y, x = self._elaborate_position(m, decoded, walk, nest.active, position_flags, block_flags)
        m.d.comb += [
            group.y.eq(y),
            group.x.eq(x),
            group.in_outer.eq(command.in_outer),
            group.in_inner.eq(command.in_inner),
        ]
        renewed = Signal()  # the group is read from its start, but for padding
        self._elaborate_window(m, decoded, renewed, flags.last.group, operand_flags)
        begin = self._elaborate_operands(m, decoded, nest.active, operand_flags, block_flags)
        if self._config.vector_lines:
            self._elaborate_lines(m, decoded, nest, walk, (y, x), renewed, begin)

        return m

    def _elaborate_pairs(self, m: Module, decoded: Any, nest: Any) -> None:
        """Operands that are read at a time are no rows to walk. A second one of a single word is
        read at the first position of a channel block, and kept until the last one."""
        flags, *_ = nest.flags
        ends  = flags.last.inner & flags.last.outer  # of the block
        first = Signal(reset_less=True)
        with m.If(flags.step & flags.last.group & flags.last.row):
            m.d.sync += first.eq(ends)
        with m.If(self.commands.p.pair):
            m.d.comb += nest.counts.row.eq(1)
        m.d.comb += [
            self.group.fetches.eq(decoded.pair & (first | ~decoded.command.broadcast)),
            self.group.tap.pops.eq(decoded.pair & (ends | ~decoded.command.broadcast)),
        ]

    def _last_places(self, count: Value) -> Value:
        """The last ``count`` places of a group, as a mask."""
        taps = self._config.vector_taps
        return Cat(number + count >= taps for number in range(taps))

    def _elaborate_position(self, m: Module, decoded: Any, walk: Any, active: Value, flags: Any,
                            block_flags: Any) -> tuple[Value, Value]:
        """Where the group is: its address, and its coordinates, which are returned."""
        # Each loop has the address where it starts, the outer ones that where they start next.
        next_block     = Signal(24, reset_less=True)
        next_outer     = Signal(24, reset_less=True)
        next_inner     = Signal(24, reset_less=True)
        row_address    = Signal(24, reset_less=True)
        group_address  = Signal(24, reset_less=True)
        second_address = Signal(24, reset_less=True)  # with broadcast
        outer_y        = Signal(signed(19), reset_less=True)
        row_y          = Signal(signed(19), reset_less=True)
        inner_x        = Signal(signed(19), reset_less=True)
        group_x        = Signal(signed(19), reset_less=True)
        m.d.comb += self.group.address.eq(group_address)

        # Where the next position, row and group are.
        command       = decoded.command
        last          = flags.last
        outer_address = Mux(last.outer, next_block, next_outer)
        inner_address = Mux(last.inner, outer_address, next_inner)
        next_row      = Mux(command.broadcast, second_address,
                            row_address + command.kernel_outer_step)[:24]
        if self._config.vector_pairs:
            m.d.comb += self.group.second.eq(next_row)
        next_y        = Mux(last.inner, Mux(last.outer, decoded.first_y,
                                            outer_y + command.stride_outer), outer_y)
        next_x        = Mux(last.inner, walk.first_x, inner_x + walk.stride)
        with m.If(flags.step):
            m.d.sync += [
                group_address.eq(group_address + decoded.group_step),
                group_x.eq(group_x + decoded.group_x_step),
            ]
            with m.If(last.group):
                m.d.sync += [
                    row_address.eq(next_row),
                    group_address.eq(next_row),
                    row_y.eq(row_y + command.dilation_outer),
                    group_x.eq(inner_x),
                ]
                with m.If(last.row):
                    m.d.sync += [
                        next_inner.eq(inner_address + walk.step),
                        row_address.eq(inner_address),
                        group_address.eq(inner_address),
                        row_y.eq(next_y),
                        outer_y.eq(next_y),
                        inner_x.eq(next_x),
                        group_x.eq(next_x),
                    ]

        # Once in a row of positions, and once in a block.
        last = block_flags.last
        with m.If(block_flags.step & last.group & last.row & last.inner):
            m.d.sync += next_outer.eq(outer_address + command.in_outer_step)
            with m.If(last.outer):
                m.d.sync += next_block.eq(next_block + command.in_block_step)
                with m.If(active):
                    m.d.sync += second_address.eq(second_address + command.kernel_inner_step)
        with m.If(block_flags.idle):
            m.d.sync += [
                next_block.eq(walk.base),
                second_address.eq(self.commands.p.second),
            ]
        return row_y, group_x

    def _elaborate_window(self, m: Module, decoded: Any, renewed: Signal, last_group: Value,
                          flags: Any) -> None:
        """Which words of its window the group reads: those that are not there from the position
        before, nor padding in front of the first one."""
        group       = self.group
        first_inner = Signal(reset_less=True)
        first_group = Signal(reset_less=True)
        slot        = Signal(range(WINDOW_GROUPS), reset_less=True)
        m.d.comb += [
            renewed.eq(first_inner),
            group.no_slot.eq(decoded.command.slide & (slot == WINDOW_GROUPS - 1)
                             & ~group.tap.end),
            group.tap.fill.eq(first_inner),
            group.tap.slot.eq(slot),
        ]

        with m.If(renewed):
            with m.If(first_group):
                m.d.comb += self._start(decoded.first_start)
        with m.Elif(last_group):
            m.d.comb += self._start(decoded.last_start)
        with m.Else():
            m.d.comb += self._start(decoded.full_start)

        last = flags.last
        with m.If(flags.step):
            m.d.sync += [first_group.eq(last.group), slot.eq(slot + 1)]
            with m.If(last.group & last.row):
                m.d.sync += [first_inner.eq(last.inner), slot.eq(0)]

    def _start(self, start: Any) -> list[Any]:
        """The group starts to read there."""
        return [
            self.group.start.eq(start.place),
            self.group.offset.eq(start.offset),
            self.group.x_offset.eq(start.x_offset),
        ]

    def _elaborate_operands(self, m: Module, decoded: Any, active: Value, flags: Any,
                            block_flags: Any) -> Value:
        """What the group is multiplied with, and which sum it belongs to. Returns whether it starts
        one."""
        config  = self._config
        command = decoded.command
        tap     = self.group.tap
        begin        = Signal(reset_less=True)
        second       = Signal(reset_less=True)
        pass_        = Signal(2, reset_less=True)
        weight       = Signal(17, reset_less=True)
        block_weight = Signal(17, reset_less=True)
        parameter    = Signal(17, reset_less=True)
        table        = Signal.like(tap.result.lookup.table, name="table", reset_less=True)
        m.d.comb += [
            tap.begin.eq(begin),
            tap.second.eq(second),
            tap.pass_.eq(pass_),
            tap.weight.eq(weight),
            tap.result.parameter.eq(parameter),
            tap.result.lookup.enable.eq(decoded.looks_up),
            tap.result.lookup.table.eq(table),
            self.group.no_entry.eq(
                (decoded.weighted & (weight >= config.vector_entries))
                | (decoded.scaled & (
                    parameter > config.vector_parameter_depth - config.vector_groups))),
        ]

        # The first step makes no group, and so takes no weights.
        last        = flags.last
        next_weight = Mux(active & last.inner & last.outer & ~command.shared,
                          (weight + 1)[:17], block_weight)
        with m.If(flags.step):
            m.d.sync += [
                begin.eq(0),
                pass_.eq(pass_ + 1),
                weight.eq(weight + 1),
            ]
            with m.If(last.group):
                m.d.sync += [
                    pass_.eq(0),
                    second.eq(1),
                    # The first factor is no summand.
                    begin.eq(command.op == VectorOp.MULTIPLY),
                ]
                with m.If(last.row):
                    m.d.sync += [
                        begin.eq(1),
                        second.eq(0),
                        weight.eq(next_weight),
                        block_weight.eq(next_weight),
                    ]
        with m.If(flags.idle):
            m.d.sync += block_weight.eq(self.commands.p.command.weight_base)

        last = block_flags.last
        with m.If(block_flags.step & last.group & last.row & last.inner & last.outer & active):
            m.d.sync += table.eq(table + command.table_step)
            with m.If(~command.shared):
                m.d.sync += parameter.eq(parameter + config.vector_groups)
        with m.If(block_flags.idle):
            m.d.sync += [
                parameter.eq(self.commands.p.command.parameter_base),
                table.eq(self.commands.p.first_table),
            ]
        return begin

    def _elaborate_lines(self, m: Module, decoded: Any, nest: Any, walk: Any,
                         position: tuple[Value, Value], renewed: Signal, begin: Value) -> None:
        """What is different with lines: overrides what there would be without."""
        y, x = position
        new, command, lines = self.commands.p, decoded.command, decoded.lines
        group = self.group
        flags, *_ = nest.flags

        first_outer = Signal(reset_less=True)
        column      = Signal.like(group.tap.lines.column, reset_less=True)
        first       = Signal.like(column, name="first", reset_less=True)  # column of the block
        next_first  = Signal.like(column, name="next_first", reset_less=True)  # of the next one
        ahead       = Signal.like(lines.lead, reset_less=True)  # columns to the end of a window
        behind      = Signal.like(group.tap.lines.behind, reset_less=True)
        last        = flags.last
        with m.If(flags.step & last.group):
            m.d.sync += behind.eq(behind - 1)
            with m.If(last.row):
                m.d.sync += [
                    behind.eq(lines.groups - 1),
                    column.eq(Mux(last.inner, Mux(last.outer, next_first, first), column + 1)),
                    ahead.eq(Mux(last.inner, lines.lead,
                                 Mux(ahead == 0, command.stride_inner, ahead) - 1)),
                ]
                with m.If(last.inner):
                    m.d.sync += first_outer.eq(last.outer & ~command.resumes)
                with m.If(last.inner & last.outer):
                    m.d.sync += [first.eq(next_first), next_first.eq(next_first + lines.columns)]
        with m.If(flags.idle):
            m.d.sync += next_first.eq(
                new.command.quarter * (self._config.vector_lines // LINE_QUARTERS))

        with m.If(new.lines.on):
            m.d.comb += [
                walk.base.eq(new.lines.base),
                nest.counts.row.eq(new.lines.groups),
                nest.counts.inner.eq(new.lines.columns),
                nest.ones.row.eq(new.lines.one_group),
                nest.ones.inner.eq(new.lines.one_column),
            ]
        with m.If(lines.on):
            m.d.comb += [
                walk.step.eq(command.kernel_inner_step),
                walk.first_x.eq(lines.first_x),
                walk.stride.eq(1),
                group.step.eq(command.kernel_outer_step),
                group.y.eq(x),
                group.x.eq(y),
                group.in_outer.eq(command.in_inner),
                group.in_inner.eq(command.in_outer),
                renewed.eq(first_outer),
                group.tap.end.eq(last.group & last.row & (ahead == 0)),
                group.tap.places.eq(self._last_places(
                    Mux(begin, lines.first_places, lines.later_places))),
            ]
            with m.If(~begin):
                m.d.comb += self._start(decoded.full_start)
        words = Mux(first_outer, lines.top_words, lines.words)
        m.d.comb += [
            group.tap.lines.on.eq(lines.on),
            group.tap.lines.wide.eq(lines.wide),
            group.tap.lines.column.eq(column),
            group.tap.lines.begins.eq(begin),
            group.tap.lines.top.eq(first_outer),
            group.tap.lines.behind.eq(behind),
            group.tap.lines.early.eq(Mux(lines.on & (behind >= words), behind + 1 - words, 0)),
        ]
