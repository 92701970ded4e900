"""What the vector engine knows of a word that it reads."""

from amaranth import *
from amaranth.lib import data

from weft.config import AcceleratorConfig

__all__ = ["WINDOW_SLOTS", "placed_layout", "tap_layout"]


WINDOW_SLOTS = 32
"""Groups of taps of a window whose words can be kept."""


def tap_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A tap of a window, or a word of an element-wise operation, on its way to its lanes.

    Taps come in groups of up to ``vector_taps``, and the groups of a position follow each other.
    A group is multiplied and added when its last word has come.
    """
    return data.StructLayout({
        "inside":    1,                   # there is a word; else the tap is padding
        "first":     1,                   # of its group, of those that are read
        "last":      1,                   # of its group
        "slot":      range(WINDOW_SLOTS),  # number of the group in its window
        "places":    config.vector_taps,  # which places of the group are in use
        "begin":     1,                   # the group starts a sum
        "end":       1,                   # the last word of a position
        "block_end": 1,                   # the last position of a channel block
        "second":    1,                   # of the second operand
        "pass_":     2,                   # bytes of the multiplier already multiplied, over T
        "weight":    16,                  # entry of the weight memory
    })


def placed_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A tap with where it is, before it is known whether that is inside the input."""
    return data.StructLayout({
        "tap":       tap_layout(config),  # all but `inside`
        "address":   24,
        "y":         signed(19),          # along the outer axis
        "x":         signed(19),
        "no_weight": 1,                   # its weight entry is outside the memory
        "no_slot":   1,                   # the window has more groups than can be kept
    })
