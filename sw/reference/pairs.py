"""Layers that combine two tensors: element by element, or as matrices."""

import numpy as np

from weft.hw.isa.commands import Rounding
from weft.ir import Add, MatMul, Multiply, Tensor

from .fixed_point import (
    ADD_SHIFT,
    add_multipliers,
    product_multiplier,
    requantize_fixed_point,
    scale_fixed_point,
)
from .rounding import fma, multiplier, requantize

__all__ = ["add", "every_pair", "matmul", "multiply"]


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
    """One layer: int8 of one shape, or one of them [C, 1, 1].

    In float32 by the rule of QLinearAdd on x86, with ``ra = fl32(sa / sy)``, ``rb = fl32(sb / sy)``
    and fused multiply-adds, ``b`` first::

        k = fl32(zy - fma(ra, za, fl32(rb * zb)))
        y = RNE(fma(a, ra, fma(b, rb, k)))

    In fixed point by the rule of ADD of TFLite, whose ``scale`` rounds twice, with the multipliers
    of :func:`add_multipliers`::

        y = clamp(scale(scale((a - za) << 20, ma) + scale((b - zb) << 20, mb), my) + zy)

    A difference has a minus there.
    """
    if layer.rounding is Rounding.FIXED_POINT:
        factors = add_multipliers(source_a.scale, source_b.scale, target.scale)
        terms = [scale_fixed_point((values.astype(np.int32) - source.zero_point) << ADD_SHIFT,
                                   *factor)
                 for values, source, factor in zip((a, b), (source_a, source_b), factors[:2],
                                                   strict=True)]
        total = terms[0] - terms[1] if layer.subtract else terms[0] + terms[1]
        return requantize_fixed_point(total[None], *factors[2], target.zero_point, layer.clamp)[0]
    scale = np.float32(target.scale)
    ratio_a, ratio_b = np.float32(source_a.scale) / scale, np.float32(source_b.scale) / scale
    a, zero_a = _domain(source_a, a)
    b, zero_b = _domain(source_b, b)
    _, zero = _domain(target, np.zeros(0))
    constant = np.float32(zero) - fma(ratio_a, zero_a, ratio_b * np.float32(zero_b))
    return _rounded(fma(a, ratio_a, fma(b, ratio_b, constant)), target, layer.clamp)


def multiply(layer: Multiply, a: np.ndarray, b: np.ndarray, source_a: Tensor, source_b: Tensor,
             target: Tensor) -> np.ndarray:
    """One layer: int8 of one shape, or one of them [C, 1, 1].

    In float32 by the rule of QLinearMul, with ``m = fl32(fl32(sa * sb) / sy)``::

        y = RNE(fl32(fl32((a - za) * (b - zb) * m) + zy))

    In fixed point by the rule of MUL of TFLite: the product, scaled with the multiplier of
    :func:`product_multiplier`, rounded twice.
    """
    product = (a.astype(np.int32) - source_a.zero_point) \
        * (b.astype(np.int32) - source_b.zero_point)
    if layer.rounding is Rounding.FIXED_POINT:
        factor = product_multiplier(source_a.scale, source_b.scale, target.scale)
        return requantize_fixed_point(product[None], *factor, target.zero_point, layer.clamp)[0]
    scale = multiplier(source_a.scale, source_b.scale, target.scale)
    _, zero = _domain(target, np.zeros(0))
    scaled = product.astype(np.float32) * scale + np.float32(zero)
    return _rounded(scaled, target, layer.clamp)


def matmul(layer: MatMul, a: np.ndarray, b: np.ndarray, source_a: Tensor, source_b: Tensor,
           target: Tensor) -> np.ndarray:
    """One layer, by the rule of QLinearMatMul: exact sums, requantized as those of a convolution
    are, all with one multiplier."""
    left, right = (values.reshape(layer.heads, values.shape[0] // layer.heads, -1)
                   .astype(np.int64) - source.zero_point
                   for values, source in ((a, source_a), (b, source_b)))
    sums = (right.transpose(0, 2, 1) if layer.transposed else right) @ left
    scale = np.full(target.shape[0], layer.multiplier, np.float32)
    return requantize(sums.reshape(target.shape[0], -1).astype(np.int32), scale,
                      target.zero_point, layer.clamp).reshape(target.shape)


def every_pair() -> tuple[np.ndarray, np.ndarray]:
    """All 65,536 pairs of int8 values, as two int8 arrays [256, 256]: what a layer makes of them is
    all that can be known of it."""
    values = np.arange(-128, 128).astype(np.int8)
    a, b = np.meshgrid(values, values, indexing="ij")
    return a, b
