"""The shape of what a node makes, and of its weights."""

from collections.abc import Callable
from math import gcd, prod

from fuzz.networks.nodes import UNARY, Node, Shape, Unfit

__all__ = ["groups_of", "shape_of", "weight_shape"]


def _planes(shape: Shape) -> Shape:
    if len(shape) != 3:
        raise Unfit("a vector has no planes")
    return shape


def _filters(node: Node, shapes: dict[str, Shape]) -> int:
    return shapes[node.filters][0] if isinstance(node.filters, str) else node.filters


def groups_of(node: Node, source: Shape, shape: Shape) -> int:
    """Of a convolution."""
    if node.op == "Depthwise":
        return source[0]
    return gcd(node.group, gcd(source[0], shape[0]))


def weight_shape(node: Node, source: Shape, shape: Shape) -> Shape:
    """Of the weights, filters first; with a factor of 0 if there are none."""
    if node.op == "Tokens":
        return (shape[0], source[0], 1, 1)
    if node.op in ("Conv", "Depthwise"):
        return (shape[0], source[0] // groups_of(node, source, shape), *node.kernel)
    if node.op == "ConvTranspose":
        return (shape[0], source[0], *node.kernel)
    return (shape[0], prod(source)) if node.op == "Gemm" else (0,)


def _window(node: Node, source: Shape) -> Shape:
    sizes = []
    for axis, length in enumerate(_planes(source)[1:]):
        before, after = node.pads[axis], node.pads[axis + 2]
        reach = node.dilations[axis] * (node.kernel[axis] - 1)
        if max(before, after) > reach:
            raise Unfit(f"{node.name} has more padding than kernel")
        sizes.append((length + before + after - reach - 1) // node.strides[axis] + 1)
    return tuple(sizes)


def _enlarged(node: Node, source: Shape) -> Shape:
    sizes = []
    for axis, length in enumerate(_planes(source)[1:]):
        stride, more = node.strides[axis], node.factors[axis] - 1
        reach = node.dilations[axis] * (node.kernel[axis] - 1)
        before, after = node.pads[axis], node.pads[axis + 2]
        if max(before, after) > reach or more >= max(stride, node.dilations[axis]):
            raise Unfit(f"{node.name} has more padding than kernel")
        sizes.append(stride * (length - 1) + more + reach + 1 - before - after)
    return tuple(sizes)


def _spread(node: Node, source: Shape) -> Shape:
    channels, height, width = _planes(source)
    if channels % node.group ** 2:
        raise Unfit(f"{node.name} divides {channels} channels")
    return (channels // node.group ** 2, height * node.group, width * node.group)


def _pair(node: Node, sources: list[Shape]) -> Shape:
    shape, other = sources
    if other != shape and other != (shape[0], *[1] * len(shape[1:])):
        raise Unfit(f"{node.name} joins {sources}")
    return shape


def _same(node: Node, sources: list[Shape]) -> Shape:
    if sources[0] != sources[1]:
        raise Unfit(f"{node.name} joins {sources}")
    return sources[0]


def _joined(node: Node, sources: list[Shape]) -> Shape:
    if len({_planes(source)[1:] for source in sources}) > 1:
        raise Unfit(f"{node.name} joins {sources}")
    return (sum(source[0] for source in sources), *sources[0][1:])


def _led(node: Node, channels: int, height: int, width: int) -> Shape:
    more = node.factors[0]
    return (channels + more, height, width) if node.count_pads else (channels, height + more, width)


def _sliced(node: Node, source: Shape) -> Shape:
    return (len(range(node.factors[0] - 1, _planes(source)[0], node.factors[1])), *source[1:])


def _piece(node: Node, source: Shape) -> Shape:
    size = _planes(source)[0] // node.group
    if not size:
        raise Unfit(f"{node.name} has {node.group} pieces of {source[0]} channels")
    return (size, *source[1:])


def _cropped(node: Node, source: Shape) -> Shape:
    channels, *plane = _planes(source)
    height, width = (
        len(range(before, size - after, stride)) for size, before, after, stride in zip(
            plane, node.pads[:2], node.pads[2:], node.strides, strict=True))
    if not height or not width:
        raise Unfit(f"{node.name} leaves nothing of its input")
    return (channels, height, width)


def _column(node: Node, source: Shape) -> Shape:
    channels, height, width = _planes(source)
    if width != 1 or channels < 2 or not 2 <= height <= 8:
        raise Unfit(f"{node.name} is of a short column")
    return (channels, height, width)


def _vector(node: Node, source: Shape) -> Shape:
    if len(source) != 1:
        raise Unfit(f"{node.name} is of a vector")
    return (source[0], 1, 1)


def _regrouped(node: Node, source: Shape) -> Shape:
    channels, height, width = _planes(source)
    rows = gcd(node.factors[0], height * width)
    return (channels, rows, height * width // rows)


def _flat(sources: list[Shape]) -> Shape:
    return (sum(prod(_planes(source)) for source in sources),)


def shape_of(node: Node, sources: list[Shape], shapes: dict[str, Shape]) -> Shape:
    """Of what a node makes of ``sources``.

    Raises
    ------
    Unfit
        If it makes nothing of them.
    KeyError
        If it needs a tensor that is not in ``shapes``.
    """
    return _SHAPES[node.op](node, sources, shapes)


_Rule = Callable[[Node, list[Shape], dict[str, Shape]], Shape]

_SHAPES: dict[str, _Rule] = {
    "Conv": lambda node, sources, shapes: (_filters(node, shapes), *_window(node, sources[0])),
    "ConvTranspose": lambda node, sources, shapes: (
        _filters(node, shapes), *_enlarged(node, sources[0])),
    "Depthwise": lambda node, sources, shapes: (sources[0][0], *_window(node, sources[0])),
    "MaxPool": lambda node, sources, shapes: (sources[0][0], *_window(node, sources[0])),
    "AveragePool": lambda node, sources, shapes: (sources[0][0], *_window(node, sources[0])),
    "Gemm": lambda node, sources, shapes: (_filters(node, shapes),),
    "GlobalAveragePool": lambda node, sources, shapes: (_planes(sources[0])[0], 1, 1),
    "DepthToSpace": lambda node, sources, shapes: _spread(node, sources[0]),
    "Gather": lambda node, sources, shapes: (
        min(_filters(node, shapes), _planes(sources[0])[0]), *sources[0][1:]),
    "GlobalMaxPool": lambda node, sources, shapes: (_planes(sources[0])[0], 1, 1),
    "ReduceMax": lambda node, sources, shapes: (_planes(sources[0])[0], 1, 1),
    "ReduceMean": lambda node, sources, shapes: (_planes(sources[0])[0], 1, 1),
    "Clip": lambda node, sources, shapes: sources[0],
    "Add": lambda node, sources, shapes: _pair(node, sources),
    "Mul": lambda node, sources, shapes: _pair(node, sources),
    "Concat": lambda node, sources, shapes: _joined(node, sources),
    "Resize": lambda node, sources, shapes: (
        _planes(sources[0])[0], *(a * b for a, b in zip(sources[0][1:], node.factors))),
    "Slice": lambda node, sources, shapes: _sliced(node, sources[0]),
    "Piece": lambda node, sources, shapes: _piece(node, sources[0]),
    "Crop": lambda node, sources, shapes: _cropped(node, sources[0]),
    "Rows": lambda node, sources, shapes: _column(node, sources[0]),
    "Place": lambda node, sources, shapes: _planes(sources[0]),
    "Lead": lambda node, sources, shapes: _led(node, *_planes(sources[0])),
    "PRelu": lambda node, sources, shapes: _planes(sources[0]),
    "Scale": lambda node, sources, shapes: _planes(sources[0]),
    "Shift": lambda node, sources, shapes: _planes(sources[0]),
    "BatchNormalization": lambda node, sources, shapes: _planes(sources[0]),
    "Shuffle": lambda node, sources, shapes: _planes(sources[0]),
    "Turn": lambda node, sources, shapes: _planes(sources[0]),
    "Regroup": lambda node, sources, shapes: _regrouped(node, sources[0]),
    "Normalize": lambda node, sources, shapes: _planes(sources[0]),
    "Shares": lambda node, sources, shapes: _planes(sources[0]),
    "Tokens": lambda node, sources, shapes: (_filters(node, shapes), *_planes(sources[0])[1:]),
    "Attend": lambda node, sources, shapes: _same(
        node, [_planes(sources[0]), _same(node, sources[1:])]),
    "Widen": lambda node, sources, shapes: (
        _planes(sources[0])[0] + sum(node.factors), *sources[0][1:]),
    "Flat": lambda node, sources, shapes: _flat(sources),
    "Vector": lambda node, sources, shapes: _vector(node, sources[0]),
    **dict.fromkeys(UNARY, lambda node, sources, shapes: sources[0]),
}
