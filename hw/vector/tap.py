"""Layouts of the control that travels with each word through the vector engine."""

from amaranth import *
from amaranth.lib import data
from amaranth.utils import ceil_log2

from weft.hw.isa.commands import Rounding, VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.limits import LINE_KERNELS, WINDOW_GROUPS

__all__ = ["FEW_WORDS", "group_layout", "lines_layout", "lookup_layout", "operation_layout",
           "placed_layout", "result_layout", "tap_layout"]


FEW_WORDS = 5
"""A group of more words is a large one."""


def lookup_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Whether a result goes through a table, and through which one."""
    return data.StructLayout({"enable": 1, "table": max(1, ceil_log2(config.vector_tables))})


def result_layout(config: AcceleratorConfig) -> data.StructLayout:
    """What becomes of a sum or a maximum: fields of the command, the entry of its parameters, and
    its table."""
    return data.StructLayout({
        "parameter": 16,         # entry of the parameter memory, of the first lanes
        "out_zero":  signed(8),
        "clamp_min": signed(8),
        "clamp_max": signed(8),
        "lookup":    lookup_layout(config),
        **({"rule": Rounding} if config.fixed_point else {}),
    })


def operation_layout() -> data.StructLayout:
    """The operation on a word: fields of the command."""
    return data.StructLayout({
        "op":          VectorOp,
        "in_zero":     signed(8),
        "second_zero": signed(8),
        "subtract":    1,
    })


def lines_layout(config: AcceleratorConfig) -> data.StructLayout:
    """How a group takes part in keeping the rows of a window."""
    return data.StructLayout({
        "on":     1,                          # the command keeps them
        "column": range(config.vector_lines),
        "begins": 1,                          # with `first`: the first word of its column
        "top":    1,                          # with both: the words above it are padding
        "behind": range(max(LINE_KERNELS)),   # groups of the column that are still to come
        "early":  range(max(LINE_KERNELS)),   # if it has no word: groups to the next word
        "wide":   1,                          # the window is of the larger size
    })


def _common_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Fields that the taps of a group have in common."""
    return data.StructLayout({
        "operation": operation_layout(),
        "result":    result_layout(config),
        "fill":      1,                   # with `first`: the words before it are padding
        "slot":      range(WINDOW_GROUPS),  # number of the group in its window
        "places":    config.vector_taps,  # which places of the group are in use
        "begin":     1,                   # the group starts a sum
        "end":       1,                   # the last word of a position
        "second":    1,                   # of the second operand
        "pass_":     2,                   # bytes of the multiplier already multiplied, over T
        "weight":    16,                  # entry of the weight memory
        **({"pops": 1} if config.vector_pairs else {}),  # the last use of the second word
        **({"lines": lines_layout(config)} if config.vector_lines else {}),
    })


def tap_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A tap of a window, or a word of an element-wise operation, on its way to its lanes.

    Taps come in groups of up to ``vector_taps``, and the groups of a position follow each other.
    A group is multiplied and added when its last word has come. Commands follow each other without
    a gap, so each tap carries its operation.
    """
    return data.StructLayout({
        **{name: field.shape for name, field in _common_layout(config)},
        "inside": 1,  # there is a word; else the tap is padding
        "first":  1,  # of its group, of those that are read
        "last":   1,  # of its group
    })


def group_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A group of taps: words ``start`` up to ``size`` are read."""
    return data.StructLayout({
        "tap":         _common_layout(config),
        "index":       16,                  # of the command
        "start":       range(config.vector_taps),
        "size":        range(config.vector_taps + 1),
        "address":     24,                  # of place 0
        "offset":      24,                  # from there to place `start`
        "step":        24,                  # from place to place
        "y":           signed(19),          # coordinates of place 0
        "x":           signed(19),
        "x_offset":    12,
        "x_step":      8,
        "in_outer":    16,                  # bounds of the coordinates
        "in_inner":    16,
        "no_entry":    1,                   # its weights or parameters are outside their memory
        "no_slot":     1,                   # the window has more groups than can be kept
        "command_end": 1,                   # the last group of the command
        **_second_layout(config),
    })


def _second_layout(config: AcceleratorConfig) -> dict[str, int]:
    """The word of the second operand, where it is read beside that of the first."""
    return {"second": 24, "fetches": 1} if config.vector_pairs else {}


def placed_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A tap, and the word that it reads if it is inside; and one of the second operand."""
    return data.StructLayout({"tap": tap_layout(config), "address": 24, **_second_layout(config)})
