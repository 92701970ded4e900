"""Reading nodes: their names, attributes and inputs."""

from collections.abc import Iterator
from typing import Any

import onnx
from onnx import TensorProto, helper

from weft.errors import ModelError
from weft.errors.text import printable

__all__ = ["BrokenModel", "attributes", "implicit_inputs", "label", "opset", "type_name"]


class BrokenModel(ModelError):
    """A node that is invalid, so that not even the host can run it."""


def label(node: onnx.NodeProto) -> str:
    """How messages name a node; by its output where it has no name."""
    op = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    return printable(f"{op} '{node.name or next(filter(None, node.output), '')}'")


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes by name, each as the Python value of its own type."""
    try:
        values = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    except ValueError as error:     # an attribute of no type, or a reference where there is none
        raise BrokenModel(f"{label(node)} has an attribute without a value: {error}") from None
    return {name: value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
            for name, value in values.items()}


def opset(model: onnx.ModelProto) -> int:
    """Version of ONNX's own operators."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
               default=1)


def type_name(kind: int) -> str:
    """An ONNX element type in lower case: ``int16``; or its number, if it is none."""
    name: str = TensorProto.DataType.Name(kind) if kind in TensorProto.DataType.values() \
        else f"type {kind}"
    return name.lower()


def implicit_inputs(node: onnx.NodeProto) -> Iterator[str]:
    """Tensors that a node needs, those that its subgraphs take from outside included."""
    yield from filter(None, node.input)
    for item in node.attribute:
        for graph in (item.g, *item.graphs):
            own = {value.name for value in (*graph.input, *graph.initializer)}
            own |= {name for inner in graph.node for name in inner.output}
            needed = {name for inner in graph.node for name in implicit_inputs(inner)}
            yield from sorted(needed - own)
