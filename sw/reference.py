"""The golden model: integer arithmetic in numpy that equals onnxruntime byte for byte.

Every operator of the hardware is defined here first. Sums are exact; a sum becomes an int8 value
in float32 arithmetic, in the order in which onnxruntime does it::

    multiplier = fl32(fl32(sx * sw) / sy)
    value      = RNE(clamp(fl32(fl32(sum) * multiplier), -128 - zy, 127 - zy)) + zy

where ``fl32`` rounds to float32 and ``RNE`` to an integer, half to even.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from weft.errors import InputError
from weft.ir import Convolution, Graph, Tensor

__all__ = ["conv2d", "convolution", "dequantize", "multiplier", "output_size", "quantize",
           "requantize", "run"]


# Window matrices are built for a few output rows at a time, so that a large image stays in cache.
_WINDOW_BYTES = 16 << 20


def multiplier(sx: ArrayLike, sw: ArrayLike, sy: float) -> np.ndarray:
    """Scale from accumulator to output, ``fl32(fl32(sx * sw) / sy)``, at least one-dimensional.

    The order matters: it decides the last bit. Infinite where float32 ends.
    """
    with np.errstate(over="ignore"):
        product = np.atleast_1d(sx).astype(np.float32) * np.atleast_1d(sw).astype(np.float32)
        scale: np.ndarray = product / np.float32(sy)
    return scale


def quantize(x: ArrayLike, scale: float, zero_point: int, *, unsigned: bool = False) -> np.ndarray:
    """QuantizeLinear of float32 values to int8, or to uint8 when ``unsigned``.

    A division, not a multiplication by the reciprocal; values outside saturate. ``zero_point`` is
    in the domain of the result.
    """
    low, high = (0, 255) if unsigned else (-128, 127)
    ratio = np.asarray(x, np.float32) / np.float32(scale)
    rounded = np.rint(np.clip(ratio, low - zero_point, high - zero_point)) + zero_point
    return np.asarray(rounded, np.uint8 if unsigned else np.int8)


def dequantize(q: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    """DequantizeLinear: ``(q - zero_point) * scale`` in float32."""
    centred = q.astype(np.int32) - np.int32(zero_point)
    return np.asarray(centred.astype(np.float32) * np.float32(scale))


def output_size(size: int, kernel: int, stride: int, before: int, after: int,
                dilation: int) -> int:
    """Positions that a window takes along one axis; below 1 when it does not fit."""
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def conv2d(x: np.ndarray, weights: np.ndarray, *, strides: tuple[int, int] = (1, 1),
           pads: tuple[int, int, int, int] = (0, 0, 0, 0), dilations: tuple[int, int] = (1, 1),
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
    top, left, bottom, right = pads
    out_h = output_size(x.shape[1], kernel_h, strides[0], top, bottom, dilations[0])
    out_w = output_size(x.shape[2], kernel_w, strides[1], left, right, dilations[1])
    if out_h < 1 or out_w < 1:
        raise InputError(f"Kernel {kernel_h}x{kernel_w} must fit into the padded input of shape "
                         f"{list(x.shape)}")

    # float64 holds every partial sum exactly (2^53), and its matrix product is the fast one.
    centred = x.astype(np.float64) - in_zero
    padded = np.pad(centred, ((0, 0), (top, bottom), (left, right)))
    matrix = weights.reshape(filters, -1).astype(np.float64)
    taps = channels * kernel_h * kernel_w
    step = max(1, _WINDOW_BYTES // (taps * out_w * 8))
    sums = np.empty((filters, out_h, out_w), np.float64)
    for first in range(0, out_h, step):
        rows = min(step, out_h - first)
        windows = np.empty((channels, kernel_h, kernel_w, rows, out_w))
        for tap_h in range(kernel_h):
            y = first * strides[0] + tap_h * dilations[0]
            for tap_w in range(kernel_w):
                z = tap_w * dilations[1]
                windows[:, tap_h, tap_w] = padded[
                    :, y:y + (rows - 1) * strides[0] + 1:strides[0],
                    z:z + (out_w - 1) * strides[1] + 1:strides[1]]
        product = matrix @ windows.reshape(taps, rows * out_w)
        sums[:, first:first + rows] = product.reshape(filters, rows, out_w)
    return sums.astype(np.int64).astype(np.int32)


def requantize(acc: np.ndarray, multiplier: np.ndarray, out_zero: int,
               clamp: tuple[int, int] = (-128, 127)) -> np.ndarray:
    """Accumulators to int8 values.

    Parameters
    ----------
    acc : int32 [N, ...]
        Sums, bias included.
    multiplier : float32 [N]
    out_zero : :class:`int`
    clamp : (low, high)
        Bounds of the result, inclusive.
    """
    per_channel = multiplier.astype(np.float32).reshape(-1, *(1,) * (acc.ndim - 1))
    scaled = acc.astype(np.float32) * per_channel
    rounded = np.rint(np.clip(scaled, -128 - out_zero, 127 - out_zero)) + out_zero
    return np.asarray(np.clip(rounded, *clamp), np.int8)


def convolution(layer: Convolution, x: np.ndarray, source: Tensor, target: Tensor) -> np.ndarray:
    """One layer: int8 [C, H, W] of ``source`` to int8 [N, out_h, out_w] of ``target``."""
    acc = conv2d(x, layer.weights, strides=layer.strides, pads=layer.pads,
                 dilations=layer.dilations, in_zero=source.zero_point)
    # Wraps without a warning where it does not fit.
    acc = acc + layer.bias.astype(np.int32)[:, None, None]
    return requantize(acc, layer.multiplier, target.zero_point, layer.clamp)


def run(graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Values of every tensor of a graph.

    Parameters
    ----------
    graph : :class:`Graph`
    inputs : int8 [C, H, W] by tensor name
        One for each tensor of ``graph.inputs``, in the accelerator's order (see
        :meth:`Graph.enter`).

    Returns
    -------
    :class:`dict`
        int8 [C, H, W] by tensor name, the inputs included.

    Raises
    ------
    InputError
        If an input is missing or of the wrong shape or type.
    """
    values: dict[str, np.ndarray] = {}
    for edge in graph.inputs:
        shape = graph.tensors[edge.tensor].shape
        if edge.tensor not in inputs:
            raise InputError(f"Input '{edge.tensor}' must be given")
        value = inputs[edge.tensor]
        if value.shape != shape or value.dtype != np.int8:
            raise InputError(f"Input '{edge.tensor}' must be int8 {list(shape)}, "
                             f"not {value.dtype} {list(value.shape)}")
        values[edge.tensor] = value
    for layer in graph.layers:
        values[layer.output] = convolution(layer, values[layer.input], graph.tensors[layer.input],
                                           graph.tensors[layer.output])
    return values
