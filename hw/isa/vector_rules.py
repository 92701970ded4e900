"""Which VECTOR commands contradict themselves, for the decoder and the functional simulator.

Rules of single operations are in tables; what is the same for all is in :class:`VectorCommand`.
"""

from .commands import VectorOp
from .config import AcceleratorConfig

__all__ = ["LINE_STRIDES", "MULTIPLIER_BYTES", "PAIRS", "POSITIVE", "REQUANTIZED", "SUBTRACTIONS",
           "WEIGHTED", "WINDOWS", "add_entries", "kernel_shapes", "line_columns", "line_groups",
           "multiplier_passes", "window_groups"]


POSITIVE = ("blocks", "out_outer", "out_inner", "in_outer", "in_inner", "kernel_outer",
            "kernel_inner")
"""Fields that must not be zero."""

WINDOWS = (VectorOp.CONV, VectorOp.MAX)
"""Operations that may ``slide``: their taps come in groups."""

PAIRS = (VectorOp.ADD, VectorOp.MULTIPLY)
"""Operations of two tensors, which may ``broadcast`` the second."""

SUBTRACTIONS = (VectorOp.ADD,)
"""Operations that may ``subtract``."""

WEIGHTED = (VectorOp.CONV, VectorOp.ADD)
"""Operations that use weight entries."""

REQUANTIZED = (VectorOp.CONV, VectorOp.ADD, VectorOp.MULTIPLY)
"""Operations whose results are requantized, and which use parameter entries."""


LINE_STRIDES = (1, 2)
"""Of the inner axis of a command with ``lines``."""


def line_groups(config: AcceleratorConfig, kernel: int) -> tuple[int, ...]:
    """Kernel rows in each group of a window of ``kernel`` x ``kernel`` taps with ``lines``."""
    most = min(kernel, config.vector_taps // kernel)
    groups = -(-kernel // most)
    return (kernel - (groups - 1) * most, *[most] * (groups - 1))


def line_columns(out: int, *, kernel: int, stride: int, pad: int = 0) -> int:
    """Columns of the input that the windows of a row of ``out`` positions span, less those in front
    of the first window that are padding."""
    return (out - 1) * stride + kernel - min(pad, kernel - 1)


def window_groups(config: AcceleratorConfig, kernel: tuple[int, int], *,
                  lines: bool) -> tuple[tuple[tuple[int, int], ...], ...]:
    """The weight entries of a window of kernel rows and taps: for each its taps, which take its
    last places, as pairs of row and tap."""
    rows, taps = kernel
    if lines:
        counts = line_groups(config, rows)
        return tuple(tuple((row, tap) for row in range(sum(counts[:number]),
                                                       sum(counts[:number + 1]))
                           for tap in range(taps)) for number in range(len(counts)))
    most = config.vector_taps
    return tuple(tuple((row, tap) for tap in range(first, min(first + most, taps)))
                 for row in range(rows) for first in range(0, taps, most))


MULTIPLIER_BYTES = 3
"""Of a multiplier of ADD."""


def multiplier_passes(config: AcceleratorConfig) -> int:
    """Entries that the bytes of a multiplier of ADD take."""
    return -(-MULTIPLIER_BYTES // config.vector_taps)


def add_entries(config: AcceleratorConfig) -> int:
    """Weight entries of a channel block of an ADD, with the bytes of both its multipliers: those of
    each in entries of its own, or of both in one."""
    return 1 if config.vector_pairs else 2 * multiplier_passes(config)


def kernel_shapes(config: AcceleratorConfig) -> dict[VectorOp, tuple[int, int]]:
    """What ``kernel_outer`` and ``kernel_inner`` must be, of operations that do not leave it
    open."""
    return {VectorOp.ADD: (2, multiplier_passes(config)), VectorOp.MULTIPLY: (2, 1),
            VectorOp.LOOKUP: (1, 1)}
