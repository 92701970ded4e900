"""Layers that combine two tensors element by element."""

import numpy as np

from weft.ir import Add, Multiply, Tensor

from .rounding import fma, multiplier

__all__ = ["add", "every_pair", "multiply"]


def _domain(tensor: Tensor, values: np.ndarray) -> tuple[np.ndarray, int]:
    """Values and zero point in the ONNX tensor's own domain, whose zero point the rules add in
    float32: -128 and 0 do not round alike."""
    offset = 128 * tensor.unsigned
    return values.astype(np.int32) + offset, tensor.zero_point + offset


def _rounded(result: np.ndarray, target: Tensor, clamp: tuple[int, int]) -> np.ndarray:
    offset = 128 * target.unsigned
    return np.asarray(np.clip(np.rint(result) - offset, *clamp), np.int8)


def add(layer: Add, a: np.ndarray, b: np.ndarray, source_a: Tensor, source_b: Tensor,
        target: Tensor) -> np.ndarray:
    """One layer, by the rule of QLinearAdd on x86: int8 of one shape to int8 of that shape.

    With ``ra = fl32(sa / sy)``, ``rb = fl32(sb / sy)`` and fused multiply-adds, ``b`` first::

        k = fl32(zy - fma(ra, za, fl32(rb * zb)))
        y = RNE(fma(a, ra, fma(b, rb, k)))
    """
    scale = np.float32(target.scale)
    ratio_a, ratio_b = np.float32(source_a.scale) / scale, np.float32(source_b.scale) / scale
    a, zero_a = _domain(source_a, a)
    b, zero_b = _domain(source_b, b)
    _, zero = _domain(target, np.zeros(0))
    constant = np.float32(zero) - fma(ratio_a, zero_a, ratio_b * np.float32(zero_b))
    return _rounded(fma(a, ratio_a, fma(b, ratio_b, constant)), target, layer.clamp)


def multiply(layer: Multiply, a: np.ndarray, b: np.ndarray, source_a: Tensor, source_b: Tensor,
             target: Tensor) -> np.ndarray:
    """One layer, by the rule of QLinearMul: int8 of one shape, or one of them [C, 1, 1].

    With ``m = fl32(fl32(sa * sb) / sy)``::

        y = RNE(fl32(fl32((a - za) * (b - zb) * m) + zy))
    """
    scale = multiplier(source_a.scale, source_b.scale, target.scale)
    product = (a.astype(np.int32) - source_a.zero_point) \
        * (b.astype(np.int32) - source_b.zero_point)
    _, zero = _domain(target, np.zeros(0))
    scaled = product.astype(np.float32) * scale + np.float32(zero)
    return _rounded(scaled, target, layer.clamp)


def every_pair() -> tuple[np.ndarray, np.ndarray]:
    """All 65,536 pairs of int8 values, as two int8 arrays [256, 256]: what a layer makes of them is
    all that can be known of it."""
    values = np.arange(-128, 128).astype(np.int8)
    a, b = np.meshgrid(values, values, indexing="ij")
    return a, b
