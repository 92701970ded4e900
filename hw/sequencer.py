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

    One step per cycle; the first one is offered the cycle after its command was accepted. A
    command with an impossible field raises a fault instead and yields no steps.

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

        nonzero = [offered[name] for name in (
            "in_h", "in_w", "channel_blocks", "kernel_h", "kernel_w", "stride_h", "stride_w",
            "dilation_h", "dilation_w", "out_w", "tile_pixels", "out_pixels", "col_tiles",
            "last_groups")]
        wrong = (Cat(field == 0 for field in nonzero).any()
                 | (offered.tile_pixels > config.accumulator_pixels)
                 | (offered.last_groups > config.requant_groups))
        if not config.double_rounding:
            wrong |= offered.rule == Rounding.DOUBLE

        channel_block = Signal(16, reset_less=True)
        kernel_x      = Signal(8, reset_less=True)
        kernel_y      = Signal(8, reset_less=True)
        pixels_left   = Signal(24, reset_less=True)
        column        = Signal(16, reset_less=True)

        # Addresses of the tap: of its kernel row, of its column in it, and of its channel block.
        row_address    = Signal(24, reset_less=True)
        column_address = Signal(24, reset_less=True)
        block_address  = Signal(24, reset_less=True)
        x              = Signal(signed(18), reset_less=True)
        y              = Signal(signed(18), reset_less=True)
        weight_row     = Signal(24, reset_less=True)
        column_weights = Signal(24, reset_less=True)  # first row of this column tile

        last_block    = channel_block + 1 == command.channel_blocks
        last_kernel_x = kernel_x + 1 == command.kernel_w
        last_kernel_y = kernel_y + 1 == command.kernel_h
        last_pixels   = pixels_left <= command.tile_pixels
        last_column   = column + 1 == command.col_tiles
        last_tap      = last_block & last_kernel_x & last_kernel_y
        next_weights  = (weight_row + config.weight_tile_rows)[:24]

        step = self.steps.p
        m.d.comb += [
            self.steps.valid.eq(active),
            step.index.eq(index),
            step.weight_row.eq(weight_row),
            step.address.eq(column_address + block_address),
            step.y.eq(y),
            step.x.eq(x),
            step.first_tap.eq((channel_block == 0) & (kernel_x == 0) & (kernel_y == 0)),
            step.last_tap.eq(last_tap),
            step.first_pixels.eq(pixels_left == command.out_pixels),
            step.last_pixels.eq(last_pixels),
            step.first_columns.eq(column == 0),
            step.last_columns.eq(last_column),
            step.pixels.eq(Mux(last_pixels, pixels_left[:16], command.tile_pixels)),
        ]
        for name in ("in_h", "in_w", "in_zero", "stride_h", "stride_w", "pixel_row_step", "out_w",
                     "out_base", "out_plane", "out_zero", "clamp_min", "clamp_max",
                     "parameter_base", "last_groups", "rule"):
            m.d.comb += step[name].eq(command[name])

        with m.If(active & self.steps.ready):
            m.d.sync += [
                weight_row.eq(next_weights),
                channel_block.eq(channel_block + 1),
                block_address.eq(block_address + command.in_plane),
            ]
            with m.If(last_block):
                m.d.sync += [
                    channel_block.eq(0),
                    block_address.eq(0),
                    kernel_x.eq(kernel_x + 1),
                    x.eq(x + command.dilation_w),
                    column_address.eq(column_address + command.dilation_w),
                ]
                with m.If(last_kernel_x):
                    m.d.sync += [
                        kernel_x.eq(0),
                        x.eq(-command.pad_left),
                        kernel_y.eq(kernel_y + 1),
                        y.eq(y + command.dilation_h),
                        row_address.eq(row_address + command.kernel_row_step),
                        column_address.eq(row_address + command.kernel_row_step),
                    ]
            with m.If(last_tap):
                m.d.sync += [
                    kernel_y.eq(0),
                    y.eq(-command.pad_top),
                    row_address.eq(command.in_base),
                    column_address.eq(command.in_base),
                    pixels_left.eq(pixels_left - command.tile_pixels),
                    weight_row.eq(column_weights),
                ]
                with m.If(last_pixels):
                    m.d.sync += [
                        pixels_left.eq(command.out_pixels),
                        weight_row.eq(next_weights),
                        column_weights.eq(next_weights),
                        column.eq(column + 1),
                    ]
                    with m.If(last_column):
                        m.d.sync += active.eq(0)

        m.d.comb += self.commands.ready.eq(~active & (self.fault.code == Error.NONE))
        with m.If(self.commands.valid & self.commands.ready):
            m.d.sync += [
                command.eq(offered),
                index.eq(self.commands.p.index),
                channel_block.eq(0),
                kernel_x.eq(0),
                kernel_y.eq(0),
                pixels_left.eq(offered.out_pixels),
                column.eq(0),
                row_address.eq(offered.in_base),
                column_address.eq(offered.in_base),
                block_address.eq(0),
                x.eq(-offered.pad_left),
                y.eq(-offered.pad_top),
                weight_row.eq(offered.weight_base),
                column_weights.eq(offered.weight_base),
            ]
            with m.If(wrong):
                m.d.sync += [
                    self.fault.code.eq(Error.ARGUMENT),
                    self.fault.index.eq(self.commands.p.index),
                ]
            with m.Else():
                m.d.sync += active.eq(1)

        return m
