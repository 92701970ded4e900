"""The outer loops of the matrix engine: from a command to its weight tiles, in order."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.isa.commands import Engine, MatrixCommand
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import Fault
from weft.hw.isa.registers import Error
from weft.hw.isa.subset import roundings
from weft.hw.lib.delay import register, unreset
from weft.hw.lib.fanout import assign
from weft.hw.lib.half_slice import HalfSlice
from weft.hw.lib.loop import PacedLoopNest

from .kept_sums import KeptSums
from .step import step_layout

__all__ = ["StepSequencer"]


class StepSequencer(wiring.Component):
    """Walks column tiles, pixel tiles, kernel rows, kernel columns and channel blocks.

    A step every third cycle, which is as many as the array can use; the first one is offered
    :attr:`LATENCY` cycles after its command was accepted, and the next command is accepted
    :attr:`TURNAROUND` cycles after the last one was taken. A command with an impossible field, or
    that does not go on with the sums that are kept, raises a fault instead and yields no steps.

    Members
    -------
    commands : :py:`In(stream.Signature({"index": 16, "command": MatrixCommand}))`
    steps : :py:`Out(stream.Signature(step_layout(config)))`
    fault : :py:`Out(Fault)`
        Held, and no further command accepted, until reset.

    Attributes
    ----------
    LATENCY : :class:`int`
        Cycles from a command that is accepted to its first step.
    TURNAROUND : :class:`int`
        Cycles from the last step that is taken until the next command can be accepted.
    """

    LATENCY    = 3
    TURNAROUND = 2

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "commands": In(stream.Signature(data.StructLayout({
                "index": 16, "command": MatrixCommand}))),
            "steps":    Out(stream.Signature(step_layout(config))),
            "fault":    Out(Fault),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.command = held = HalfSlice(shape=self.commands.p.shape())
        connect(m, flipped(self.commands), held.i)
        command = held.o.p.command

        # While no command is active, the counters, coordinates and addresses are loaded. There is a
        # register for each of these groups, to limit fan-out.
        counting, walking, addressing, weighing = loading = [
            Signal(init=1, name=f"loading_{name}", attrs={"keep": 1})
            for name in ("counters", "position", "addresses", "weights")]
        advancing = Signal()
        # A tile has few pixels, or its command is refused.
        few = self._config.accumulator_pixels.bit_length()
        m.submodules.nest = nest = PacedLoopNest(
            {"block": 16, "kernel_x": 8, "kernel_y": 8, "pixels": 24, "column": 16},
            strides={"pixels": few})
        m.submodules.kept = kept = KeptSums(self._config)
        m.d.comb += [
            kept.command.eq(command),
            kept.taken.eq(held.o.ready),
            nest.start.eq(counting),
            nest.step.eq(advancing),
            nest.counts.block.eq(command.channel_blocks),
            nest.counts.kernel_x.eq(command.kernel_w),
            nest.counts.kernel_y.eq(command.kernel_h),
            nest.counts.pixels.eq(command.out_pixels),
            nest.counts.column.eq(command.col_tiles),
            nest.strides.pixels.eq(command.tile_pixels[:few]),
            held.o.ready.eq(advancing & nest.ends.column),
        ]

        self._elaborate_control(m, held.o, loading, advancing, kept.wrong)
        self._elaborate_step(m, held.o, nest)
        self._elaborate_firsts(m, nest)
        self._elaborate_coordinates(m, command, nest, walking)
        self._elaborate_addresses(m, command, nest, addressing)
        self._elaborate_weights(m, command, nest, weighing)

        return m

    def _impossible(self, command: Any) -> list[Value]:
        """What is wrong with a command: conditions none of which must hold, each of few enough bits
        for a cycle."""
        nonzero = (("in_h",), ("in_w",), ("channel_blocks",), ("kernel_h", "kernel_w"),
                   ("stride_h", "stride_w"), ("dilation_h", "dilation_w"), ("out_w",),
                   ("tile_pixels",), ("out_pixels",), ("col_tiles",), ("last_groups",))
        impossible = [
            *(Cat(command[name] == 0 for name in names).any() for names in nonzero),
            command.tile_pixels > self._config.accumulator_pixels,
            command.last_groups > self._config.requant_groups,
            command.out_slot >= self._config.word_slots,
            command.clamp_min > command.clamp_max,
            Cat(command.rule != rule for rule in roundings(self._config, Engine.MATRIX)).all(),
            command.table > self._config.drain_tables,
        ]
        return impossible

    def _elaborate_control(self, m: Module, held: Any, loading: Value, advancing: Value,
                           unkept: Value) -> None:
        """A command is loaded, checked in the cycle after that, and active until its last step has
        been taken. The loops go on in the cycle after each step."""
        checking = Signal()
        active   = Signal()
        settling = Signal()
        refused  = Signal()
        wrong    = register(m, Cat(self._impossible(held.p.command), unkept), "wrong").any()
        taken    = self.steps.valid & self.steps.ready
        m.d.sync += [
            advancing.eq(taken),
            settling.eq(advancing),
            refused.eq(checking & wrong),
        ]
        with m.If(taken):
            m.d.sync += self.steps.valid.eq(0)
        with m.If(settling):
            m.d.sync += self.steps.valid.eq(active)
        with m.If(held.ready):
            m.d.sync += [active.eq(0), *assign(loading, 1)]

        with m.If(loading[0] & held.valid):
            m.d.sync += [checking.eq(1), *assign(loading, 0)]
        with m.If(checking):
            m.d.sync += [checking.eq(0), active.eq(~wrong), self.steps.valid.eq(~wrong)]
        with m.If(refused):
            m.d.sync += [self.fault.code.eq(Error.ARGUMENT), self.fault.index.eq(held.p.index)]

    def _elaborate_step(self, m: Module, held: Any, nest: Any) -> None:
        """Fields of the step that come from the loops, and those of the command."""
        command = held.p.command
        step    = self.steps.p
        last    = nest.last
        tile    = nest.strides.pixels
        m.d.comb += [
            step.index.eq(held.p.index),
            step.last_tap.eq(last.block & last.kernel_x & last.kernel_y),
            step.last_pixels.eq(last.pixels),
            step.last_columns.eq(last.column),
            step.pixels.eq(Mux(last.pixels, nest.left.pixels[:len(tile)], tile)),
            step.narrow.eq(register(m, command.out_w == 1, "narrow")),
            step.row_rest.eq(register(m, (command.out_w - 3)[:17], "row_rest")),
        ]
        for name in ("in_h", "in_w", "in_zero", "stride_h", "stride_w", "pixel_row_step",
                     "out_base", "out_plane", "out_zero", "clamp_min", "clamp_max",
                     "parameter_base", "last_groups", "rule", "out_slot", "accumulate", "keep",
                     "table"):
            m.d.comb += step[name].eq(command[name])
        if self._config.products:
            m.d.comb += step.weight_zero.eq(command.weight_zero)

    def _elaborate_firsts(self, m: Module, nest: Any) -> None:
        """Whether the step is the first one of a pixel tile, the tile the first one of a column
        tile, and that the first one of the command."""
        first_tap     = unreset(m, self.steps.p.first_tap, "first_tap")
        first_pixels  = unreset(m, self.steps.p.first_pixels, "first_pixels")
        first_columns = unreset(m, self.steps.p.first_columns, "first_columns")
        firsts        = (first_tap, first_pixels, first_columns)
        with m.If(nest.start):
            m.d.sync += assign(firsts, 1)
        with m.Elif(nest.step):
            m.d.sync += first_tap.eq(nest.ends.kernel_y)
            with m.If(nest.ends.kernel_y):
                m.d.sync += first_pixels.eq(nest.ends.pixels)
            with m.If(nest.ends.pixels):
                m.d.sync += first_columns.eq(0)

    def _elaborate_coordinates(self, m: Module, command: Any, nest: Any, load: Value) -> None:
        """Where the tap looks, from the position of the output pixel."""
        x = unreset(m, self.steps.p.x, "x")
        y = unreset(m, self.steps.p.y, "y")
        with m.If(load):
            m.d.sync += [x.eq(-command.pad_left), y.eq(-command.pad_top)]
        with m.Elif(nest.step):
            with m.If(nest.ends.block):
                m.d.sync += x.eq(x + command.dilation_w)
            with m.If(nest.ends.kernel_x):
                m.d.sync += [x.eq(-command.pad_left), y.eq(y + command.dilation_h)]
            with m.If(nest.ends.kernel_y):
                m.d.sync += y.eq(-command.pad_top)

    def _elaborate_addresses(self, m: Module, command: Any, nest: Any, load: Value) -> None:
        """The address of the tap: that of its column in the kernel, and from there of its channel
        block."""
        row    = Signal(24, reset_less=True)  # of the first column in the kernel row
        column = Signal(24, reset_less=True)
        block  = Signal(24, reset_less=True)
        m.d.comb += self.steps.p.address.eq(register(m, (column + block)[:24], "address"))
        with m.If(load):
            m.d.sync += [
                row.eq(command.in_base),
                column.eq(command.in_base),
                block.eq(0),
            ]
        with m.Elif(nest.step):
            m.d.sync += block.eq(block + command.in_plane)
            with m.If(nest.ends.block):
                m.d.sync += [block.eq(0), column.eq(column + command.dilation_w)]
            with m.If(nest.ends.kernel_x):
                m.d.sync += [
                    row.eq(row + command.kernel_row_step),
                    column.eq(row + command.kernel_row_step),
                ]
            with m.If(nest.ends.kernel_y):
                m.d.sync += [row.eq(command.in_base), column.eq(command.in_base)]

    def _elaborate_weights(self, m: Module, command: Any, nest: Any, load: Value) -> None:
        """The row of the weight memory at which the weight tile begins: a column tile has all its
        weight tiles for each of its pixel tiles."""
        config = self._config
        row    = unreset(m, self.steps.p.weight_row, "weight_row")
        column = Signal(24, reset_less=True)  # first row of this column tile
        next_row = (row + config.weight_tile_rows)[:24]
        m.d.comb += self.steps.p.legal.eq(register(
            m, ~(config.weight_depth - config.weight_tile_rows < row), "legal"))
        with m.If(load):
            m.d.sync += [row.eq(command.weight_base), column.eq(command.weight_base)]
        with m.Elif(nest.step):
            m.d.sync += row.eq(next_row)
            with m.If(nest.ends.kernel_y):
                m.d.sync += row.eq(column)
            with m.If(nest.ends.pixels):
                m.d.sync += [row.eq(next_row), column.eq(next_row)]
