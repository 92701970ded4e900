"""Float networks as a list of nodes that can be drawn at random, changed, and written down.

Weights and shapes follow from the description: a change of one node leads to another whole network,
or to :class:`Unfit`. So a network that fails can be made smaller step by step.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import gcd, prod
from typing import Any, Self

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["UNARY", "FloatGraph", "Node", "Unfit"]


UNARY: dict[str, dict[str, float]] = {
    "Relu": {}, "Sigmoid": {}, "Tanh": {}, "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "HardSwish": {}, "LeakyRelu": {"alpha": 0.1}, "Elu": {"alpha": 1.0}, "Softplus": {}, "Abs": {},
    "Neg": {}, "Sin": {}, "Atan": {},
}
"""Operators of one value, with their attributes."""


class Unfit(Exception):
    """A description that is no network: shapes that do not fit, or windows without a value."""


@dataclass(frozen=True)
class Node:
    """A node of one output.

    Parameters
    ----------
    name : :class:`str`
        Its own, and that of its tensor.
    op : :class:`str`
        An ONNX operator; ``Depthwise`` for a Conv with a group for each channel, ``Vector`` for a
        Reshape from [1, N] to [1, N, 1, 1], ``Shuffle`` for one that deals out the channels of
        groups in turn, ``Scale`` and ``Shift`` for a Mul and an Add of a constant for each channel,
        ``Turn`` for a Transpose to channels last and back, ``Regroup`` for a Reshape to planes of
        ``factors[0]`` rows (at most; the greatest common divisor with all pixels is taken),
        ``Tokens`` for a MatMul of rows of channels, ``Attend`` for the attention of pixels, with a
        softmax if ``count_pads``, or a sigmoid in its place, ``Normalize`` for a LayerNormalization
        and ``Shares`` for a Softmax of channels, ``Widen`` for a Pad with ``factors`` channels
        before and behind, ``Piece`` for a Slice that takes the ``factors[0]``-th, counted from 1,
        of ``group`` pieces with as many channels each, ``Crop`` for a Slice of planes that leaves
        out ``pads`` and takes every ``strides``-th row and column, ``Place`` for an Add of a
        constant of all values, ``Lead`` for a Concat of a constant with ``factors[0]`` rows in
        front of planes, or, if ``count_pads``, with so many channels behind them, ``Rows`` for a
        Slice of each row of pixels in turn and a Concat of them backwards, ``Flat`` for a Concat of
        all its inputs, channels last, as vectors.
    inputs : list of :class:`str`
        Nodes, or inputs of the graph.
    filters : :class:`int` or :class:`str`
        Output channels of a Conv or Gemm, or of a Gather, at most; a name stands for those of that
        tensor.
    kernel, strides, dilations : (h, w)
    pads : (top, left, bottom, right)
    group : :class:`int`
        Of a convolution or ``Shuffle``, or heads of ``Attend``, at most; the greatest common
        divisor with both numbers of channels is taken. The blocksize of a DepthToSpace.
    bounds : (low, high)
        Of a Clip.
    factors : (h, w)
        Of a Resize; one more than the output_padding of a ConvTranspose; or the first channel of a
        Slice, counted from 1, and its step.
    count_pads : :class:`bool`
        Padding counts in the divisor of an AveragePool; or a DepthToSpace has mode CRD; or a
        Resize has mode linear, half_pixel with a ``group`` of 1, else asymmetric.
    bias : :class:`bool`
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    filters: int | str = 1
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    group: int = 1
    bounds: tuple[float, float] = (0.0, 6.0)
    factors: tuple[int, int] = (1, 1)
    count_pads: bool = False
    bias: bool = True

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """From what JSON makes of a node: tuples have become lists."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value
                      for key, value in values.items()})


Shape = tuple[int, ...]


@dataclass(frozen=True)
class FloatGraph:
    """A float network.

    Parameters
    ----------
    seed : :class:`int`
        Of all weights; those of a node depend on its name, too, and on nothing else.
    inputs : :class:`dict` of (C, H, W)
    nodes : tuple of :class:`Node`
        In an order in which they can be computed.
    outputs : tuple of :class:`str`
    signal : :class:`bool`
        Planes have one column, and are [1, C, L] in the model.
    """

    seed: int
    inputs: dict[str, tuple[int, int, int]]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    signal: bool = False
    shapes: dict[str, Shape] = field(init=False, compare=False, repr=False)
    macs: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        shapes: dict[str, Shape] = dict(self.inputs)
        macs = 0
        for node in self.nodes:
            try:
                sources = [shapes[name] for name in node.inputs]
                shapes[node.name] = _SHAPES[node.op](node, sources, shapes)
            except KeyError as error:
                raise Unfit(f"{node.name} reads {error}") from None
            if min(shapes[node.name]) < 1:
                raise Unfit(f"{node.name} is empty")
            if self.signal and any(shape[2:] not in ((), (1,)) for shape in shapes.values()):
                raise Unfit(f"{node.name} has several columns")
            if node.op == "Attend":
                macs += 2 * prod(sources[0]) * prod(sources[0][1:])
            macs += prod(_weight_shape(node, sources[0], shapes[node.name])) * \
                prod(shapes[node.name][1:])
        if not self.outputs or any(name not in shapes or name in self.inputs
                                   for name in self.outputs):
            raise Unfit("the outputs must be nodes")
        object.__setattr__(self, "shapes", shapes)
        object.__setattr__(self, "macs", macs)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: options that a node has no use for are left out."""
        plain = asdict(Node("", "", ()))
        nodes = [{key: value for key, value in asdict(node).items()
                  if key in ("name", "op", "inputs") or value != plain[key]}
                 for node in self.nodes]
        return {"seed": self.seed, "inputs": self.inputs, "nodes": nodes, "outputs": self.outputs,
                "signal": self.signal}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """From what :meth:`to_dict` made, by way of JSON or not."""
        return cls(seed=values["seed"], outputs=tuple(values["outputs"]), signal=values["signal"],
                   inputs={name: tuple(shape) for name, shape in values["inputs"].items()},
                   nodes=tuple(Node.from_dict(each) for each in values["nodes"]))

    def pruned(self) -> "FloatGraph":
        """Without nodes and inputs that no output needs."""
        needed = set(self.outputs)
        for node in reversed(self.nodes):
            if node.name in needed:
                needed |= {*node.inputs} | ({node.filters} if isinstance(node.filters, str)
                                            else set())
        return replace(self, nodes=tuple(node for node in self.nodes if node.name in needed),
                       inputs={name: shape for name, shape in self.inputs.items()
                               if name in needed})

    def to_onnx(self) -> onnx.ModelProto:
        """The float model. Weights are such that values neither grow nor die on the way."""
        nodes: list[onnx.NodeProto] = []
        initial: list[onnx.TensorProto] = []
        axes = 1 if self.signal else 2

        def constant(name: str, value: np.ndarray) -> str:
            initial.append(numpy_helper.from_array(value, name))
            return name

        for node in self.nodes:
            source, shape = self.shapes[node.inputs[0]], self.shapes[node.name]
            rng = np.random.default_rng([self.seed, *node.name.encode()])
            inputs, extra = list(node.inputs), {}
            op = {"Depthwise": "Conv", "Vector": "Reshape", "Scale": "Mul", "Shift": "Add",
                  "Place": "Add", "Lead": "Concat", "Regroup": "Reshape",
                  "Widen": "Pad"}.get(node.op, node.op)

            def step(op: str, source: str, part: str, name: str = node.name,
                     nodes: list[onnx.NodeProto] = nodes, **options: object) -> str:
                nodes.append(helper.make_node(op, [source], [f"{name}_{part}"],
                                              name=f"{name}_{part}", **options))
                return f"{name}_{part}"

            if op in ("Conv", "ConvTranspose", "Gemm"):
                size = _weight_shape(node, source, shape)[:2 + axes]
                weights = rng.standard_normal(size) * np.sqrt(1.5 / prod(size[1:]))
                if op == "ConvTranspose":
                    weights = weights.swapaxes(0, 1)
                inputs.append(constant(f"{node.name}_w", weights.astype(np.float32)))
                if node.bias:
                    bias = 0.1 * rng.standard_normal(size[0])
                    inputs.append(constant(f"{node.name}_b", bias.astype(np.float32)))
            if op == "Conv":
                extra = {"group": _groups(node, source, shape), **_window_attributes(node, axes),
                         "dilations": node.dilations[:axes]}
            elif op == "ConvTranspose":
                extra = {**_window_attributes(node, axes), "dilations": node.dilations[:axes],
                         "output_padding": [each - 1 for each in node.factors[:axes]]}
            elif op == "Gemm":
                extra = {"transB": 1}
                if len(source) > 1:
                    nodes.append(helper.make_node("Flatten", inputs[:1], [f"{node.name}_flat"],
                                                  name=f"{node.name}_flat"))
                    inputs[0] = f"{node.name}_flat"
            elif op in ("MaxPool", "AveragePool"):
                extra = _window_attributes(node, axes)
                extra |= {"count_include_pad": int(node.count_pads)} if op == "AveragePool" \
                    else {"dilations": node.dilations[:axes]}
            elif op == "Clip":
                inputs += [constant(f"{node.name}_{index}", np.asarray(bound, np.float32))
                           for index, bound in enumerate(node.bounds)]
            elif node.op in ("Place", "Lead"):
                size = list(source[:1 + axes])
                if node.op == "Lead":
                    size[0 if node.count_pads else 1] = node.factors[0]
                    extra = {"axis": 1 if node.count_pads else 2}
                inputs.append(constant(f"{node.name}_k", rng.uniform(
                    -1, 1.5, (1, *size)).astype(np.float32)))
                if node.op == "Lead" and not node.count_pads:
                    inputs = inputs[::-1]
            elif op == "Concat":
                extra = {"axis": 1}
            elif op == "Slice":
                inputs += _bounds(node.name, constant, (node.factors[0] - 1,), source[:1], (1,),
                                  node.factors[1:])
            elif op == "Piece":
                first = (node.factors[0] - 1) * shape[0]
                op = "Slice"
                inputs += _bounds(node.name, constant, (first,), (first + shape[0],), (1,), (1,))
            elif op == "Crop":
                top, left, bottom, right = node.pads
                op = "Slice"
                inputs += _bounds(node.name, constant, *(values[:axes] for values in (
                    (top, left), (source[1] - bottom, source[2] - right), (2, 3), node.strides)))
            elif op == "Rows":
                cuts = _rows(node, inputs[0], source[1], constant)
                nodes += cuts
                op, inputs, extra = "Concat", [cut.output[0] for cut in cuts], {"axis": 2}
            elif op == "Shuffle":
                apart = np.array([1, gcd(node.group, source[0]), -1, *source[1:1 + axes]])
                inputs.append(constant(f"{node.name}_apart", apart))
                nodes += [
                    helper.make_node("Reshape", inputs, [f"{node.name}_groups"],
                                     name=f"{node.name}_groups"),
                    helper.make_node("Transpose", [f"{node.name}_groups"], [f"{node.name}_turned"],
                                     name=f"{node.name}_turned", perm=[0, 2, 1, 3, 4][:3 + axes])]
                op, inputs = "Reshape", [f"{node.name}_turned", constant(
                    f"{node.name}_s", np.array([1, *shape[:1 + axes]]))]
            elif op == "Turn":
                op, inputs = "Transpose", [step("Transpose", inputs[0], "last", perm=[
                    0, 2, 3, 1] if axes == 2 else [0, 2, 1])]
                extra = {"perm": [0, 3, 1, 2] if axes == 2 else [0, 2, 1]}
            elif op in ("Normalize", "Shares"):
                parts = (("w", 1), ("b", 0))[:1 + node.bias] if op == "Normalize" else ()
                own = [constant(f"{node.name}_{part}", rng.normal(mean, 0.3, source[0]).astype(
                    np.float32)) for part, mean in parts]
                turned = step("Transpose", inputs[0], "last",
                              perm=[0, 2, 3, 1] if axes == 2 else [0, 2, 1])
                nodes.append(helper.make_node(
                    "LayerNormalization" if own else "Softmax", [turned, *own],
                    [f"{node.name}_made"], name=f"{node.name}_made"))
                op, inputs = "Transpose", [f"{node.name}_made"]
                extra = {"perm": [0, 3, 1, 2] if axes == 2 else [0, 2, 1]}
            elif op == "Tokens":
                count = prod(source[1:])
                rows, back = (constant(f"{node.name}_{part}", np.array(sizes)) for part, sizes in (
                    ("rows", [1, source[0], count]), ("back", [1, *shape[:1 + axes]])))
                weights = rng.standard_normal((source[0], shape[0])) * np.sqrt(1.5 / source[0])
                matrix = constant(f"{node.name}_w", weights.astype(np.float32))
                nodes.append(helper.make_node("Reshape", [inputs[0], rows], [f"{node.name}_flat"],
                                              name=f"{node.name}_flat"))
                turned = step("Transpose", f"{node.name}_flat", "turned", perm=[0, 2, 1])
                nodes.append(helper.make_node("MatMul", [turned, matrix], [f"{node.name}_made"],
                                              name=f"{node.name}_made"))
                op, inputs = "Reshape", [step("Transpose", f"{node.name}_made", "front",
                                              perm=[0, 2, 1]), back]
            elif op == "Attend":
                nodes += _attention(node, source, constant)
                op, inputs = "Reshape", [f"{node.name}_seen", constant(
                    f"{node.name}_s", np.array([1, *shape[:1 + axes]]))]
            elif op == "Pad":
                inputs.append(constant(f"{node.name}_p", np.array(
                    [0, node.factors[0], *[0] * (1 + axes), node.factors[1], *[0] * axes])))
            elif op == "Flat":
                perm = [0, 2, 3, 1] if axes == 2 else [0, 2, 1]
                op, extra = "Concat", {"axis": 1}
                inputs = [step("Flatten", step("Transpose", name, f"last{index}", perm=perm),
                               f"flat{index}") for index, name in enumerate(inputs)]
            elif op == "PRelu":
                slopes = rng.uniform(-0.5, 1, (source[0], 1, 1)[:1 + axes]).astype(np.float32)
                inputs.append(constant(f"{node.name}_k", slopes))
            elif node.op in ("Scale", "Shift"):
                size = (source[0], 1, 1)[:len(source) - (2 - axes)]
                inputs.append(constant(f"{node.name}_k",
                                       rng.uniform(-1, 1.5, size).astype(np.float32)))
            elif op == "BatchNormalization":
                inputs += [constant(f"{node.name}_{part}", rng.uniform(
                    0.2 if part == "v" else -1, 1.5, source[0]).astype(np.float32))
                    for part in "gbmv"]
            elif op == "Gather":
                inputs.append(constant(f"{node.name}_i", rng.permutation(source[0])[:shape[0]]))
                extra = {"axis": 1}
            elif op == "DepthToSpace":
                extra = {"blocksize": node.group, "mode": "CRD" if node.count_pads else "DCR"}
            elif op in ("ReduceMean", "ReduceMax"):
                extra = {"axes": [2, 3][:axes]}
            elif op == "Resize":
                scales = np.array([1, 1, *node.factors[:axes]], np.float32)
                inputs += ["", constant(f"{node.name}_s", scales)]
                extra = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric",
                         "nearest_mode": "floor"}
                if node.count_pads:
                    extra = {"mode": "linear", "coordinate_transformation_mode":
                             "half_pixel" if node.group == 1 else "asymmetric"}
            elif op == "Reshape":
                inputs.append(constant(f"{node.name}_s", np.array([1, *shape[:1 + axes]],
                                                                      np.int64)))
            nodes.append(helper.make_node(op, inputs, [node.name], name=node.name, **extra,
                                          **UNARY.get(op, {})))

        def info(name: str) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT,
                                                 (1, *self.shapes[name])[:2 + axes])

        graph = helper.make_graph(nodes, "network", [info(name) for name in self.inputs],
                                  [info(name) for name in self.outputs], initial)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _bounds(name: str, constant: Callable[[str, np.ndarray], str],
            *bounds: Sequence[int]) -> list[str]:
    """Inputs of a Slice behind its data: starts, ends, axes and steps."""
    return [constant(f"{name}_{part}", np.array(values))
            for part, values in zip("seat", bounds, strict=True)]


def _rows(node: Node, source: str, height: int,
          constant: Callable[[str, np.ndarray], str]) -> list[onnx.NodeProto]:
    """A Slice for each row of ``source``, the last one first."""
    names = {at: f"{node.name}_{at}" for at in reversed(range(height))}
    return [helper.make_node("Slice", [source, *_bounds(name, constant, (at,), (at + 1,), (2,),
                                                        (1,))], [name], name=name)
            for at, name in names.items()]


def _attention(node: Node, source: Shape,
               constant: Callable[[str, np.ndarray], str]) -> Iterator[onnx.NodeProto]:
    """What makes ``<name>_seen``, [1, heads, channels of a head, pixels]."""
    def step(op: str, inputs: list[str], part: str, **options: object) -> onnx.NodeProto:
        return helper.make_node(op, inputs, [f"{node.name}_{part}"], name=f"{node.name}_{part}",
                                **options)

    heads, pixels = gcd(node.group, source[0]), prod(source[1:])
    depth = source[0] // heads
    apart = constant(f"{node.name}_apart", np.array([1, heads, depth, pixels]))
    for part, name in zip(("query", "keys", "values"), node.inputs):
        yield step("Reshape", [name, apart], part)
    back = {"perm": [0, 1, 3, 2]}
    for part in ("query", "values"):
        yield step("Transpose", [f"{node.name}_{part}"], f"{part}_turned", **back)
    factor = constant(f"{node.name}_factor", np.array(depth ** -0.5, np.float32))
    yield step("MatMul", [f"{node.name}_query_turned", f"{node.name}_keys"], "scores")
    yield step("Mul", [f"{node.name}_scores", factor], "scaled")
    yield step("Softmax" if node.count_pads else "Sigmoid", [f"{node.name}_scaled"], "weights")
    yield step("MatMul", [f"{node.name}_weights", f"{node.name}_values_turned"], "context")
    yield step("Transpose", [f"{node.name}_context"], "seen", **back)


# Shapes ---------------------------------------------------------------------------------------

def _planes(shape: Shape) -> Shape:
    if len(shape) != 3:
        raise Unfit("a vector has no planes")
    return shape


def _filters(node: Node, shapes: dict[str, Shape]) -> int:
    return shapes[node.filters][0] if isinstance(node.filters, str) else node.filters


def _groups(node: Node, source: Shape, shape: Shape) -> int:
    if node.op == "Depthwise":
        return source[0]
    return gcd(node.group, gcd(source[0], shape[0]))


def _weight_shape(node: Node, source: Shape, shape: Shape) -> Shape:
    """Of the weights, filters first; with a factor of 0 if there are none."""
    if node.op == "Tokens":
        return (shape[0], source[0], 1, 1)
    if node.op in ("Conv", "Depthwise"):
        return (shape[0], source[0] // _groups(node, source, shape), *node.kernel)
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


def _window_attributes(node: Node, axes: int) -> dict[str, Any]:
    """Of a node whose window slides over the first of two axes, or both."""
    return {"kernel_shape": node.kernel[:axes], "strides": node.strides[:axes],
            "pads": (*node.pads[:2][:axes], *node.pads[2:][:axes])}


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
