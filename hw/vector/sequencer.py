"""The loops of the vector engine: every group of taps of every output position."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.isa.commands import VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.limits import WINDOW_GROUPS
from weft.hw.lib.half_slice import HalfSlice
from weft.hw.lib.loop import LoopNest

from .decode import decoded_layout
from .tap import group_layout

__all__ = ["VectorSequencer"]


_LOOPS = {"group": 8, "row": 8, "inner": 16, "outer": 16, "block": 16}  # bits of trip counts


class VectorSequencer(wiring.Component):
    """Walks channel blocks, outer and inner positions, kernel rows and groups.

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
        m.d.comb += [
            self.valid.eq(flags.step & nest.active),
            group.index.eq(decoded.index),
            group.size.eq(Mux(flags.last.group, decoded.last_size, decoded.full_size)),
            group.step.eq(command.kernel_inner_step),
            group.x_step.eq(command.dilation_inner),
            group.in_outer.eq(command.in_outer),
            group.in_inner.eq(command.in_inner),
            group.command_end.eq(flags.last.as_value().all()),
            tap.places.eq(Cat(number + group.size >= self._config.vector_taps
                              for number in range(self._config.vector_taps))),
            tap.end.eq(flags.last.group & flags.last.row),
        ]
        for name in ("op", "in_zero", "second_zero", "subtract"):
            m.d.comb += tap.operation[name].eq(command[name])
        for name, _ in tap.result.shape():
            if name not in ("parameter", "lookup"):
                m.d.comb += tap.result[name].eq(command[name])
        self._elaborate_position(m, decoded, nest.active, position_flags, block_flags)
        self._elaborate_window(m, decoded, flags.last.group, operand_flags)
        self._elaborate_operands(m, decoded, nest.active, operand_flags, block_flags)

        return m

    def _elaborate_position(self, m: Module, decoded: Any, active: Value, flags: Any,
                            block_flags: Any) -> None:
        """Where the group is: its address and its coordinates."""
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
        m.d.comb += [
            self.group.address.eq(group_address),
            self.group.y.eq(row_y),
            self.group.x.eq(group_x),
        ]

        # Where the next position, row and group are.
        command       = decoded.command
        last          = flags.last
        outer_address = Mux(last.outer, next_block, next_outer)
        inner_address = Mux(last.inner, outer_address, next_inner)
        next_row      = Mux(command.broadcast, second_address,
                            row_address + command.kernel_outer_step)[:24]
        next_y        = Mux(last.inner, Mux(last.outer, decoded.first_y,
                                            outer_y + command.stride_outer), outer_y)
        next_x        = Mux(last.inner, decoded.first_x, inner_x + command.stride_inner)
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
                        next_inner.eq(inner_address + command.in_inner_step),
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
                next_block.eq(self.commands.p.command.in_base),
                second_address.eq(self.commands.p.second),
            ]

    def _elaborate_window(self, m: Module, decoded: Any, last_group: Value, flags: Any) -> None:
        """Which words of its window the group reads: those that are not there from the position
        before, nor padding in front of the first one."""
        group       = self.group
        first_inner = Signal(reset_less=True)
        first_group = Signal(reset_less=True)
        slot        = Signal(range(WINDOW_GROUPS), reset_less=True)
        m.d.comb += [
            group.no_slot.eq(decoded.command.slide & (slot == WINDOW_GROUPS - 1)
                             & ~group.tap.end),
            group.tap.fill.eq(first_inner),
            group.tap.slot.eq(slot),
        ]

        def begin_at(start: Any) -> list[Any]:
            return [
                group.start.eq(start.place),
                group.offset.eq(start.offset),
                group.x_offset.eq(start.x_offset),
            ]

        with m.If(first_inner):
            with m.If(first_group):
                m.d.comb += begin_at(decoded.first_start)
        with m.Elif(last_group):
            m.d.comb += begin_at(decoded.last_start)
        with m.Else():
            m.d.comb += begin_at(decoded.full_start)

        last = flags.last
        with m.If(flags.step):
            m.d.sync += [first_group.eq(last.group), slot.eq(slot + 1)]
            with m.If(last.group & last.row):
                m.d.sync += [first_inner.eq(last.inner), slot.eq(0)]

    def _elaborate_operands(self, m: Module, decoded: Any, active: Value, flags: Any,
                            block_flags: Any) -> None:
        """What the group is multiplied with, and which sum it belongs to."""
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
