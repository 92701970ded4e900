"""The outer loops of the matrix engine: from a command to its weight tiles, in order."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from weft.config import AcceleratorConfig

from .commands import MatrixCommand, Rounding
from .fault import Fault
from .registers import Error
from .step import Step

__all__ = ["StepSequencer"]


class StepSequencer(wiring.Component):
    """Walks column tiles, pixel tiles, kernel rows, kernel columns and channel blocks.

    A step every third cycle, which is as many as the array can use; the first one is offered two
    cycles after its command was accepted, and the next command is accepted two cycles after the
    last one was taken. A command with an impossible field raises a fault instead and yields no
    steps.

    Members
    -------
    commands : :py:`In(stream.Signature({"index": 16, "command": MatrixCommand}))`
    steps : :py:`Out(stream.Signature(Step))`
    fault : :py:`Out(Fault)`
        Held, and no further command accepted, until reset.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "commands": In(stream.Signature(data.StructLayout({
                "index": 16, "command": MatrixCommand}))),
            "steps":    Out(stream.Signature(Step)),
            "fault":    Out(Fault),
        })

    def elaborate(self, platform):
        m = Module()

        config  = self._config
        command = Signal(MatrixCommand, reset_less=True)
        index   = Signal(16, reset_less=True)
        active  = Signal()
        offered = self.commands.p.command

        # The field checks have a cycle of their own, and so have the sums of the loops: what is
        # added and compared is in registers only.
        checking  = Signal()
        advancing = Signal()
        settling  = Signal()
        nonzero = [offered[name] for name in (
            "in_h", "in_w", "channel_blocks", "kernel_h", "kernel_w", "stride_h", "stride_w",
            "dilation_h", "dilation_w", "out_w", "tile_pixels", "out_pixels", "col_tiles",
            "last_groups")]
        zero  = Signal(len(nonzero), reset_less=True)
        wrong = (zero.any()
                 | (command.tile_pixels > config.accumulator_pixels)
                 | (command.last_groups > config.requant_groups))
        if not config.double_rounding:
            wrong |= command.rule == Rounding.DOUBLE

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

        last_block    = Signal(reset_less=True)
        last_kernel_x = Signal(reset_less=True)
        last_kernel_y = Signal(reset_less=True)
        last_pixels   = Signal(reset_less=True)
        last_column   = Signal(reset_less=True)
        last_tap      = last_block & last_kernel_x & last_kernel_y
        # A cycle behind the counters: known in the cycle after the check, and after settling.
        m.d.sync += [
            last_block.eq(blocks_left == 1),
            last_kernel_x.eq(kernel_x_left == 1),
            last_kernel_y.eq(kernel_y_left == 1),
            last_pixels.eq(pixels_left <= command.tile_pixels),
            last_column.eq(columns_left == 1),
        ]
        next_weights  = (weight_row + config.weight_tile_rows)[:24]

        step = self.steps.p
        m.d.comb += [
            self.steps.valid.eq(active & ~advancing & ~settling),
            step.index.eq(index),
            step.weight_row.eq(weight_row),
            step.address.eq(column_address + block_address),
            step.y.eq(y),
            step.x.eq(x),
            step.first_tap.eq(first_tap),
            step.last_tap.eq(last_tap),
            step.first_pixels.eq(first_pixels),
            step.last_pixels.eq(last_pixels),
            step.first_columns.eq(first_columns),
            step.last_columns.eq(last_column),
            step.pixels.eq(Mux(last_pixels, pixels_left[:16], command.tile_pixels)),
        ]
        for name in ("in_h", "in_w", "in_zero", "stride_h", "stride_w", "pixel_row_step", "out_w",
                     "out_base", "out_plane", "out_zero", "clamp_min", "clamp_max",
                     "parameter_base", "last_groups", "rule"):
            m.d.comb += step[name].eq(command[name])

        m.d.sync += [advancing.eq(self.steps.valid & self.steps.ready), settling.eq(advancing)]
        with m.If(advancing):
            m.d.sync += [
                weight_row.eq(next_weights),
                blocks_left.eq(blocks_left - 1),
                block_address.eq(block_address + command.in_plane),
                first_tap.eq(0),
            ]
            with m.If(last_block):
                m.d.sync += [
                    blocks_left.eq(command.channel_blocks),
                    block_address.eq(0),
                    kernel_x_left.eq(kernel_x_left - 1),
                    x.eq(x + command.dilation_w),
                    column_address.eq(column_address + command.dilation_w),
                ]
                with m.If(last_kernel_x):
                    m.d.sync += [
                        kernel_x_left.eq(command.kernel_w),
                        x.eq(-command.pad_left),
                        kernel_y_left.eq(kernel_y_left - 1),
                        y.eq(y + command.dilation_h),
                        row_address.eq(row_address + command.kernel_row_step),
                        column_address.eq(row_address + command.kernel_row_step),
                    ]
            with m.If(last_tap):
                m.d.sync += [
                    kernel_y_left.eq(command.kernel_h),
                    y.eq(-command.pad_top),
                    row_address.eq(command.in_base),
                    column_address.eq(command.in_base),
                    pixels_left.eq(pixels_left - command.tile_pixels),
                    weight_row.eq(column_weights),
                    first_tap.eq(1),
                    first_pixels.eq(0),
                ]
                with m.If(last_pixels):
                    m.d.sync += [
                        pixels_left.eq(command.out_pixels),
                        weight_row.eq(next_weights),
                        column_weights.eq(next_weights),
                        columns_left.eq(columns_left - 1),
                        first_pixels.eq(1),
                        first_columns.eq(0),
                    ]
                    with m.If(last_column):
                        m.d.sync += active.eq(0)

        m.d.comb += self.commands.ready.eq(~active & ~checking & (self.fault.code == Error.NONE))
        # What comes with no command is not looked at, so these need not know whether one comes.
        with m.If(self.commands.ready):
            m.d.sync += [
                command.eq(offered),
                zero.eq(Cat(field == 0 for field in nonzero)),
                index.eq(self.commands.p.index),
                blocks_left.eq(offered.channel_blocks),
                kernel_x_left.eq(offered.kernel_w),
                kernel_y_left.eq(offered.kernel_h),
                pixels_left.eq(offered.out_pixels),
                columns_left.eq(offered.col_tiles),
                first_tap.eq(1),
                first_pixels.eq(1),
                first_columns.eq(1),
                row_address.eq(offered.in_base),
                column_address.eq(offered.in_base),
                block_address.eq(0),
                x.eq(-offered.pad_left),
                y.eq(-offered.pad_top),
                weight_row.eq(offered.weight_base),
                column_weights.eq(offered.weight_base),
                checking.eq(self.commands.valid),
            ]
        with m.If(checking):
            m.d.sync += [checking.eq(0), active.eq(~wrong)]
            with m.If(wrong):
                m.d.sync += [self.fault.code.eq(Error.ARGUMENT), self.fault.index.eq(index)]

        return m
