"""The outer loops of the matrix engine: from a command to its weight tiles, in order."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.isa.commands import MatrixCommand, Rounding
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import Fault
from weft.hw.isa.registers import Error
from weft.hw.lib.delay import register
from weft.hw.lib.half_slice import HalfSlice

from .step import Step

__all__ = ["StepSequencer"]


class StepSequencer(wiring.Component):
    """Walks column tiles, pixel tiles, kernel rows, kernel columns and channel blocks.

    A step every third cycle, which is as many as the array can use; the first one is offered
    :attr:`LATENCY` cycles after its command was accepted, and the next command is accepted
    :attr:`TURNAROUND` cycles after the last one was taken. A command with an impossible field
    raises a fault instead and yields no steps.

    Members
    -------
    commands : :py:`In(stream.Signature({"index": 16, "command": MatrixCommand}))`
    steps : :py:`Out(stream.Signature(Step))`
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
            "steps":    Out(stream.Signature(Step)),
            "fault":    Out(Fault),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        config = self._config
        m.submodules.command = held = HalfSlice(shape=self.commands.p.shape())
        connect(m, flipped(self.commands), held.i)
        command, index = held.o.p.command, held.o.p.index

        # A command goes into the counters, is checked in the cycle after that, and is active until
        # its last step has been taken. All counters together are too many for one register.
        counting, walking, addressing, weighing = preparing = [
            Signal(init=1, name=f"preparing_{name}", attrs={"keep": 1})
            for name in ("counters", "position", "addresses", "weights")]
        checking  = Signal()
        active    = Signal()
        advancing = Signal()
        settling  = Signal()
        # Few enough bits for the next cycle.
        nonzero = (("in_h",), ("in_w",), ("channel_blocks",), ("kernel_h", "kernel_w"),
                   ("stride_h", "stride_w"), ("dilation_h", "dilation_w"), ("out_w",),
                   ("tile_pixels",), ("out_pixels",), ("col_tiles",), ("last_groups",))
        impossible = [*(Cat(command[name] == 0 for name in names).any() for names in nonzero),
                      command.tile_pixels > config.accumulator_pixels,
                      command.last_groups > config.requant_groups,
                      command.clamp_min > command.clamp_max]
        if not config.fixed_point:
            impossible.append(command.rule == Rounding.FIXED_POINT)
        wrong = register(m, Cat(impossible), "wrong").any()

        # Counters count down to 1.
        blocks_left   = Signal(16, reset_less=True)
        kernel_x_left = Signal(8, reset_less=True)
        kernel_y_left = Signal(8, reset_less=True)
        pixels_left   = Signal(24, reset_less=True)
        columns_left  = Signal(16, reset_less=True)
        first_tap     = Signal(reset_less=True)
        first_pixels  = Signal(reset_less=True)
        first_columns = Signal(reset_less=True)

        # Addresses of the tap: of its kernel row, of its column in it, and of its channel block.
        row_address    = Signal(24, reset_less=True)
        column_address = Signal(24, reset_less=True)
        block_address  = Signal(24, reset_less=True)
        x              = Signal(signed(18), reset_less=True)
        y              = Signal(signed(18), reset_less=True)
        weight_row     = Signal(24, reset_less=True)
        column_weights = Signal(24, reset_less=True)  # first row of this column tile

        # A cycle behind the counters: known in the cycle after the check, and after settling.
        last_block    = register(m, blocks_left == 1, "last_block")
        last_kernel_x = register(m, kernel_x_left == 1, "last_kernel_x")
        last_kernel_y = register(m, kernel_y_left == 1, "last_kernel_y")
        # A tile has few pixels, or its command has been refused. "Not less" needs no comparison
        # for equality.
        few = config.accumulator_pixels.bit_length()
        last_pixels   = register(m, ~(pixels_left[few:].any() | (
            command.tile_pixels[:few] < pixels_left[:few])), "last_pixels")
        last_column   = register(m, columns_left == 1, "last_column")
        legal         = register(
            m, ~(config.weight_depth - config.weight_tile_rows < weight_row), "legal")
        narrow        = register(m, command.out_w == 1, "narrow")
        row_rest      = register(m, (command.out_w - 3)[:17], "row_rest")
        address       = register(m, (column_address + block_address)[:24], "address")  # of the tap
        last_tap      = last_block & last_kernel_x & last_kernel_y
        # Another cycle behind: how far the next step goes.
        next_kernel_x = register(m, last_block, "next_kernel_x")
        next_kernel_y = register(m, last_block & last_kernel_x, "next_kernel_y")
        next_tile     = register(m, last_tap, "next_tile")
        next_column   = register(m, last_tap & last_pixels, "next_column")
        next_command  = register(m, last_tap & last_pixels & last_column, "next_command")
        next_weights  = (weight_row + config.weight_tile_rows)[:24]

        step = self.steps.p
        m.d.comb += [
            step.index.eq(index),
            step.weight_row.eq(weight_row),
            step.legal.eq(legal),
            step.address.eq(address),
            step.y.eq(y),
            step.x.eq(x),
            step.first_tap.eq(first_tap),
            step.last_tap.eq(last_tap),
            step.first_pixels.eq(first_pixels),
            step.last_pixels.eq(last_pixels),
            step.first_columns.eq(first_columns),
            step.last_columns.eq(last_column),
            step.narrow.eq(narrow),
            step.row_rest.eq(row_rest),
            step.pixels.eq(Mux(last_pixels, pixels_left[:few], command.tile_pixels[:few])),
        ]
        for name in ("in_h", "in_w", "in_zero", "stride_h", "stride_w", "pixel_row_step",
                     "out_base", "out_plane", "out_zero", "clamp_min", "clamp_max",
                     "parameter_base", "last_groups", "rule"):
            m.d.comb += step[name].eq(command[name])

        taken = self.steps.valid & self.steps.ready
        m.d.comb += held.o.ready.eq(advancing & next_command)
        m.d.sync += [advancing.eq(taken), settling.eq(advancing)]
        with m.If(taken):
            m.d.sync += self.steps.valid.eq(0)
        with m.If(settling):
            m.d.sync += self.steps.valid.eq(active)
        with m.If(held.o.ready):
            m.d.sync += [active.eq(0), *(part.eq(1) for part in preparing)]

        with m.If(counting & held.o.valid):
            m.d.sync += [checking.eq(1), *(part.eq(0) for part in preparing)]
        with m.If(checking):
            m.d.sync += [checking.eq(0), active.eq(~wrong), self.steps.valid.eq(~wrong)]
        refused = Signal()
        m.d.sync += refused.eq(checking & wrong)
        with m.If(refused):
            m.d.sync += [self.fault.code.eq(Error.ARGUMENT), self.fault.index.eq(index)]

        with m.If(counting):
            m.d.sync += [
                blocks_left.eq(command.channel_blocks),
                kernel_x_left.eq(command.kernel_w),
                kernel_y_left.eq(command.kernel_h),
                pixels_left.eq(command.out_pixels),
                columns_left.eq(command.col_tiles),
                first_tap.eq(1),
                first_pixels.eq(1),
                first_columns.eq(1),
            ]
        with m.Elif(advancing):
            m.d.sync += [blocks_left.eq(blocks_left - 1), first_tap.eq(0)]
            with m.If(next_kernel_x):
                m.d.sync += [
                    blocks_left.eq(command.channel_blocks),
                    kernel_x_left.eq(kernel_x_left - 1),
                ]
            with m.If(next_kernel_y):
                m.d.sync += [
                    kernel_x_left.eq(command.kernel_w),
                    kernel_y_left.eq(kernel_y_left - 1),
                ]
            with m.If(next_tile):
                m.d.sync += [
                    kernel_y_left.eq(command.kernel_h),
                    pixels_left.eq(pixels_left - command.tile_pixels),
                    first_tap.eq(1),
                    first_pixels.eq(0),
                ]
            with m.If(next_column):
                m.d.sync += [
                    pixels_left.eq(command.out_pixels),
                    columns_left.eq(columns_left - 1),
                    first_pixels.eq(1),
                    first_columns.eq(0),
                ]

        with m.If(walking):
            m.d.sync += [x.eq(-command.pad_left), y.eq(-command.pad_top)]
        with m.Elif(advancing):
            with m.If(next_kernel_x):
                m.d.sync += x.eq(x + command.dilation_w)
            with m.If(next_kernel_y):
                m.d.sync += [x.eq(-command.pad_left), y.eq(y + command.dilation_h)]
            with m.If(next_tile):
                m.d.sync += y.eq(-command.pad_top)

        with m.If(addressing):
            m.d.sync += [
                row_address.eq(command.in_base),
                column_address.eq(command.in_base),
                block_address.eq(0),
            ]
        with m.Elif(advancing):
            m.d.sync += block_address.eq(block_address + command.in_plane)
            with m.If(next_kernel_x):
                m.d.sync += [
                    block_address.eq(0),
                    column_address.eq(column_address + command.dilation_w),
                ]
            with m.If(next_kernel_y):
                m.d.sync += [
                    row_address.eq(row_address + command.kernel_row_step),
                    column_address.eq(row_address + command.kernel_row_step),
                ]
            with m.If(next_tile):
                m.d.sync += [
                    row_address.eq(command.in_base),
                    column_address.eq(command.in_base),
                ]

        with m.If(weighing):
            m.d.sync += [
                weight_row.eq(command.weight_base),
                column_weights.eq(command.weight_base),
            ]
        with m.Elif(advancing):
            m.d.sync += weight_row.eq(next_weights)
            with m.If(next_tile):
                m.d.sync += weight_row.eq(column_weights)
            with m.If(next_column):
                m.d.sync += [weight_row.eq(next_weights), column_weights.eq(next_weights)]

        return m
