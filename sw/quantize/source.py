"""A float model, read, checked and made ready for the quantizer."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import version_converter
from onnx.inliner import inline_local_functions
from onnxruntime.quantization.shape_inference import quant_pre_process

from weft.errors import InputError, ModelError
from weft.errors.text import printable
from weft.frontend.onnx.model import OnnxModel
from weft.frontend.onnx.nodes import type_name
from weft.frontend.onnx.source import is_quantized, read_model
from weft.reference.golden import first_line
from weft.runtime.states import check_states

from .batch import single_frame
from .batch_norm import convolve, fold_into_gemm
from .finite import check_finite
from .lines import make_planes
from .recurrent import unroll
from .static import quiet
from .steps import Steps, joined, tied
from .unquantized import is_partly_float, without_quantizers

__all__ = ["FloatModel", "load_float"]


_OPSET = 13     # the first that has a scale for each channel
_IR_VERSION = 7     # came with it


@dataclass(frozen=True, kw_only=True)
class FloatModel:
    """A float model with fixed shapes, and convolutions in place of batch normalization.

    Attributes
    ----------
    name : :class:`str`
        For messages.
    model : :class:`onnx.ModelProto`
    folded : :class:`frozenset`
        Names of nodes of the file that are part of another now.
    batch : :class:`int`
        Of the file, where it is fixed; the model takes one frame.
    steps : :data:`Steps`
        Tensors of recurrent layers, and states, that are to have one scale.
    states : :class:`dict`
        Outputs that the next frame reads, with the inputs that they are there.
    """

    name: str
    model: onnx.ModelProto
    folded: frozenset[str]
    batch: int = 1
    steps: Steps = ()
    states: Mapping[str, str] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the inputs that are no states, batch dimension included, by name."""
        return {value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
                for value in self.model.graph.input if value.name not in self.states.values()}


def load_float(model: str | Path | onnx.ModelProto,
               shapes: Mapping[str, Sequence[int]] | None = None, *,
               states: Mapping[str, str] | None = None) -> FloatModel:
    """Reads a float model and prepares it.

    Parameters
    ----------
    model : path or :class:`onnx.ModelProto`
        Of any opset; those below 13 are converted. A fixed batch becomes 1. One that is quantized
        but for its recurrent layers is taken as the float model that it was.
    shapes : mapping
        Shapes of inputs with dynamic dimensions, by name. A dynamic first dimension is otherwise
        taken as a batch of 1.
    states : mapping of :class:`str`
        Outputs that are inputs of the next frame, as a session takes them. Frames are then the
        steps of one sequence, and have no values of these inputs.

    Raises
    ------
    ModelError
        If the model cannot be read or converted, is quantized already, has inputs of other types
        than float32, weights that are not finite, or images that cannot be taken out of a batch.
    InputError
        If ``shapes`` name no input, or contradict the model, or a dimension stays dynamic; if
        ``states`` do not fit the model.
    """
    source, name = read_model(model)
    if is_quantized(source) and is_partly_float(source):
        source = without_quantizers(source)
    if is_quantized(source):
        raise ModelError(f"{name} is quantized already: weft run takes it as it is")
    constants = {tensor.name for tensor in source.graph.initializer}
    inputs = [value for value in source.graph.input if value.name not in constants]
    # An initializer that is an input, too, might change: nothing would be folded into it.
    del source.graph.input[:]
    source.graph.input.extend(inputs)
    for value in inputs:
        found = value.type.tensor_type.elem_type
        if found != onnx.TensorProto.FLOAT:
            raise ModelError(f"Input '{value.name}' of {name} must be of float32 values, "
                             f"not {type_name(found)}")
    _fix_shapes(source.graph.input, shapes or {})
    given = _name_nodes(source.graph)
    check_finite(source, name)
    source, batch = single_frame(source, name)
    try:
        prepared, steps = _prepare(source)
    except Exception as error:  # onnx and onnxruntime have a dozen exception classes
        raise ModelError(f"{name} cannot be prepared: {first_line(error)}") from error
    check_finite(prepared, name)    # a variance below zero, folded into a convolution
    kept = {node.name for node in prepared.graph.node}
    states = dict(states or {})
    whole = OnnxModel(prepared)
    check_states(states, whole.outputs, whole.inputs)
    return FloatModel(name=name, model=prepared, folded=frozenset(given - kept), batch=batch,
                      steps=joined((*steps, *tied(prepared, states))), states=states)


def _prepare(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Steps]:
    if model.functions:
        model = inline_local_functions(model)
    # What the file says of inner tensors may still carry the symbols of dynamic dimensions.
    del model.graph.value_info[:]
    for value in model.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            dim.ClearField("dim_param")
    model.ir_version = max(model.ir_version, _IR_VERSION)
    onnx.checker.check_model(onnx.shape_inference.infer_shapes(model, strict_mode=True))
    if any(entry.version < _OPSET for entry in model.opset_import
           if entry.domain in ("", "ai.onnx")):
        model = version_converter.convert_version(model, _OPSET)
    with tempfile.TemporaryDirectory() as folder, quiet():
        given, target = Path(folder) / "given.onnx", Path(folder) / "prepared.onnx"
        onnx.save(model, given)     # a model in memory is damaged where it cannot be optimized
        # Symbolic shape inference would need another package; onnx's own knows all that is fixed.
        quant_pre_process(given, target, skip_symbolic_shape=True)
        prepared = onnx.load(target)
    prepared, steps = unroll(prepared)
    prepared = make_planes(prepared)
    fold_into_gemm(prepared)
    convolve(prepared)
    return prepared, steps


def _fix_shapes(inputs: Sequence[onnx.ValueInfoProto],
                shapes: Mapping[str, Sequence[int]]) -> None:
    names = [value.name for value in inputs]
    for name in shapes:
        if name not in names:
            raise InputError(f"Input '{name}' of a shape must be one of the model's: "
                             f"{', '.join(names)}")
    for value in inputs:
        tensor = value.type.tensor_type
        wanted = shapes.get(value.name)
        if wanted is not None and not tensor.HasField("shape"):
            for _size in wanted:
                tensor.shape.dim.add()
        elif not tensor.HasField("shape"):
            raise InputError(f"Input '{value.name}' has no shape: give one with "
                             f"--input-shape {printable(value.name)}=1,...")
        dims = tensor.shape.dim
        shown = ",".join(str(dim.dim_value or dim.dim_param or "?") for dim in dims)
        if wanted is not None:
            # A fixed batch becomes 1 later, so that 1 fits it, too.
            if len(wanted) != len(dims) or any(
                    size < 1 or (dim.dim_value not in (0, size) and (axis or size > 1))
                    for axis, (dim, size) in enumerate(zip(dims, wanted))):
                raise InputError(f"Shape of input '{value.name}' must fit {shown}, "
                                 f"not {','.join(map(str, wanted))}")
            for dim, size in zip(dims, wanted):
                dim.dim_value = dim.dim_value or size
        elif any(dim.dim_value < 1 for dim in dims[1:]):
            cure = ",".join(["1", *(str(dim.dim_value or "N") for dim in dims[1:])])
            raise InputError(f"Input '{value.name}' has dynamic dimensions ({shown}): give sizes "
                             f"with --input-shape {printable(value.name)}={cure}")
        elif dims and dims[0].dim_value < 1:
            dims[0].dim_value = 1


def _name_nodes(graph: onnx.GraphProto) -> set[str]:
    """Gives names to the nodes that have none; returns all."""
    taken = {node.name for node in graph.node}
    for node in graph.node:
        if not node.name:
            # As error messages of nodes without a name show them.
            node.name = next(name for name in (node.output[0], f"{node.op_type}_{node.output[0]}")
                             if name not in taken)
            taken.add(node.name)
    return taken - {""}
