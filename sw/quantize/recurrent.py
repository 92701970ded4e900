"""LSTM, GRU and RNN as the products, sums and activations of their time steps.

onnxruntime has no integer kernel of a recurrent layer, so its quantizer leaves one as it is. Step
by step, each operator is quantized, and runs on the accelerator. What a layer makes of its input is
one convolution over all time steps; only the product with its own state is made step by step.
Equations and the order of gates are those of the operators LSTM, GRU and RNN in the ONNX
specification.

What a step computes has the same scale in each of them, so that all take the same constants.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .steps import Steps
from .unused import drop_unused

__all__ = ["RECURRENT", "unroll"]


_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}

RECURRENT = frozenset(_GATES)
"""Operators that become time steps."""

_FUNCTIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
# What has one scale with something else, so that a table serves both: all gates, and what the first
# step, which has no state, takes in the place of something.
_ALIKE = {"LSTM": {"input": "sum", "o": "i", "f": "i", "new": "cell"},
          "GRU": {"input": "sum", "zsum": "sum", "rsum": "sum", "hsum": "sum", "z": "r",
                  "less": "r"},
          "RNN": {"input": "sum"}}
_MOST_STEPS = 512   # of a layer: each is some ten nodes
_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")


def unroll(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Steps]:
    """The model with recurrent layers as their time steps, and what is the same in all of them; the
    same model where there are none.

    A layer stays as it is if it has a batch of more than 1, more than 512 steps, or steps whose
    number is not known; weights that are not constant; peepholes, a clip, or other activations than
    by default; sequences of several lengths, or a constant initial state that is not zero.
    """
    if not any(node.op_type in _GATES for node in model.graph.node):
        return model, ()
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    shapes = {value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
              for value in (*graph.input, *graph.value_info, *graph.output)}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    steps: list[tuple[str, ...]] = []
    for node in graph.node:
        layer = _Layer.of(node, shapes, constants) if node.op_type in _GATES else None
        if layer is None:
            nodes.append(node)
            continue
        unrolled = _Unrolled(graph, layer)
        nodes += unrolled.nodes
        steps += map(tuple, unrolled.steps.values())
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unused(graph)
    del graph.value_info[:]
    return onnx.shape_inference.infer_shapes(result, strict_mode=True), tuple(steps)


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """A recurrent layer that can be unrolled.

    Attributes
    ----------
    node : :class:`onnx.NodeProto`
    steps, size : :class:`int`
        Time steps, and values of the state.
    backwards : :class:`list` of :class:`bool`
        For each direction, whether it begins at the last step.
    weights, recurrent : float32 [directions, gates * size, values]
    bias : float32 [directions, 2 * gates * size]
    states : :class:`tuple` of :class:`str`
        Tensors [directions, 1, size] of the initial h and c; empty where they are zero.
    """

    node: onnx.NodeProto
    steps: int
    size: int
    backwards: list[bool]
    weights: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray
    states: tuple[str, str]

    @classmethod
    def of(cls, node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]],
           constants: Mapping[str, np.ndarray]) -> "_Layer | None":
        given: dict[str, Any] = {each.name: helper.get_attribute_value(each)
                                 for each in node.attribute}
        inputs = dict(zip(_INPUTS, (*node.input, *[""] * len(_INPUTS))))
        weights, recurrent = (constants.get(inputs[name]) for name in "WR")
        shape = shapes.get(inputs["X"], ())
        if weights is None or recurrent is None or len(shape) != 3 or inputs["P"] \
                or "clip" in given or given.get("input_forget") or given.get("layout") \
                or shape[1] != 1 or not 1 <= shape[0] <= _MOST_STEPS:
            return None
        functions = [name.decode() for name in given.get("activations", ())]
        directions, rows, size = recurrent.shape
        if functions not in ([], _FUNCTIONS[node.op_type] * directions):
            return None
        bias = np.zeros((directions, 2 * rows), np.float32)
        if inputs["B"]:
            if inputs["B"] not in constants:
                return None
            bias = constants[inputs["B"]]
        lengths = inputs["sequence_lens"]
        if lengths and not np.array_equal(constants.get(lengths, np.array([])), shape[:1]):
            return None
        states = []
        for name in (inputs["initial_h"], inputs["initial_c"]):
            constant = constants.get(name)
            if constant is not None and constant.any():
                return None
            states.append("" if constant is not None else name)
        direction = given.get("direction", b"forward").decode()
        return cls(node=node, steps=shape[0], size=size, weights=weights, recurrent=recurrent,
                   bias=bias, states=(states[0], states[1]), backwards={
                       "forward": [False], "reverse": [True], "bidirectional": [False, True]
                   }[direction])


class _Unrolled:
    """The nodes of a layer. A tensor of one time step is [1, C, 1, 1], one of all [1, C, steps, 1].
    """

    def __init__(self, graph: onnx.GraphProto, layer: _Layer):
        self._graph = graph
        self._layer = layer
        self.nodes: list[onnx.NodeProto] = []
        self.steps: dict[str, list[str]] = {}
        self._constants: set[str] = set()
        steps = layer.steps
        source = self._node("Transpose", [layer.node.input[0]], "channels", perm=[1, 2, 0])
        source = self._reshape(source, "signal", (1, layer.weights.shape[2], steps, 1))
        made = [self._direction(source, number, backwards)
                for number, backwards in enumerate(layer.backwards)]
        outputs = [*layer.node.output, "", "", ""][:3]
        if outputs[0]:
            signals = [self._reshape(self._node("Transpose", [self._join(hidden, f"y{number}")],
                                                f"steps{number}", perm=[2, 3, 0, 1]),
                                     f"y{number}/rows", (steps, 1, 1, layer.size))
                       for number, (hidden, _) in enumerate(made)]
            self._output("Concat", signals, outputs[0], axis=1)
        if len(made) == 1:
            self._tie_states(outputs)
        last = {1: [hidden[0 if backwards else -1] for (hidden, _), backwards in zip(
            made, layer.backwards, strict=True)], 2: [cell for _, cell in made]}
        for number, states in last.items():
            if outputs[number]:
                rows = [self._reshape(state, f"last{number}/{index}", (1, 1, layer.size))
                        for index, state in enumerate(states)]
                self._output("Concat", rows, outputs[number], axis=0)

    def _tie_states(self, outputs: Sequence[str]) -> None:
        """States that come in and go out have the scale that they have in between, so that steps of
        several runs are those of one."""
        for state, role, number in (("h", "h", 1), ("c", "cell", 2)):
            group = self.steps.get(f"d0/{role}", [])
            group += [*self.steps.pop(f"d0/{state}0", ()), self._name(f"last{number}/0"),
                      outputs[number]]
        self.steps["d0/h"] += [*map(self._name, ("y0", "steps0", "y0/rows")), outputs[0]]

    # Steps ------------------------------------------------------------------------------------

    def _direction(self, source: str, number: int, backwards: bool) -> tuple[list[str], str]:
        """The hidden states in the order of time, and the last cell state of an LSTM."""
        layer, kind = self._layer, self._layer.node.op_type
        own, recurrent = np.split(layer.bias[number], 2)
        inner = np.zeros_like(recurrent)
        if kind == "GRU":   # behind the reset gate; the other biases are added up beforehand
            inner[2 * layer.size:] = recurrent[2 * layer.size:]
        prefix = f"d{number}"
        product = self._conv(source, f"{prefix}/input", layer.weights[number],
                             own + recurrent - inner)
        pieces = [product] if layer.steps == 1 else self._split(
            product, f"{prefix}/step", [1] * layer.steps, axis=2)
        state, cell = (self._initial(name, number, f"{prefix}/{what}")
                       for name, what in zip(layer.states, "hc", strict=True))
        hidden = [""] * layer.steps
        step = {"LSTM": self._lstm, "GRU": self._gru, "RNN": self._rnn}[kind]
        order = range(layer.steps)
        for at in reversed(order) if backwards else order:
            state, cell = step(f"{prefix}/{at}", number, pieces[at], state, cell, inner)
            hidden[at] = state
        return hidden, cell

    def _initial(self, name: str, number: int, what: str) -> str:
        """A state [directions, 1, size] as a pixel, or nothing where it is zero."""
        if not name:
            return ""
        if len(self._layer.backwards) > 1:
            name = self._split(name, f"{what}/initial", [1] * len(self._layer.backwards),
                               axis=0)[number]
        return self._reshape(name, f"{what}0", (1, self._layer.size, 1, 1))

    def _recur(self, at: str, number: int, state: str, gates: slice,
               inner: np.ndarray | None = None) -> str:
        """The product of the state with the recurrent weights of some gates."""
        size, first = self._layer.size, gates.start or 0
        rows = slice(first * size, gates.stop and gates.stop * size)
        return self._conv(state, f"{at}/recurrent{first}", self._layer.recurrent[number][rows],
                          None if inner is None else inner[rows], f"d{number}/R{first}")

    def _sum(self, at: str, number: int, product: str, state: str) -> str:
        """The products of all gates with the input and, if it is not zero, with the state."""
        if not state:
            return product
        return self._node("Add", [product, self._recur(at, number, state, slice(None))],
                          f"{at}/sum")

    def _lstm(self, at: str, number: int, product: str, state: str, cell: str,
              inner: np.ndarray) -> tuple[str, str]:
        total = self._sum(at, number, product, state)
        i, o, f, c = self._split(total, f"{at}/gate", [self._layer.size] * 4)
        i, o, f = (self._node("Sigmoid", [gate], f"{at}/{name}")
                   for gate, name in zip((i, o, f), "iof", strict=True))
        new = self._node("Mul", [i, self._node("Tanh", [c], f"{at}/c")], f"{at}/new")
        if cell:
            new = self._node("Add", [self._node("Mul", [f, cell], f"{at}/kept"), new], f"{at}/cell")
        out = self._node("Mul", [o, self._node("Tanh", [new], f"{at}/tanh")], f"{at}/h")
        return out, new

    def _gru(self, at: str, number: int, product: str, state: str, cell: str,
             inner: np.ndarray) -> tuple[str, str]:
        size = self._layer.size
        z, r, h = self._split(product, f"{at}/gate", [size] * 3)
        after = next((each.i for each in self._layer.node.attribute
                      if each.name == "linear_before_reset"), 0)
        if state:
            together = slice(None) if after else slice(None, 2)
            parts = self._split(self._recur(at, number, state, together, inner), f"{at}/part",
                                [size] * (3 if after else 2))
            z, r = (self._node("Add", pair, f"{at}/{name}sum")
                    for pair, name in zip(((z, parts[0]), (r, parts[1])), "zr", strict=True))
        bias = inner[2 * size:]
        r = self._node("Sigmoid", [r], f"{at}/r")
        if state and after:
            h = self._node("Add", [h, self._node("Mul", [r, parts[2]], f"{at}/reset")],
                           f"{at}/hsum")
        elif state:
            reset = self._node("Mul", [r, state], f"{at}/reset")
            h = self._node("Add", [h, self._recur(at, number, reset, slice(2, None), inner)],
                           f"{at}/hsum")
        elif bias.any():
            constant = self._constant(f"d{number}/Rbh", bias.reshape(1, -1, 1, 1))
            term = self._node("Mul", [r, constant], f"{at}/reset") if after else constant
            h = self._node("Add", [h, term], f"{at}/hsum")
        h = self._node("Tanh", [h], f"{at}/new")
        less = self._node("Sigmoid", [self._node("Neg", [z], f"{at}/minus")], f"{at}/less")
        out = self._node("Mul", [less, h], f"{at}/h" if not state else f"{at}/taken")
        if state:
            kept = self._node("Mul", [self._node("Sigmoid", [z], f"{at}/z"), state], f"{at}/kept")
            out = self._node("Add", [out, kept], f"{at}/h")
        return out, ""

    def _rnn(self, at: str, number: int, product: str, state: str, cell: str,
             inner: np.ndarray) -> tuple[str, str]:
        return self._node("Tanh", [self._sum(at, number, product, state)], f"{at}/h"), ""

    # Nodes ------------------------------------------------------------------------------------

    def _name(self, what: str) -> str:
        return f"{self._layer.node.name}/{what}"

    def _output(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))

    def _node(self, op: str, inputs: Sequence[str], what: str, **attributes: Any) -> str:
        name = self._name(what)
        self._output(op, inputs, name, **attributes)
        direction, *step = what.split("/")
        if direction.startswith("d"):
            role = _ALIKE[self._layer.node.op_type].get(step[-1], step[-1])
            self.steps.setdefault(f"{direction}/{role}", []).append(name)
        return name

    def _constant(self, what: str, values: np.ndarray) -> str:
        name = self._name(what)
        if name not in self._constants:
            self._constants.add(name)
            self._graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def _conv(self, source: str, what: str, weights: np.ndarray, bias: np.ndarray | None,
              key: str = "") -> str:
        """A convolution of one pixel; ``key`` names weights that several of them share."""
        inputs = [source, self._constant(f"{key or what}/W", weights[:, :, None, None])]
        if bias is not None and bias.any():
            inputs.append(self._constant(f"{key or what}/B", bias))
        return self._node("Conv", inputs, what, kernel_shape=[1, 1])

    def _reshape(self, source: str, what: str, shape: tuple[int, ...]) -> str:
        return self._node("Reshape", [source, self._constant(f"{what}/shape", np.array(shape))],
                          what)

    def _split(self, source: str, what: str, sizes: list[int], *, axis: int = 1) -> list[str]:
        names = [self._name(f"{what}{index}") for index in range(len(sizes))]
        self.nodes.append(helper.make_node(
            "Split", [source, self._constant(f"{what}/sizes", np.array(sizes))], names,
            name=self._name(what), axis=axis))
        return names

    def _join(self, pieces: list[str], what: str) -> str:
        return pieces[0] if len(pieces) == 1 else self._node("Concat", pieces, what, axis=2)
