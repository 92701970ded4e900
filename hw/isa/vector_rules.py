"""Which VECTOR commands contradict themselves, for the decoder and the functional simulator.

Rules of single operations are in tables; what is the same for all is in :class:`VectorCommand`.
"""

from .commands import VectorOp
from .config import AcceleratorConfig

__all__ = ["PAIRS", "POSITIVE", "REQUANTIZED", "SUBTRACTIONS", "WEIGHTED", "WINDOWS",
           "kernel_shapes", "multiplier_passes"]


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


def multiplier_passes(config: AcceleratorConfig) -> int:
    """Entries that the three bytes of a multiplier of ADD take."""
    return -(-3 // config.vector_taps)


def kernel_shapes(config: AcceleratorConfig) -> dict[VectorOp, tuple[int, int]]:
    """What ``kernel_outer`` and ``kernel_inner`` must be, of operations that do not leave it
    open."""
    return {VectorOp.ADD: (2, multiplier_passes(config)), VectorOp.MULTIPLY: (2, 1),
            VectorOp.LOOKUP: (1, 1)}
