"""The golden model: integer arithmetic in numpy that equals onnxruntime byte for byte.

Every operator of the hardware is defined here first. Sums are exact; a sum becomes an int8 value
in float32 arithmetic, in the order in which onnxruntime does it::

    multiplier = fl32(fl32(sx * sw) / sy)
    value      = RNE(clamp(fl32(fl32(sum) * multiplier), -128 - zy, 127 - zy)) + zy

where ``fl32`` rounds to float32 and ``RNE`` to an integer, half to even. Averages, sums and
products of two tensors, shares of a row, and normalized rows have rules of their own:
:func:`pool`, :func:`add`, :func:`multiply`, :func:`softmax`, :func:`normalization`.
A layer may ask for the rule of TensorFlow Lite instead: :func:`requantize_fixed_point`.
"""

from collections.abc import Mapping

import numpy as np

from weft.errors import InputError
from weft.ir import (
    Add,
    Affine,
    Alias,
    ChannelSum,
    Concat,
    Convolution,
    Depthwise,
    Graph,
    Interleave,
    Layer,
    Lookup,
    MatMul,
    Multiply,
    Normalization,
    Pool,
    Resize,
    Softmax,
    Tensor,
)

from .affine import affine, affine_constants
from .bend import Bend, bend_constants, channel_sum
from .fixed_point import (
    add_multipliers,
    fixed_point_multiplier,
    product_multiplier,
    quantized_multiplier,
    rdbpot,
    requantize_fixed_point,
    scale_fixed_point,
    srdhm,
)
from .normalization import (
    normalization,
    normalize,
    normalized_values,
    out_of_bounds,
    thresholds,
)
from .pairs import add, every_pair, matmul, multiply
from .rounding import (
    SUM_BYTES,
    dequantize,
    fma,
    multiplier,
    quantize,
    requantize,
    sum_bytes,
)
from .softmax import exponentials, shares, softmax, softmax_factor
from .windows import average_counts, conv2d, convolution, depthwise, depthwise2d, output_size, pool

__all__ = ["Bend", "SUM_BYTES", "add", "add_multipliers", "affine", "affine_constants",
           "average_counts", "bend_constants", "channel_sum", "compute", "conv2d", "convolution",
           "depthwise", "depthwise2d", "dequantize", "every_pair", "exponentials",
           "fixed_point_multiplier", "fma", "matmul", "multiplier", "multiply", "normalization",
           "normalize", "normalized_values", "out_of_bounds", "output_size", "pool",
           "product_multiplier", "quantize", "quantized_multiplier", "rdbpot", "requantize",
           "requantize_fixed_point", "run", "scale_fixed_point", "shares", "softmax",
           "softmax_factor", "srdhm", "sum_bytes", "thresholds"]


def compute(graph: Graph, layer: Layer, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Output of one layer, int8 [C, H, W], from the values of the tensors it reads."""
    result = _compute(graph, layer, values)
    return result if layer.function is None else _look_up(layer.function.table, result)


def _look_up(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Entries of tables, int8 [256] or [C, 256], for int8 [C, H, W]."""
    at = values.astype(np.int16) + 128
    return np.asarray(table[at] if table.ndim == 1 else
                      np.take_along_axis(table, at.reshape(len(at), -1), 1).reshape(at.shape))


def _compute(graph: Graph, layer: Layer, values: Mapping[str, np.ndarray]) -> np.ndarray:
    tensors, target = graph.tensors, layer.result(graph.tensors[layer.output])
    match layer:
        case Convolution(input=x):
            return convolution(layer, values[x], tensors[x], target)
        case Depthwise(input=x):
            return depthwise(layer, values[x], tensors[x], target)
        case Pool(input=x):
            return pool(layer, values[x], tensors[x], target)
        case Add(a=a, b=b):
            return add(layer, values[a], values[b], tensors[a], tensors[b], target)
        case Multiply(a=a, b=b):
            return multiply(layer, values[a], values[b], tensors[a], tensors[b], target)
        case MatMul(a=a, b=b):
            return matmul(layer, values[a], values[b], tensors[a], tensors[b], target)
        case Softmax(input=x):
            return softmax(layer, values[x], target)
        case Normalization(input=x):
            return normalization(layer, values[x], tensors[x], target)
        case Lookup(input=x):
            return _look_up(layer.table, values[x])
        case Affine(input=x):
            return affine(layer, values[x])
        case ChannelSum(a=a, b=b):
            return channel_sum(layer, values[a], values[b])
        case Concat():
            return np.concatenate([values[name] for name in layer.sources])
        case Alias(input=x):
            channels = slice(layer.first, layer.first + target.shape[0])
            return values[x][channels if layer.order is None else layer.order].reshape(target.shape)
        case Resize(input=x):
            return values[x].repeat(layer.factors[0], 1).repeat(layer.factors[1], 2)
        case Interleave():
            return _interleaved(layer, [values[name] for name in layer.sources], target)
    raise TypeError(f"No reference for a {type(layer).__name__}")


def _interleaved(layer: Interleave, planes: list[np.ndarray], target: Tensor) -> np.ndarray:
    down, across = layer.factors
    channels, height, width = planes[0].shape
    whole = np.stack(planes).reshape(down, across, channels, height, width)
    whole = whole.transpose(2, 3, 0, 4, 1).reshape(channels, height * down, width * across)
    return np.ascontiguousarray(whole[:, :target.shape[1], :target.shape[2]])


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
        int8 [C, H, W] by tensor name, inputs and constants included.

    Raises
    ------
    InputError
        If an input is missing or of the wrong shape or type.
    """
    values = dict(graph.constants)
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
        values[layer.output] = compute(graph, layer, values)
    return values
