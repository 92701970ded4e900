"""What must hold of a file before ONNX's own checks, which crash, allocate or are silent if not."""

from collections.abc import Iterator
from math import prod
from typing import Any

import onnx
from onnx import TensorProto, helper

from weft.errors import ModelError
from weft.errors.limits import HOST_BYTES, TENSOR_ELEMENTS, check_arrays

from .nodes import label, type_name

__all__ = ["check_sizes", "check_soundness", "check_text"]


_TYPES = frozenset({
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BOOL,
    TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64,
    TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64})


def check_soundness(model: onnx.ModelProto, name: str) -> None:
    """Versions, element types and sizes of what a file holds.

    Raises
    ------
    ModelError
        Names what is wrong, what was expected and what came.
    """
    for entry in model.opset_import:
        newest = onnx.defs.onnx_opset_version()
        if entry.domain in ("", "ai.onnx") and not 1 <= entry.version <= newest:
            raise ModelError(f"{name} must be of an opset from 1 to {newest}, the newest that onnx "
                             f"{onnx.__version__} knows, not {entry.version}")
    total = 0
    for tensor, place in _tensors(model.graph, name):
        total += _check_tensor(tensor, place)
        check_arrays(total, f"Constants of {name}", ModelError)
    for kind, values in (("Input", model.graph.input), ("Output", model.graph.output)):
        for value in values:
            if value.type.WhichOneof("value") not in (None, "tensor_type"):
                raise ModelError(f"{kind} '{value.name}' of {name} must be a tensor, not a "
                                 f"{value.type.WhichOneof('value').removesuffix('_type')}")
            found = value.type.tensor_type.elem_type
            if found not in _TYPES and (found or kind == "Input"):
                raise ModelError(f"{kind} '{value.name}' of {name} has {type_name(found)} values; "
                                 f"only integers, bool, float16, float and double are supported")


def check_sizes(model: onnx.ModelProto, name: str) -> None:
    """Sizes of all tensors, and types of what is quantized, as far as shape inference knows them.

    Raises
    ------
    ModelError
        Names the first tensor that is too large, or node that reads another type.
    """
    graph = model.graph
    makers = {output: node for node in graph.node for output in node.output}
    types = {value.name: value.type.tensor_type.elem_type
             for value in (*graph.value_info, *graph.output, *graph.input)}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            found, wanted = (types.get(name, 0) for name in node.input[:2])
            if found and wanted and found not in (wanted, TensorProto.INT32):
                raise ModelError(f"{label(node)} must read {type_name(wanted)} values, as its "
                                 f"scale is, not {type_name(found)}")
    for value in (*graph.input, *graph.value_info, *graph.output):
        sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        # Where a node makes such a size, its attribute is wrong: a later check names it.
        if min(sizes, default=0) < 0 and value.name not in makers:
            raise ModelError(f"Tensor '{value.name}' of {name} must have sizes of at least 0, "
                             f"not {sizes}")
        elements = prod(max(size, 1) for size in sizes)
        if elements > TENSOR_ELEMENTS:
            maker = f" of {label(makers[value.name])}" if value.name in makers else ""
            raise ModelError(f"Tensor '{value.name}'{maker} must have at most {TENSOR_ELEMENTS:,} "
                             f"elements, not {elements:,} ({'x'.join(map(str, sizes))})")


def check_text(message: Any, name: str) -> None:
    """Text is UTF-8, down to the last name; protobuf hands on as bytes what is not.

    Raises
    ------
    ModelError
        Names the field whose text is something else.
    """
    for field, value in message.ListFields():
        values = value if hasattr(value, "__len__") and not isinstance(value, str | bytes) \
            else [value]
        if field.type == field.TYPE_MESSAGE:
            for item in values:
                check_text(item, name)
        elif field.type == field.TYPE_STRING:
            for item in values:
                if isinstance(item, bytes):
                    raise ModelError(f"{name} must have names in UTF-8, not {item!r} in the field "
                                     f"{field.name} of a {message.DESCRIPTOR.name}")


def _tensors(graph: onnx.GraphProto, name: str) -> Iterator[tuple[onnx.TensorProto, str]]:
    """All constants of a graph, those of attributes and inner graphs included."""
    for tensor in graph.initializer:
        yield tensor, f"Constant '{tensor.name}'"
    for node in graph.node:
        for item in node.attribute:
            for tensor in (*([item.t] if item.HasField("t") else []), *item.tensors):
                yield tensor, f"Attribute {item.name} of {label(node)}"
            for inner in (*([item.g] if item.HasField("g") else []), *item.graphs):
                yield from _tensors(inner, name)


def _check_tensor(tensor: onnx.TensorProto, place: str) -> int:
    """Checks a constant; returns its bytes."""
    kind = tensor.data_type
    if kind not in TensorProto.DataType.values() or kind == TensorProto.UNDEFINED:
        raise ModelError(f"{place} must have an element type that ONNX knows, "
                         f"not {type_name(kind)}")
    if min(tensor.dims, default=0) < 0:
        raise ModelError(f"{place} must have sizes of at least 0, not {list(tensor.dims)}")
    elements = prod(tensor.dims)
    if elements > HOST_BYTES:
        raise ModelError(f"{place} must have at most {HOST_BYTES:,} elements, not {elements:,}")
    if kind not in _TYPES:      # text, or several values in a byte: of no use to any layer
        return elements
    size = elements * helper.tensor_dtype_to_np_dtype(kind).itemsize
    if tensor.data_location == TensorProto.EXTERNAL:
        return size
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != size:
            raise ModelError(f"{place} must have {size} bytes of data, for {type_name(kind)} "
                             f"{list(tensor.dims)}, not {len(tensor.raw_data)}")
    else:
        count = len(getattr(tensor, helper.tensor_dtype_to_field(kind)))
        if count != elements:
            raise ModelError(f"{place} must have {elements} values, for {type_name(kind)} "
                             f"{list(tensor.dims)}, not {count}")
    return size
