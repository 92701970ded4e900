"""The first stage of the vector engine: checks a command, and derives the fields of its loops."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.isa.commands import Engine, Rounding, VectorCommand, VectorOp, roundings
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import Fault
from weft.hw.isa.registers import Error
from weft.hw.isa.vector_rules import (
    PAIRS,
    POSITIVE,
    REQUANTIZED,
    SUBTRACTIONS,
    WINDOWS,
    kernel_shapes,
)
from weft.hw.lib.delay import register
from weft.hw.lib.half_slice import HalfSlice
from weft.hw.lib.multiplier import multiple

__all__ = ["VectorDecoder", "decoded_layout"]


def decoded_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A command that has been checked, and what is derived from it."""
    taps = config.vector_taps
    start = data.StructLayout({"place": range(taps), "offset": 24, "x_offset": 12})
    return data.StructLayout({
        "index":        16,
        "command":      VectorCommand,
        "second":       24,               # address of the second operand
        "window":       1,                # CONV or MAX: taps come in groups
        "weighted":     1,                # CONV or ADD
        "scaled":       1,                # results are requantized
        "looks_up":     1,                # results go through a table
        "first_table":  8,
        "groups":       8,                # in a kernel row
        "full_size":    range(taps + 1),  # taps of a group, and of the last one of a row
        "last_size":    range(taps + 1),
        "group_step":   24,               # from group to group
        "group_x_step": 12,
        "first_y":      signed(9),        # coordinates of the first tap
        "first_x":      signed(9),
        "one_outer":    1,                # loops of a single round
        "one_inner":    1,
        "one_row":      1,
        "one_group":    1,
        # The place at which a group starts to read: in the first window of a row, behind the
        # padding; later, behind the words that are still there.
        "first_start":  start,
        "full_start":   start,
        "last_start":   start,
    })


class VectorDecoder(wiring.Component):
    """Holds one command while the one before it runs.

    A command is offered :attr:`LATENCY` cycles after it was accepted, and the next one is accepted
    the cycle after it was taken. The derived fields are registers without an enable, computed from
    the command held in every cycle: an enable would have a fan-out of hundreds.

    Members
    -------
    commands : :py:`In(stream.Signature({"index": 16, "command": VectorCommand}))`
    o : :py:`Out(stream.Signature(decoded_layout(config)))`
    earlier : :py:`In(1)`
        A command before the one held is not done yet.
    fault : :py:`Out(Fault)`
        Held until reset, and no further command is accepted; comes when all commands before are
        done. ``ARGUMENT``: a field is zero that must not be, or contradicts the operation;
        ``ADDRESS``: no such table. The command has done nothing.

    Attributes
    ----------
    LATENCY : :class:`int`
        Cycles from a command that is accepted to its offer, at least 4.
    """

    LATENCY = 4

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "commands": In(stream.Signature(data.StructLayout({
                "index": 16, "command": VectorCommand}))),
            "o":        Out(stream.Signature(decoded_layout(config))),
            "earlier":  In(1),
            "fault":    Out(Fault),
        })

    def _wrong(self, command: Any) -> list[Value]:
        """Conditions none of which must hold in a command."""
        def one_of(operations: Any) -> Value:
            return Cat(command.op == operation for operation in operations).any()

        shapes = []  # that are wrong
        for operation, (outer, inner) in kernel_shapes(self._config).items():
            shapes += [(command.op == operation) & (command.kernel_outer != outer),
                       (command.op == operation) & (command.kernel_inner != inner)]
        return [
            *(command[name] == 0 for name in POSITIVE),
            Value.cast(command.op) > max(op.value for op in VectorOp),
            *shapes,
            command.slide & ~one_of(WINDOWS),
            command.slide & (command.stride_inner == 0),
            command.slide & (command.dilation_inner != 1),
            (command.broadcast & ~one_of(PAIRS)) | (command.subtract & ~one_of(SUBTRACTIONS)),
            command.clamp_min > command.clamp_max,
            (command.table == 0) & (command.table_step | (command.op == VectorOp.LOOKUP)),
            Cat(command.rule != rule for rule in roundings(self._config, Engine.VECTOR)).all(),
            (command.rule != Rounding.FLOAT32) & ~one_of(REQUANTIZED),
        ]

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.held = held = HalfSlice(shape=self.commands.payload.shape())
        connect(m, flipped(self.commands), held.i)
        command = held.o.p.command
        m.d.comb += [self.o.p.index.eq(held.o.p.index), self.o.p.command.eq(command)]

        self._elaborate_loops(m, command)
        self._elaborate_starts(m, command)
        self._elaborate_handshake(m, held.o)

        return m

    def _settle(self, m: Module, **values: Any) -> None:
        """Drives fields of ``o`` from registers."""
        for name, value in values.items():
            m.d.comb += self.o.p[name].eq(register(m, value, name))

    def _elaborate_loops(self, m: Module, command: Any) -> None:
        """First cycle: the loops, which depend on the command alone."""
        taps   = self._config.vector_taps
        op     = command.op
        window = (op == VectorOp.CONV) | (op == VectorOp.MAX)
        inner  = command.kernel_inner
        self._settle(
            m,
            second=(command.in_base + command.kernel_outer_step)[:24],
            window=window,
            weighted=(op == VectorOp.CONV) | (op == VectorOp.ADD),
            scaled=(op != VectorOp.MAX) & (op != VectorOp.LOOKUP),
            looks_up=command.table != 0,
            first_table=command.table - 1,
            # Division by a constant, as a table.
            groups=Mux(window, Array(C(-(-k // taps), 8) for k in range(256))[inner], inner),
            last_size=Mux(window, Array(C((k - 1) % taps + 1, 4) for k in range(256))[inner], 1),
            group_step=Mux(window, multiple(command.kernel_inner_step, taps), 0),
            group_x_step=Mux(window, multiple(command.dilation_inner, taps), 0),
            first_y=-command.pad_outer,
            first_x=-command.pad_inner,
            one_outer=command.out_outer == 1,
            one_inner=command.out_inner == 1,
            one_row=command.kernel_outer == 1,
        )

    def _elaborate_starts(self, m: Module, command: Any) -> None:
        """Second cycle: the size of a full group, and the places at which groups start to read."""
        taps    = self._config.vector_taps
        out     = self.o.p
        address = [C(0)] + [register(m, multiple(command.kernel_inner_step, k)[:24],
                                     f"address_multiple_{k}") for k in range(1, taps)]
        x       = [C(0)] + [register(m, multiple(command.dilation_inner, k)[:12],
                                     f"x_multiple_{k}") for k in range(1, taps)]
        fresh   = Signal(range(taps + 1), reset_less=True)  # words a group reads when it slides
        m.d.sync += fresh.eq(Mux(command.slide & (command.stride_inner < taps),
                                 command.stride_inner, taps))

        self._settle(m, full_size=Mux(out.window, taps, 1), one_group=out.groups == 1)
        first_size = Mux(out.groups == 1, out.last_size, taps)
        for name, place in (
                ("first", Mux(command.pad_inner < first_size, command.pad_inner, first_size - 1)),
                ("full", taps - fresh),
                ("last", Mux(out.last_size > fresh, out.last_size - fresh, 0))):
            chosen = Signal(range(taps), name=f"{name}_place")
            with m.If(command.slide):
                m.d.comb += chosen.eq(place)
            for field, value in (("place", chosen), ("offset", Array(address)[chosen]),
                                 ("x_offset", Array(x)[chosen])):
                m.d.comb += out[f"{name}_start"][field].eq(
                    register(m, value, f"{name}_start_{field}"))

    def _elaborate_handshake(self, m: Module, held: Any) -> None:
        """Offers the command held two cycles after it has come, or refuses it."""
        command   = held.p.command
        wrong    = register(m, Cat(self._wrong(command)), "wrong").any()
        last     = register(m, command.table + Mux(command.table_step, command.blocks - 1, 0)[:16],
                            "last_table")
        no_table = last > self._config.vector_tables
        bad      = register(m, wrong | no_table, "bad")

        refused = Signal()
        taken   = self.o.valid & self.o.ready
        settled = held.valid    # and the cycles above are over
        for number in range(self.LATENCY - 2):
            following = Signal(name=f"settled_{number}")
            m.d.sync += following.eq(settled & ~taken)
            settled = following
        m.d.sync += [
            self.o.valid.eq(settled & ~bad & ~taken),
            refused.eq(settled & bad),
        ]
        m.d.comb += held.ready.eq(taken)
        with m.If(refused & ~self.earlier & (self.fault.code == Error.NONE)):
            m.d.sync += [
                self.fault.code.eq(Mux(wrong, Error.ARGUMENT, Error.ADDRESS)),
                self.fault.index.eq(held.p.index),
            ]
