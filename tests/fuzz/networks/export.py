"""ONNX nodes and constants for the nodes of a random float network."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fuzz.networks.nodes import UNARY, Node, Shape
from fuzz.networks.shapes import groups_of, weight_shape

__all__ = ["Export"]


class Export:
    """A model that grows node by node.

    Parameters
    ----------
    seed : :class:`int`
        Of the constants; those of a node depend on its name, too, and on nothing else.
    shapes : :class:`dict`
        Of all tensors.
    axes : :class:`int`
        Of a plane: 2, or 1 where planes have one column and are [1, C, L] in the model.
    """

    def __init__(self, seed: int, shapes: dict[str, Shape], *, axes: int):
        self.axes = axes
        self.last = [0, *range(2, 2 + axes), 1]     # a Transpose to channels last
        self.first = [0, 1 + axes, *range(1, 1 + axes)]
        self._seed = seed
        self._shapes = shapes
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(self, node: Node) -> None:
        """Appends what the node stands for; its last tensor has the node's name."""
        at = _Place(self, node, self._shapes[node.inputs[0]], self._shapes[node.name],
                    np.random.default_rng([self._seed, *node.name.encode()]))
        op, inputs, attributes = _WRITE.get(node.op, _plain)(at)
        self.step(op, inputs, node.name, **attributes)

    def step(self, op: str, inputs: Sequence[str], name: str, **attributes: object) -> str:
        """Appends a node of ONNX whose tensor has its name."""
        self._nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        """Adds a constant."""
        self._constants.append(numpy_helper.from_array(value, name))
        return name

    def model(self, inputs: Iterable[str], outputs: Iterable[str]) -> onnx.ModelProto:
        """The model so far."""
        graph = helper.make_graph(self._nodes, "network", [self._info(name) for name in inputs],
                                  [self._info(name) for name in outputs], self._constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def _info(self, name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT,
                                             (1, *self._shapes[name])[:2 + self.axes])


@dataclass(frozen=True)
class _Place:
    """Where a node is written to, between which shapes, and the generator of its constants."""

    export: Export
    node: Node
    source: Shape
    shape: Shape
    rng: np.random.Generator

    @property
    def axes(self) -> int:
        return self.export.axes

    @property
    def input(self) -> str:
        return self.node.inputs[0]

    def step(self, op: str, inputs: Sequence[str], part: str, **attributes: object) -> str:
        return self.export.step(op, inputs, f"{self.node.name}_{part}", **attributes)

    def constant(self, part: str, value: Any, dtype: Any = None) -> str:
        return self.export.constant(f"{self.node.name}_{part}", np.asarray(value, dtype))

    def uniform(self, part: str, shape: Sequence[int], least: float = -1, most: float = 1.5) -> str:
        return self.constant(part, self.rng.uniform(least, most, tuple(shape)), np.float32)

    def reshaped(self, name: str) -> "_Last":
        """A Reshape of ``name`` to the shape of the result, as the last node."""
        return "Reshape", [name, self.constant("s", [1, *self.shape[:1 + self.axes]], np.int64)], {}


_Last = tuple[str, list[str], dict[str, Any]]   # operator, inputs and attributes of the last node


def _plain(at: _Place) -> _Last:
    """A node of ONNX that has no constants."""
    return at.node.op, [*at.node.inputs], {**UNARY.get(at.node.op, {})}


def _weights(at: _Place) -> list[str]:
    """Inputs of a Conv, ConvTranspose or Gemm."""
    size = weight_shape(at.node, at.source, at.shape)[:2 + at.axes]
    weights = at.rng.standard_normal(size) * np.sqrt(1.5 / prod(size[1:]))
    if at.node.op == "ConvTranspose":
        weights = weights.swapaxes(0, 1)
    inputs = [at.input, at.constant("w", weights, np.float32)]
    if at.node.bias:
        inputs.append(at.constant("b", 0.1 * at.rng.standard_normal(size[0]), np.float32))
    return inputs


def _window(at: _Place) -> dict[str, Any]:
    """Attributes of a node whose window slides over the first of two axes, or both."""
    node, axes = at.node, at.axes
    return {"kernel_shape": node.kernel[:axes], "strides": node.strides[:axes],
            "pads": (*node.pads[:2][:axes], *node.pads[2:][:axes])}


def _conv(at: _Place) -> _Last:
    return "Conv", _weights(at), {
        "group": groups_of(at.node, at.source, at.shape), **_window(at),
        "dilations": at.node.dilations[:at.axes]}


def _conv_transpose(at: _Place) -> _Last:
    return "ConvTranspose", _weights(at), {
        **_window(at), "dilations": at.node.dilations[:at.axes],
        "output_padding": [each - 1 for each in at.node.factors[:at.axes]]}


def _gemm(at: _Place) -> _Last:
    inputs = _weights(at)
    if len(at.source) > 1:
        inputs[0] = at.step("Flatten", inputs[:1], "flat")
    return "Gemm", inputs, {"transB": 1}


def _max_pool(at: _Place) -> _Last:
    return "MaxPool", [at.input], {**_window(at), "dilations": at.node.dilations[:at.axes]}


def _average_pool(at: _Place) -> _Last:
    return "AveragePool", [at.input], {**_window(at), "count_include_pad": int(at.node.count_pads)}


def _clip(at: _Place) -> _Last:
    return "Clip", [at.input, *(at.constant(str(index), bound, np.float32)
                                for index, bound in enumerate(at.node.bounds))], {}


def _place(at: _Place) -> _Last:
    return "Add", [at.input, at.uniform("k", (1, *at.source[:1 + at.axes]))], {}


def _lead(at: _Place) -> _Last:
    behind = at.node.count_pads
    size = list(at.source[:1 + at.axes])
    size[0 if behind else 1] = at.node.factors[0]
    given = at.uniform("k", (1, *size))
    if behind:
        return "Concat", [at.input, given], {"axis": 1}
    return "Concat", [given, at.input], {"axis": 2}


def _concat(at: _Place) -> _Last:
    return "Concat", [*at.node.inputs], {"axis": 1}


def _cut(at: _Place, *bounds: Sequence[int], part: str = "") -> list[str]:
    """Inputs of a Slice: its data, starts, ends, axes and steps."""
    return [at.input, *(at.constant(part + name, values)
                        for name, values in zip("seat", bounds, strict=True))]


def _slice(at: _Place) -> _Last:
    first, step = at.node.factors
    return "Slice", _cut(at, (first - 1,), at.source[:1], (1,), (step,)), {}


def _piece(at: _Place) -> _Last:
    size = at.shape[0]
    first = (at.node.factors[0] - 1) * size
    return "Slice", _cut(at, (first,), (first + size,), (1,), (1,)), {}


def _crop(at: _Place) -> _Last:
    top, left, bottom, right = at.node.pads
    return "Slice", _cut(at, *(values[:at.axes] for values in (
        (top, left), (at.source[1] - bottom, at.source[2] - right), (2, 3), at.node.strides))), {}


def _rows(at: _Place) -> _Last:
    """A Slice for each row, the last one first."""
    cuts = [at.step("Slice", _cut(at, (row,), (row + 1,), (2,), (1,), part=f"{row}_"), str(row))
            for row in reversed(range(at.source[1]))]
    return "Concat", cuts, {"axis": 2}


def _shuffle(at: _Place) -> _Last:
    axes = at.axes
    apart = at.constant("apart", [1, gcd(at.node.group, at.source[0]), -1, *at.source[1:1 + axes]])
    groups = at.step("Reshape", [at.input, apart], "groups")
    return at.reshaped(at.step("Transpose", [groups], "turned", perm=[0, 2, 1, 3, 4][:3 + axes]))


def _turn(at: _Place) -> _Last:
    last = at.step("Transpose", [at.input], "last", perm=at.export.last)
    return "Transpose", [last], {"perm": at.export.first}


def _normalize(at: _Place) -> _Last:
    own = [at.constant(part, at.rng.normal(mean, 0.3, at.source[0]), np.float32)
           for part, mean in (("w", 1), ("b", 0))[:1 + at.node.bias]]
    return _of_channels(at, "LayerNormalization", own)


def _shares(at: _Place) -> _Last:
    return _of_channels(at, "Softmax", [])


def _of_channels(at: _Place, op: str, own: list[str]) -> _Last:
    """What works on the last axis, between a Transpose and another one back."""
    last = at.step("Transpose", [at.input], "last", perm=at.export.last)
    return "Transpose", [at.step(op, [last, *own], "made")], {"perm": at.export.first}


def _tokens(at: _Place) -> _Last:
    rows, back = (at.constant(part, sizes) for part, sizes in (
        ("rows", [1, at.source[0], prod(at.source[1:])]), ("back", [1, *at.shape[:1 + at.axes]])))
    weights = at.rng.standard_normal((at.source[0], at.shape[0])) * np.sqrt(1.5 / at.source[0])
    matrix = at.constant("w", weights, np.float32)
    flat = at.step("Reshape", [at.input, rows], "flat")
    turned = at.step("Transpose", [flat], "turned", perm=[0, 2, 1])
    made = at.step("MatMul", [turned, matrix], "made")
    return "Reshape", [at.step("Transpose", [made], "front", perm=[0, 2, 1]), back], {}


def _attend(at: _Place) -> _Last:
    heads, pixels = gcd(at.node.group, at.source[0]), prod(at.source[1:])
    depth = at.source[0] // heads
    apart = at.constant("apart", [1, heads, depth, pixels])
    query, keys, values = (at.step("Reshape", [name, apart], part)
                           for part, name in zip(("query", "keys", "values"), at.node.inputs))
    back = {"perm": [0, 1, 3, 2]}
    query, values = (at.step("Transpose", [name], f"{part}_turned", **back)
                     for part, name in (("query", query), ("values", values)))
    factor = at.constant("factor", depth ** -0.5, np.float32)
    scores = at.step("MatMul", [query, keys], "scores")
    scaled = at.step("Mul", [scores, factor], "scaled")
    weights = at.step("Softmax" if at.node.count_pads else "Sigmoid", [scaled], "weights")
    context = at.step("MatMul", [weights, values], "context")
    return at.reshaped(at.step("Transpose", [context], "seen", **back))


def _widen(at: _Place) -> _Last:
    before, behind = at.node.factors
    still = [0] * at.axes
    return "Pad", [at.input, at.constant("p", [0, before, *still, 0, behind, *still])], {}


def _flat(at: _Place) -> _Last:
    return "Concat", [
        at.step("Flatten", [at.step("Transpose", [name], f"last{index}", perm=at.export.last)],
                f"flat{index}")
        for index, name in enumerate(at.node.inputs)], {"axis": 1}


def _p_relu(at: _Place) -> _Last:
    size = (at.source[0], 1, 1)[:1 + at.axes]
    return "PRelu", [at.input, at.uniform("k", size, least=-0.5, most=1)], {}


def _per_channel(op: str) -> "_Writer":
    def write(at: _Place) -> _Last:
        size = (at.source[0], 1, 1)[:len(at.source) - (2 - at.axes)]
        return op, [at.input, at.uniform("k", size)], {}
    return write


def _batch_normalization(at: _Place) -> _Last:
    return "BatchNormalization", [at.input, *(
        at.uniform(part, at.source[:1], least=0.2 if part == "v" else -1) for part in "gbmv")], {}


def _gather(at: _Place) -> _Last:
    order = at.rng.permutation(at.source[0])[:at.shape[0]]
    return "Gather", [at.input, at.constant("i", order)], {"axis": 1}


def _depth_to_space(at: _Place) -> _Last:
    return "DepthToSpace", [at.input], {
        "blocksize": at.node.group, "mode": "CRD" if at.node.count_pads else "DCR"}


def _reduce(at: _Place) -> _Last:
    return at.node.op, [at.input], {"axes": [2, 3][:at.axes]}


def _resize(at: _Place) -> _Last:
    scales = at.constant("s", [1, 1, *at.node.factors[:at.axes]], np.float32)
    how: dict[str, Any] = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric",
                           "nearest_mode": "floor"}
    if at.node.count_pads:
        how = {"mode": "linear", "coordinate_transformation_mode":
               "half_pixel" if at.node.group == 1 else "asymmetric"}
    return "Resize", [at.input, "", scales], how


def _reshape(at: _Place) -> _Last:
    return at.reshaped(at.input)


_Writer = Callable[[_Place], _Last]

_WRITE: dict[str, _Writer] = {
    "Conv": _conv, "Depthwise": _conv, "ConvTranspose": _conv_transpose, "Gemm": _gemm,
    "MaxPool": _max_pool, "AveragePool": _average_pool, "Clip": _clip, "Place": _place,
    "Lead": _lead, "Concat": _concat, "Slice": _slice, "Piece": _piece, "Crop": _crop,
    "Rows": _rows, "Shuffle": _shuffle, "Turn": _turn, "Normalize": _normalize, "Shares": _shares,
    "Tokens": _tokens, "Attend": _attend, "Widen": _widen, "Flat": _flat, "PRelu": _p_relu,
    "Scale": _per_channel("Mul"), "Shift": _per_channel("Add"),
    "BatchNormalization": _batch_normalization, "Gather": _gather,
    "DepthToSpace": _depth_to_space, "ReduceMean": _reduce, "ReduceMax": _reduce,
    "Resize": _resize, "Vector": _reshape, "Regroup": _reshape,
}
"""How the last node of each operator is written; others are as in ONNX, see :func:`_plain`."""
