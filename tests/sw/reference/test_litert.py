"""Fixed-point layers of the golden model against LiteRT's reference kernels."""

import dataclasses

import numpy as np
import pytest
import tflite
from litert_models import Operand, run_operator

from weft import reference
from weft.hw.isa.commands import Rounding
from weft.ir import (
    Add,
    Convolution,
    Depthwise,
    Graph,
    Layer,
    Multiply,
    Pads,
    Pool,
    PoolKind,
    Tensor,
)


def random_tensor(rng: np.random.Generator, name: str, shape: tuple[int, int, int],
                  scale: float | None = None) -> Tensor:
    scale = np.exp(rng.uniform(-6, 0)) if scale is None else scale
    return Tensor(name=name, shape=shape, scale=float(np.float32(scale)),
                  zero_point=int(rng.integers(-128, 128)))


def random_values(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(-128, 128, shape).astype(np.int8)


def last(values: np.ndarray) -> np.ndarray:
    """[1, H, W, C] from [C, H, W]."""
    return np.ascontiguousarray(values.transpose(1, 2, 0)[None])


def operand(tensor: Tensor) -> Operand:
    channels, height, width = tensor.shape
    return Operand((1, height, width, channels), tensor.scale, tensor.zero_point)


def compare(layer: Layer, tensors: dict[str, Tensor], values: dict[str, np.ndarray],
            got: np.ndarray) -> None:
    graph = Graph(name="", tensors=tensors, layers=(layer,), inputs=(), outputs=())
    expected = reference.compute(graph, layer, values)
    np.testing.assert_array_equal(last(expected).reshape(got.shape), got)
    assert len(np.unique(expected)) > 1


def same_pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding of SAME in front and behind."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


# Convolutions ---------------------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("depthwise", [False, True])
def test_convolution(seed, depthwise):
    rng = np.random.default_rng(seed)
    channels, filters = (int(value) for value in rng.integers(1, 9, 2))
    filters = channels if depthwise else filters
    kernel, stride = (int(value) for value in (rng.integers(1, 4), rng.integers(1, 3)))
    sizes = rng.integers(3, 9, 2)
    pads = [same_pads(int(size), kernel, stride) for size in sizes]
    x = random_tensor(rng, "x", (channels, *(int(size) for size in sizes)))
    y = random_tensor(rng, "y", (filters, *(-(-int(size) // stride) for size in sizes)))
    taps = kernel * kernel * (1 if depthwise else channels)
    # Results of every size, some of them all too large or too small.
    scale = y.scale / x.scale / (74 * np.sqrt(taps)) * np.exp(rng.normal(0, 2, filters))
    scale = scale.astype(np.float32)
    bias = rng.integers(-1000, 1000, filters).astype(np.int32)
    multiplier = reference.fixed_point_multiplier(x.scale, scale, y.scale)
    common = {"name": "", "op": "", "input": "x", "output": "y", "bias": bias,
              "multiplier": np.ones(filters, np.float32), "strides": (stride, stride),
              "pads": Pads(pads[0][0], pads[1][0], pads[0][1], pads[1][1]),
              "rounding": Rounding.FIXED_POINT, "fixed_point": multiplier}
    if depthwise:
        weights = random_values(rng, (channels, kernel, kernel))
        layer = Depthwise(weights=weights, **common)
        options, constant, extra = "DepthwiseConv2DOptions", last(weights), {"DepthMultiplier": 1}
    else:
        weights = random_values(rng, (filters, channels, kernel, kernel))
        layer = Convolution(weights=weights, **common)
        options, constant, extra = "Conv2DOptions", weights.transpose(0, 2, 3, 1), {}
    values = random_values(rng, x.shape)
    got = run_operator(
        "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", options,
        [operand(x), Operand(constant.shape, scale, 0, np.ascontiguousarray(constant),
                             3 if depthwise else 0),
         Operand(bias.shape, np.float32(x.scale) * scale, 0, bias)],
        operand(y), last(values), StrideH=stride, StrideW=stride, DilationHFactor=1,
        DilationWFactor=1, Padding=tflite.Padding.SAME, **extra)
    compare(layer, {"x": x, "y": y}, {"x": values}, got)


@pytest.mark.parametrize("seed", range(12))
def test_fully_connected_rounds_once(seed):
    rng = np.random.default_rng(seed)
    inputs, outputs = 12, 200
    x, y = random_tensor(rng, "x", (inputs, 1, 1)), random_tensor(rng, "y", (outputs, 1, 1))
    scale = np.float32(y.scale / x.scale / (74 * np.sqrt(inputs)) * rng.uniform(0.3, 3))
    weights = random_values(rng, (outputs, inputs))
    bias = rng.integers(-1000, 1000, outputs).astype(np.int32)
    if seed % 3 == 0:  # halves, of both signs
        y = dataclasses.replace(y, scale=x.scale)
        scale = np.float32(2.0 ** -int(rng.integers(1, 6)))
        weights, bias = weights // 64, bias // 50
    layer = Convolution(
        name="", op="", input="x", output="y", weights=weights[:, :, None, None], bias=bias,
        multiplier=np.ones(outputs, np.float32), rounding=Rounding.FIXED_POINT_ONCE,
        fixed_point=reference.fixed_point_multiplier(x.scale, np.full(outputs, scale), y.scale))
    values = random_values(rng, x.shape)
    got = run_operator(
        "FULLY_CONNECTED", "FullyConnectedOptions",
        [Operand((1, inputs), x.scale, x.zero_point), Operand(weights.shape, scale, 0, weights),
         Operand(bias.shape, np.float32(x.scale) * scale, 0, bias)],
        Operand((1, outputs), y.scale, y.zero_point), values.reshape(1, -1))
    compare(layer, {"x": x, "y": y}, {"x": values}, got)


# Pairs and averages ---------------------------------------------------------------------------

def every_pair() -> dict[str, np.ndarray]:
    return dict(zip("ab", (values[None] for values in reference.every_pair()), strict=True))


@pytest.mark.parametrize("seed", range(12))
def test_sum_of_every_pair(seed):
    rng = np.random.default_rng(seed)
    tensors = {name: random_tensor(rng, name, (1, 256, 256)) for name in "ab"}
    y = max(tensor.scale for tensor in tensors.values()) * rng.uniform(0.8, 2)
    if seed % 3 == 0:  # with halves
        tensors["b"] = random_tensor(rng, "b", (1, 256, 256), tensors["a"].scale)
        y = tensors["a"].scale * 2
    tensors["y"] = random_tensor(rng, "y", (1, 256, 256), y)
    values = every_pair()
    got = run_operator("ADD", "AddOptions", [operand(tensors[name]) for name in "ab"],
                       operand(tensors["y"]), *(last(value) for value in values.values()))
    compare(Add(name="", op="", output="y", a="a", b="b", rounding=Rounding.FIXED_POINT), tensors,
            values, got)


@pytest.mark.parametrize("seed", range(12))
def test_product_of_every_pair(seed):
    rng = np.random.default_rng(seed)
    tensors = {name: random_tensor(rng, name, (1, 256, 256)) for name in "ab"}
    y = tensors["a"].scale * tensors["b"].scale * rng.uniform(20, 200)
    tensors["y"] = random_tensor(rng, "y", (1, 256, 256), y)
    values = every_pair()
    got = run_operator("MUL", "MulOptions", [operand(tensors[name]) for name in "ab"],
                       operand(tensors["y"]), *(last(value) for value in values.values()))
    compare(Multiply(name="", op="", output="y", a="a", b="b", rounding=Rounding.FIXED_POINT),
            tensors, values, got)


def test_product_with_one_factor_for_each_channel():
    rng = np.random.default_rng(1)
    tensors = {"a": random_tensor(rng, "a", (5, 4, 6)), "b": random_tensor(rng, "b", (5, 1, 1))}
    tensors["y"] = random_tensor(rng, "y", (5, 4, 6),
                                 50 * tensors["a"].scale * tensors["b"].scale)
    values = {name: random_values(rng, tensors[name].shape) for name in "ab"}
    got = run_operator("MUL", "MulOptions", [operand(tensors[name]) for name in "ab"],
                       operand(tensors["y"]), *(last(value) for value in values.values()))
    compare(Multiply(name="", op="", output="y", a="a", b="b", rounding=Rounding.FIXED_POINT),
            tensors, values, got)


@pytest.mark.parametrize("seed", range(8))
def test_average(seed):
    rng = np.random.default_rng(seed)
    kernel, stride = (int(value) for value in (rng.integers(1, 6), rng.integers(1, 3)))
    sizes = [int(size) for size in rng.integers(5, 12, 2)]
    pads = [same_pads(size, kernel, stride) for size in sizes]
    x = random_tensor(rng, "x", (40, *sizes))
    shape = (40, *(-(-size // stride) for size in sizes))
    y = Tensor(name="y", shape=shape, scale=x.scale, zero_point=x.zero_point)
    values = random_values(rng, x.shape)
    got = run_operator("AVERAGE_POOL_2D", "Pool2DOptions", [operand(x)], operand(y), last(values),
                       StrideH=stride, StrideW=stride, FilterHeight=kernel, FilterWidth=kernel,
                       Padding=tflite.Padding.SAME)
    layer = Pool(name="", op="", input="x", output="y", kind=PoolKind.AVERAGE,
                 kernel=(kernel, kernel), strides=(stride, stride),
                 pads=Pads(pads[0][0], pads[1][0], pads[0][1], pads[1][1]),
                 rounding=Rounding.FIXED_POINT)
    compare(layer, {"x": x, "y": y}, {"x": values}, got)
