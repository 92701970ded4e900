"""Layers with a window that slides over a plane: convolutions and pools."""

from collections.abc import Iterator

import numpy as np

from weft.errors import InputError
from weft.hw.isa.commands import Rounding
from weft.ir import NO_PADS, Convolution, Depthwise, Pads, Pool, PoolKind, Tensor

from .fixed_point import requantize_fixed_point
from .interpolation import interpolate
from .rounding import SUM_BYTES, dequantize, requantize, sum_bytes

__all__ = ["average_counts", "conv2d", "convolution", "depthwise", "depthwise2d", "output_size",
           "pool"]


# Window matrices are built for a few output rows at a time, so that a large image stays in cache.
_WINDOW_BYTES = 16 << 20


def output_size(size: int, kernel: int, stride: int, before: int, after: int,
                dilation: int) -> int:
    """Positions that a window takes along one axis; below 1 when it does not fit."""
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def _output_shape(shape: tuple[int, ...], kernel: tuple[int, int], strides: tuple[int, int],
                  pads: Pads, dilations: tuple[int, int]) -> tuple[int, int]:
    out_h, out_w = (output_size(shape[1 + axis], kernel[axis], strides[axis], pads[axis],
                                pads[2 + axis], dilations[axis]) for axis in (0, 1))
    if out_h < 1 or out_w < 1:
        raise InputError(f"Kernel {kernel[0]}x{kernel[1]} must fit into the padded input of shape "
                         f"{list(shape)}")
    return out_h, out_w


def _taps(padded: np.ndarray, kernel: tuple[int, int], strides: tuple[int, int],
          dilations: tuple[int, int], out_h: int, out_w: int) -> Iterator[np.ndarray]:
    """For each tap of a window, row by row, the value it sees at every position."""
    for tap_h in range(kernel[0]):
        y = tap_h * dilations[0]
        for tap_w in range(kernel[1]):
            z = tap_w * dilations[1]
            yield padded[:, y:y + (out_h - 1) * strides[0] + 1:strides[0],
                         z:z + (out_w - 1) * strides[1] + 1:strides[1]]


def conv2d(x: np.ndarray, weights: np.ndarray, *, strides: tuple[int, int] = (1, 1),
           pads: Pads = NO_PADS, dilations: tuple[int, int] = (1, 1),
           in_zero: int = 0) -> np.ndarray:
    """Exact sums of a convolution, ``sum((x - in_zero) * w)``; padding contributes nothing.

    Parameters
    ----------
    x : int8 [C, H, W]
    weights : int8 [N, C, kernel_h, kernel_w]
    strides, dilations : (h, w)
    pads : (top, left, bottom, right)
    in_zero : :class:`int`
        Zero point of ``x``.

    Returns
    -------
    int32 [N, out_h, out_w]
        Wrapped where a sum does not fit, as every int32 accumulator does.
    """
    filters, channels, kernel_h, kernel_w = weights.shape
    if x.ndim != 3 or x.shape[0] != channels:
        raise InputError(f"Input must have shape [{channels}, H, W] to match the weights, "
                         f"not {list(x.shape)}")
    out_h, out_w = _output_shape(x.shape, (kernel_h, kernel_w), strides, pads, dilations)

    # float64 holds every partial sum exactly (2^53), and its matrix product is the fast one.
    top, left, bottom, right = pads
    centred = x.astype(np.float64) - in_zero
    padded = np.pad(centred, ((0, 0), (top, bottom), (left, right)))
    matrix = weights.reshape(filters, -1).astype(np.float64)
    taps = channels * kernel_h * kernel_w
    step = max(1, _WINDOW_BYTES // (taps * out_w * 8))
    sums = np.empty((filters, out_h, out_w), np.float64)
    for first in range(0, out_h, step):
        rows = min(step, out_h - first)
        windows = np.empty((channels, kernel_h * kernel_w, rows, out_w))
        part = padded[:, first * strides[0]:]
        for index, seen in enumerate(_taps(part, (kernel_h, kernel_w), strides, dilations, rows,
                                           out_w)):
            windows[:, index] = seen
        product = matrix @ windows.reshape(taps, rows * out_w)
        sums[:, first:first + rows] = product.reshape(filters, rows, out_w)
    return sums.astype(np.int64).astype(np.int32)


def depthwise2d(x: np.ndarray, weights: np.ndarray, *, strides: tuple[int, int] = (1, 1),
                pads: Pads = NO_PADS, dilations: tuple[int, int] = (1, 1),
                in_zero: int = 0) -> np.ndarray:
    """Exact sums of a depthwise convolution: int32 [C, out_h, out_w] of int8 [C, H, W].

    Parameters
    ----------
    weights : int8 [C, kernel_h, kernel_w]
    x, strides, pads, dilations, in_zero
        As for :func:`conv2d`.
    """
    channels, kernel_h, kernel_w = weights.shape
    if x.ndim != 3 or x.shape[0] != channels:
        raise InputError(f"Input must have shape [{channels}, H, W] to match the weights, "
                         f"not {list(x.shape)}")
    out_h, out_w = _output_shape(x.shape, (kernel_h, kernel_w), strides, pads, dilations)
    top, left, bottom, right = pads
    padded = np.pad(x.astype(np.int32) - in_zero, ((0, 0), (top, bottom), (left, right)))
    acc = np.zeros((channels, out_h, out_w), np.int32)
    columns = weights.reshape(channels, -1).T.astype(np.int32)
    for seen, weight in zip(_taps(padded, (kernel_h, kernel_w), strides, dilations, out_h, out_w),
                            columns, strict=True):
        acc += seen * weight[:, None, None]
    return acc


def _scaled(layer: Convolution | Depthwise, acc: np.ndarray, target: Tensor) -> np.ndarray:
    # Wraps around in int32, as the hardware does, without numpy's warning.
    acc = acc + layer.bias.astype(np.int32)[:, None, None]
    if layer.fixed_point is not None:
        return requantize_fixed_point(acc, *layer.fixed_point, target.zero_point, layer.clamp,
                                      rounding=layer.rounding)
    if layer.rounding is Rounding.BYTE:
        acc = sum_bytes(acc, layer.multiplier.view(np.uint32) % SUM_BYTES)
    return requantize(acc, layer.multiplier, target.zero_point, layer.clamp)


def convolution(layer: Convolution, x: np.ndarray, source: Tensor, target: Tensor) -> np.ndarray:
    """One layer: int8 [C, H, W] of ``source`` to int8 [N, out_h, out_w] of ``target``."""
    return _scaled(layer, conv2d(x, layer.weights, strides=layer.strides, pads=layer.pads,
                                 dilations=layer.dilations, in_zero=source.zero_point), target)


def depthwise(layer: Depthwise, x: np.ndarray, source: Tensor, target: Tensor) -> np.ndarray:
    """One layer: int8 [C, H, W] of ``source`` to int8 [C, out_h, out_w] of ``target``."""
    return _scaled(layer, depthwise2d(x, layer.weights, strides=layer.strides, pads=layer.pads,
                                      dilations=layer.dilations, in_zero=source.zero_point),
                   target)


def average_counts(layer: Pool, source: Tensor, target: Tensor) -> np.ndarray:
    """Divisor of an average at every position, int64 [out_h, out_w]: how many taps lie in the
    input or in that part of the padding that counts, or their weight."""
    counts = []
    for axis in (0, 1):
        first = np.arange(target.shape[1 + axis]) * layer.strides[axis] - layer.pads[axis]
        taps = first[:, None] + np.arange(layer.kernel[axis]) * layer.dilations[axis]
        inside = (taps >= -layer.count_pads[axis]) \
            & (taps < source.shape[1 + axis] + layer.count_pads[2 + axis])
        counts.append(inside.sum(1) if layer.weights is None else inside @ layer.weights[axis])
    return np.asarray(np.multiply.outer(*counts))


def pool(layer: Pool, x: np.ndarray, source: Tensor, target: Tensor) -> np.ndarray:
    """One layer: int8 [C, H, W] of ``source`` to int8 [C, out_h, out_w] of ``target``.

    A maximum is one of the values it is taken of. An average with a multiplier scales an exact sum
    as a convolution does, which is the rule of QLinearGlobalAveragePool. One without is that of
    QLinearAveragePool, in float32 and in this order: the taps' real values added up row by row,
    divided by their number, divided by the output's scale, plus its zero point, which a
    ``late_zero`` adds after rounding. One with weights rounds once, behind an exact sum. One in
    fixed point is the quotient of the integer sum and the
    number of taps in the input, halves rounded away from zero.
    """
    top, left, bottom, right = layer.pads
    around = ((0, 0), (top, bottom), (left, right))
    out_h, out_w = _output_shape(x.shape, layer.kernel, layer.strides, layer.pads,
                                 layer.dilations)
    window = (layer.kernel, layer.strides, layer.dilations, out_h, out_w)
    if layer.kind is PoolKind.MAX:
        more = tuple((max(before, 0), max(after, 0)) for before, after in around)
        padded = np.pad(x[:, max(-top, 0):, max(-left, 0):], more, constant_values=-128)
        result = np.full((len(x), out_h, out_w), -128, np.int8)
        for seen in _taps(padded, *window):
            np.maximum(result, seen, out=result)
        return np.clip(result, *layer.clamp)
    if layer.rounding is Rounding.FIXED_POINT or layer.multiplier is not None \
            or layer.weights is not None:
        zero = 0 if layer.rounding is Rounding.FIXED_POINT else source.zero_point
        padded = np.pad(x.astype(np.int32) - zero, around)
        acc = np.zeros((len(x), out_h, out_w), np.int32)
        for weight, seen in zip(layer.taps.ravel().tolist(), _taps(padded, *window), strict=True):
            acc += weight * seen
        if layer.rounding is Rounding.FIXED_POINT:
            counts = average_counts(layer, source, target)
            mean = np.sign(acc) * ((np.abs(acc) + counts // 2) // counts)
            return np.asarray(np.clip(mean, *layer.clamp), np.int8)
        if layer.multiplier is None:
            return interpolate(acc, average_counts(layer, source, target), source, target,
                               layer.clamp)
        scale = np.full(len(x), layer.multiplier, np.float32)
        return requantize(acc, scale, target.zero_point, layer.clamp)
    real = np.pad(dequantize(x, source.scale, source.zero_point), around)
    total = np.zeros((len(x), out_h, out_w), np.float32)
    for seen in _taps(real, *window):
        total += seen
    mean = total / average_counts(layer, source, target).astype(np.float32)
    # In the ONNX tensor's own domain: adding its zero point rounds.
    offset = 128 * target.unsigned
    early, late = np.float32(target.zero_point + offset), 0
    if layer.late_zero:
        early, late = np.float32(0), target.zero_point + offset
    scaled = np.rint(mean / np.float32(target.scale) + early) + late
    low, high = (bound + offset for bound in layer.clamp)
    return np.asarray(np.clip(scaled, low, high) - offset, np.int8)
