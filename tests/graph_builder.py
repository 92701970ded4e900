"""Graphs for tests, layer by layer, with random weights and fitting scales."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from weft.ir import (
    Add,
    Affine,
    Alias,
    Concat,
    Convolution,
    Depthwise,
    Edge,
    Graph,
    Interleave,
    Layer,
    Lookup,
    MatMul,
    Multiply,
    Normalization,
    Padding,
    Pads,
    Pool,
    PoolKind,
    Resize,
    Selection,
    Softmax,
    Sums,
    Tensor,
)
from weft.reference import exponentials, softmax_factor

__all__ = ["GraphBuilder", "out_size"]


def out_size(size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> int:
    """Output size of a convolution along one axis."""
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


class GraphBuilder:
    """Builds a :class:`Graph` layer by layer, with random weights and fitting scales.

    Parameters
    ----------
    rng : :class:`numpy.random.Generator`
        Source of everything that is not given.
    shape : (C, H, W)
        Of the graph's input.
    unsigned : :class:`bool`
        Whether activations are uint8 in the ONNX domain.
    """

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int, int], *,
                 unsigned: bool = False):
        self._rng = rng
        self._unsigned = unsigned
        self._tensors: dict[str, Tensor] = {}
        self._layers: list[Layer] = []
        self._inputs: list[str] = []
        self._constants: dict[str, np.ndarray] = {}
        self.input = self.add_input("x", shape)

    def add_input(self, name: str, shape: tuple[int, int, int], *,
                  like: str | None = None) -> str:
        """Adds a further input; ``like`` names a tensor with the same scale and zero point."""
        self._inputs.append(name)
        return self._tensor(name, shape, like)

    def constant(self, shape: tuple[int, int, int], *, like: str | None = None) -> str:
        """Adds a tensor of known values, extremes among them."""
        name = f"k{len(self._constants)}"
        self._constants[name] = np.clip(self._rng.integers(-160, 160, shape), -128, 127).astype(
            np.int8)
        return self._tensor(name, shape, like)

    def _tensor(self, name: str, shape: tuple[int, int, int], like: str | None = None) -> str:
        tensor = Tensor(
            name=name, shape=shape, scale=float(np.float32(0.02 + 0.1 * self._rng.random())),
            zero_point=int(self._rng.integers(-128, 128)), unsigned=self._unsigned)
        if like is not None:
            other = self._tensors[like]
            tensor = replace(tensor, scale=other.scale, zero_point=other.zero_point)
        self._tensors[name] = tensor
        return name

    def add(self, layer: Layer, shape: tuple[int, int, int], *, like: str | None = None) -> str:
        """Adds any layer, and its output tensor of the given shape."""
        self._layers.append(layer)
        return self._tensor(layer.output, shape, like)

    def concat(self, *sources: str) -> str:
        """Adds a concatenation of tensors of one scale and zero point."""
        index = len(self._layers)
        shapes = [self.shape(source) for source in sources]
        return self.add(Concat(name=f"layer{index}", op="Concat", output=f"t{index}",
                               sources=sources),
                        (sum(shape[0] for shape in shapes), *shapes[0][1:]), like=sources[0])

    def select(self, source: str, channels: Sequence[int]) -> str:
        """Adds a layer that takes some channels, in any order; -1 is one of zeros."""
        count, height, width = self.shape(source)
        return self.add(Selection.of(np.array(channels), count, **self._next("Split"),
                                     input=source), (len(channels), height, width), like=source)

    def alias(self, source: str, order: Sequence[int] | None = None,
              plane: tuple[int, int] | None = None) -> str:
        """Adds another name for a tensor: channels in another order, another height and width."""
        channels, *own = self.shape(source)
        return self.add(Alias(**self._next("Reshape"), input=source,
                              order=None if order is None else np.array(order)),
                        (channels, *(plane or own)), like=source)

    def shape(self, tensor: str) -> tuple[int, int, int]:
        """Shape of a tensor."""
        return self._tensors[tensor].shape

    def conv(self, source: str, channels: int, *, kernel: tuple[int, int] = (1, 1),
             strides: tuple[int, int] = (1, 1), pads: tuple[int, int, int, int] = (0, 0, 0, 0),
             dilations: tuple[int, int] = (1, 1), clamp: tuple[int, int] = (-128, 127),
             like: str | None = None) -> str:
        """Adds a convolution and returns the name of its output tensor; ``like`` names a tensor
        with the same scale and zero point."""
        rng = self._rng
        inputs, height, width = self.shape(source)
        index = len(self._layers)
        weights = rng.integers(-128, 128, (channels, inputs, *kernel)).astype(np.int8)
        output = self._tensor(f"t{index}", (
            channels,
            out_size(height, kernel[0], strides[0], dilations[0], pads[0], pads[2]),
            out_size(width, kernel[1], strides[1], dilations[1], pads[1], pads[3])), like)
        # Results spread over the int8 range: the deviation of the sum is about 74 * 74 * sqrt(K).
        spread = 40.0 / (74 * 74 * np.sqrt(weights[0].size))
        multiplier = (spread * (0.5 + rng.random(channels))).astype(np.float32)
        if channels > 2:
            multiplier[rng.integers(channels)] = 1e-7  # a dead channel
        reach = int(30 / spread)
        scales = [self._tensors[name].scale for name in (source, output)]
        self._layers.append(Convolution(
            name=f"layer{index}", op="Conv", input=source, output=output, weights=weights,
            bias=rng.integers(-reach, reach, channels).astype(np.int32),
            multiplier=multiplier, strides=strides, pads=Pads(*pads), dilations=dilations,
            clamp=clamp, weight_scale=(multiplier * scales[1] / scales[0]).astype(np.float32)))
        return output

    def sums(self, source: str, filters: int, *, kernel: tuple[int, int] = (1, 1),
             pads: tuple[int, int, int, int] = (0, 0, 0, 0), parts: int = 4) -> str:
        """Adds a convolution whose sums are wanted, byte by byte."""
        inputs, height, width = self.shape(source)
        layer = Sums.of(self._rng.integers(-128, 128, (filters, inputs, *kernel)).astype(np.int8),
                        parts, **self._next("ConvInteger"), input=source, pads=Pads(*pads))
        output = self.add(layer, (parts * filters,
                                  out_size(height, kernel[0], 1, 1, pads[0], pads[2]),
                                  out_size(width, kernel[1], 1, 1, pads[1], pads[3])))
        self._tensors[output] = replace(self._tensors[output], scale=1.0, zero_point=-128)
        return output

    # Layers channel by channel ----------------------------------------------------------------

    def _next(self, op: str) -> dict[str, str]:
        index = len(self._layers)
        return {"name": f"layer{index}", "op": op, "output": f"t{index}"}

    def _windowed(self, source: str, kernel: tuple[int, int], strides: tuple[int, int],
                  pads: tuple[int, int, int, int],
                  dilations: tuple[int, int]) -> tuple[int, int, int]:
        channels, *sizes = self.shape(source)
        height, width = (out_size(sizes[axis], kernel[axis], strides[axis], dilations[axis],
                                  pads[axis], pads[2 + axis]) for axis in (0, 1))
        return channels, height, width

    def depthwise(self, source: str, *, kernel: tuple[int, int] = (3, 3),
                  strides: tuple[int, int] = (1, 1), pads: tuple[int, int, int, int] = (0, 0, 0, 0),
                  dilations: tuple[int, int] = (1, 1),
                  clamp: tuple[int, int] = (-128, 127)) -> str:
        """Adds a depthwise convolution."""
        rng, channels = self._rng, self.shape(source)[0]
        weights = rng.integers(-128, 128, (channels, *kernel)).astype(np.int8)
        spread = 40.0 / (74 * 74 * np.sqrt(weights[0].size))
        reach = int(30 / spread)
        return self.add(Depthwise(
            **self._next("Conv"), input=source, weights=weights,
            bias=rng.integers(-reach, reach, channels).astype(np.int32),
            multiplier=(spread * (0.5 + rng.random(channels))).astype(np.float32),
            strides=strides, pads=Pads(*pads), dilations=dilations, clamp=clamp),
            self._windowed(source, kernel, strides, pads, dilations))

    def padding(self, source: str, pads: tuple[int, int, int, int]) -> str:
        """Adds rows and columns of zeros around planes."""
        channels, height, width = self.shape(source)
        return self.add(
            Padding.of(channels, Pads(*pads), **self._next("Concat"), input=source),
            (channels, height + pads[0] + pads[2], width + pads[1] + pads[3]), like=source)

    def max_pool(self, source: str, *, kernel: tuple[int, int] = (2, 2),
                 strides: tuple[int, int] = (1, 1), pads: tuple[int, int, int, int] = (0, 0, 0, 0),
                 dilations: tuple[int, int] = (1, 1), clamp: tuple[int, int] = (-128, 127)) -> str:
        """Adds a max pooling."""
        return self.add(Pool(
            **self._next("MaxPool"), input=source, kind=PoolKind.MAX, kernel=kernel,
            strides=strides, pads=Pads(*pads), dilations=dilations, clamp=clamp),
            self._windowed(source, kernel, strides, pads, dilations), like=source)

    def average_pool(self, source: str, *, kernel: tuple[int, int] = (2, 2),
                     strides: tuple[int, int] = (1, 1),
                     pads: tuple[int, int, int, int] = (0, 0, 0, 0),
                     count_pads: tuple[int, int, int, int] = (0, 0, 0, 0),
                     clamp: tuple[int, int] = (-128, 127), like: str | None = None) -> str:
        """Adds an average pooling by the rule of QLinearAveragePool."""
        return self.add(Pool(
            **self._next("AveragePool"), input=source, kind=PoolKind.AVERAGE, kernel=kernel,
            strides=strides, pads=Pads(*pads), count_pads=Pads(*count_pads), clamp=clamp),
            self._windowed(source, kernel, strides, pads, (1, 1)), like=like)

    def interpolate(self, source: str, *, weights: tuple[tuple[int, ...], tuple[int, ...]],
                    pads: tuple[int, int, int, int],
                    clamp: tuple[int, int] = (-128, 127)) -> str:
        """Adds an average whose taps have weights."""
        kernel = len(weights[0]), len(weights[1])
        return self.add(Pool(
            **self._next("Resize"), input=source, kind=PoolKind.AVERAGE, kernel=kernel,
            pads=Pads(*pads), weights=weights, clamp=clamp),
            self._windowed(source, kernel, (1, 1), pads, (1, 1)))

    def global_average(self, source: str) -> str:
        """Adds an average of whole planes by the rule of QLinearGlobalAveragePool."""
        channels, *kernel = self.shape(source)
        multiplier = float(np.float32((0.5 + self._rng.random()) / (kernel[0] * kernel[1])))
        return self.add(Pool(
            **self._next("GlobalAveragePool"), input=source, kind=PoolKind.AVERAGE,
            kernel=(kernel[0], kernel[1]), multiplier=multiplier), (channels, 1, 1))

    def sum(self, a: str, b: str, *, clamp: tuple[int, int] = (-128, 127)) -> str:
        """Adds the sum of two tensors, one of which may be [C, 1, 1]."""
        shape = max(self.shape(a), self.shape(b), key=lambda shape: shape[1] * shape[2])
        return self.add(Add(**self._next("Add"), a=a, b=b, clamp=clamp), shape)

    def product(self, a: str, b: str, *, clamp: tuple[int, int] = (-128, 127)) -> str:
        """Adds the product of two tensors, one of which may be [C, 1, 1]."""
        shape = max(self.shape(a), self.shape(b), key=lambda shape: shape[1] * shape[2])
        output = self.add(Multiply(**self._next("Mul"), a=a, b=b, clamp=clamp), shape)
        scale = self._tensors[a].scale * self._tensors[b].scale * (40 + 80 * self._rng.random())
        self._tensors[output] = replace(self._tensors[output], scale=float(np.float32(scale)))
        return output

    def matmul(self, a: str, b: str, *, heads: int = 1, transposed: bool = False,
               clamp: tuple[int, int] = (-128, 127)) -> str:
        """Products of the heads of ``a`` with those of ``b``, whose sums fill most of int8."""
        channels, height, width = self.shape(a)
        depth = channels // heads
        count = int(np.prod(self.shape(b)[1:])) if transposed else self.shape(b)[0] // heads
        scale = float(np.float32(2 ** self._rng.uniform(-1, 1) / (70 * max(1, depth) ** 0.5)))
        return self.add(MatMul(
            **self._next("MatMul"), a=a, b=b, heads=heads, depth=depth, transposed=transposed,
            multiplier=scale, clamp=clamp), (heads * count, height, width))

    def softmax(self, source: str, *, heads: int = 1, inverse: float = 256.0) -> str:
        """Adds the softmax of rows of channels, for an output scale of ``1 / inverse``."""
        shape = self.shape(source)
        output = self.add(Softmax(
            **self._next("Softmax"), input=source, heads=heads,
            table=exponentials(self._tensors[source].scale, shape[0] // heads),
            factor=softmax_factor(1 / inverse)), shape)
        self._tensors[output] = replace(self._tensors[output], scale=float(np.float32(1 / inverse)))
        return output

    def normalization(self, source: str, *, epsilon: float = 1e-5, scale: float = 0.03) -> str:
        """Adds the normalization of rows of channels, a multiple of 8, for an output ``scale``;
        some of its own scales and shifts are zero."""
        shape, rng = self.shape(source), self._rng
        own, shift = (rng.normal(mean, 0.5, shape[0]) * rng.choice([0, 1, 1, 1], shape[0])
                      for mean in (1, 0))
        output = self.add(Normalization(
            **self._next("LayerNormalization"), input=source, epsilon=epsilon,
            scale=own.astype(np.float32), shift=shift.astype(np.float32)), shape)
        self._tensors[output] = replace(self._tensors[output], scale=float(np.float32(scale)))
        return output

    def lookup(self, source: str, *, by_channel: bool = False) -> str:
        """Adds a look-up in a random table, or in one for each channel."""
        channels = self.shape(source)[:1] if by_channel else ()
        table = self._rng.integers(-128, 128, (*channels, 256)).astype(np.int8)
        return self.add(Lookup(**self._next("Sigmoid"), input=source, table=table),
                        self.shape(source))

    def prelu(self, source: str, *, slopes: tuple[float, float] = (-0.9, 0.9)) -> str:
        """Adds a PRelu with a random slope for each channel, from a range."""
        shape = self.shape(source)
        values = np.arange(-128, 128) - self._tensors[source].zero_point
        real = values * self._rng.uniform(*slopes, shape[0])[:, None]
        table = np.rint(np.where(values < 0, real, values) * self._rng.uniform(0.5, 2)) \
            + self._rng.integers(-128, 128)
        return self.add(Lookup(**self._next("PRelu"), input=source,
                               table=np.clip(table, -128, 127).astype(np.int8)), shape)

    def affine(self, source: str, *, clamp: tuple[int, int] = (-128, 127)) -> str:
        """Adds a random linear function for each channel."""
        shape = self.shape(source)
        factor = self._rng.integers(1 - (1 << 24), 1 << 24, shape[0]) \
            >> self._rng.integers(0, 24, shape[0])
        reach = 128 * np.abs(factor) + 1
        bias = np.minimum(reach, (1 << 31) - 1 - reach) * self._rng.uniform(-1, 1, shape[0])
        return self.add(Affine(
            **self._next("Mul"), input=source, factor=factor.astype(np.int32),
            bias=bias.astype(np.int32), scale=(150 / reach).astype(np.float32), clamp=clamp), shape)

    def enlarge(self, source: str, factors: tuple[int, int]) -> str:
        """Adds a nearest-neighbour enlargement."""
        channels, height, width = self.shape(source)
        return self.add(Resize(**self._next("Resize"), input=source, factors=factors),
                        (channels, height * factors[0], width * factors[1]), like=source)

    def interleave(self, sources: list[str], factors: tuple[int, int], *,
                   less: tuple[int, int] = (0, 0)) -> str:
        """Adds planes dealt out in turn; ``less`` rows and columns than there could be."""
        channels, height, width = self.shape(sources[0])
        return self.add(
            Interleave(**self._next("ConvTranspose"), sources=tuple(sources), factors=factors),
            (channels, height * factors[0] - less[0], width * factors[1] - less[1]),
            like=sources[0])

    def random_window(self, source: str, *, max_kernel: int = 5,
                      dilate: bool = True) -> dict[str, tuple[int, ...]]:
        """A random kernel, strides, pads and dilations for a layer on the source tensor. Every
        window meets the tensor."""
        rng = self._rng
        options: dict[str, list[int]] = {"kernel": [], "strides": [], "dilations": []}
        before, after = [], []
        for size in self.shape(source)[1:]:
            k = int(rng.integers(1, max_kernel + 1))
            d = int(rng.integers(1, 4)) if dilate and rng.random() < 0.3 else 1
            b, a = (int(v) for v in rng.integers(0, k, 2))
            if size + b + a <= d * (k - 1):
                k, d, b, a = 1, 1, 0, 0
            options["kernel"].append(k)
            options["dilations"].append(d)
            options["strides"].append(int(rng.integers(1, 4)) if rng.random() < 0.5 else 1)
            before.append(b)
            after.append(a)
        if not dilate:
            del options["dilations"]
        return {name: tuple(values) for name, values in options.items()} | {
            "pads": (*before, *after)}

    def random_clamp(self) -> tuple[int, int]:
        """A clamp, often that of int8."""
        low = int(self._rng.integers(-128, 0)) if self._rng.random() < 0.3 else -128
        return low, int(self._rng.integers(0, 128)) if self._rng.random() < 0.3 else 127

    def random_conv(self, source: str, *, channels: int | None = None, max_kernel: int = 7) -> str:
        """Adds a convolution of random parameters that fits the source tensor."""
        rng = self._rng
        _, height, width = self.shape(source)
        kernel, strides, dilations, before, after = [], [], [], [], []
        for size in (height, width):
            k = int(rng.integers(1, max_kernel + 1)) if rng.random() < 0.8 else 1
            d = int(rng.integers(1, 4)) if rng.random() < 0.3 else 1
            reach = d * (k - 1)
            b, a = (int(v) for v in rng.integers(0, k, 2))
            if size + b + a <= reach:  # the window must fit at least once
                k, d, b, a = 1, 1, 0, 0
            kernel.append(k)
            dilations.append(d)
            strides.append(int(rng.integers(1, 4)) if rng.random() < 0.4 else 1)
            before.append(b)
            after.append(a)
        low = int(rng.integers(-128, 0)) if rng.random() < 0.5 else -128
        high = int(rng.integers(0, 128)) if rng.random() < 0.3 else 127
        return self.conv(source, channels or int(rng.integers(1, 71)),
                         kernel=(kernel[0], kernel[1]), strides=(strides[0], strides[1]),
                         pads=(before[0], before[1], after[0], after[1]),
                         dilations=(dilations[0], dilations[1]), clamp=(low, high))

    def graph(self, *outputs: str) -> Graph:
        """The finished graph with the given output tensors."""
        def edge(name: str) -> Edge:
            shape = self.shape(name)
            return Edge(name=name, shape=(1, *shape), tensor=name)

        return Graph(name="random", tensors=dict(self._tensors), layers=tuple(self._layers),
                     inputs=tuple(edge(name) for name in self._inputs),
                     outputs=tuple(edge(name) for name in outputs), constants=self._constants)
