"""Reading an ONNX file: everything that can be wrong with it before its operators matter."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.inliner import inline_local_functions

from weft.errors import ModelError

__all__ = ["Source", "attributes", "implicit_inputs", "label", "type_name"]


_FLOAT_CURE = ("quantize it first with onnxruntime.quantization.quantize_static(..., "
               "quant_format=QuantFormat.QDQ)")


def label(node: onnx.NodeProto) -> str:
    """How messages name a node; by its output where it has no name."""
    op = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    return f"{op} '{node.name or next(filter(None, node.output), '')}'"


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes by name, each as the Python value of its own type."""
    values = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value
            for name, value in values.items()}


def type_name(kind: int) -> str:
    """An ONNX element type in lower case: ``int16``."""
    name: str = TensorProto.DataType.Name(kind)
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


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


class Source:
    """A checked model with shapes inferred, and look-ups into it.

    Attributes
    ----------
    name : :class:`str`
        File name, or the graph's name, for messages.
    model : :class:`onnx.ModelProto`
    inputs : :class:`tuple` of :class:`onnx.ValueInfoProto`
        Inputs of the graph, without initializers that are listed there as well.
    outputs : :class:`tuple`
        Names.
    """

    def __init__(self, model: onnx.ModelProto, name: str):
        self.name = name
        self.model = model
        graph = model.graph
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = tuple(value for value in graph.input
                            if value.name not in self._initializers)
        self.outputs = tuple(value.name for value in graph.output)
        self._types = {value.name: value.type.tensor_type
                       for value in (*graph.value_info, *graph.output, *graph.input)}

    @classmethod
    def load(cls, model: str | Path | onnx.ModelProto) -> "Source":
        """Read, check, fix the batch at 1, infer shapes."""
        if isinstance(model, onnx.ModelProto):
            source = onnx.ModelProto()
            source.CopyFrom(model)
            name = model.graph.name or "model"
        else:
            path = Path(model)
            name = path.name
            source = _read(path)
        _check_format(source, name)
        _check_external(source, name)
        _check_quantizers(source)
        _fix_batch(source, name)
        try:
            if source.functions:
                source = inline_local_functions(source)
            # Outputs may lack a shape, which onnxruntime minds as little as we do; the checker
            # does, so it comes second.
            source = onnx.shape_inference.infer_shapes(source, strict_mode=True, data_prop=True)
            onnx.checker.check_model(source)
        except Exception as error:  # both raise classes of several modules
            raise ModelError(f"{name} is not a valid ONNX model: {_first_line(error)}") from error
        return cls(source, name)

    def constant(self, name: str) -> np.ndarray | None:
        """Value of an initializer, or :py:`None` if there is none of that name."""
        tensor = self._initializers.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of a tensor, or :py:`None` if it is not fully known."""
        kind = self._types.get(name)
        if kind is None or not kind.HasField("shape"):
            return None
        if any(not dim.HasField("dim_value") for dim in kind.shape.dim):
            return None
        return tuple(dim.dim_value for dim in kind.shape.dim)

    def element_type(self, name: str) -> int:
        """ONNX element type of a tensor, 0 if it is not known."""
        kind = self._types.get(name)
        return 0 if kind is None else kind.elem_type

    def value_info(self, name: str) -> onnx.ValueInfoProto:
        """A declaration of a tensor, with type and shape as far as they are known."""
        if name not in self._types:
            return helper.make_empty_tensor_value_info(name)
        value = onnx.ValueInfoProto(name=name)
        value.type.tensor_type.CopyFrom(self._types[name])
        return value


def _read(path: Path) -> onnx.ModelProto:
    if not path.exists():
        raise ModelError(f"Model file '{path}' does not exist")
    if not path.is_file():
        raise ModelError(f"Model file '{path}' is not a file")
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ModelError(f"Model file '{path}' cannot be read: {error.strerror}") from error
    except Exception as error:  # protobuf's own classes
        raise ModelError(f"{path.name} is not an ONNX file") from error
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # the checker and the file system both have a say
        raise ModelError(f"{path.name} keeps its weights in external files that cannot be read: "
                         f"{', '.join(_external_files(model))}") from error
    return model


def _external_files(model: onnx.ModelProto) -> list[str]:
    return sorted({entry.value for tensor in model.graph.initializer
                   if tensor.data_location == TensorProto.EXTERNAL
                   for entry in tensor.external_data if entry.key == "location"})


def _check_external(model: onnx.ModelProto, name: str) -> None:
    files = _external_files(model)
    if files:
        raise ModelError(f"{name} keeps its weights in external files that were not loaded: "
                         f"{', '.join(files)}")


def _check_format(model: onnx.ModelProto, name: str) -> None:
    if not model.ir_version or not model.graph.node:
        raise ModelError(f"{name} is not an ONNX file" if not model.ir_version
                         else f"{name} has no nodes")
    for node in model.graph.node:
        if node.op_type.startswith("QLinear") or node.op_type in ("QGemm", "ConvInteger",
                                                                  "MatMulInteger",
                                                                  "DynamicQuantizeLinear"):
            raise ModelError(f"{label(node)} is of the QOperator or dynamic format; only the QDQ "
                             f"format is supported: quantize the float model with quantize_static("
                             f"..., quant_format=QuantFormat.QDQ)")
    functions = [node for function in model.functions for node in function.node]
    if all(node.op_type != "QuantizeLinear" for node in (*model.graph.node, *functions)):
        raise ModelError(f"{name} is a float model: {_FLOAT_CURE}")


def _check_quantizers(model: onnx.ModelProto) -> None:
    # Early, since shape inference has less helpful words for these.
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        given = attributes(node)
        if given.get("block_size"):
            raise ModelError(f"{label(node)} has block_size {given['block_size']}; only scales per "
                             f"tensor and per channel are supported")
        kind = types.get(node.input[2]) if len(node.input) > 2 else None
        allowed = [TensorProto.INT8, TensorProto.UINT8]
        if node.op_type == "QuantizeLinear":
            kind = given.get("output_dtype") or kind
        else:
            allowed.append(TensorProto.INT32)
        if kind is not None and kind not in allowed:
            raise ModelError(f"{label(node)} has {type_name(kind)} values; only int8 and uint8 are "
                             f"supported")
        if node.domain == "com.microsoft":
            # onnxruntime's own copies of both operators, from before ONNX had all it needed. For
            # these types they are the same, and shape inference knows only the standard ones.
            node.domain = ""


def _fix_batch(model: onnx.ModelProto, name: str) -> None:
    graph = model.graph
    initializers = {tensor.name for tensor in graph.initializer}
    batch = set()
    for value in graph.input:
        if value.name in initializers:
            continue
        if not value.type.tensor_type.HasField("shape"):
            raise ModelError(f"Input '{value.name}' of {name} must have a shape")
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value > 0:
                continue
            if axis == 0 or dim.dim_param in batch:
                batch.add(dim.dim_param)
                dim.dim_value = 1
                continue
            shown = dim.dim_param or "?"
            raise ModelError(
                f"Input '{value.name}' has the dynamic dimension '{shown}' at axis {axis}; only "
                f"the batch may be dynamic: fix it with onnxruntime.tools."
                f"make_dynamic_shape_fixed --dim_param {shown} --dim_value SIZE")
    # What the file says of inner tensors may still carry the symbol.
    for value in (*graph.value_info, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param") and dim.dim_param in batch:
                dim.dim_value = 1

