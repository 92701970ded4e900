"""TFLite files of one operator, and what LiteRT's reference kernels make of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

__all__ = ["Operand", "run_operator"]


@dataclass(frozen=True, eq=False)
class Operand:
    """A tensor of an operator, in TFLite's order of axes.

    Parameters
    ----------
    shape : :class:`tuple`
    scale : float32 [N] or :class:`float`
    zero_point : :class:`int`
    values : int8 or int32 array or :py:`None`
        Of a constant; an input or output has none.
    axis : :class:`int`
        Along which there are scales.
    """

    shape: tuple[int, ...]
    scale: float | np.ndarray
    zero_point: int = 0
    values: np.ndarray | None = None
    axis: int = 0


def run_operator(operator: str, options: object, inputs: Sequence[Operand], output: Operand,
                 *values: np.ndarray) -> np.ndarray:
    """Output of a model of one operator; skips the test where LiteRT is not installed.

    Parameters
    ----------
    operator : :class:`str`
        Of ``BuiltinOperator``.
    options
        An object of the schema, such as ``AddOptionsT``.
    values : int8 arrays
        Of the inputs that are no constants, in order.
    """
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    session = interpreter.Interpreter(
        model_content=_model(operator, options, inputs, output),
        experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF)
    session.allocate_tensors()
    for detail, value in zip(session.get_input_details(), values, strict=True):
        session.set_tensor(detail["index"], value)
    session.invoke()
    return session.get_tensor(session.get_output_details()[0]["index"]).copy()


def _model(operator: str, options: object, inputs: Sequence[Operand], output: Operand) -> bytes:
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    model, graph = schema.ModelT(), schema.SubGraphT()
    code, step = schema.OperatorCodeT(), schema.OperatorT()
    model.version, model.buffers = 3, [schema.BufferT()]
    graph.tensors = [_tensor(schema, model, operand) for operand in (*inputs, output)]
    graph.inputs = [number for number, operand in enumerate(inputs) if operand.values is None]
    graph.outputs = [len(inputs)]
    code.builtinCode = getattr(schema.BuiltinOperator, operator)
    code.deprecatedBuiltinCode = code.builtinCode
    step.inputs, step.outputs = list(range(len(inputs))), graph.outputs
    step.builtinOptions = options
    step.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
    graph.operators, model.operatorCodes, model.subgraphs = [step], [code], [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _tensor(schema: object, model: object, operand: Operand) -> object:
    tensor, quantization = schema.TensorT(), schema.QuantizationParametersT()
    scales = np.atleast_1d(np.asarray(operand.scale, np.float32))
    quantization.scale = scales.tolist()
    quantization.zeroPoint = [operand.zero_point] * len(scales)
    quantization.quantizedDimension = operand.axis
    tensor.shape, tensor.quantization = list(operand.shape), quantization
    tensor.type = schema.TensorType.INT8
    if operand.values is not None:
        if operand.values.dtype == np.int32:
            tensor.type = schema.TensorType.INT32
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(operand.values.tobytes(), np.uint8)
        tensor.buffer = len(model.buffers)
        model.buffers.append(buffer)
    return tensor
