"""The first stage of the vector engine: checks a command, and derives the fields of its loops."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.isa.commands import Engine, Rounding, VectorCommand, VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import Fault
from weft.hw.isa.limits import LINE_KERNELS
from weft.hw.isa.registers import Error
from weft.hw.isa.subset import roundings
from weft.hw.isa.vector_rules import (
    LINE_STRIDES,
    PAIRS,
    POSITIVE,
    REQUANTIZED,
    SUBTRACTIONS,
    WINDOWS,
    kernel_shapes,
    line_groups,
)
from weft.hw.lib.delay import register
from weft.hw.lib.half_slice import HalfSlice
from weft.hw.lib.multiplier import multiple

from .tap import FEW_WORDS

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
        # Both operands are read at a time.
        **({"pair": 1} if config.vector_pairs else {}),
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
        # padding; later, behind the words that are still there. With lines, that goes for the first
        # group of a column, in the first row and later; the full one is any further group.
        "first_start":  start,
        "full_start":   start,
        "last_start":   start,
        # There may be groups of more words.
        **({"large": 1} if taps > FEW_WORDS else {}),
        **({"lines": _lines_layout(config)} if config.vector_lines else {}),
    })


def _lines_layout(config: AcceleratorConfig) -> data.StructLayout:
    """What a command that keeps rows does for each column."""
    largest = max(LINE_KERNELS)
    return data.StructLayout({
        "on":           1,
        "wide":         1,                  # the window is of the larger size
        "columns":      18,
        "one_column":   1,
        "base":         24,                 # address of the first one, and its coordinate
        "first_x":      signed(9),
        "lead":         range(largest),     # columns before the first that ends a window
        "groups":       range(largest + 1),  # of kernel rows
        "one_group":    1,
        "top_words":    range(largest + 1),  # new in a column: in the first row, and in the others
        "words":        range(largest + 1),
        "first_places": range(config.vector_taps + 1),  # in use in the first group, in the others
        "later_places": range(config.vector_taps + 1),
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
            command.lines & self._wrong_lines(command),
            ~command.lines & (command.resumes | (command.quarter != 0)),
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

    def _wrong_lines(self, command: Any) -> Value:
        """Whether rows cannot be kept, however many columns there are."""
        if not self._config.vector_lines:
            return C(1)
        sizes   = [(command.kernel_outer == size) & (command.kernel_inner == size)
                   for size in LINE_KERNELS]
        strides = [command.stride_inner == stride for stride in LINE_STRIDES]
        return (~command.slide | (command.dilation_outer != 1) | (command.stride_outer == 0)
                | ~Cat(sizes).any() | ~Cat(strides).any())

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.held = held = HalfSlice(shape=self.commands.payload.shape())
        connect(m, flipped(self.commands), held.i)
        command = held.o.p.command
        m.d.comb += [self.o.p.index.eq(held.o.p.index), self.o.p.command.eq(command)]

        self._elaborate_loops(m, command)
        rows = self._elaborate_lines(m, command) if self._config.vector_lines else {}
        self._elaborate_starts(m, command, rows)
        self._elaborate_handshake(m, held.o)

        return m

    def _settle(self, m: Module, o: Any, **values: Any) -> None:
        """Drives fields of ``o``, or of a part of it, from registers."""
        for name, value in values.items():
            m.d.comb += o[name].eq(register(m, value, name))

    def _by_size(self, command: Any, of_small: int, of_large: int) -> Value:
        """One of two numbers by the size of a window whose rows are kept."""
        return Mux(command.kernel_inner == LINE_KERNELS[1], of_large, of_small)

    def _elaborate_loops(self, m: Module, command: Any) -> None:
        """First cycle: the loops, which depend on the command alone."""
        taps   = self._config.vector_taps
        op     = command.op
        window = (op == VectorOp.CONV) | (op == VectorOp.MAX)
        inner  = command.kernel_inner
        one_row = command.kernel_outer == 1
        if self._config.vector_pairs:
            pair = Cat(op == each for each in PAIRS).any()
            one_row |= pair
        # Division by a constant, as a table.
        groups = Array(C(-(-k // taps), 8) for k in range(256))[inner]
        rest   = Array(C((k - 1) % taps + 1, 4) for k in range(256))[inner]
        if self._config.vector_lines:
            groups = Mux(command.lines, 1, groups)
            rest   = Mux(command.lines, self._by_size(command, *(
                size - len(line_groups(self._config, size)) + 1 for size in LINE_KERNELS)), rest)
        self._settle(
            m, self.o.p,
            second=(command.in_base + command.kernel_outer_step)[:24],
            window=window,
            weighted=(op == VectorOp.CONV) | (op == VectorOp.ADD),
            scaled=(op != VectorOp.MAX) & (op != VectorOp.LOOKUP),
            looks_up=command.table != 0,
            first_table=command.table - 1,
            groups=Mux(window, groups, inner),
            last_size=Mux(window, rest, 1),
            group_step=Mux(window, multiple(command.kernel_inner_step, taps), 0),
            group_x_step=Mux(window, multiple(command.dilation_inner, taps), 0),
            first_y=-command.pad_outer,
            first_x=-command.pad_inner,
            one_outer=command.out_outer == 1,
            one_inner=command.out_inner == 1,
            one_row=one_row,
            **({"pair": pair} if self._config.vector_pairs else {}),
            **({"large": window & (inner > FEW_WORDS)} if taps > FEW_WORDS else {}),
        )

    def _elaborate_starts(self, m: Module, command: Any, rows: dict[str, Value]) -> None:
        """Second cycle: the size of a full group, and the places at which groups start to read;
        with lines they are ``rows``."""
        taps    = self._config.vector_taps
        out     = self.o.p
        pad     = command.pad_inner
        step    = command.kernel_inner_step
        if rows:
            step = Mux(command.lines, command.kernel_outer_step, step)
        address = [C(0)] + [register(m, multiple(step, k)[:24],
                                     f"address_multiple_{k}") for k in range(1, taps)]
        x       = [C(0)] + [register(m, multiple(command.dilation_inner, k)[:12],
                                     f"x_multiple_{k}") for k in range(1, taps)]
        fresh   = Signal(range(taps + 1), reset_less=True)  # words a group reads when it slides
        m.d.sync += fresh.eq(Mux(command.slide & (command.stride_inner < taps),
                                 command.stride_inner, taps))

        self._settle(m, out, full_size=Mux(out.window, taps, 1), one_group=out.groups == 1)
        first_size = Mux(out.groups == 1, out.last_size, taps)
        for name, place in (
                ("first", Mux(pad < first_size, pad, first_size - 1)),
                ("full", taps - fresh),
                ("last", Mux(out.last_size > fresh, out.last_size - fresh, 0))):
            chosen = Signal(range(taps), name=f"{name}_place")
            with m.If(command.slide):
                m.d.comb += chosen.eq(place)
            if rows:
                with m.If(command.lines):
                    m.d.comb += chosen.eq(rows[name])
            for field, value in (("place", chosen), ("offset", Array(address)[chosen]),
                                 ("x_offset", Array(x)[chosen])):
                m.d.comb += out[f"{name}_start"][field].eq(
                    register(m, value, f"{name}_start_{field}"))

    def _elaborate_lines(self, m: Module, command: Any) -> dict[str, Value]:
        """Both cycles: the columns of a row of positions, and the groups of kernel rows of each.
        Returns the rows at which groups of a column start to read, by the names of the places that
        they take the place of, after the first cycle."""
        def by_size(values: Any) -> Value:
            return self._by_size(command, *values)

        kinds  = [line_groups(self._config, size) for size in LINE_KERNELS]
        groups = by_size(map(len, kinds))
        last   = by_size(size - 1 for size in LINE_KERNELS)  # row or column of the window
        steps  = command.out_inner - 1

        skip, top, words = (Signal(range(max(LINE_KERNELS) + 1)) for _ in range(3))
        m.d.comb += [
            skip.eq(Mux(command.pad_inner < last, command.pad_inner, last)),
            top.eq(Mux(command.pad_outer < last, last + 1 - command.pad_outer, 1)),
            words.eq(Mux(command.stride_outer <= last, command.stride_outer, last + 1)),
        ]
        self._settle(
            m, self.o.p.lines, on=command.lines, wide=by_size(range(len(LINE_KERNELS))),
            lead=last - skip, first_x=skip - command.pad_inner,
            columns=Mux(command.stride_inner == LINE_STRIDES[1], steps << 1, steps)
            + last + 1 - skip,
            groups=groups, one_group=groups == 1, top_words=top, words=words,
            first_places=by_size(rows[0] * size
                                 for rows, size in zip(kinds, LINE_KERNELS, strict=True)),
            later_places=by_size(rows[-1] * size
                                 for rows, size in zip(kinds, LINE_KERNELS, strict=True)))

        lines  = self.o.p.lines
        offset = [C(0)] + [register(m, multiple(command.kernel_inner_step, k)[:24],
                                    f"column_multiple_{k}") for k in range(1, max(LINE_KERNELS))]
        self._settle(m, lines, one_column=lines.columns == 1,
                     base=command.in_base + Array(offset)[skip])

        return {name: register(m, last + 1 - Mux(new > groups, new, groups), f"{name}_row")
                for name, new in (("first", top), ("last", words), ("full", groups))}

    def _elaborate_handshake(self, m: Module, held: Any) -> None:
        """Offers the command held two cycles after it has come, or refuses it."""
        command   = held.p.command
        wrong    = register(m, Cat(self._wrong(command)), "wrong").any()
        last     = register(m, command.table + Mux(command.table_step, command.blocks - 1, 0)[:16],
                            "last_table")
        no_table = last > self._config.vector_tables
        if self._config.vector_lines:
            lines = self.o.p.lines
            wrong |= lines.on & (lines.columns > self._config.vector_lines)
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
