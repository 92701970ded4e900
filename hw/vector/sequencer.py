"""The loops of the vector engine: every group of taps of every output position."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.isa.commands import VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.limits import WINDOW_GROUPS
from weft.hw.lib.fanout import assign
from weft.hw.lib.half_slice import HalfSlice

from .decode import decoded_layout
from .tap import group_layout

__all__ = ["VectorSequencer"]


class _Loops:
    """What a part of the logic looks at, in registers for it alone. ``may``: there is a command,
    and room. ``idle``: there is no command. ``group``, ``row``, ``inner``, ``outer``: that loop is
    in its last round, known without a comparison."""

    def __init__(self, name: str):
        def flag(what: str, **options: Any) -> Signal:
            return Signal(name=f"{what}_{name}", attrs={"keep": 1}, **options)

        self.may  = flag("may")
        self.idle = flag("idle", init=1)
        self.group, self.row, self.inner, self.outer = (
            flag(loop, reset_less=True) for loop in ("group", "row", "inner", "outer"))


class VectorSequencer(wiring.Component):
    """Walks channel blocks, outer and inner positions, kernel rows and groups.

    One group per cycle. The first one is there :attr:`LATENCY` cycles after its command was taken,
    and a command is taken :attr:`TURNAROUND` cycles after the last group of the one before it.

    Nothing that the memory does comes here in the same cycle: whether a group may be made is in a
    register, and nobody refuses one that is.

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

        config = self._config
        taps   = config.vector_taps

        m.submodules.held = held = HalfSlice(shape=self.commands.payload.shape())
        connect(m, flipped(self.commands), held.i)
        decoded = held.o.p
        command = decoded.command
        active  = Signal()  # the first group has begun
        ending  = Signal()  # with the last group
        ended   = Signal()
        runs    = Signal()  # there is a command, not ended
        soon    = Signal()  # there will be
        start   = self.commands.valid & held.i.ready
        m.d.comb += [
            soon.eq((start | runs) & ~ending),
            held.o.ready.eq(ended),
        ]
        m.d.sync += [runs.eq(soon), ended.eq(ending)]

        # So that none has many sinks there are registers for the group at hand, the counters, the
        # addresses, the operands, for what is seldom, and for the end.
        hand, counts, moves, changes, turns, ends = loops = [_Loops(name) for name in (
            "hand", "counts", "moves", "changes", "turns", "ends")]
        turn = Signal()  # to the next block
        m.d.sync += [
            *assign((copy.may for copy in loops), (self.room & (start | runs)) & ~ending),
            *assign((copy.idle for copy in loops), (hand.idle & ~start) | ended),
        ]
        last_block   = Signal(reset_less=True)
        position_end = Signal()
        command_end  = Signal()

        # Counters count down to 1.
        blocks_left = Signal(16, reset_less=True)  # not begun yet
        outer_left  = Signal(16, reset_less=True)
        inner_left  = Signal(16, reset_less=True)
        rows_left   = Signal(8, reset_less=True)
        groups_left = Signal(8, reset_less=True)
        m.d.comb += [
            position_end.eq(hand.group & hand.row),
            command_end.eq(position_end & hand.inner & hand.outer & last_block),
            turn.eq(turns.group & turns.row & turns.inner & turns.outer),
            ending.eq(ends.may & self.last & ends.group & ends.row & ends.inner & ends.outer
                      & last_block),
        ]
        # Of the command, the rounds of each loop, and whether they are one or two: near the loops,
        # unlike the rest of it. And whether a loop has two rounds left, which then is one.
        new    = self.commands.p
        rounds = {"group": new.groups, "row": new.command.kernel_outer,
                  "inner": new.command.out_inner, "outer": new.command.out_outer}
        full = {name: Signal.like(number, name=f"full_{name}", reset_less=True, attrs={"keep": 1})
                for name, number in rounds.items()}
        single, double, two = ({
            name: Signal(name=f"{kind}_{name}", reset_less=True, attrs={"keep": 1})
            for name in rounds} for kind in ("single", "double", "two"))
        with m.If(counts.idle):
            m.d.sync += [
                *(full[name].eq(number) for name, number in rounds.items()),
                *(single[name].eq(new[f"one_{name}"]) for name in rounds),
                *(double[name].eq(number == 2) for name, number in rounds.items()),
            ]

        with m.If(hand.may & self.last):
            m.d.sync += active.eq(1)
        with m.If(counts.may & self.last):
            m.d.sync += [
                groups_left.eq(groups_left - 1),
                two["group"].eq(groups_left == 3),
            ]
            with m.If(counts.group):
                m.d.sync += [
                    groups_left.eq(full["group"]),
                    two["group"].eq(double["group"]),
                    rows_left.eq(rows_left - 1),
                    two["row"].eq(rows_left == 3),
                ]
                with m.If(counts.row):
                    m.d.sync += [
                        rows_left.eq(full["row"]),
                        two["row"].eq(double["row"]),
                        inner_left.eq(inner_left - 1),
                        two["inner"].eq(inner_left == 3),
                    ]
                    with m.If(counts.inner):
                        m.d.sync += [
                            inner_left.eq(full["inner"]),
                            two["inner"].eq(double["inner"]),
                            outer_left.eq(outer_left - 1),
                            two["outer"].eq(outer_left == 3),
                        ]
                        with m.If(counts.outer):
                            m.d.sync += [
                                outer_left.eq(full["outer"]),
                                two["outer"].eq(double["outer"]),
                            ]

        # Each copy depends on its own. While there is no command all loops are at their end. So
        # with its first step, which makes no group, they start anew, from here.
        for copy in loops:
            steps = copy.may & self.last
            for name in rounds:
                last = getattr(copy, name)
                with m.If(steps):
                    m.d.sync += last.eq(Mux(last, single[name], two[name]))
                with m.If(copy.idle):
                    m.d.sync += last.eq(1)
                steps &= last
        with m.If(hand.idle):
            m.d.sync += active.eq(0)

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
        first_inner    = Signal(reset_less=True)
        first_group    = Signal(reset_less=True)
        begin          = Signal(reset_less=True)
        pass_          = Signal(2, reset_less=True)
        second         = Signal(reset_less=True)
        slot           = Signal(range(WINDOW_GROUPS), reset_less=True)
        weight         = Signal(17, reset_less=True)
        block_weight   = Signal(17, reset_less=True)
        parameter      = Signal(17, reset_less=True)

        group = self.group
        tap   = group.tap
        m.d.comb += [
            self.valid.eq(hand.may & self.last & active),
            group.index.eq(decoded.index),
            group.size.eq(Mux(hand.group, decoded.last_size, decoded.full_size)),
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
            group.no_slot.eq(command.slide & (slot == WINDOW_GROUPS - 1) & ~position_end),
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

        def begin_at(start: Any) -> list[Any]:
            return [
                group.start.eq(start.place),
                group.offset.eq(start.offset),
                group.x_offset.eq(start.x_offset),
            ]

        with m.If(first_inner):
            with m.If(first_group):
                m.d.comb += begin_at(decoded.first_start)
        with m.Elif(hand.group):
            m.d.comb += begin_at(decoded.last_start)
        with m.Else():
            m.d.comb += begin_at(decoded.full_start)

        # Where the next position, row and group are.
        outer_address = Mux(moves.outer, next_block, next_outer)
        inner_address = Mux(moves.inner, outer_address, next_inner)
        next_row      = Mux(command.broadcast, second_address,
                            row_address + command.kernel_outer_step)[:24]
        next_y        = Mux(moves.inner, Mux(moves.outer, decoded.first_y,
                                             outer_y + command.stride_outer), outer_y)
        next_x        = Mux(moves.inner, decoded.first_x, inner_x + command.stride_inner)
        with m.If(moves.may & self.last):
            m.d.sync += [
                group_address.eq(group_address + decoded.group_step),
                group_x.eq(group_x + decoded.group_x_step),
            ]
            with m.If(moves.group):
                m.d.sync += [
                    row_address.eq(next_row),
                    group_address.eq(next_row),
                    row_y.eq(row_y + command.dilation_outer),
                    group_x.eq(inner_x),
                ]
                with m.If(moves.row):
                    m.d.sync += [
                        next_inner.eq(inner_address + command.in_inner_step),
                        row_address.eq(inner_address),
                        group_address.eq(inner_address),
                        row_y.eq(next_y),
                        outer_y.eq(next_y),
                        inner_x.eq(next_x),
                        group_x.eq(next_x),
                    ]

        # The operands. The first step makes no group, and so takes no weights.
        next_weight = Mux(active & changes.inner & changes.outer & ~command.shared,
                          (weight + 1)[:17], block_weight)
        with m.If(changes.may & self.last):
            m.d.sync += [
                first_group.eq(changes.group),
                begin.eq(0),
                pass_.eq(pass_ + 1),
                slot.eq(slot + 1),
                weight.eq(weight + 1),
            ]
            with m.If(changes.group):
                m.d.sync += [
                    pass_.eq(0),
                    second.eq(1),
                    # The first factor is no summand.
                    begin.eq(command.op == VectorOp.MULTIPLY),
                ]
                with m.If(changes.row):
                    m.d.sync += [
                        first_inner.eq(changes.inner),
                        begin.eq(1),
                        second.eq(0),
                        slot.eq(0),
                        weight.eq(next_weight),
                        block_weight.eq(next_weight),
                    ]
        with m.If(changes.idle):
            m.d.sync += block_weight.eq(new.command.weight_base)

        # Once in a row of positions, and once in a block.
        with m.If(turns.may & self.last & turns.group & turns.row & turns.inner):
            m.d.sync += next_outer.eq(outer_address + command.in_outer_step)
        with m.If(turns.may & self.last & turn):
            m.d.sync += [
                blocks_left.eq(blocks_left - 1),
                last_block.eq(blocks_left == 1),
                next_block.eq(next_block + command.in_block_step),
            ]
            with m.If(active):
                m.d.sync += second_address.eq(second_address + command.kernel_inner_step)
            with m.If(active & ~command.shared):
                m.d.sync += parameter.eq(parameter + config.vector_groups)
        with m.If(turns.idle):
            m.d.sync += [
                blocks_left.eq(new.command.blocks),
                last_block.eq(0),
                next_block.eq(new.command.in_base),
                second_address.eq(new.second),
                parameter.eq(new.command.parameter_base),
            ]

        return m
