"""What a walk over the nodes has found so far: layers, and what is known of every tensor."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import onnx

from weft import reference
from weft.errors import ModelError
from weft.errors.text import printable
from weft.frontend.placing import Placer
from weft.ir import Layer, Lookup
from weft.reference.golden import to_int8

from .nodes import label
from .source import Source
from .tables import function_table, scale_table
from .values import (
    Clip,
    Constant,
    Dequantized,
    Host,
    Pending,
    Quantized,
    QuantizedConstant,
    Value,
    View,
)

__all__ = ["Builder"]


class Builder(Placer[onnx.NodeProto]):
    """Collects layers: handlers of operators ask it what is known, and tell it what they made.

    What is known of an ONNX tensor is a :data:`~.values.Value`; a layer appears when a
    QuantizeLinear meets a :class:`~.values.Pending` one.

    Parameters
    ----------
    source : :class:`Source`
    forbidden : :class:`dict`
        Layers not to make, by their output tensor, with the reason.

    Attributes
    ----------
    refusals : :class:`dict`
        Why a node was left to the host, by its first output.
    reordered : :class:`dict`
        Why a view was, although no node of the host does it.
    """

    def __init__(self, source: Source, forbidden: Mapping[str, ModelError] | None = None):
        super().__init__(forbidden)
        self.source = source
        self.values: dict[str, Value] = {}
        self.refusals: dict[str, ModelError] = dict(source.refusals)
        self.reordered: dict[str, ModelError] = {}
        self._constants: dict[tuple[str, tuple[int, ...]], Dequantized] = {}
        self._uses: Counter[str] = Counter(source.outputs)
        self.nodes = source.ancestors(source.outputs)
        self._producers = {name: node for node in self.nodes for name in node.output if name}
        for node in self.nodes:
            self._uses.update(filter(None, node.input))

    # What handlers ask ------------------------------------------------------------------------

    def value(self, name: str) -> Value:
        """What is known of a tensor."""
        if name not in self.values:
            array = self.source.constant(name)
            # What is neither made by a node nor an initializer is an input of the graph.
            self.values[name] = Host() if array is None else Constant(array)
        return self.values[name]

    def remember(self, name: str, value: Value) -> None:
        """Replace what is known of a tensor."""
        self.values[name] = value

    def uses(self, name: str) -> int:
        """How many nodes read a tensor, plus one if it is an output of the graph."""
        return self._uses[name]

    def maker(self, name: str) -> str:
        """The operator that makes a tensor; empty for an input or a constant."""
        return self._producers[name].op_type if name in self._producers else ""

    def array(self, name: str) -> np.ndarray | None:
        """Value of a constant tensor, or :py:`None`."""
        value = self.value(name)
        if isinstance(value, QuantizedConstant):
            centred = value.values.astype(np.int32) - value.zero_point.astype(np.int32)
            return np.asarray(centred.astype(np.float32) * value.scale)
        return value.array if isinstance(value, Constant) else None

    def constant_operand(self, node: onnx.NodeProto, name: str,
                         shape: tuple[int, ...] | None = None) -> Dequantized | None:
        """A dequantized constant as an activation whose values are known, repeated to a shape if
        one is given; :py:`None` for any other value.

        Raises
        ------
        ModelError
            If it is not of 8 bits, or has several scales.
        """
        value = self.value(name)
        if not isinstance(value, QuantizedConstant):
            return None
        shape = value.shape if shape is None else shape
        if (name, shape) not in self._constants:
            known = value.values
            scales, zeros = (each.reshape(-1) for each in (value.scale, value.zero_point))
            if known.dtype not in (np.int8, np.uint8) or not known.size \
                    or (scales != scales[0]).any() or (zeros != zeros[0]).any():
                raise ModelError(f"{label(node)} has the constant '{name}', which must be int8 or "
                                 f"uint8 with one scale")
            unsigned = known.dtype == np.uint8
            source = Quantized(
                name=f"{name}@{'x'.join(map(str, shape))}", shape=shape,
                scale=float(scales[0]), unsigned=unsigned,
                zero_point=int(zeros[0]) - 128 * unsigned,
                values=np.broadcast_to(to_int8(known), shape))
            self._constants[name, shape] = Dequantized(source, View(shape))
        return self._constants[name, shape]

    def shape(self, node: onnx.NodeProto, name: str) -> tuple[int, ...]:
        """Shape of a tensor at ``node``; an error if it is not known."""
        shape = self.source.shape(name)
        if shape is None:
            raise ModelError(f"{label(node)}: the shape of '{name}' cannot be inferred")
        return shape

    def name(self, node: onnx.NodeProto) -> str:
        """How a layer that comes from ``node`` is called."""
        return printable(node.name or node.output[0])

    def op(self, node: onnx.NodeProto) -> str:
        """The operator of ``node`` in the file."""
        return self.source.operator(node)

    def bounds(self, clip: Clip, target: Quantized) -> tuple[int, int]:
        """Bounds on real values, in the int8 domain of ``target``."""
        # Quantization is monotone, so it commutes with the bounds:
        # q(min(max(x, low), high)) = min(max(q(x), q(low)), q(high)).
        low, high = (int(reference.quantize(bound, target.scale, target.zero_point))
                     for bound in (clip.low, clip.high))
        return low, high

    def usual_order(self, shape: tuple[int, ...]) -> View:
        """Channels first."""
        view = View(shape)
        if len(shape) == 4 and shape[0] == 1:
            return view.reshape(shape[1:])
        if len(shape) == 3 and shape[0] == 1:   # rows of features
            return view.transpose((0, 2, 1)).reshape((shape[2], shape[1], 1))
        return view.reshape((int(np.prod(shape)), 1, 1))

    def reordering(self, node: onnx.NodeProto, quantized: Quantized) -> None:
        """Notes which views are to blame."""
        reason = ModelError(f"{label(node)} reads '{quantized.name}' through a Reshape or "
                            f"Transpose that changes its order on the accelerator")
        names = [name for name in node.input if name]
        while names:
            producer = self._producers.get(names.pop())
            if producer is None or producer.output[0] == quantized.name:
                continue
            if producer.op_type in ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"):
                self.reordered[producer.output[0]] = reason
                names.append(producer.input[0])
            elif producer.op_type in ("QuantizeLinear", "DequantizeLinear"):
                names.append(producer.input[0])
        self.reordered.setdefault("", reason)

    # Layers -----------------------------------------------------------------------------------

    def finish(self, pending: Pending, target: Quantized) -> Quantized:
        """A layer, now that its output quantization is known."""
        layer = pending.make(target.name, target, pending)
        return self._add_layer(layer, pending.stage, target, pending.view.inverse(pending.shape))

    def can_clamp(self, source: Quantized) -> bool:
        """Whether a tensor comes from a layer that takes bounds."""
        return source.tensor is not None and hasattr(self.layers[source.tensor], "clamp")

    def clamp(self, value: Dequantized, target: Quantized) -> Quantized:
        """Fold a Relu or Clip between equal quantizations into the layer before it."""
        low, high = self.bounds(value.clip, target)
        return self._clamp(value.source, target, value.view, low, high)

    def clamp_integers(self, node: onnx.NodeProto, source: Quantized, low: int,
                       high: int) -> Quantized:
        """Fold bounds on the integers of a tensor into the layer before it, or make a table."""
        target = replace(source, name=node.output[0], placed={}, sole=True)
        if source.sole and self.uses(source.name) == 1 and self.can_clamp(source):
            return self._clamp(source, target, View(source.shape), low, high)
        assert source.tensor is not None
        table = np.clip(np.arange(-128, 128), low, high).astype(np.int8)
        layer = Lookup(name=self.name(node), op=self.op(node), input=source.tensor,
                       output=target.name, table=table)
        return self._add_layer(layer, source.stage, target, source.layout)

    def _clamp(self, source: Quantized, target: Quantized, view: View, low: int,
               high: int) -> Quantized:
        assert source.tensor is not None
        self.allow(target.name)     # before the layer without bounds is gone
        layer = self.layers.pop(source.tensor)
        del self.tensors[source.tensor]
        old_low, old_high = layer.clamp     # type: ignore[attr-defined]
        bound = replace(layer, output=target.name,  # type: ignore[call-arg]
                        clamp=(min(max(old_low, low), high), min(max(old_high, low), high)))
        return self._add_layer(bound, source.stage, target,
                               source.layout.through(view.inverse(source.shape)))

    def look_up(self, value: Dequantized, target: Quantized) -> Quantized:
        """A table for what happens to each value between two quantizations."""
        tensor, stage, layout = self.anywhere(value.source)
        node = value.nodes[-1] if value.nodes else self._producers[target.name]
        layer = Lookup(name=self.name(node), op=self.op(node), input=tensor, output=target.name,
                       table=self.table(value, target))
        return self._add_layer(layer, stage, target,
                               layout.through(value.view.inverse(value.source.shape)))

    def table(self, value: Dequantized, target: Quantized) -> np.ndarray:
        """int8 [256]: what becomes of each value between two quantizations."""
        if value.bounded:
            return scale_table(value.source, target, value.clip)
        key = tuple(node.output[0] for node in value.nodes), value.source.name, target.name
        return self.source.once(key, lambda: function_table(self.source, self.value, value, target))

    def rescaled(self, node: onnx.NodeProto, index: int, tensor: str, source: Quantized,
                 target: Quantized, stage: int) -> str:
        """``tensor`` in the quantization of ``target``; by a table where that is another one."""
        if source.same_quantization(target):
            return tensor
        name = f"{tensor}@{target.name}"
        if tensor in self.constants:
            self.add_constant(name, target, scale_table(source, target)[
                self.constants[tensor].astype(int) + 128])
        elif name not in self.layers:
            channels, height, width = self.tensors[tensor].shape
            layer = Lookup(name=f"{self.name(node)}/{index}", op="QuantizeLinear", input=tensor,
                           output=name, table=scale_table(source, target))
            self.add_step(layer, stage, target, (channels, height, width))
        return name

    def keep_scale(self, make: Callable[[str, tuple[int, int]], Layer | None], name: str,
                   source: Quantized, target: Quantized, pending: Pending) -> Layer:
        """A layer that cannot change the scale, or take bounds if ``make`` gives none with them;
        followed by a table where it should."""
        if target.same_quantization(source):
            layer = make(name, self.bounds(pending.clip, target))
            if layer is not None:
                return layer
        inner = f"{name}@{source.name}"
        layer = make(inner, (-128, 127))
        assert layer is not None
        self._add_layer(layer, pending.stage,
                        replace(source, name=inner, shape=pending.view.shape),
                        pending.view.inverse(pending.shape))
        return Lookup(name=f"{layer.name}/scale", op="QuantizeLinear", input=inner, output=name,
                      table=scale_table(source, target, pending.clip))
