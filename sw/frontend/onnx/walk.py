"""The walk over the nodes of a model, in order: each becomes what its operator makes of it."""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from weft.errors import ModelError

from .builder import Builder
from .nodes import BrokenModel
from .patterns import HANDLERS, OF_CONSTANTS, OF_HOST, unsupported
from .source import Source
from .values import Constant, Host, QuantizedConstant, Raw, Value, stage_of

__all__ = ["walk"]


def walk(source: Source, forbidden: Mapping[str, ModelError] | None = None) -> Builder:
    """Interprets the nodes, each by its entry in :data:`~.patterns.HANDLERS`. What cannot be done
    on the accelerator is left to the host, in a later stage.

    Parameters
    ----------
    source : :class:`Source`
    forbidden : :class:`dict`
        Layers not to make, by their output tensor, with the reason.
    """
    builder = Builder(source, forbidden)
    for node in builder.nodes:
        value = _interpret(builder, node)
        values = value if isinstance(value, tuple) else (value,) * len(node.output)
        for name, each in zip(node.output, values, strict=True):
            if name:
                builder.remember(name, each)
    return builder


def _interpret(builder: Builder, node: onnx.NodeProto) -> Value | tuple[Value, ...]:
    inputs = [builder.value(name) for name in node.input if name]
    constant = all(isinstance(value, Constant | QuantizedConstant) for value in inputs)
    op = node.op_type if node.domain in ("", "ai.onnx") else ""
    on_host = any(isinstance(value, Host | Raw) for value in inputs) and op not in OF_HOST
    try:
        if op in HANDLERS and inputs and not on_host and (not constant or op in OF_CONSTANTS):
            result = HANDLERS[op](builder, node)
            if result is not None:
                return result
        if constant:
            return _fold(builder, node)
        if not any(isinstance(value, Host | Raw) for value in inputs):
            raise unsupported(node)
    except BrokenModel:
        raise
    except ModelError as error:
        builder.refusals.setdefault(node.output[0], error)
    stage = max(map(stage_of, inputs), default=0)
    return Host(stage + stage % 2)


def _fold(builder: Builder, node: onnx.NodeProto) -> Value:
    """Computes a node of constants; left to the host where that is not possible."""
    arrays = {name: builder.array(name) for name in node.input if name}
    graph = helper.make_graph(
        [node], "fold", [helper.make_empty_tensor_value_info(name) for name in arrays],
        [helper.make_empty_tensor_value_info(node.output[0])])
    model = helper.make_model(graph, opset_imports=builder.source.model.opset_import)
    try:
        result, = ReferenceEvaluator(model).run(None, arrays)
    except Exception:  # whatever the evaluator lacks, onnxruntime has
        return Host()
    return Constant(np.asarray(result))
