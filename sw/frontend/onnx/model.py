"""A whole ONNX model and parts of it, for those that know no ONNX."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx

from weft.errors import ModelError
from weft.errors.text import printable
from weft.ir import TensorInfo
from weft.reference.golden import GoldenSession, first_line, load_exactly

__all__ = ["OnnxExecutor", "OnnxModel", "OnnxProgram", "note_states"]


_STATES = "weft_states"     # of the metadata: a JSON object, the inputs by the outputs


def note_states(model: onnx.ModelProto, states: Mapping[str, str]) -> None:
    """Writes into a model, in place, which of its outputs are inputs of the next frame."""
    entry = next((each for each in model.metadata_props if each.key == _STATES), None) \
        or model.metadata_props.add()
    entry.key, entry.value = _STATES, json.dumps(dict(states))


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """A :class:`weft.ir.Model` whose golden values are onnxruntime's.

    Parameters
    ----------
    proto : :class:`onnx.ModelProto`
        With shapes inferred.
    """

    proto: onnx.ModelProto

    @cached_property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """Its inputs, without initializers that are listed there as well."""
        constants = {tensor.name for tensor in self.proto.graph.initializer}
        return _describe([value for value in self.proto.graph.input
                          if value.name not in constants])

    @cached_property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """Its outputs."""
        return _describe(self.proto.graph.output)

    @cached_property
    def states(self) -> dict[str, str]:
        """What :func:`note_states` has written.

        Raises
        ------
        ModelError
            If it is something else.
        """
        text = next((each.value for each in self.proto.metadata_props if each.key == _STATES), "{}")
        try:
            states = json.loads(text)
        except ValueError:
            states = None
        if not isinstance(states, dict) or not all(isinstance(each, str)
                                                   for each in states.values()):
            raise ModelError(f"Metadata '{_STATES}' of {printable(self.proto.graph.name)} must be "
                             f"a JSON object of names, not {printable(text)}")
        return states

    def quantization(self, name: str) -> tuple[float, int] | None:
        """By the quantizer that makes a tensor, or one that reads it."""
        constants = {tensor.name: tensor for tensor in self.proto.graph.initializer}
        for node in self.proto.graph.node:
            if ((node.op_type == "QuantizeLinear" and name in node.output)
                    or (node.op_type == "DequantizeLinear" and name == node.input[0])) \
                    and len(node.input) > 2 and set(node.input[1:3]) <= constants.keys():
                scale, zero_point = (onnx.numpy_helper.to_array(constants[each])
                                     for each in node.input[1:3])
                if scale.size == zero_point.size == 1:
                    return float(scale.item()), int(zero_point.item())
        return None

    @cached_property
    def tensors(self) -> frozenset[str]:
        """What its nodes make."""
        return frozenset(name for node in self.proto.graph.node for name in node.output)

    def golden(self, tensors: Iterable[str] = ()) -> GoldenSession:
        """The model in onnxruntime.

        Raises
        ------
        ModelError
            If onnxruntime cannot load it.
        """
        return GoldenSession(self.proto, tensors=tensors)


@dataclass(frozen=True, eq=False)
class OnnxProgram:
    """A :class:`weft.ir.HostProgram`: a part of a model as a model of its own."""

    proto: onnx.ModelProto

    def load(self) -> "OnnxExecutor":
        """The part in onnxruntime.

        Raises
        ------
        ModelError
            If onnxruntime cannot load it.
        """
        return OnnxExecutor(self.proto)


class OnnxExecutor:
    """A :class:`weft.ir.HostExecutor`: a model that onnxruntime runs."""

    def __init__(self, proto: onnx.ModelProto):
        self._session = load_exactly(proto)
        self._outputs = [info.name for info in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Its outputs by name, for its inputs by name.

        Raises
        ------
        ModelError
            If onnxruntime cannot run it.
        """
        try:
            results = self._session.run(self._outputs, dict(inputs))
        except Exception as error:  # onnxruntime has a dozen exception classes of its own
            raise ModelError(f"onnxruntime cannot run the model: {first_line(error)}") from error
        return dict(zip(self._outputs, results, strict=True))


def _describe(values: Sequence[onnx.ValueInfoProto]) -> tuple[TensorInfo, ...]:
    return tuple(TensorInfo(
        name=value.name,
        # A symbolic dimension is a batch of one frame.
        shape=tuple(dim.dim_value if dim.HasField("dim_value") else 1
                    for dim in value.type.tensor_type.shape.dim),
        dtype=np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)))
        for value in values)
