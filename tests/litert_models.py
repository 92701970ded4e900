"""TFLite files of one operator, and what LiteRT's reference kernels make of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from tflite_models import TfliteBuilder

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


def run_operator(operator: str, options: str, inputs: Sequence[Operand], output: Operand,
                 *values: np.ndarray, **fields: object) -> np.ndarray:
    """Output of a model of one operator; skips the test where LiteRT is not installed.

    Parameters
    ----------
    operator : :class:`str`
        Of ``BuiltinOperator``.
    options : :class:`str`
        The table of its options, whose entries are ``fields``.
    values : int8 arrays
        Of the inputs that are no constants, in order.
    """
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    builder = TfliteBuilder()
    tensors = [_add(builder, operand) for operand in (*inputs, output)]
    builder.inputs = [tensor for tensor, operand in zip(tensors, inputs, strict=False)
                      if operand.values is None]
    builder.operator(operator, tensors[:-1], tensors[-1:], options, **fields)
    builder.output(tensors[-1])
    session = interpreter.Interpreter(
        model_content=builder.build(),
        experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF)
    session.allocate_tensors()
    for detail, value in zip(session.get_input_details(), values, strict=True):
        session.set_tensor(detail["index"], value)
    session.invoke()
    return session.get_tensor(session.get_output_details()[0]["index"]).copy()


def _add(builder: TfliteBuilder, operand: Operand) -> int:
    dtype = np.int8 if operand.values is None else operand.values.dtype.type
    return builder.tensor(operand.shape, operand.scale, operand.zero_point, dtype=dtype,
                          data=operand.values, axis=operand.axis)
