"""The walk over the nodes, and the graph that comes out of it."""

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from weft import reference
from weft.errors import ModelError
from weft.frontend.cut import ancestors, cut
from weft.frontend.patterns import HANDLERS, LAYERS, unsupported
from weft.frontend.source import Source, label
from weft.frontend.values import (
    Clip,
    Constant,
    Dequantized,
    Host,
    Opaque,
    Pending,
    Quantized,
    QuantizedConstant,
    Value,
    View,
)
from weft.ir import Convolution, Edge, Graph, Tensor

__all__ = ["Builder", "remove_unused"]


class Builder:
    """Interprets nodes in order, each by its entry in :data:`~weft.frontend.patterns.HANDLERS`.

    What is known of an ONNX tensor is a :data:`~weft.frontend.values.Value`; a layer appears when
    a QuantizeLinear meets a :class:`~weft.frontend.values.Pending` one.
    """

    def __init__(self, source: Source):
        self.source = source
        self._values: dict[str, Value] = {}
        self._uses: Counter[str] = Counter(source.outputs)
        self._tensors: dict[str, Tensor] = {}
        self._layers: dict[str, Convolution] = {}
        self._inputs: list[Edge] = []
        self._first_refusal: ModelError | None = None

    # What handlers ask ------------------------------------------------------------------------

    def value(self, name: str) -> Value:
        """What is known of a tensor."""
        if name not in self._values:
            array = self.source.constant(name)
            # What is neither made by a node nor an initializer is an input of the graph.
            self._values[name] = Host() if array is None else Constant(array)
        return self._values[name]

    def remember(self, name: str, value: Value) -> None:
        """Replace what is known of a tensor."""
        self._values[name] = value

    def uses(self, name: str) -> int:
        """How many nodes read a tensor, plus one if it is an output of the graph."""
        return self._uses[name]

    def array(self, name: str) -> np.ndarray | None:
        """Value of a constant tensor, or :py:`None`."""
        value = self.value(name)
        if isinstance(value, QuantizedConstant):
            centred = value.values.astype(np.int32) - value.zero_point.astype(np.int32)
            return np.asarray(centred.astype(np.float32) * value.scale)
        return value.array if isinstance(value, Constant) else None

    def shape(self, node: onnx.NodeProto, name: str) -> tuple[int, ...]:
        """Shape of a tensor at ``node``; an error if it is not known."""
        shape = self.source.shape(name)
        if shape is None:
            raise ModelError(f"{label(node)}: the shape of '{name}' cannot be inferred")
        return shape

    # What handlers make -----------------------------------------------------------------------

    def place(self, node: onnx.NodeProto, quantized: Quantized, want: View) -> str:
        """Tensor on the accelerator that holds ``quantized`` in the order ``want``, [C, H, W]."""
        if quantized.tensor is not None:
            if not quantized.layout.same(want):
                raise ModelError(
                    f"{label(node)} reads '{quantized.name}' through a Reshape or Transpose that "
                    f"changes its order on the accelerator")
            return quantized.tensor
        for name, layout in quantized.placed.items():
            if layout.same(want):
                return name
        # Two layers may want one input in two orders: the host packs it twice.
        count = len(quantized.placed)
        name = f"{quantized.name}@{count}" if count else quantized.name
        quantized.placed[name] = want
        self._add_tensor(name, quantized, want)
        self._inputs.append(Edge(onnx_name=quantized.name, onnx_shape=quantized.shape,
                                 tensor=name, gather=want.flat()))
        return name

    def finish(self, pending: Pending, target: Quantized) -> Quantized:
        """A layer, now that its output quantization is known."""
        scale = reference.multiplier(pending.source.scale, pending.weight_scale, target.scale)
        if not np.isfinite(scale).all():
            raise ModelError(f"{label(pending.node)}: input scale x weight scale / output scale "
                             f"must be finite in float32")
        low, high = _bounds(pending.clip, target)
        layout = pending.view.inverse(pending.shape)
        self._add_tensor(target.name, target, layout)
        self._layers[target.name] = Convolution(
            name=pending.node.name or pending.node.output[0], op=pending.node.op_type,
            input=pending.input, output=target.name, weights=pending.weights, bias=pending.bias,
            multiplier=np.broadcast_to(scale, pending.bias.shape).copy(), clamp=(low, high),
            strides=pending.geometry.strides, pads=pending.geometry.pads,
            dilations=pending.geometry.dilations)
        return replace(target, tensor=target.name, layout=layout)

    def clamp(self, value: Dequantized, target: Quantized) -> Quantized:
        """Fold a Relu or Clip between equal quantizations into the layer before it."""
        source = value.source
        assert source.tensor is not None
        low, high = _bounds(value.clip, target)
        layer = self._layers.pop(source.tensor)
        del self._tensors[source.tensor]
        layout = source.layout.through(value.view.inverse(source.shape))
        self._add_tensor(target.name, target, layout)
        old_low, old_high = layer.clamp
        self._layers[target.name] = replace(
            layer, output=target.name,
            clamp=(min(max(old_low, low), high), min(max(old_high, low), high)))
        return replace(target, tensor=target.name, layout=layout)

    def _add_tensor(self, name: str, quantized: Quantized, layout: View) -> None:
        channels, height, width = layout.shape
        self._tensors[name] = Tensor(
            name=name, shape=(channels, height, width), scale=quantized.scale,
            zero_point=quantized.zero_point, unsigned=quantized.unsigned, order=layout.flat())

    # The walk ---------------------------------------------------------------------------------

    def build(self) -> Graph:
        """Interpret the nodes that the outputs need, and put the graph together."""
        nodes, _ = ancestors(self.source, self.source.outputs)
        for node in nodes:
            self._uses.update(filter(None, node.input))
        for node in nodes:
            value = self._interpret(node)
            if isinstance(value, Opaque) and self._first_refusal is None:
                self._first_refusal = value.reason
            for name in filter(None, node.output):
                self._values[name] = value
        return self._graph()

    def _interpret(self, node: onnx.NodeProto) -> Value:
        inputs = [self.value(name) for name in node.input if name]
        constant = all(isinstance(value, Constant | QuantizedConstant) for value in inputs)
        standard = node.domain in ("", "ai.onnx")
        op = node.op_type if standard else ""
        if op in HANDLERS and inputs and not (constant and op in LAYERS):
            for value in inputs:
                if isinstance(value, Opaque) and op in LAYERS:
                    return Opaque(value.reason, layer=True)
            try:
                result = HANDLERS[op](self, node)
            except ModelError as error:
                if op not in LAYERS:
                    raise
                return Opaque(error, layer=True)
            if result is not None:
                return result
        if constant:
            return self._fold(node)
        refused = next((value for value in inputs if isinstance(value, Opaque)), None)
        if refused is not None:
            return refused
        on_host = all(isinstance(value, Constant | QuantizedConstant | Host)
                      or (isinstance(value, Quantized) and not value.accelerated)
                      or (isinstance(value, Dequantized) and not value.source.accelerated)
                      for value in inputs)
        return Host() if on_host else Opaque(unsupported(node))

    def _fold(self, node: onnx.NodeProto) -> Value:
        """Compute a node of constants; left to the host where that is not possible."""
        arrays = {name: self.array(name) for name in node.input if name}
        graph = helper.make_graph(
            [node], "fold", [helper.make_empty_tensor_value_info(name) for name in arrays],
            [helper.make_empty_tensor_value_info(node.output[0])])
        model = helper.make_model(graph, opset_imports=self.source.model.opset_import)
        try:
            result, = ReferenceEvaluator(model).run(None, arrays)
        except Exception:  # whatever the evaluator lacks, onnxruntime has
            return Host()
        return Constant(np.asarray(result))

    def _graph(self) -> Graph:
        accelerated = {name: value for name, value in self._values.items()
                       if isinstance(value, Quantized) and value.accelerated}
        if not accelerated:
            if self._first_refusal is not None:
                raise self._first_refusal
            raise ModelError(f"{self.source.name} has no Conv, Gemm or MatMul between "
                             f"DequantizeLinear and QuantizeLinear: nothing to accelerate")
        _, seen = ancestors(self.source, self.source.outputs, accelerated)
        outputs = []
        for name, value in accelerated.items():
            if name in seen and value.tensor is not None:
                outputs.append(Edge(onnx_name=name, onnx_shape=value.shape, tensor=value.tensor,
                                    gather=value.layout.inverse(value.shape).flat()))
        if not outputs:
            raise ModelError(f"{self.source.name} has outputs that do not depend on any "
                             f"accelerated layer: nothing to accelerate")
        graph = remove_unused(Graph(
            name=self.source.name, tensors=self._tensors, layers=tuple(self._layers.values()),
            inputs=tuple(self._inputs), outputs=tuple(outputs), model=self.source.model))

        entries = {value.name for value in self.source.inputs}
        entering = list(dict.fromkeys(edge.onnx_name for edge in graph.inputs
                                      if edge.onnx_name not in entries))
        leaving = [edge.onnx_name for edge in graph.outputs]
        computed = [name for name in self.source.outputs if name not in leaving]
        return replace(
            graph,
            prefix=cut(self.source, (), entering, "prefix") if entering else None,
            suffix=cut(self.source, leaving, computed, "suffix") if computed else None)


def _bounds(clip: Clip, target: Quantized) -> tuple[int, int]:
    # Quantization is monotone, so it may change places with the bounds:
    # q(min(max(x, low), high)) = min(max(q(x), q(low)), q(high)).
    low, high = (int(reference.quantize(bound, target.scale, target.zero_point))
                 for bound in (clip.low, clip.high))
    return low, high


def remove_unused(graph: Graph) -> Graph:
    """The graph without layers, inputs and tensors that no output needs."""
    needed = {edge.tensor for edge in graph.outputs}
    layers = []
    for layer in reversed(graph.layers):
        if layer.output in needed:
            needed.add(layer.input)
            layers.append(layer)
    return replace(
        graph, layers=tuple(layers[::-1]),
        inputs=tuple(edge for edge in graph.inputs if edge.tensor in needed),
        tensors={name: tensor for name, tensor in graph.tensors.items() if name in needed})
