"""The loops of the vector engine: every tap of every output position, one per cycle."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from weft.config import AcceleratorConfig

from .commands import VectorCommand, VectorOp
from .fault import Fault
from .registers import Error
from .vector_tap import WINDOW_SLOTS, placed_layout

__all__ = ["VectorSequencer"]


class VectorSequencer(wiring.Component):
    """Walks channel blocks, outer and inner positions, kernel rows, groups and their taps.

    One tap per cycle, and one command at a time; the first tap is offered three cycles after its
    command was accepted.

    Members
    -------
    commands : :py:`In(stream.Signature({"index": 16, "command": VectorCommand}))`
    command : :py:`Out(VectorCommand)`
        The command at hand, constant until ``finished``.
    index : :py:`Out(16)`
        Its index.
    start : :py:`Out(1)`
        The first cycle with this command, before its first tap.
    taps : :py:`Out(stream.Signature(placed_layout(config)))`
    finished : :py:`In(1)`
        The last result of the command has been written.
    busy : :py:`Out(1)`
    fault : :py:`Out(Fault)`
        Held until reset, and no further command is accepted. ``ARGUMENT``: a field is zero that
        must not be, or contradicts the operation; ``ADDRESS``: no such table. The command has done
        nothing.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "commands": In(stream.Signature(data.StructLayout({
                "index": 16, "command": VectorCommand}))),
            "command":  Out(VectorCommand),
            "index":    Out(16),
            "start":    Out(1),
            "taps":     Out(stream.Signature(placed_layout(config))),
            "finished": In(1),
            "busy":     Out(1),
            "fault":    Out(Fault),
        })

    def _wrong(self, offered):
        """Whether a command contradicts itself."""
        nonzero = Cat(offered[name] == 0 for name in (
            "blocks", "out_outer", "out_inner", "in_outer", "in_inner", "kernel_outer",
            "kernel_inner")).any()
        binary = (offered.op == VectorOp.ADD) | (offered.op == VectorOp.MULTIPLY)
        window = (offered.op == VectorOp.CONV) | (offered.op == VectorOp.MAX)
        passes = -(-3 // self._config.vector_taps)
        return (nonzero | (Value.cast(offered.op) > VectorOp.LOOKUP.value)
                | (binary & (offered.kernel_outer != 2))
                | ((offered.op == VectorOp.ADD) & (offered.kernel_inner != passes))
                | ((offered.op == VectorOp.MULTIPLY) & (offered.kernel_inner != 1))
                | ((offered.op == VectorOp.LOOKUP)
                   & ((offered.kernel_outer != 1) | (offered.kernel_inner != 1)))
                | (offered.slide & (~window | (offered.stride_inner == 0)
                                    | (offered.dilation_inner != 1))))

    def elaborate(self, platform):
        m = Module()

        config  = self._config
        taps    = config.vector_taps
        command = self.command
        advance = Signal()
        active  = Signal()

        # Multiples of the tap's steps, in a cycle of their own.
        window   = Signal(reset_less=True)  # taps come in groups
        weighted = Signal(reset_less=True)
        address_multiples = [C(0)] + [Signal(24, name=f"address_multiple_{k}", reset_less=True)
                                      for k in range(1, taps + 1)]
        x_multiples       = [C(0)] + [Signal(12, name=f"x_multiple_{k}", reset_less=True)
                                      for k in range(1, taps + 1)]
        fresh = Signal(range(taps + 1), reset_less=True)  # words a group reads when it slides
        m.d.sync += fresh.eq(Mux(command.stride_inner < taps, command.stride_inner, taps))
        m.d.sync += [
            window.eq((command.op == VectorOp.CONV) | (command.op == VectorOp.MAX)),
            weighted.eq((command.op == VectorOp.CONV) | (command.op == VectorOp.ADD)),
        ]
        for k in range(1, taps + 1):
            m.d.sync += [
                address_multiples[k].eq(command.kernel_inner_step * k),
                x_multiples[k].eq(command.dilation_inner * k),
            ]

        # Counters count down to 1. Each loop has the address where it starts.
        blocks_left    = Signal(16, reset_less=True)
        outer_left     = Signal(16, reset_less=True)
        inner_left     = Signal(16, reset_less=True)
        rows_left      = Signal(8, reset_less=True)
        taps_left      = Signal(8, reset_less=True)   # of the kernel row, this group included
        read           = Signal(range(taps), reset_less=True)  # words of the group read so far
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
        begin          = Signal(reset_less=True)
        pass_          = Signal(2, reset_less=True)
        second         = Signal(reset_less=True)
        slot           = Signal(range(WINDOW_SLOTS), reset_less=True)
        weight         = Signal(17, reset_less=True)
        block_weight   = Signal(17, reset_less=True)

        size       = Signal(range(taps + 1))  # of this group
        skipped    = Signal(range(taps + 1))  # its words that are still there
        place      = Signal(range(taps + 1))
        last_word  = Signal()
        last_group = Signal()
        last_row   = Signal()
        last_inner = Signal()
        last_outer = Signal()
        last_block = Signal()
        full       = Mux(window, taps, 1)
        m.d.comb += [
            last_group.eq(taps_left <= full),
            size.eq(Mux(last_group, taps_left, full)),
            place.eq(skipped + read),
            last_word.eq(place + 1 == size),
            last_row.eq(rows_left == 1),
            last_inner.eq(inner_left == 1),
            last_outer.eq(outer_left == 1),
            last_block.eq(blocks_left == 1),
        ]
        with m.If(command.slide & ~first_inner & (size > fresh)):
            m.d.comb += skipped.eq(size - fresh)

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

        with m.If(active & advance):
            m.d.sync += read.eq(read + 1)
            with m.If(last_word):
                m.d.sync += [
                    read.eq(0),
                    taps_left.eq(taps_left - full),
                    group_address.eq(group_address + Mux(window, address_multiples[taps], 0)),
                    group_x.eq(group_x + Mux(window, x_multiples[taps], 0)),
                    begin.eq(0),
                    pass_.eq(pass_ + 1),
                    slot.eq(slot + 1),
                    weight.eq(weight + 1),
                ]
                with m.If(last_group):
                    m.d.sync += [
                        taps_left.eq(command.kernel_inner),
                        rows_left.eq(rows_left - 1),
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
                            inner_left.eq(inner_left - 1),
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
                                outer_left.eq(outer_left - 1),
                                outer_address.eq(next_outer),
                            ]
                            with m.If(last_outer):
                                m.d.sync += [
                                    outer_left.eq(command.out_outer),
                                    blocks_left.eq(blocks_left - 1),
                                    block_address.eq(next_block),
                                    second_address.eq(second_address + command.kernel_inner_step),
                                    active.eq(~last_block),
                                ]

        # Second stage: the tap's address and coordinates.
        placed = self.taps.p
        m.d.comb += advance.eq(~self.taps.valid | self.taps.ready)
        with m.If(advance):
            m.d.sync += [
                self.taps.valid.eq(active),
                placed.address.eq(group_address + Array(address_multiples)[place]),
                placed.y.eq(row_y),
                placed.x.eq(group_x + Array(x_multiples)[place]),
                placed.no_weight.eq(weighted & (weight >= config.vector_entries)),
                placed.no_slot.eq(command.slide & (slot == WINDOW_SLOTS - 1)
                                  & last_word & ~(last_group & last_row)),
                placed.tap.first.eq(read == 0),
                placed.tap.last.eq(last_word),
                placed.tap.slot.eq(slot),
                placed.tap.places.eq(Cat(number + size >= taps for number in range(taps))),
                placed.tap.begin.eq(begin),
                placed.tap.end.eq(last_word & last_group & last_row),
                placed.tap.block_end.eq(last_inner & last_outer),
                placed.tap.second.eq(second),
                placed.tap.pass_.eq(pass_),
                placed.tap.weight.eq(weight),
            ]

        offered = self.commands.p.command
        m.d.comb += self.commands.ready.eq(~self.busy & (self.fault.code == Error.NONE))
        m.d.sync += self.start.eq(0)
        with m.If(self.finished):
            m.d.sync += self.busy.eq(0)
        with m.If(self.commands.valid & self.commands.ready):
            m.d.sync += [command.eq(offered), self.index.eq(self.commands.p.index)]
            with m.If(self._wrong(offered)):
                m.d.sync += self.fault.code.eq(Error.ARGUMENT)
                m.d.sync += self.fault.index.eq(self.commands.p.index)
            with m.Elif((offered.op == VectorOp.LOOKUP) & (offered.table >= config.vector_tables)):
                m.d.sync += self.fault.code.eq(Error.ADDRESS)
                m.d.sync += self.fault.index.eq(self.commands.p.index)
            with m.Else():
                m.d.sync += [self.start.eq(1), self.busy.eq(1)]
        with m.If(self.start):
            m.d.sync += [
                active.eq(1),
                blocks_left.eq(command.blocks),
                outer_left.eq(command.out_outer),
                inner_left.eq(command.out_inner),
                rows_left.eq(command.kernel_outer),
                taps_left.eq(command.kernel_inner),
                read.eq(0),
                block_address.eq(command.in_base),
                outer_address.eq(command.in_base),
                inner_address.eq(command.in_base),
                row_address.eq(command.in_base),
                group_address.eq(command.in_base),
                second_address.eq(command.in_base + command.kernel_outer_step),
                outer_y.eq(-command.pad_outer),
                row_y.eq(-command.pad_outer),
                inner_x.eq(-command.pad_inner),
                group_x.eq(-command.pad_inner),
                first_inner.eq(1),
                begin.eq(1),
                pass_.eq(0),
                second.eq(0),
                slot.eq(0),
                weight.eq(command.weight_base),
                block_weight.eq(command.weight_base),
            ]

        return m
