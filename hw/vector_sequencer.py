"""The loops of the vector engine: every group of taps of every output position."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from weft.config import AcceleratorConfig

from .commands import VectorOp
from .vector_decode import decoded_layout
from .vector_tap import WINDOW_SLOTS, group_layout

__all__ = ["VectorSequencer"]


class VectorSequencer(wiring.Component):
    """Walks channel blocks, outer and inner positions, kernel rows and groups.

    One group per cycle. The first one is offered the cycle after its command was taken, and a
    command is taken in the cycle in which the last group of the one before it is.

    Members
    -------
    commands : :py:`In(stream.Signature(decoded_layout(config)))`
    groups : :py:`Out(stream.Signature(group_layout(config)))`
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "commands": In(stream.Signature(decoded_layout(config))),
            "groups":   Out(stream.Signature(group_layout(config))),
        })

    def elaborate(self, platform):
        m = Module()

        config  = self._config
        taps    = config.vector_taps
        decoded = Signal(decoded_layout(config), reset_less=True)
        command = decoded.command
        active  = Signal()

        # Counters count down to 1. Each loop has the address where it starts.
        blocks_left    = Signal(16, reset_less=True)
        outer_left     = Signal(16, reset_less=True)
        inner_left     = Signal(16, reset_less=True)
        rows_left      = Signal(8, reset_less=True)
        groups_left    = Signal(8, reset_less=True)
        block_address  = Signal(24, reset_less=True)
        outer_address  = Signal(24, reset_less=True)
        inner_address  = Signal(24, reset_less=True)
        row_address    = Signal(24, reset_less=True)
        group_address  = Signal(24, reset_less=True)
        second_address = Signal(24, reset_less=True)  # with broadcast
        outer_y        = Signal(signed(19), reset_less=True)
        row_y          = Signal(signed(19), reset_less=True)
        inner_x        = Signal(signed(19), reset_less=True)
        group_x        = Signal(signed(19), reset_less=True)
        first_inner    = Signal(reset_less=True)
        first_group    = Signal(reset_less=True)
        begin          = Signal(reset_less=True)
        pass_          = Signal(2, reset_less=True)
        second         = Signal(reset_less=True)
        slot           = Signal(range(WINDOW_SLOTS), reset_less=True)
        weight         = Signal(17, reset_less=True)
        block_weight   = Signal(17, reset_less=True)
        parameter      = Signal(17, reset_less=True)

        # Whether a counter is at 1, without the comparison.
        last_group   = Signal(reset_less=True)
        last_row     = Signal(reset_less=True)
        last_inner   = Signal(reset_less=True)
        last_outer   = Signal(reset_less=True)
        last_block   = Signal(reset_less=True)
        position_end = Signal()
        command_end  = Signal()
        m.d.comb += [
            position_end.eq(last_group & last_row),
            command_end.eq(position_end & last_inner & last_outer & last_block),
        ]

        group = self.groups.p
        tap   = group.tap
        m.d.comb += [
            self.groups.valid.eq(active),
            group.index.eq(decoded.index),
            group.size.eq(Mux(last_group, decoded.last_size, decoded.full_size)),
            group.address.eq(group_address),
            group.step.eq(command.kernel_inner_step),
            group.y.eq(row_y),
            group.x.eq(group_x),
            group.x_step.eq(command.dilation_inner),
            group.in_outer.eq(command.in_outer),
            group.in_inner.eq(command.in_inner),
            group.no_entry.eq(
                (decoded.weighted & (weight >= config.vector_entries))
                | (decoded.scaled & (
                    parameter > config.vector_parameter_depth - config.vector_groups))),
            group.no_slot.eq(command.slide & (slot == WINDOW_SLOTS - 1) & ~position_end),
            group.command_end.eq(command_end),
            tap.fill.eq(first_inner),
            tap.slot.eq(slot),
            tap.places.eq(Cat(number + group.size >= taps for number in range(taps))),
            tap.begin.eq(begin),
            tap.end.eq(position_end),
            tap.second.eq(second),
            tap.pass_.eq(pass_),
            tap.weight.eq(weight),
            tap.result.parameter.eq(parameter),
        ]
        for name in ("op", "in_zero", "second_zero", "subtract", "table"):
            m.d.comb += tap.operation[name].eq(command[name])
        for name in ("out_zero", "clamp_min", "clamp_max"):
            m.d.comb += tap.result[name].eq(command[name])

        def begin_at(start):
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

        next_inner  = Signal(24)
        next_outer  = Signal(24)
        next_block  = Signal(24)
        next_row    = Signal(24)
        next_x      = Signal(signed(19))
        next_y      = Signal(signed(19))
        next_weight = Signal(17)
        m.d.comb += [
            next_block.eq(block_address + command.in_block_step),
            next_outer.eq(Mux(last_outer, next_block, outer_address + command.in_outer_step)),
            next_inner.eq(Mux(last_inner, next_outer, inner_address + command.in_inner_step)),
            next_row.eq(Mux(command.broadcast, second_address,
                            row_address + command.kernel_outer_step)),
            next_x.eq(Mux(last_inner, -command.pad_inner, inner_x + command.stride_inner)),
            next_y.eq(outer_y),
            next_weight.eq(block_weight),
        ]
        with m.If(last_inner):
            m.d.comb += next_y.eq(Mux(last_outer, -command.pad_outer,
                                      outer_y + command.stride_outer))
        with m.If(last_inner & last_outer & ~command.shared):
            m.d.comb += next_weight.eq(weight + 1)

        with m.If(active & self.groups.ready):
            m.d.sync += [
                groups_left.eq(groups_left - 1),
                last_group.eq(groups_left == 2),
                first_group.eq(0),
                group_address.eq(group_address + decoded.group_step),
                group_x.eq(group_x + decoded.group_x_step),
                begin.eq(0),
                pass_.eq(pass_ + 1),
                slot.eq(slot + 1),
                weight.eq(weight + 1),
            ]
            with m.If(last_group):
                m.d.sync += [
                    groups_left.eq(decoded.groups),
                    last_group.eq(decoded.groups == 1),
                    first_group.eq(1),
                    rows_left.eq(rows_left - 1),
                    last_row.eq(rows_left == 2),
                    row_address.eq(next_row),
                    group_address.eq(next_row),
                    row_y.eq(row_y + command.dilation_outer),
                    group_x.eq(inner_x),
                    pass_.eq(0),
                    second.eq(1),
                    # The first factor is no summand.
                    begin.eq(command.op == VectorOp.MULTIPLY),
                ]
                with m.If(last_row):
                    m.d.sync += [
                        rows_left.eq(command.kernel_outer),
                        last_row.eq(command.kernel_outer == 1),
                        inner_left.eq(inner_left - 1),
                        last_inner.eq(inner_left == 2),
                        inner_address.eq(next_inner),
                        row_address.eq(next_inner),
                        group_address.eq(next_inner),
                        row_y.eq(next_y),
                        outer_y.eq(next_y),
                        inner_x.eq(next_x),
                        group_x.eq(next_x),
                        first_inner.eq(last_inner),
                        begin.eq(1),
                        second.eq(0),
                        slot.eq(0),
                        weight.eq(next_weight),
                        block_weight.eq(next_weight),
                    ]
                    with m.If(last_inner):
                        m.d.sync += [
                            inner_left.eq(command.out_inner),
                            last_inner.eq(command.out_inner == 1),
                            outer_left.eq(outer_left - 1),
                            last_outer.eq(outer_left == 2),
                            outer_address.eq(next_outer),
                        ]
                        with m.If(last_outer):
                            m.d.sync += [
                                outer_left.eq(command.out_outer),
                                last_outer.eq(command.out_outer == 1),
                                blocks_left.eq(blocks_left - 1),
                                last_block.eq(blocks_left == 2),
                                block_address.eq(next_block),
                                second_address.eq(second_address + command.kernel_inner_step),
                                active.eq(~last_block),
                            ]
                            with m.If(~command.shared):
                                m.d.sync += parameter.eq(parameter + config.vector_groups)

        m.d.comb += self.commands.ready.eq(~active | (self.groups.ready & command_end))
        with m.If(self.commands.valid & self.commands.ready):
            new     = self.commands.p
            offered = new.command
            m.d.sync += [
                decoded.eq(new),
                active.eq(1),
                blocks_left.eq(offered.blocks),
                last_block.eq(offered.blocks == 1),
                outer_left.eq(offered.out_outer),
                last_outer.eq(offered.out_outer == 1),
                inner_left.eq(offered.out_inner),
                last_inner.eq(offered.out_inner == 1),
                rows_left.eq(offered.kernel_outer),
                last_row.eq(offered.kernel_outer == 1),
                groups_left.eq(new.groups),
                last_group.eq(new.groups == 1),
                block_address.eq(offered.in_base),
                outer_address.eq(offered.in_base),
                inner_address.eq(offered.in_base),
                row_address.eq(offered.in_base),
                group_address.eq(offered.in_base),
                second_address.eq(new.second),
                outer_y.eq(-offered.pad_outer),
                row_y.eq(-offered.pad_outer),
                inner_x.eq(-offered.pad_inner),
                group_x.eq(-offered.pad_inner),
                first_inner.eq(1),
                first_group.eq(1),
                begin.eq(1),
                pass_.eq(0),
                second.eq(0),
                slot.eq(0),
                weight.eq(offered.weight_base),
                block_weight.eq(offered.weight_base),
                parameter.eq(offered.parameter_base),
            ]

        return m
