"""Random graphs for tests: small networks that exercise every parameter of a layer."""

import numpy as np
import onnx

from weft.ir import Convolution, Edge, Graph, Tensor

__all__ = ["GraphBuilder", "random_graph", "random_image", "out_size"]


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
        self._layers: list[Convolution] = []
        self._inputs: list[str] = []
        self.input = self.add_input("x", shape)

    def add_input(self, name: str, shape: tuple[int, int, int]) -> str:
        """Adds a further input."""
        self._inputs.append(name)
        return self._tensor(name, shape)

    def _tensor(self, name: str, shape: tuple[int, int, int]) -> str:
        self._tensors[name] = Tensor(
            name=name, shape=shape, scale=float(np.float32(0.02 + 0.1 * self._rng.random())),
            zero_point=int(self._rng.integers(-128, 128)), unsigned=self._unsigned)
        return name

    def shape(self, tensor: str) -> tuple[int, int, int]:
        """Shape of a tensor."""
        return self._tensors[tensor].shape

    def conv(self, source: str, channels: int, *, kernel: tuple[int, int] = (1, 1),
             strides: tuple[int, int] = (1, 1), pads: tuple[int, int, int, int] = (0, 0, 0, 0),
             dilations: tuple[int, int] = (1, 1), clamp: tuple[int, int] = (-128, 127)) -> str:
        """Adds a convolution and returns the name of its output tensor."""
        rng = self._rng
        inputs, height, width = self.shape(source)
        index = len(self._layers)
        weights = rng.integers(-128, 128, (channels, inputs, *kernel)).astype(np.int8)
        output = self._tensor(f"t{index}", (
            channels,
            out_size(height, kernel[0], strides[0], dilations[0], pads[0], pads[2]),
            out_size(width, kernel[1], strides[1], dilations[1], pads[1], pads[3])))
        # Results spread over the int8 range: the deviation of the sum is about 74 * 74 * sqrt(K).
        spread = 40.0 / (74 * 74 * np.sqrt(weights[0].size))
        multiplier = (spread * (0.5 + rng.random(channels))).astype(np.float32)
        if channels > 2:
            multiplier[rng.integers(channels)] = 1e-7  # a dead channel
        reach = int(30 / spread)
        self._layers.append(Convolution(
            name=f"layer{index}", op="Conv", input=source, output=output, weights=weights,
            bias=rng.integers(-reach, reach, channels).astype(np.int32),
            multiplier=multiplier, strides=strides, pads=pads, dilations=dilations, clamp=clamp))
        return output

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
            return Edge(onnx_name=name, onnx_shape=(1, *shape), tensor=name)

        data_type = onnx.TensorProto.UINT8 if self._unsigned else onnx.TensorProto.INT8

        def info(name: str) -> onnx.ValueInfoProto:
            return onnx.helper.make_tensor_value_info(name, data_type, (1, *self.shape(name)))

        # An empty body: only the names, types and shapes of the ends are ever looked at.
        model = onnx.helper.make_model(onnx.helper.make_graph(
            [], "random", [info(name) for name in self._inputs],
            [info(name) for name in outputs]))
        return Graph(name="random", tensors=dict(self._tensors), layers=tuple(self._layers),
                     inputs=tuple(edge(name) for name in self._inputs),
                     outputs=tuple(edge(name) for name in outputs), model=model)


def random_graph(rng: np.random.Generator, layers: int = 1, *, max_size: int = 40,
                 max_channels: int = 70, max_kernel: int = 7, words: int | None = None,
                 unsigned: bool = False) -> Graph:
    """A chain of random convolutions: channels, non-square kernels and sizes, strides, dilations,
    asymmetric pads, clamps.

    Parameters
    ----------
    rng : :class:`numpy.random.Generator`
    layers : :class:`int`
    max_size, max_channels, max_kernel : :class:`int`
        Largest height and width of the input, channels of a tensor, kernel height and width.
    words : :class:`int`
        Largest ``C * H * W`` of any tensor, so that the graph fits a small configuration.
    unsigned : :class:`bool`
        Whether activations are uint8 in the ONNX domain.
    """
    def channels(pixels: int) -> int:
        limit = max_channels if words is None else max(1, min(max_channels, words // pixels))
        return int(rng.integers(1, limit + 1))

    height, width = (int(v) for v in rng.integers(1, max_size + 1, 2))
    if words is not None:
        width = max(1, min(width, words // height))
    builder = GraphBuilder(rng, (channels(height * width), height, width), unsigned=unsigned)
    tensor = builder.input
    for _ in range(layers):
        _, height, width = builder.shape(tensor)
        # Padding can only add what a kernel reaches on each side.
        pixels = (height + max_kernel) * (width + max_kernel)
        tensor = builder.random_conv(tensor, channels=channels(pixels), max_kernel=max_kernel)
    return builder.graph(tensor)


def random_image(rng: np.random.Generator, graph: Graph) -> dict[str, np.ndarray]:
    """Random int8 values [C, H, W] for every input tensor of ``graph``, extremes included."""
    images = {}
    for edge in graph.inputs:
        values = rng.integers(-128, 128, graph.tensors[edge.tensor].shape).astype(np.int8)
        extremes = rng.random(values.shape)
        values[extremes < 0.05] = -128
        values[extremes > 0.95] = 127
        images[edge.tensor] = values
    return images
