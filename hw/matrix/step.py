"""Payloads of the streams between the stages of the matrix engine."""

from amaranth.hdl import signed, unsigned
from amaranth.lib import data

from weft.hw.isa.commands import Rounding
from weft.hw.isa.config import AcceleratorConfig

__all__ = ["Step", "DrainJob", "step_layout"]


class Step(data.Struct):
    """One weight tile and the pixels that stream through it: one kernel tap, one channel block,
    one pixel tile."""
    index:          unsigned(16)  # of the command
    weight_row:     unsigned(24)  # first row of the weight tile
    legal:          unsigned(1)   # the weight tile lies in the weight memory
    # Offset of the tap from the pixel that the streamer is at.
    address:        unsigned(24)
    y:              signed(18)
    x:              signed(18)
    # Position in the loop nest.
    first_tap:      unsigned(1)   # starts new sums
    last_tap:       unsigned(1)   # completes them
    first_pixels:   unsigned(1)   # the first pixel tile of its column tile
    last_pixels:    unsigned(1)   # the last one
    first_columns:  unsigned(1)   # the first column tile of its command
    last_columns:   unsigned(1)   # the last one
    pixels:         unsigned(16)  # in this pixel tile
    # Unchanged from the command.
    in_h:           unsigned(16)
    in_w:           unsigned(16)
    in_zero:        signed(8)
    stride_h:       unsigned(8)
    stride_w:       unsigned(8)
    pixel_row_step: unsigned(24)
    narrow:         unsigned(1)   # out_w == 1
    row_rest:       signed(17)    # out_w - 3: counted down, it is below 0 at the last pixel but one
    out_base:       unsigned(24)
    out_plane:      unsigned(24)
    out_zero:       signed(8)
    clamp_min:      signed(8)
    clamp_max:      signed(8)
    parameter_base: unsigned(24)
    last_groups:    unsigned(8)
    rule:           Rounding
    out_slot:       unsigned(8)
    accumulate:     unsigned(1)
    keep:           unsigned(1)
    table:          unsigned(9)


def step_layout(config: AcceleratorConfig) -> type[Step] | data.StructLayout:
    """A step as far as its weights are loaded: with ``products``, behind the fields of
    :class:`Step`, ``weight_zero``, the weight of the column that corrects."""
    if not config.products:
        return Step
    return data.StructLayout({**{name: field.shape for name, field in data.Layout.cast(Step)},
                              "weight_zero": signed(8)})


class DrainJob(data.Struct):
    """A pixel tile whose sums are complete; or, with ``keep``, whose command is, but not its
    sums."""
    index:          unsigned(16)
    bank:           unsigned(1)
    pixels:         unsigned(16)
    single:         unsigned(1)   # pixels == 1
    keep:           unsigned(1)
    last_pixels:    unsigned(1)
    first_columns:  unsigned(1)
    last_columns:   unsigned(1)
    out_base:       unsigned(24)
    out_plane:      unsigned(24)
    out_zero:       signed(8)
    clamp_min:      signed(8)
    clamp_max:      signed(8)
    parameter_base: unsigned(24)
    last_groups:    unsigned(8)
    rule:           Rounding
    out_slot:       unsigned(8)
    table:          unsigned(9)
