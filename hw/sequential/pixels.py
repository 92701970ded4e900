"""The outer loops of a convolution: column tiles, and the output pixels of each."""

from amaranth import *

from .fields import Fields

__all__ = ["PixelLoop"]


class PixelLoop:
    """Registers for the loops over column tiles and output pixels.

    Its methods add statements where they are called: in a state of the surrounding FSM.

    Parameters
    ----------
    m : :class:`Module`
    fields : :class:`Fields`
        Of a MATRIX command. Those of tiles and bases count on with the tiles.
    size : :class:`int`
        Bits of a number of pixels.
    coordinate_width : :class:`int`
        Bits of a signed coordinate.

    Attributes
    ----------
    pixel, y, x : :class:`Signal`
        Address and coordinates of the pixel of the input at the first tap.
    output : :class:`Signal`
        Address of the output pixel.
    last_tile, last_pixel : value
        It is the last column tile; the last pixel of the column tile.
    """

    def __init__(self, m: Module, fields: Fields, *, size: int, coordinate_width: int):
        self._m      = m
        self._fields = fields
        self._pixels = Signal(size, name="pixels", reset_less=True)
        self._left   = Signal(size, name="left", reset_less=True)  # in its row
        self._row    = Signal(24, name="row", reset_less=True)  # first pixel of the input row
        self.pixel   = Signal(24, reset_less=True)
        self.y       = Signal(signed(coordinate_width), reset_less=True)
        self.x       = Signal(signed(coordinate_width), reset_less=True)
        self.output  = Signal(24, reset_less=True)
        self.last_tile  = fields.col_tiles == 1
        self.last_pixel = self._pixels == 1

    def start_tile(self) -> None:
        """Goes to the first pixel of the column tile."""
        fields = self._fields
        self._m.d.sync += [
            self._pixels.eq(fields.out_pixels),
            self._left.eq(fields.out_w),
            self._row.eq(fields.in_base),
            self.pixel.eq(fields.in_base),
            self.y.eq(-fields.pad_top),
            self.x.eq(-fields.pad_left),
            self.output.eq(fields.out_base),
        ]

    def next_pixel(self) -> None:
        m, fields = self._m, self._fields
        next_row = self._row + fields.pixel_row_step
        m.d.sync += [
            self.output.eq(self.output + 1),
            self._pixels.eq(self._pixels - 1),
            self._left.eq(self._left - 1),
            self.pixel.eq(self.pixel + fields.stride_w),
            self.x.eq(self.x + fields.stride_w),
        ]
        with m.If(self._left == 1):
            m.d.sync += [
                self._left.eq(fields.out_w),
                self._row.eq(next_row),
                self.pixel.eq(next_row),
                self.x.eq(-fields.pad_left),
                self.y.eq(self.y + fields.stride_h),
            ]

    def next_tile(self, *, weight: Value, entry: Value) -> None:
        """Goes to the next column tile, which begins at this weight row and parameter entry."""
        fields = self._fields
        self._m.d.sync += [
            fields.col_tiles.eq(fields.col_tiles - 1),
            fields.weight_base.eq(weight),
            fields.out_base.eq(fields.out_base + fields.out_plane),
            fields.parameter_base.eq(entry),
        ]
