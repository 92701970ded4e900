"""What constants on chip hold: parameters of channels, and what rows are looked up in."""

from amaranth.hdl import signed, unsigned
from amaranth.lib import data, enum

__all__ = ["ChannelParameters", "FixedPointParameters", "RowConstant", "Exponential"]


class ChannelParameters(data.Struct):
    """What requantization needs to know of one output channel; a parameter entry holds those of
    ``requant_lanes`` consecutive channels."""
    bias:  signed(32)
    scale: unsigned(32)  # bits of a float32: zero, or positive and normal


class FixedPointParameters(data.Struct):
    """What stands in the place of :class:`ChannelParameters` for a command with a fixed-point
    rule. The result of FIXED_POINT is ``RDBPOT(SRDHM((v + bias) << max(shift, 0), multiplier),
    max(-shift, 0)) + out_zero``, with the shift to the left modulo 2**32; that of FIXED_POINT_ONCE
    ``round((v + bias) * multiplier * 2**(shift - 31)) + out_zero``, halves away from zero,
    saturated if the sum shifted to the left exceeds 32 bits."""
    bias:       signed(27)
    shift:      signed(6)     # -32, at which every result is zero, to 31
    multiplier: unsigned(31)


class RowConstant(enum.IntEnum):
    """Where in the memory ROW_CONSTANT each table begins."""
    TERMS      = 0    # 256: of SOFTMAX the exponentials, of NORMALIZE what each value stands for
    THRESHOLDS = 256  # 256, of NORMALIZE
    CHANNELS   = 512  # of NORMALIZE, two of each channel


class Exponential(data.Struct):
    """An entry of the table of SOFTMAX: ``(2**23 + fraction) * 2**exponent``, or 0 if the exponent
    is; what counts are the ratios of entries. So all float32 values of both kinds have an entry."""
    fraction: unsigned(23)
    exponent: unsigned(9)
