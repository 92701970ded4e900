"""How sums become int8 values: by the rules of TFLite, or by onnxruntime's."""

from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from weft import reference
from weft.errors import ModelError
from weft.hw.isa.commands import Rounding

from .file import Operator, Tensor, label

__all__ = ["Rule", "activation_bounds", "exact_once", "quantized_bound", "round_away"]


class Rule(StrEnum):
    """Whose results a model has."""

    TFLITE       = "tflite"        # those of LiteRT's reference kernels
    TFLITE_MICRO = "tflite-micro"  # those of TFLite Micro: FULLY_CONNECTED is rounded twice, too
    ONNXRUNTIME  = "onnxruntime"   # those that onnxruntime would have: float32 in between

    @property
    def rounding(self) -> Rounding:
        """Of all layers but fully connected ones."""
        return Rounding.FLOAT32 if self is Rule.ONNXRUNTIME else Rounding.FIXED_POINT


def round_away(x: ArrayLike) -> np.ndarray:
    """C's ``round``: to the nearest integer, halves away from zero. Of the type of ``x``."""
    x = np.asarray(x)
    whole = np.trunc(x)
    # Exact, where x + 0.5 need not be.
    return np.asarray(whole + np.where(np.abs(x - whole) >= 0.5, np.sign(x), 0).astype(x.dtype))


def quantized_bound(bound: float, target: Tensor) -> int:
    """The integer of a real bound in the quantization of ``target``, which it may lie outside
    of."""
    return target.zero_point + int(round_away(np.float32(bound) / np.float32(target.scale)))


def activation_bounds(operator: Operator, target: Tensor) -> tuple[int, int]:
    """Bounds of an operator's output, from its fused activation: -128..127 or closer.

    Raises
    ------
    ModelError
        If the activation is no pair of bounds.
    """
    kind = operator.options["FusedActivationFunction"]
    limits = {"NONE": (None, None), "RELU": (0.0, None), "RELU6": (0.0, 6.0),
              "RELU_N1_TO_1": (-1.0, 1.0)}.get(kind)
    if limits is None:
        raise ModelError(f"{label(operator)} must have a fused activation of NONE, RELU, RELU6 or "
                         f"RELU_N1_TO_1, not {kind}")
    bounds = [-128, 127]
    for index, limit in enumerate(limits):
        if limit is not None:
            bounds[index] = min(max(quantized_bound(limit, target), -128), 127)
    return bounds[0], bounds[1]


def exact_once(ratio: np.ndarray, limit: np.ndarray, zero_point: int) \
        -> tuple[np.ndarray, np.ndarray]:
    """Multipliers with which rounding once in fixed point makes of every sum what
    ``round(sum * ratio)`` in float64 is, halves away from zero: the rule of FULLY_CONNECTED.

    A step of the result lies between two neighbouring sums; each allows a range of multipliers.

    Parameters
    ----------
    ratio : float64 [N]
        Input scale x weight scale / output scale.
    limit : int64 [N]
        Largest size of a sum.
    zero_point : :class:`int`
        Of the output.

    Returns
    -------
    multiplier, shift : int32 [N]
        As of :func:`weft.reference.quantized_multiplier`.

    Raises
    ------
    ValueError
        If a channel has no such multiplier.
    """
    multiplier, shift = reference.quantized_multiplier(ratio)
    if (shift > 30).any():
        raise ValueError(f"Scales must be below 2**30, not up to {ratio.max():g}")
    middle, most = multiplier.astype(np.int64)[:, None], limit.astype(np.int64)[:, None]
    steps = np.arange(-127, 128)[None] - zero_point
    first = _first_sums(ratio[:, None], steps, most)
    low = np.full(multiplier.shape, (1 << 30) if middle.any() else 0, np.int64)
    high = np.full(multiplier.shape, (1 << 31) - 1, np.int64)
    for sums, reached in ((first, True), (first - 1, False)):
        counts = (np.abs(sums) <= most) & (sums != 0)
        half = np.where(counts, (2 * steps - 1), 0) << (30 - shift.astype(np.int64))[:, None]
        divisor = np.where(counts, sums, 1)
        # The multiplier with which a sum gets to its half, away from zero.
        enough = -(-half // divisor)
        least = np.where(counts & ((sums > 0) == reached), enough, 0)
        largest = np.where(counts & ((sums > 0) != reached), enough - 1, 1 << 31)
        low, high = np.maximum(low, least.max(1)), np.minimum(high, largest.min(1))
    none = multiplier == 0
    if (low > high)[~none].any():
        raise ValueError(f"No multiplier rounds all sums of channel "
                         f"{int(np.flatnonzero((low > high) & ~none)[0])} as float64 does")
    chosen = np.clip(multiplier, low, np.maximum(low, high))
    return np.where(none, 0, chosen).astype(np.int32), shift


def _first_sums(ratio: np.ndarray, steps: np.ndarray, most: np.ndarray) -> np.ndarray:
    """The smallest sum, [N, steps], that becomes at least each step; one beyond ``most`` where
    none does."""
    near = np.clip(np.ceil((steps - 0.5) / ratio), -most - 2.0, most + 2.0).astype(np.int64)
    first = near + 3
    for candidate in range(2, -4, -1):
        sums = near + candidate
        first = np.where(round_away(sums * ratio) >= steps, sums, first)
    return first
