"""Random TFLite models of one operator, with odd shapes, scales, paddings, strides and bounds."""

from collections.abc import Callable, Sequence

import numpy as np
import tflite
from tflite_models import TfliteBuilder

__all__ = ["ACCELERATED", "CASES", "Case", "Draw", "case"]


Case = tuple[bytes, list[np.ndarray]]
"""A file, and values for its inputs."""

_SAME, _VALID = tflite.Padding.SAME, tflite.Padding.VALID
_ACTIVATIONS = (0, 0, 0, tflite.ActivationFunctionType.RELU, tflite.ActivationFunctionType.RELU6,
                tflite.ActivationFunctionType.RELU_N1_TO_1)


class Draw:
    """A builder of files, and what is drawn at random."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.builder = TfliteBuilder()
        # Scales that are powers of 2 make ties.
        self.round_scales = rng.random() < 0.3

    def integer(self, low: int, high: int) -> int:
        """From ``low`` to ``high``, both included."""
        return int(self.rng.integers(low, high + 1))

    def scale(self, low: float = 0.01, high: float = 0.2) -> np.float32:
        value = np.exp(self.rng.uniform(np.log(low), np.log(high)))
        return np.float32(2.0 ** np.round(np.log2(value)) if self.round_scales else value)

    def zero(self) -> int:
        return int(self.rng.choice([-128, 127, 0, self.integer(-128, 127)]))

    def quantization(self) -> tuple[np.float32, int]:
        return self.scale(), self.zero()

    def activation(self) -> int:
        return int(self.rng.choice(_ACTIVATIONS))

    def plane(self, least: int = 1, most: int = 12) -> tuple[int, int]:
        return self.integer(least, most), self.integer(least, most)

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.rng.integers(-128, 128, shape).astype(np.int8)

    def weights(self, shape: tuple[int, ...], channels: int, axis: int, source: np.float32,
                target: np.float32, taps: int) -> tuple[int, int]:
        """Weights and bias, of scales with which results fill the output's range."""
        low = self.rng.choice([-127, -128, -7])
        weights = self.rng.integers(low, 128, shape).astype(np.int8)
        middle = float(target) * 60 / (float(source) * 75 * 75 * np.sqrt(taps))
        count = channels if self.rng.random() < 0.7 else 1
        scale = np.array([self.scale(middle / 3, middle * 3) for _ in range(count)], np.float32)
        first = self.builder.constant(weights, scale, axis=axis)
        spread = max(int(40 * target / (source * middle)), 2)
        bias = self.rng.integers(-spread, spread, channels).astype(np.int32)
        return first, self.builder.constant(bias, source * scale)

    def finish(self, op: str, inputs: list[int], output: int, options: str = "", **fields) -> Case:
        shapes = [self.builder.shape(each) for each in self.builder.inputs]
        self.builder.operator(op, inputs, [output], options, **fields)
        self.builder.output(output)
        return self.builder.build(), [self.values(shape) for shape in shapes]

    def window(self, size: tuple[int, int], most: int = 4, dilate: bool = False) \
            -> tuple[tuple[int, int], tuple[int, int], dict[str, int]]:
        """A kernel that fits, the output's plane, and the options of both."""
        same = self.rng.random() < 0.5
        kernel, output, fields = [], [], {"Padding": _SAME if same else _VALID}
        for axis, length in zip("HW", size, strict=True):
            taps = self.integer(1, min(length, most))
            dilation = self.integer(1, 3) if dilate and self.rng.random() < 0.4 else 1
            while dilation > 1 and dilation * (taps - 1) + 1 > length:
                dilation -= 1
            stride = 1 if dilation > 1 else self.integer(1, 3)
            span = dilation * (taps - 1) + 1
            kernel.append(taps)
            output.append(-(-length // stride) if same else (length + stride - span) // stride)
            fields[f"Stride{axis}"] = stride
            if dilate:
                fields[f"Dilation{axis}Factor"] = dilation
        return (kernel[0], kernel[1]), (output[0], output[1]), fields


def _conv(draw: Draw) -> Case:
    size, channels, filters = draw.plane(), draw.integer(1, 9), draw.integer(1, 9)
    groups = 1
    if draw.rng.random() < 0.15:
        groups = draw.integer(2, 3)
        channels, filters = groups * draw.integer(1, 3), groups * draw.integer(1, 3)
    (sx, zx), (sy, zy) = draw.quantization(), draw.quantization()
    kernel, plane, fields = draw.window(size, dilate=True)
    depth = channels // groups
    x = draw.builder.input((1, *size, channels), sx, zx)
    weights, bias = draw.weights((filters, *kernel, depth), filters, 0, sx, sy,
                                 depth * kernel[0] * kernel[1])
    y = draw.builder.tensor((1, *plane, filters), sy, zy)
    return draw.finish("CONV_2D", [x, weights, bias], y,
                       "Conv2DOptions", FusedActivationFunction=draw.activation(), version=3,
                       **fields)


def _depthwise(draw: Draw) -> Case:
    size, channels = draw.plane(), draw.integer(1, 11)
    times = draw.integer(1, 3) if draw.rng.random() < 0.4 else 1
    (sx, zx), (sy, zy) = draw.quantization(), draw.quantization()
    kernel, plane, fields = draw.window(size, dilate=True)
    x = draw.builder.input((1, *size, channels), sx, zx)
    weights, bias = draw.weights((1, *kernel, channels * times), channels * times, 3, sx, sy,
                                 kernel[0] * kernel[1])
    y = draw.builder.tensor((1, *plane, channels * times), sy, zy)
    return draw.finish("DEPTHWISE_CONV_2D", [x, weights, bias], y,
                       "DepthwiseConv2DOptions", FusedActivationFunction=draw.activation(),
                       DepthMultiplier=times, version=3, **fields)


def _fully_connected(draw: Draw) -> Case:
    filters = draw.integer(1, 20)
    (sx, zx), (sy, zy) = draw.quantization(), draw.quantization()
    kind = draw.integer(0, 2)
    if kind == 0:
        shape = (1, *draw.plane(1, 4), draw.integer(1, 9))
        features = int(np.prod(shape))
        result = (1, filters)
    elif kind == 1:
        features = draw.integer(1, 40)
        shape, result = (1, features), (1, filters)
    else:
        features, rows = draw.integer(1, 20), draw.integer(2, 6)
        shape, result = (rows, features), (rows, filters)
    x = draw.builder.input(shape, sx, zx)
    weights, bias = draw.weights((filters, features), filters, 0, sx, sy, features)
    y = draw.builder.tensor(result, sy, zy)
    return draw.finish("FULLY_CONNECTED", [x, weights, bias if draw.rng.random() < 0.8 else -1], y,
                       "FullyConnectedOptions", FusedActivationFunction=draw.activation(),
                       version=5)


def _pair(op: str, options: str) -> Callable[[Draw], Case]:
    def make(draw: Draw) -> Case:
        shape = (1, *draw.plane(1, 6), draw.integer(1, 9))
        other = shape
        if draw.rng.random() < 0.5:
            other = [(1, 1, 1, shape[3]), (1,), (1, 1, 1, 1), (shape[3],)][draw.integer(0, 3)]
        (sa, za), (sb, zb) = draw.quantization(), draw.quantization()
        sy = np.float32(draw.scale() * (1 if op != "MUL" else 16 * draw.scale()))
        sy = draw.scale(float(sa * sb) * 20, float(sa * sb) * 200) if op == "MUL" else draw.scale()
        a = draw.builder.input(shape, sa, za)
        b = draw.builder.constant(draw.values(other), sb, zb) if draw.rng.random() < 0.3 \
            else draw.builder.input(other, sb, zb)
        y = draw.builder.tensor(shape, sy, draw.zero())
        return draw.finish(op, [a, b] if draw.rng.random() < 0.7 else [b, a], y, options,
                           FusedActivationFunction=draw.activation(), version=2)
    return make


def _pool(op: str) -> Callable[[Draw], Case]:
    def make(draw: Draw) -> Case:
        size, channels = draw.plane(), draw.integer(1, 11)
        scale, zero = draw.quantization()
        kernel, plane, fields = draw.window(size, 6)
        x = draw.builder.input((1, *size, channels), scale, zero)
        y = draw.builder.tensor((1, *plane, channels), scale, zero)
        return draw.finish(op, [x], y, "Pool2DOptions", FilterHeight=kernel[0],
                           FilterWidth=kernel[1], FusedActivationFunction=draw.activation(),
                           version=2, **fields)
    return make


def _mean(draw: Draw) -> Case:
    shape = (1, *draw.plane(1, 9), draw.integer(1, 11))
    axes = [[1, 2], [2, 1], [-2, -3], [1, 2], [3], [1], [1, 3]][draw.integer(0, 6)]
    keep = bool(draw.integer(0, 1))
    reduced = {axis % 4 for axis in axes}
    result = [1 if axis in reduced else size for axis, size in enumerate(shape)
              if keep or axis not in reduced]
    sx, zx = draw.quantization()
    sy = draw.scale(float(sx) / 8, float(sx) * 1.5)
    x = draw.builder.input(shape, sx, zx)
    chosen = draw.builder.constant(np.array(axes, np.int32))
    y = draw.builder.tensor(result, sy, draw.zero())
    return draw.finish("MEAN", [x, chosen], y, "ReducerOptions", KeepDims=keep, version=2)


def _concatenation(draw: Draw) -> Case:
    axis, plane = draw.integer(1, 3), draw.plane(1, 5)
    if draw.rng.random() < 0.6:
        axis = 3
    scale, zero = draw.quantization()
    base = [1, *plane, draw.integer(1, 9)]
    sizes = [draw.integer(1, 9) for _ in range(draw.integer(2, 4))]
    shapes = [tuple(size if at == axis else length for at, length in enumerate(base))
              for size in sizes]
    inputs = [draw.builder.input(shape, scale, zero) for shape in shapes]
    whole = tuple(sum(sizes) if at == axis else length for at, length in enumerate(base))
    y = draw.builder.tensor(whole, scale, zero)
    return draw.finish("CONCATENATION", inputs, y, "ConcatenationOptions",
                       Axis=axis - 4 * draw.integer(0, 1), version=2)


def _pad(draw: Draw) -> Case:
    shape = (1, *draw.plane(1, 7), draw.integer(1, 9))
    amounts = draw.rng.integers(0, 4, (4, 2))
    amounts[0] = 0
    if draw.rng.random() < 0.8:
        amounts[3] = 0
    scale, zero = draw.quantization()
    x = draw.builder.input(shape, scale, zero)
    paddings = draw.builder.constant(amounts.astype(np.int32))
    y = draw.builder.tensor(tuple(shape + amounts.sum(1)), scale, zero)
    if draw.rng.random() < 0.3:
        fill = draw.builder.constant(draw.values((1,)), scale, zero)
        return draw.finish("PADV2", [x, paddings, fill], y, "PadV2Options", version=2)
    return draw.finish("PAD", [x, paddings], y, "PadOptions", version=2)


def _enlarge(op: str, options: str, *, version: int, factors: Sequence[int],
             half_pixel: float) -> Callable[[Draw], Case]:
    def make(draw: Draw) -> Case:
        size, channels = draw.plane(1, 5), draw.integer(1, 9)
        wanted = tuple(length * int(draw.rng.choice(factors)) for length in size)
        if draw.rng.random() < 0.3:
            wanted = draw.plane(1, 9)
        scale, zero = draw.quantization()
        corners = draw.rng.random() < 0.2
        x = draw.builder.input((1, *size, channels), scale, zero)
        sizes = draw.builder.constant(np.array(wanted, np.int32))
        y = draw.builder.tensor((1, *wanted, channels), scale, zero)
        return draw.finish(op, [x, sizes], y, options, AlignCorners=corners, version=version,
                           HalfPixelCenters=not corners and draw.rng.random() < half_pixel)
    return make


def _function(op: str) -> Callable[[Draw], Case]:
    def make(draw: Draw) -> Case:
        shape = (1, *draw.plane(2, 7), draw.integer(3, 11))
        (sx, zx), (sy, zy) = draw.quantization(), draw.quantization()
        inputs, options, fields = [draw.builder.input(shape, sx, zx)], "", {}
        if op == "LOGISTIC":
            sy, zy = np.float32(1 / 256), -128
        elif op == "LEAKY_RELU":
            options, fields = "LeakyReluOptions", {"Alpha": float(draw.rng.choice(
                [0.01, 0.1, 0.3, -0.5, 1.5]))}
        elif op == "PRELU":
            slopes = draw.values([(1,), (1, 1, shape[3]), (1, 1, 1)][draw.integer(0, 2)])
            inputs.append(draw.builder.constant(slopes, np.float32(0.01), draw.integer(-9, 9)))
        elif op == "HARD_SWISH":
            sy = np.float32(sx * draw.rng.uniform(0.2, 2))
        y = draw.builder.tensor(shape, sy, zy)
        return draw.finish(op, inputs, y, options, **fields)
    return make


def _softmax(draw: Draw) -> Case:
    shape = (draw.integer(1, 3), draw.integer(1, 40))
    x = draw.builder.input(shape, *draw.quantization())
    y = draw.builder.tensor(shape, np.float32(1 / 256), -128)
    return draw.finish("SOFTMAX", [x], y, "SoftmaxOptions", version=2,
                       Beta=float(draw.rng.choice([1.0, 1.0, 0.5, 2.5])))


def _view(draw: Draw) -> Case:
    shape, (scale, zero) = (1, *draw.plane(1, 6), draw.integer(1, 6)), draw.quantization()
    x = draw.builder.input(shape, scale, zero)
    kind = draw.integer(0, 3)
    if kind == 3:
        order = [0, *(1 + draw.rng.permutation(3)).tolist()]
        y = draw.builder.tensor(tuple(shape[axis] for axis in order), scale, zero)
        given = draw.builder.constant(np.array(order, np.int32))
        return draw.finish("TRANSPOSE", [x, given], y, "TransposeOptions", version=2)
    if kind == 0:
        wanted = (1, shape[1] * shape[2], shape[3]) if draw.rng.random() < 0.5 \
            else (1, int(np.prod(shape)))
        y = draw.builder.tensor(wanted, scale, zero)
        given = draw.builder.constant(np.array(wanted, np.int32))
        return draw.finish("RESHAPE", [x, given], y, "ReshapeOptions")
    if kind == 1:
        y = draw.builder.tensor(shape[1:], scale, zero)
        return draw.finish("SQUEEZE", [x], y, "SqueezeOptions", SqueezeDims=[0])
    y = draw.builder.tensor((1, *shape), scale, zero)
    axis = draw.builder.constant(np.array([0], np.int32))
    return draw.finish("EXPAND_DIMS", [x, axis], y, "ExpandDimsOptions")


CASES: dict[str, Callable[[Draw], Case]] = {
    "ADD": _pair("ADD", "AddOptions"),
    "AVERAGE_POOL_2D": _pool("AVERAGE_POOL_2D"),
    "CONCATENATION": _concatenation,
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "HARD_SWISH": _function("HARD_SWISH"),
    "LEAKY_RELU": _function("LEAKY_RELU"),
    "LOGISTIC": _function("LOGISTIC"),
    "MAX_POOL_2D": _pool("MAX_POOL_2D"),
    "MEAN": _mean,
    "MUL": _pair("MUL", "MulOptions"),
    "PAD": _pad,
    "PRELU": _function("PRELU"),
    "QUANTIZE": _function("QUANTIZE"),
    "RELU": _function("RELU"),
    "RELU6": _function("RELU6"),
    "RELU_N1_TO_1": _function("RELU_N1_TO_1"),
    "RESHAPE": _view,
    "RESIZE_BILINEAR": _enlarge("RESIZE_BILINEAR", "ResizeBilinearOptions", version=3,
                                factors=(1, 2, 4), half_pixel=0.5),
    "RESIZE_NEAREST_NEIGHBOR": _enlarge("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions",
                                        version=2, factors=(1, 2, 3), half_pixel=0.4),
    "SOFTMAX": _softmax,
    "SUB": _pair("SUB", "SubOptions"),
    "TANH": _function("TANH"),
}
"""By operator."""


ACCELERATED = tuple(op for op in CASES if op not in ("RESHAPE", "SOFTMAX"))
"""Operators that have a layer."""


def case(op: str, seed: int) -> Case:
    """A model of one operator."""
    return CASES[op](Draw(np.random.default_rng((seed, *op.encode()))))
