"""A whole ONNX model and parts of it, for those that know no ONNX."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx

from weft.errors import ModelError
from weft.ir import TensorInfo
from weft.reference.golden import GoldenSession, first_line, load_exactly

__all__ = ["OnnxExecutor", "OnnxModel", "OnnxProgram"]


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
