"""Random graphs for tests: small networks that exercise every parameter of a layer."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from graph_builder import GraphBuilder

from weft.hw.isa.commands import Rounding
from weft.ir import (
    NO_PADS,
    Add,
    Concat,
    Convolution,
    Depthwise,
    Graph,
    Layer,
    Multiply,
    Pool,
    PoolKind,
    Sums,
)
from weft.reference import quantized_multiplier

__all__ = ["OPERATORS", "in_fixed_point", "operator_graph", "random_graph", "random_image"]


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


def _window(rng: np.random.Generator, builder: GraphBuilder, add: str) -> str:
    window = builder.random_window(builder.input, dilate=add != "average_pool")
    return getattr(builder, add)(builder.input, **window, clamp=builder.random_clamp())


def _pair(rng: np.random.Generator, builder: GraphBuilder, add: str) -> str:
    other = builder.add_input("y", builder.shape(builder.input))
    return getattr(builder, add)(builder.input, other, clamp=builder.random_clamp())


def _channelwise(rng: np.random.Generator, builder: GraphBuilder) -> str:
    return builder.affine(builder.input, clamp=builder.random_clamp())


def _sloped(rng: np.random.Generator, builder: GraphBuilder) -> str:
    """Functions of a value and its channel behind convolutions, one of them strided."""
    first = builder.conv(builder.input, int(rng.integers(1, 33)))
    second = builder.conv(builder.lookup(first, by_channel=True), int(rng.integers(1, 9)),
                          strides=(2, 2))
    return builder.concat(builder.lookup(second, by_channel=True), builder.prelu(
        builder.conv(first, int(rng.integers(1, 33)), strides=(2, 2))))


def _bent(rng: np.random.Generator, builder: GraphBuilder) -> str:
    """PRelus with so many channels that the hardware adds up some of them."""
    source = builder.conv(builder.input, int(rng.integers(60, 90)))
    slopes = [(-0.9, 0.9), (-0.9, 1.8), (-1.8, 0.9), (-1.8, 1.8)][int(rng.integers(4))]
    bent = builder.prelu(source, slopes=slopes)
    return builder.prelu(builder.sum(source, bent)) if rng.random() < 0.5 else bent


def _gate(rng: np.random.Generator, builder: GraphBuilder) -> str:
    """A tensor and one value for each channel, in either order."""
    gate = builder.lookup(builder.global_average(builder.input))
    pair = [builder.input, gate] if rng.random() < 0.6 else [gate, builder.input]
    combine = builder.product if rng.random() < 0.5 else builder.sum
    return combine(*pair, clamp=builder.random_clamp())


def _pyramid(rng: np.random.Generator, builder: GraphBuilder) -> str:
    large = builder.enlarge(builder.input, (int(rng.integers(1, 4)), int(rng.integers(1, 4))))
    return builder.depthwise(large, **builder.random_window(large, max_kernel=3))


def _cropped(rng: np.random.Generator, builder: GraphBuilder) -> str:
    """Parts of planes, some of every second row or column, also of windows."""
    source = builder.input
    if rng.random() < 0.5:
        source = builder.conv(source, int(rng.integers(1, 40)))
    _, height, width = builder.shape(source)
    pads = []
    for size in (height, width):
        before = int(rng.integers(0, size))
        pads.append((before, int(rng.integers(0, size - before))))
    kernel = tuple(int(rng.integers(1, min(3, size - sum(cut)) + 1))
                   for size, cut in zip((height, width), pads, strict=True))
    part = builder.max_pool(source, kernel=kernel, strides=tuple(rng.integers(1, 4, 2).tolist()),
                            pads=tuple(-cut[side] for side in (0, 1) for cut in pads),
                            clamp=builder.random_clamp())
    return builder.conv(part, int(rng.integers(1, 20))) if rng.random() < 0.5 else part


def _interpolated(rng: np.random.Generator, builder: GraphBuilder) -> str:
    """Linear enlargement by 1, 2 or 4 in each axis, of either mode."""
    factors = 2 ** rng.integers(0, 3), 2 ** rng.integers(0, 3)
    large = builder.enlarge(builder.input, (int(factors[0]), int(factors[1])))
    axes = [((1,) * factor, 0, factor - 1) if factor == 1 or rng.random() < 0.4 else
            ((1, *[2] * (factor - 1), 1), factor // 2, factor // 2) for factor in factors]
    return builder.interpolate(large, weights=(axes[0][0], axes[1][0]),
                               pads=tuple(int(each[side]) for side in (1, 2) for each in axes),
                               clamp=builder.random_clamp())


def _dealt_out(rng: np.random.Generator, builder: GraphBuilder) -> str:
    factors = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    sources = [builder.conv(builder.input, int(rng.integers(1, 40)))]
    for _ in range(factors[0] * factors[1] - 1):
        sources.append(builder.conv(builder.input, builder.shape(sources[0])[0], like=sources[0]))
    return builder.interleave(sources, factors, less=(int(rng.integers(factors[0])),
                                                      int(rng.integers(factors[1]))))


def _joined(rng: np.random.Generator, builder: GraphBuilder) -> str:
    left = builder.conv(builder.input, int(rng.integers(1, 20)))
    right = builder.conv(builder.input, int(rng.integers(1, 20)), like=left)
    return builder.conv(builder.depthwise(builder.concat(left, right)), 7) \
        if min(builder.shape(builder.input)[1:]) >= 3 else builder.conv(
            builder.concat(left, right), 7)


def _shuffled(rng: np.random.Generator, builder: GraphBuilder) -> str:
    """Two tensors joined and dealt out, as in ShuffleNet; one half is joined again."""
    count = int(rng.integers(2, 24))
    left = builder.conv(builder.input, count)
    joined = builder.concat(left, builder.conv(builder.input, count, like=left))
    dealt = np.arange(2 * count).reshape(2, -1).T.reshape(-1)
    kept = builder.select(joined, dealt[:count])
    worked = builder.depthwise(builder.conv(builder.select(joined, dealt[count:]), count),
                               kernel=(1, 1))
    last = builder.concat(kept, builder.conv(worked, count, like=left))
    last = builder.alias(last, rng.permutation(2 * count))
    wide = builder.select(last, [-1, *range(2 * count), *[-1] * int(rng.integers(3))])
    return builder.sum(builder.lookup(wide), builder.conv(last, builder.shape(wide)[0]))


def _pieces(rng: np.random.Generator, builder: GraphBuilder) -> str:
    """A tensor in two halves that are gates of one another, as in a recurrent cell; mostly of whole
    words. One of them is divided again, the tensor itself is read as well, or joined elsewhere."""
    half = int(rng.choice([4, 8, 16, 32, int(rng.integers(1, 20))]))
    whole = builder.conv(builder.input, 2 * half)
    if rng.random() < 0.3:
        whole = builder.lookup(whole)
    first = builder.select(whole, range(half))
    second = builder.select(whole, range(half, 2 * half))
    if rng.random() < 0.3:
        second = builder.alias(second, rng.permutation(half) if rng.random() < 0.5 else None)
    gate = builder.lookup(first) if rng.random() < 0.7 else first
    gated = builder.product(gate, second, clamp=builder.random_clamp())
    quarter = builder.select(second, range(half // 2, half))
    kept = builder.conv(builder.sum(quarter, quarter), half, like=gated)
    if rng.random() < 0.5:
        kept = builder.sum(kept, builder.conv(whole, half))
    if rng.random() < 0.5:
        kept = builder.conv(builder.concat(kept, builder.select(whole, range(half))
                                           if rng.random() < 0.3 else kept), half, like=gated)
    return builder.sum(gated, kept)


def _regrouped(rng: np.random.Generator, builder: GraphBuilder) -> str:
    """Planes turned into rows and back, with channels in other orders on the way."""
    count, height, width = int(rng.integers(1, 40)), *builder.shape(builder.input)[1:]
    x = builder.conv(builder.input, count)
    row = builder.alias(x, rng.permutation(count) if rng.random() < 0.5 else None,
                        (1, height * width))
    y = builder.depthwise(row, kernel=(1, 3), pads=(0, 1, 0, 1))
    tall = builder.alias(builder.sum(y, row), rng.permutation(count), (height * width, 1))
    return builder.sum(builder.alias(tall, None, (height, width)), x)


def _constants(rng: np.random.Generator, builder: GraphBuilder) -> str:
    """A constant in front of, between or behind other tensors, twice; in sums and products; and
    below the rows of another one."""
    _, height, width = builder.shape(builder.input)
    first = builder.conv(builder.input, int(rng.integers(1, 20))) if rng.random() < 0.6 \
        else builder.input
    known = builder.constant((int(rng.integers(1, 20)), height, width), like=first)
    joined = builder.concat(*rng.permutation([first, known, *[known] * int(rng.integers(2))])
                            .tolist())
    count = builder.shape(joined)[0]
    pair = [builder.conv(joined, count), builder.constant((count, height, width))]
    combine = builder.product if rng.random() < 0.4 else builder.sum
    x = combine(*rng.permutation(pair).tolist(), clamp=builder.random_clamp())
    pads = tuple(rng.integers(0, 4, 4).tolist())
    framed = builder.padding(x, pads)
    return builder.sum(framed, builder.constant(builder.shape(framed), like=framed))


def _residual(rng: np.random.Generator, builder: GraphBuilder) -> str:
    trunk = builder.conv(builder.input, int(rng.integers(1, 40)))
    branch = builder.depthwise(trunk, kernel=(3, 3), pads=(1, 1, 1, 1), clamp=(-128, 90))
    branch = builder.conv(branch, builder.shape(trunk)[0])
    return builder.sum(trunk, branch, clamp=builder.random_clamp())


def _sums(rng: np.random.Generator, builder: GraphBuilder) -> str:
    source = builder.input
    if rng.random() < 0.7:
        source = builder.conv(source, int(rng.integers(1, 40)))
    kernel = (3, 3) if min(builder.shape(source)[1:]) > 2 and rng.random() < 0.5 else (1, 1)
    pads = tuple(int(pad) for pad in rng.integers(0, 2, 4)) if kernel == (3, 3) else (0,) * 4
    return builder.sums(source, int(rng.integers(1, 20)), kernel=kernel, pads=pads,
                        parts=int(rng.integers(2, 5)))


OPERATORS: dict[str, Callable[[np.random.Generator, GraphBuilder], str]] = {
    "depthwise": partial(_window, add="depthwise"),
    "max_pool": partial(_window, add="max_pool"),
    "average_pool": partial(_window, add="average_pool"),
    "sum": partial(_pair, add="sum"),
    "product": partial(_pair, add="product"),
    "affine": _channelwise,
    "gate": _gate,
    "pyramid": _pyramid,
    "interleave": _dealt_out,
    "concat": _joined,
    "constants": _constants,
    "residual": _residual,
    "shuffled": _shuffled,
    "regrouped": _regrouped,
    "interpolated": _interpolated,
    "cropped": _cropped,
    "sums": _sums,
    "pieces": _pieces,
    "bent": _bent,
    "sloped": _sloped,
}
"""What :func:`operator_graph` makes."""

def operator_graph(rng: np.random.Generator, operator: str, *, unsigned: bool = False) -> Graph:
    """A small random graph around one operator of :data:`OPERATORS`."""
    shape = (int(rng.integers(1, 41)), int(rng.integers(1, 13)), int(rng.integers(1, 13)))
    builder = GraphBuilder(rng, shape, unsigned=unsigned)
    return builder.graph(OPERATORS[operator](rng, builder))


def in_fixed_point(rng: np.random.Generator, graph: Graph, *, share: float = 0.8) -> Graph:
    """The same graph, where layers that can have a rule of TensorFlow Lite have one by chance."""
    joined = {name for layer in graph.layers if isinstance(layer, Concat)
              for name in (*layer.sources, layer.output)}
    tensors = dict(graph.tensors)
    once = Rounding.FIXED_POINT_ONCE

    def change(layer: Layer) -> Layer:
        match layer:
            case Sums():
                pass
            case Convolution() | Depthwise():
                return replace(
                    layer, rounding=once if rng.random() < 0.4 else Rounding.FIXED_POINT,
                    fixed_point=quantized_multiplier(layer.multiplier))
            case Pool(kind=PoolKind.AVERAGE) if layer.output not in joined:
                # Its output means what its input does.
                source = tensors[layer.input]
                tensors[layer.output] = replace(tensors[layer.output], scale=source.scale,
                                                zero_point=source.zero_point)
                return replace(layer, rounding=Rounding.FIXED_POINT, multiplier=None,
                               late_zero=False, count_pads=NO_PADS)
            case Add():
                whole = tensors[layer.a].shape == tensors[layer.output].shape
                return replace(layer, rounding=Rounding.FIXED_POINT,
                               subtract=whole and bool(rng.random() < 0.5))
            case Multiply():
                return replace(layer, rounding=Rounding.FIXED_POINT)
        return layer

    layers = tuple(change(layer) if rng.random() < share else layer for layer in graph.layers)
    return replace(graph, layers=layers, tensors=tensors)


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
