"""A network along time, as the step that a stream takes: the same bytes, a few samples at a time.

A convolution of ``k`` taps that are ``d`` samples apart needs the last ``(k - 1) * d`` samples of
its input from before. They become a state: an input of the step model in front of the samples that
come, and an output of those that the next step needs. Padding in front is then the state that a
stream begins with, its zero point; without padding, what comes before the first whole window is to
be left out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from weft.errors import InputError, ModelError
from weft.errors.text import printable

from .model import note_states
from .nodes import attributes, label
from .source import Source

__all__ = ["Streaming", "streaming"]


_ELEMENTWISE = frozenset({
    "Abs", "Clip", "DequantizeLinear", "Elu", "Gelu", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "Neg", "QuantizeLinear", "Relu", "Sigmoid", "Softplus", "Tanh"})
_PAIRS = frozenset({"Add", "Mul", "Sub"})
_READERS = frozenset({"Conv", "QuantizeLinear", "DequantizeLinear"})   # of padding
_PADS_LATE = "it pads a line that begins at sample {}; pad all convolutions or none, and once"
_END = np.iinfo(np.int64).max


@dataclass(frozen=True, kw_only=True, eq=False)
class Streaming:
    """A step of a network along time.

    Attributes
    ----------
    model : :class:`onnx.ModelProto`
        Takes ``hop`` samples of each input, and makes as many of each output. Its metadata name
        the states, so that a session keeps them.
    states : :class:`dict`
        For each state the output that makes it and the input that reads it.
    delays : :class:`dict`
        For each other output, how many samples come before the first one of the network.
    hop : :class:`int`
    """

    model: onnx.ModelProto
    states: Mapping[str, str]
    delays: Mapping[str, int]
    hop: int


@dataclass(frozen=True)
class _Line:
    """A tensor along time: which axis is time, and the sample of the network's input that its first
    one belongs to; below zero if it begins with padding."""

    axis: int
    first: int


def streaming(model: str | Path | onnx.ModelProto, *, hop: int = 1) -> Streaming:
    """The step of an int8 network of convolutions along time.

    Parameters
    ----------
    model : path or :class:`onnx.ModelProto`
        In QDQ or QOperator form: Conv of stride 1 with all padding in front or none, by itself or
        by a Pad between quantizers, functions of one value, sums, differences and products, Slices
        that leave out the first samples. Inputs are [1, C, T], [1, C, 1, T] or [1, C, T, 1].
    hop : :class:`int`
        Samples of a step.

    Raises
    ------
    InputError
        If ``hop`` is not positive.
    ModelError
        If the model cannot be read, or has a node that needs other samples than those before; it is
        named.
    """
    if hop < 1:
        raise InputError(f"Hop must be at least 1 sample, not {hop}")
    return _Step(Source.load(model), hop).build()


class _Step:
    def __init__(self, source: Source, hop: int):
        self._source = source
        self._hop = hop
        self._lines: dict[str, _Line] = {}
        self._alias: dict[str, str] = {}    # what padding or a crop leaves
        self._makers = {name: node for node in source.model.graph.node for name in node.output}
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def build(self) -> Streaming:
        source = self._source
        for value in source.inputs:
            self._input(value)
        for node in source.model.graph.node:
            self._walk(node)
        self._nodes += [helper.make_node("Identity", [self._alias[name]], [name], name=name)
                        for name in source.outputs if name in self._alias]
        if not self._inputs:
            raise ModelError(f"{printable(source.name)} has no convolution along time")
        model = onnx.ModelProto()
        model.CopyFrom(source.model)
        graph = model.graph
        del graph.node[:], graph.value_info[:], graph.input[:], graph.output[:]
        graph.node.extend(self._nodes)
        graph.initializer.extend(self._constants)
        graph.input.extend([*(self._stepped(value.name) for value in source.inputs), *self._inputs])
        graph.output.extend([*map(self._stepped, source.outputs), *self._outputs])
        states = {made.name: read.name
                  for made, read in zip(self._outputs, self._inputs, strict=True)}
        note_states(model, states)
        return Streaming(model=onnx.shape_inference.infer_shapes(model, strict_mode=True),
                         states=states, hop=self._hop,
                         delays={name: self._lines[name].first for name in source.outputs})

    def _input(self, value: onnx.ValueInfoProto) -> None:
        shape = self._shape(value.name)
        plane = shape[2:]
        if shape[0] != 1 or len(plane) not in (1, 2) or (len(plane) == 2 and min(plane) > 1):
            raise ModelError(f"Input '{printable(value.name)}' must be a line along time, [1, C, T]"
                             f", [1, C, 1, T] or [1, C, T, 1], not {list(shape)}")
        axis = 2 if len(plane) == 1 or plane[0] > 1 else 3
        self._lines[value.name] = _Line(axis, 0)

    def _shape(self, name: str) -> tuple[int, ...]:
        shape = self._source.shape(name)
        if shape is None:
            raise ModelError(f"Tensor '{printable(name)}' must have a known shape")
        return shape

    def _stepped(self, name: str) -> onnx.ValueInfoProto:
        """An input or output of the network, with the samples of a step."""
        if name not in self._lines:
            raise ModelError(f"Output '{printable(name)}' must be a line along time")
        if self._lines[name].first < 0:
            raise ModelError(f"Output '{printable(name)}' has padding that no convolution reads")
        shape = list(self._shape(name))
        shape[self._lines[name].axis] = self._hop
        return helper.make_tensor_value_info(name, self._source.element_type(name), shape)

    # Nodes ------------------------------------------------------------------------------------

    def _plain(self, name: str) -> str:
        """The tensor in a step that a tensor of the network is."""
        return self._alias.get(name, name)

    def _walk(self, node: onnx.NodeProto) -> None:
        given = [name for name in node.input if name in self._lines]
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if not given:
            self._nodes.append(copy)
            return
        rules: dict[str, Callable[[onnx.NodeProto, _Line], _Line]] = {
            "Conv": self._conv, "Pad": self._pad, "Slice": self._crop, "Squeeze": self._view,
            "Unsqueeze": self._view, **dict.fromkeys(_PAIRS, self._pair)}
        line = self._lines[given[0]]
        if any(self._lines[name].first < 0 for name in given) and node.op_type not in _READERS:
            raise self._refused(node, "it reads padding, which only a convolution may")
        if node.op_type == "QuantizeLinear" and node.input[0] in self._alias:
            self._check_scale(node)
        if node.op_type in rules:
            line = rules[node.op_type](copy, line)
        elif node.op_type not in _ELEMENTWISE or given != [node.input[0]]:
            raise self._refused(node, "only convolutions along time, functions of one value, sums, "
                                      "differences, products, padding and crops are supported")
        self._lines[node.output[0]] = line
        if node.output[0] not in self._alias:
            for index, name in enumerate(copy.input):
                copy.input[index] = self._plain(name)
            self._nodes.append(copy)

    def _check_scale(self, node: onnx.NodeProto) -> None:
        """Behind padding or a crop: two scales with nothing between become one in onnxruntime."""
        reader = self._makers.get(self._plain(node.input[0]))
        pairs = () if reader is None or reader.op_type != "DequantizeLinear" else zip(
            reader.input[1:], node.input[1:])
        values = [tuple(map(self._source.constant, pair)) for pair in pairs]
        if not values or any(a is None or b is None or not np.array_equal(a, b)
                             for a, b in values):
            raise self._refused(node, "behind padding or a crop it must have the scale and zero "
                                      "point of what is padded or cropped")

    def _refused(self, node: onnx.NodeProto, reason: str) -> ModelError:
        return ModelError(f"{label(node)} cannot run in steps: {reason}")

    def _integers(self, node: onnx.NodeProto, index: int) -> list[int] | None:
        """The values of a constant input, if it has one."""
        if len(node.input) <= index or not node.input[index]:
            return None
        values = self._source.constant(node.input[index])
        if values is None:
            raise self._refused(node, f"its input '{printable(node.input[index])}' must be a "
                                      f"constant")
        return [int(value) for value in values.reshape(-1)]

    def _pair(self, node: onnx.NodeProto, line: _Line) -> _Line:
        names = [name for name in node.input if name in self._lines]
        if len({self._lines[name].axis for name in names}) > 1:
            raise self._refused(node, "its inputs have time on different axes")
        counts = [self._shape(name)[line.axis] for name in names]
        firsts = [self._lines[name].first for name in names]
        if counts[0] != counts[-1]:
            raise self._refused(node, f"its inputs have {counts[0]} and {counts[-1]} samples; they "
                                      f"must have as many")
        if firsts[0] != firsts[-1]:
            raise self._refused(node, f"its inputs begin at samples {firsts[0]} and {firsts[-1]} "
                                      f"of the network's input; they must be the same")
        rank = len(self._shape(node.output[0]))
        for name in node.input:
            if name not in self._lines:
                shape = self._shape(name)
                place = line.axis - rank + len(shape)
                if place >= 0 and shape[place] > 1:
                    raise self._refused(node, f"its constant '{printable(name)}' changes with time")
        return line

    def _view(self, node: onnx.NodeProto, line: _Line) -> _Line:
        axes = self._integers(node, 1)
        if axes is None:
            raise self._refused(node, "its axes must be given")
        inserts = node.op_type == "Unsqueeze"
        rank = len(self._shape(node.output[0] if inserts else node.input[0]))
        axis = line.axis
        for each in sorted(axis % rank for axis in axes):
            if inserts and each <= axis:
                axis += 1
        if not inserts:
            axis -= sum(each % rank < axis for each in axes)
        return _Line(axis, line.first)

    def _crop(self, node: onnx.NodeProto, line: _Line) -> _Line:
        """A Slice that leaves out the first samples does nothing in a step: what is left is what
        comes later."""
        source = node.input[0]
        starts, ends = self._integers(node, 1), self._integers(node, 2)
        axes = self._integers(node, 3) or list(range(len(starts or ())))
        shape = self._shape(source)
        if len(axes) != 1 or axes[0] % len(shape) != line.axis or not starts or not ends \
                or ends[0] < shape[line.axis] or self._integers(node, 4) not in (None, [1]):
            raise self._refused(node, "a crop may leave out the first samples only")
        first = slice(starts[0], None).indices(shape[line.axis])[0]
        self._alias[node.output[0]] = self._plain(source)
        return _Line(line.axis, line.first + first)

    def _pad(self, node: onnx.NodeProto, line: _Line) -> _Line:
        """Zeros in front do nothing in a step: the state of the convolution that reads them begins
        with them."""
        rank = len(self._shape(node.input[0]))
        pads = self._integers(node, 1) or [0]
        axes = [axis % rank for axis in self._integers(node, 3) or range(rank)]
        place = axes.index(line.axis) if line.axis in axes else 0
        before = pads[place]
        if attributes(node).get("mode", "constant") != "constant" or any(
                pad for index, pad in enumerate(pads) if index != place) or before < 0 \
                or axes[place] != line.axis or self._padding(node) != 0 \
                or self._source.element_type(node.input[0]) != onnx.TensorProto.FLOAT:
            raise self._refused(node, "padding must be zeros in front, along time, of real values")
        if line.first:
            raise self._refused(node, _PADS_LATE.format(line.first))
        self._alias[node.output[0]] = self._plain(node.input[0])
        return _Line(line.axis, -before)

    def _padding(self, node: onnx.NodeProto) -> float | None:
        """The value of a Pad; nothing if it is not known."""
        if len(node.input) < 3 or not node.input[2]:
            return 0.0
        value = self._source.constant(node.input[2])
        return None if value is None or value.size != 1 else float(value.reshape(-1)[0])

    def _conv(self, node: onnx.NodeProto, line: _Line) -> _Line:
        own = attributes(node)
        rank = len(self._shape(node.input[0]))
        place = line.axis - 2
        kernel = list(self._shape(node.input[1])[2:])
        dilations, strides, pads = (own.get(name, [plain] * ((1 + (name == "pads")) * (rank - 2)))
                                    for name, plain in (("dilations", 1), ("strides", 1),
                                                        ("pads", 0)))
        before, after = pads[place], pads[place + rank - 2]
        others = [pad for axis in range(rank - 2) if axis != place
                  for pad in (pads[axis], pads[axis + rank - 2])]
        reach = (kernel[place] - 1) * dilations[place]
        self._check_conv(node, own, strides[place], after, others, kernel, place)
        if before - line.first > reach:
            raise self._refused(node, f"there are {before - min(line.first, 0)} samples of padding "
                                      f"in front of a window that reaches back {reach}")
        if before and line.first:
            raise self._refused(node, _PADS_LATE.format(line.first))
        if reach:
            node.input[0] = self._state(node, line, reach)
        for item in [item for item in node.attribute if item.name in ("pads", "auto_pad")]:
            node.attribute.remove(item)
        return _Line(line.axis, line.first + reach - before)

    def _check_conv(self, node: onnx.NodeProto, own: Mapping[str, Any], stride: int, after: int,
                    others: list[int], kernel: list[int], place: int) -> None:
        for wrong, reason in (
                (own.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"),
                 "its padding must be explicit"),
                (stride != 1, f"its stride along time must be 1, not {stride}"),
                (after, f"it reads {after} samples that come later; all padding must be in front"),
                (any(others) or any(size > 1 for axis, size in enumerate(kernel) if axis != place),
                 "its window must be along time only"),
                (any(name in self._lines for name in node.input[1:]),
                 "its weights must be constants")):
            if wrong:
                raise self._refused(node, reason)

    def _state(self, node: onnx.NodeProto, line: _Line, reach: int) -> str:
        """Puts the last samples in front of the input of a convolution; returns what it reads."""
        source = self._plain(node.input[0])
        reader = self._makers.get(source)
        if reader is None or reader.op_type != "DequantizeLinear":
            raise self._refused(node, f"its input '{printable(node.input[0])}' must come of a "
                                      f"DequantizeLinear; weft quantize makes int8 networks")
        parameters = list(reader.input[1:])
        kind = self._source.element_type(reader.input[0])
        shape = list(self._shape(reader.output[0]))
        shape[line.axis] = reach
        name = f"{node.name or node.output[0]}_state"
        made = f"{name}_next"
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        self._outputs.append(helper.make_tensor_value_info(made, kind, shape))
        for part, value in (("start", self._hop), ("end", _END), ("axis", line.axis)):
            self._constants.append(numpy_helper.from_array(np.array([value]), f"{name}_{part}"))
        bounds = [f"{name}_{part}" for part in ("start", "end", "axis")]
        for op, inputs, output in (
                ("DequantizeLinear", [name, *parameters], f"{name}_before"),
                ("Concat", [f"{name}_before", source], f"{name}_line"),
                ("QuantizeLinear", [f"{name}_line", *parameters], f"{name}_line_q"),
                ("DequantizeLinear", [f"{name}_line_q", *parameters], f"{name}_line_d"),
                ("Slice", [f"{name}_line_d", *bounds], f"{name}_last"),
                ("QuantizeLinear", [f"{name}_last", *parameters], made)):
            self._nodes.append(helper.make_node(op, inputs, [output], name=output))
            if op == "Concat":
                self._nodes[-1].attribute.append(helper.make_attribute("axis", line.axis))
        return f"{name}_line_d"
