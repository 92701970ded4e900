"""The first stage of the vector engine: checks a command, and works out what its loops need."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from weft.config import AcceleratorConfig

from .commands import VectorCommand, VectorOp
from .delay import unreset
from .fault import Fault
from .registers import Error

__all__ = ["VectorDecoder", "decoded_layout"]


def decoded_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A command that does not contradict itself, and what follows from it."""
    taps = config.vector_taps
    start = data.StructLayout({"place": range(taps), "offset": 24, "x_offset": 12})
    return data.StructLayout({
        "index":        16,
        "command":      VectorCommand,
        "second":       24,               # address of the second operand
        "window":       1,                # CONV or MAX: taps come in groups
        "weighted":     1,                # CONV or ADD
        "scaled":       1,                # results are requantized
        "groups":       8,                # in a kernel row
        "full_size":    range(taps + 1),  # taps of a group, and of the last one of a row
        "last_size":    range(taps + 1),
        "group_step":   24,               # from group to group
        "group_x_step": 12,
        # The place at which a group starts to read: in the first window of a row, behind the
        # padding; later, behind the words that are still there.
        "first_start":  start,
        "full_start":   start,
        "last_start":   start,
    })


class VectorDecoder(wiring.Component):
    """Holds one command while the one before it runs.

    A command is offered three cycles after it was accepted, and the next one is accepted the cycle
    after it was taken.

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
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "commands": In(stream.Signature(data.StructLayout({
                "index": 16, "command": VectorCommand}))),
            "o":        Out(stream.Signature(decoded_layout(config))),
            "earlier":  In(1),
            "fault":    Out(Fault),
        })

    def _wrong(self, command):
        """Whether a command contradicts itself."""
        nonzero = Cat(command[name] == 0 for name in (
            "blocks", "out_outer", "out_inner", "in_outer", "in_inner", "kernel_outer",
            "kernel_inner")).any()
        binary = (command.op == VectorOp.ADD) | (command.op == VectorOp.MULTIPLY)
        window = (command.op == VectorOp.CONV) | (command.op == VectorOp.MAX)
        passes = -(-3 // self._config.vector_taps)
        return (nonzero | (Value.cast(command.op) > VectorOp.LOOKUP.value)
                | (binary & (command.kernel_outer != 2))
                | ((command.op == VectorOp.ADD) & (command.kernel_inner != passes))
                | ((command.op == VectorOp.MULTIPLY) & (command.kernel_inner != 1))
                | ((command.op == VectorOp.LOOKUP)
                   & ((command.kernel_outer != 1) | (command.kernel_inner != 1)))
                | (command.slide & (~window | (command.stride_inner == 0)
                                    | (command.dilation_inner != 1))))

    def elaborate(self, platform):
        m = Module()

        config  = self._config
        taps    = config.vector_taps
        out     = unreset(m, self.o.payload, "out")
        command = out.command
        stage   = Signal(2)  # cycles since it was accepted
        code    = Signal(Error)

        m.d.comb += [
            self.commands.ready.eq((stage == 0) & (self.fault.code == Error.NONE)),
            self.o.valid.eq((stage == 3) & (code == Error.NONE)),
        ]
        with m.If(self.commands.valid & self.commands.ready):
            m.d.sync += [
                command.eq(self.commands.p.command),
                out.index.eq(self.commands.p.index),
                stage.eq(1),
            ]

        # First cycle: all that depends on the command alone.
        op = command.op
        window = (op == VectorOp.CONV) | (op == VectorOp.MAX)
        address_multiples = [C(0)] + [Signal(24, name=f"address_multiple_{k}", reset_less=True)
                                      for k in range(1, taps)]
        x_multiples       = [C(0)] + [Signal(12, name=f"x_multiple_{k}", reset_less=True)
                                      for k in range(1, taps)]
        fresh = Signal(range(taps + 1), reset_less=True)  # words a group reads when it slides
        with m.If(stage == 1):
            m.d.sync += [
                stage.eq(2),
                code.eq(Error.NONE),
                fresh.eq(Mux(command.slide & (command.stride_inner < taps),
                             command.stride_inner, taps)),
                out.second.eq(command.in_base + command.kernel_outer_step),
                out.window.eq(window),
                out.weighted.eq((op == VectorOp.CONV) | (op == VectorOp.ADD)),
                out.scaled.eq((op != VectorOp.MAX) & (op != VectorOp.LOOKUP)),
                # Division by a constant, as a table.
                out.groups.eq(Array(C(-(-k // taps), 8) for k in range(256))[command.kernel_inner]),
                out.last_size.eq(Array(C((k - 1) % taps + 1, 4)
                                       for k in range(256))[command.kernel_inner]),
                out.group_step.eq(_multiple(command.kernel_inner_step, taps)),
                out.group_x_step.eq(_multiple(command.dilation_inner, taps)),
            ]
            for k in range(1, taps):
                m.d.sync += [
                    address_multiples[k].eq(_multiple(command.kernel_inner_step, k)),
                    x_multiples[k].eq(_multiple(command.dilation_inner, k)),
                ]
            with m.If(~window):
                m.d.sync += [
                    out.groups.eq(command.kernel_inner),
                    out.last_size.eq(1),
                    out.group_step.eq(0),
                    out.group_x_step.eq(0),
                ]
            with m.If((op == VectorOp.LOOKUP) & (command.table >= config.vector_tables)):
                m.d.sync += code.eq(Error.ADDRESS)
            with m.If(self._wrong(command)):
                m.d.sync += code.eq(Error.ARGUMENT)

        # Second cycle.
        with m.If(stage == 2):
            m.d.sync += [stage.eq(3), out.full_size.eq(Mux(out.window, taps, 1))]
            first_size = Mux(out.groups == 1, out.last_size, taps)
            for name, place in (
                    ("first", Mux(command.pad_inner < first_size,
                                  command.pad_inner, first_size - 1)),
                    ("full", taps - fresh),
                    ("last", Mux(out.last_size > fresh, out.last_size - fresh, 0))):
                start  = out[f"{name}_start"]
                chosen = Signal(range(taps), name=f"{name}_place")
                with m.If(command.slide):
                    m.d.comb += chosen.eq(place)
                m.d.sync += [
                    start.place.eq(chosen),
                    start.offset.eq(Array(address_multiples)[chosen]),
                    start.x_offset.eq(Array(x_multiples)[chosen]),
                ]

        with m.If(self.o.valid & self.o.ready):
            m.d.sync += stage.eq(0)
        with m.If((stage == 3) & (code != Error.NONE) & ~self.earlier
                  & (self.fault.code == Error.NONE)):
            m.d.sync += [self.fault.code.eq(code), self.fault.index.eq(out.index)]

        return m


def _multiple(value, factor):
    """``value * factor`` as a sum, which takes no multiplier block."""
    return sum(value << bit for bit in range(factor.bit_length()) if factor >> bit & 1)
