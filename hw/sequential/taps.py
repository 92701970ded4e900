"""The inner loops of a convolution: where the words of one output pixel lie."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .fields import Fields

__all__ = ["TapWalker"]


class TapWalker(wiring.Component):
    """Walks kernel rows, kernel columns and channel blocks.

    Parameters
    ----------
    fields : :class:`Fields`
        Of a MATRIX command.
    coordinate_width : :class:`int`
        Bits of a signed coordinate.

    Members
    -------
    start : :py:`In(1)`
        Go to the first word of the pixel at ``pixel``, ``y`` and ``x``.
    pixel : :py:`In(24)`
        Address of the pixel of the input at the first tap.
    y, x : :py:`In(signed(coordinate_width))`
        Its coordinates.
    advance : :py:`In(1)`
        Go to the next word.
    address : :py:`Out(24)`
        Of the word.
    inside : :py:`Out(1)`
        It is not padding.
    last : :py:`Out(1)`
        It is the last one of the pixel.
    """

    def __init__(self, fields: Fields, *, coordinate_width: int):
        self._fields = fields
        coordinate = signed(coordinate_width)
        super().__init__({
            "start":   In(1),
            "pixel":   In(24),
            "y":       In(coordinate),
            "x":       In(coordinate),
            "advance": In(1),
            "address": Out(24),
            "inside":  Out(1),
            "last":    Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        fields = self._fields

        row    = Signal.like(self.address, reset_less=True)  # first word of the kernel row
        column = Signal.like(self.address, reset_less=True)  # and of the tap
        y      = Signal.like(self.y, reset_less=True)
        x      = Signal.like(self.x, reset_less=True)
        rows    = Signal.like(fields.kernel_h, reset_less=True)
        columns = Signal.like(fields.kernel_w, reset_less=True)
        blocks  = Signal.like(fields.channel_blocks, reset_less=True)
        last_row, last_column, last_block = rows == 1, columns == 1, blocks == 1

        # One adder for the three steps.
        base, step, following = (Signal.like(self.address, name=name)
                                 for name in ("base", "step", "following"))
        m.d.comb += [base.eq(self.address), step.eq(fields.in_plane), following.eq(base + step)]
        with m.If(last_block):
            m.d.comb += [base.eq(column), step.eq(fields.dilation_w)]
            with m.If(last_column):
                m.d.comb += [base.eq(row), step.eq(fields.kernel_row_step)]

        m.d.comb += [
            self.last.eq(last_row & last_column & last_block),
            self.inside.eq((y >= 0) & (x >= 0) & (y < fields.in_h) & (x < fields.in_w)),
        ]
        with m.If(self.advance):
            m.d.sync += [self.address.eq(following), blocks.eq(blocks - 1)]
            with m.If(last_block):
                m.d.sync += [
                    column.eq(following),
                    blocks.eq(fields.channel_blocks),
                    x.eq(x + fields.dilation_w),
                    columns.eq(columns - 1),
                ]
                with m.If(last_column):
                    m.d.sync += [
                        row.eq(following),
                        x.eq(self.x),
                        columns.eq(fields.kernel_w),
                        y.eq(y + fields.dilation_h),
                        rows.eq(rows - 1),
                    ]
        with m.If(self.start):
            m.d.sync += [value.eq(self.pixel) for value in (row, column, self.address)]
            m.d.sync += [
                y.eq(self.y),
                x.eq(self.x),
                rows.eq(fields.kernel_h),
                columns.eq(fields.kernel_w),
                blocks.eq(fields.channel_blocks),
            ]
        return m
