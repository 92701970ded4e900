"""Reading an ONNX file: everything that can be wrong with it before its operators matter."""

import shlex
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.inliner import inline_local_functions

from weft.errors import ModelError
from weft.errors.text import printable

from .nodes import attributes, implicit_inputs, label, type_name
from .qoperator import Rewritten, is_integer_operator, rewrite
from .soundness import check_sizes, check_soundness, check_text

__all__ = ["Source", "is_quantized", "read_model"]


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


_T = TypeVar("_T")


class Source:
    """A checked model with shapes inferred, and look-ups into it.

    Attributes
    ----------
    name : :class:`str`
        File name, or the graph's name, for messages.
    original : :class:`onnx.ModelProto`
        As it is in the file; and behind it what makes sums that are only in ``model``.
    model : :class:`onnx.ModelProto`
        What the front end works on: the same in QDQ format, with the shapes that nodes ask for
        filled in. Tensors of the file keep their names.
    added : :class:`set`
        First outputs of nodes that are not in the file.
    refusals : :class:`dict`
        Nodes that could not be brought into QDQ format, by their first output.
    inputs : :class:`tuple` of :class:`onnx.ValueInfoProto`
        Inputs of the graph, without initializers that are listed there as well.
    outputs : :class:`tuple`
        Names.
    """

    def __init__(self, model: onnx.ModelProto, name: str, original: onnx.ModelProto,
                 rewritten: Rewritten):
        self.name = name
        self.model = model
        self.original = original
        self.added = rewritten.added
        self.refusals = rewritten.refusals
        self._operators = rewritten.operators
        graph = model.graph
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = tuple(value for value in graph.input
                            if value.name not in self._initializers)
        self.outputs = tuple(value.name for value in graph.output)
        self._known: dict[Hashable, Any] = {}
        self._types = {value.name: value.type.tensor_type
                       for value in (*graph.value_info, *graph.output, *graph.input)}

    @classmethod
    def load(cls, model: str | Path | onnx.ModelProto) -> "Source":
        """Read, check, fix the batch at 1, infer shapes."""
        source, name = read_model(model)
        _check_format(source, name, model)
        _check_quantizers(source)
        _fix_batch(source, name)
        integer = any(is_integer_operator(node) for node in source.graph.node)
        rewritten = Rewritten()
        original = source
        try:
            if source.functions:
                original = source = inline_local_functions(source)
            if integer:
                source = onnx.ModelProto()
                source.CopyFrom(original)
                rewritten = rewrite(source)
            # Outputs may lack a shape, which onnxruntime accepts but the checker does not: infer
            # shapes first.
            source = onnx.shape_inference.infer_shapes(source, strict_mode=True, data_prop=True)
            check_sizes(source, name)
            onnx.checker.check_model(source)
        except ModelError:
            raise
        except Exception as error:  # both raise classes of several modules
            raise ModelError(f"{name} is not a valid ONNX model: {_first_line(error)}") from error
        if not integer:
            original = source
        else:
            for product in rewritten.products:
                original.graph.node.extend(product.copies())
                original.graph.initializer.extend(product.constants)
            _copy_shapes(source, original)
        if any(node.op_type == "Shape" for node in source.graph.node):
            work = onnx.ModelProto()
            work.CopyFrom(source)
            _fill_in_shapes(work)
            source = work
        return cls(source, name, original, rewritten)

    def once(self, key: Hashable, find: Callable[[], _T]) -> _T:
        """What ``find`` gives, which is not asked again for the same key when the model is walked
        again."""
        if key not in self._known:
            self._known[key] = find()
        found: _T = self._known[key]
        return found

    def constant(self, name: str) -> np.ndarray | None:
        """Value of an initializer, or :py:`None` if there is none of that name."""
        tensor = self._initializers.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of a tensor, or :py:`None` if it is not fully known."""
        if name in self._initializers:
            return tuple(self._initializers[name].dims)
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

    def operator(self, node: onnx.NodeProto) -> str:
        """The operator of a node in the file."""
        return self._operators.get(node.output[0], node.op_type)

    def value_info(self, name: str) -> onnx.ValueInfoProto:
        """A declaration of a tensor, with type and shape as far as they are known."""
        if name not in self._types:
            return helper.make_empty_tensor_value_info(name)
        value = onnx.ValueInfoProto(name=name)
        value.type.tensor_type.CopyFrom(self._types[name])
        return value

    def ancestors(self, outputs: Iterable[str]) -> list[onnx.NodeProto]:
        """Nodes that ``outputs`` need, in the file's order."""
        seen = set(outputs)
        nodes = []
        # The checker has made sure that the file is in topological order.
        for node in reversed(self.model.graph.node):
            if not seen.isdisjoint(node.output):
                nodes.append(node)
                seen.update(implicit_inputs(node))
        return nodes[::-1]

    def extract(self, nodes: Sequence[onnx.NodeProto], inputs: Iterable[str],
                outputs: Iterable[str], name: str) -> onnx.ModelProto:
        """These nodes as a model of their own, with the constants that they need."""
        made = {item for node in nodes for item in node.output}
        needed = {item for node in nodes for item in implicit_inputs(node)}
        entries, ends = list(inputs), list(outputs)
        graph = self.model.graph
        part = helper.make_graph(
            nodes, name, [self.value_info(entry) for entry in entries],
            [self.value_info(end) for end in ends],
            [tensor for tensor in graph.initializer
             if tensor.name in {*needed, *ends} and tensor.name not in made],
            value_info=[value for value in graph.value_info
                        if value.name in made and value.name not in ends])
        return helper.make_model(part, opset_imports=self.model.opset_import,
                                 ir_version=self.model.ir_version)

    def probe(self, nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, np.ndarray], output: str,
              constants: Mapping[str, np.ndarray]) -> onnx.ModelProto:
        """A small model of the same opsets, to find out what nodes do."""
        graph = helper.make_graph(
            nodes, "probe",
            [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype),
                                           value.shape) for name, value in inputs.items()],
            [helper.make_empty_tensor_value_info(output)],
            [numpy_helper.from_array(value, name) for name, value in constants.items()])
        return helper.make_model(graph, opset_imports=self.model.opset_import,
                                 ir_version=self.model.ir_version)


def read_model(model: str | Path | onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """A model, quantized or not, and its name for messages. One in memory is copied.

    Raises
    ------
    ModelError
        If it cannot be read, has no nodes, or holds what is not sound.
    """
    if isinstance(model, onnx.ModelProto):
        source = onnx.ModelProto()
        source.CopyFrom(model)
        name = printable(model.graph.name) or "model"
    else:
        path = Path(model)
        name = printable(path.name)
        source = _read(path)
    check_text(source, name)
    if not source.ir_version or not source.graph.node:
        raise ModelError(f"{name} is not an ONNX file" if not source.ir_version
                         else f"{name} has no nodes")
    _check_external(source, name)
    check_soundness(source, name)
    return source, name


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether any node quantizes, or computes with integers of fixed scales."""
    return any(node.op_type == "QuantizeLinear" or is_integer_operator(node)
               for node in _all_nodes(model))


def _all_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [*model.graph.node, *(node for function in model.functions for node in function.node)]


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


def _check_format(model: onnx.ModelProto, name: str, origin: str | Path | onnx.ModelProto) -> None:
    if is_quantized(model):
        return
    path = Path("MODEL.onnx" if isinstance(origin, onnx.ModelProto) else origin)
    target = path.with_name(f"{path.stem}_int8.onnx")
    command = (f"weft quantize {shlex.quote(str(path))} -o {shlex.quote(str(target))} "
               f"--calibrate DATA")
    for node in _all_nodes(model):
        if node.op_type == "DynamicQuantizeLinear":
            raise ModelError(f"{name} is quantized dynamically ({label(node)}): its scales are not "
                             f"known before it runs. Quantize the float model it was made of with "
                             f"weft quantize")
    raise ModelError(f"{name} is a float model: quantize it with {command} (a folder of images, "
                     f"or an .npz file), or on the way with --quantize DATA")


def _check_quantizers(model: onnx.ModelProto) -> None:
    # Early, since the errors of shape inference are less helpful.
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
            wanted = given.get("output_dtype", 0)
            if not isinstance(wanted, int):
                raise ModelError(f"{label(node)} must have an integer as output_dtype, "
                                 f"not {wanted!r}")
            kind = wanted or kind
        else:
            allowed.append(TensorProto.INT32)
        if kind is not None and kind not in allowed:
            raise ModelError(f"{label(node)} has {type_name(kind)} values; only int8 and uint8 are "
                             f"supported")
        if node.domain == "com.microsoft":
            # onnxruntime's own versions of both operators. For these types they equal the standard
            # ones, and shape inference knows only those.
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


def _copy_shapes(source: onnx.ModelProto, target: onnx.ModelProto) -> None:
    """Gives ``target`` what is known of its tensors in ``source``."""
    made = {name for node in target.graph.node for name in node.output}
    made -= {value.name for value in target.graph.output}
    del target.graph.value_info[:]
    target.graph.value_info.extend(value for value in source.graph.value_info
                                   if value.name in made)
    known = {value.name: value for value in source.graph.output}
    for value in target.graph.output:
        value.CopyFrom(known[value.name])


def _fill_in_shapes(model: onnx.ModelProto) -> None:
    """Replaces Shape nodes by their results: what only asked for a shape needs no values then."""
    graph = model.graph
    shapes = {value.name: [dim.dim_value if dim.HasField("dim_value") else None
                           for dim in value.type.tensor_type.shape.dim]
              for value in (*graph.value_info, *graph.input, *graph.output)
              if value.type.tensor_type.HasField("shape")}
    outputs = {value.name for value in graph.output}
    for node in list(graph.node):
        if node.op_type != "Shape" or node.output[0] in outputs:
            continue
        given = attributes(node)
        shape = shapes.get(node.input[0])
        if shape is None or None in shape:
            continue
        part = shape[given.get("start", 0):given.get("end", len(shape))]
        graph.initializer.append(numpy_helper.from_array(np.array(part, np.int64), node.output[0]))
        graph.node.remove(node)
