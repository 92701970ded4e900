"""What operators read and make: tensors that must be there, of the types that they must have."""

from collections.abc import Sequence

import numpy as np

from weft.errors import ModelError

from .file import Operator, Tensor, label

__all__ = ["Values", "bias", "constant", "data", "image", "integers", "output", "present",
           "quantized", "same_quantization", "weights"]


Values = Sequence[np.ndarray | None]
"""Of all inputs of an operator."""


def present(operator: Operator, values: Values, index: int = 0) -> np.ndarray:
    """The value of an input that must be there."""
    value = values[index] if index < len(values) else None
    if value is None:
        raise ModelError(f"{label(operator)} must have at least {index + 1} inputs")
    return value


def data(operator: Operator, index: int) -> Tensor:
    """An input that must be there.

    Raises
    ------
    ModelError
        If it is not.
    """
    tensor = operator.inputs[index] if index < len(operator.inputs) else None
    if tensor is None:
        raise ModelError(f"{label(operator)} must have at least {index + 1} inputs")
    return tensor


def quantized(operator: Operator, tensor: Tensor, what: str) -> Tensor:
    """``tensor``, int8 with one scale; ``what`` names it in messages."""
    if tensor.dtype != np.int8 or tensor.quantization is None:
        kind = tensor.dtype if tensor.dtype != np.int8 else "int8 without a scale"
        raise ModelError(f"{label(operator)} must have an int8 {what} with a scale, not {kind}")
    if tensor.quantization.scale.size != 1:
        raise ModelError(f"{label(operator)} must have an {what} with one scale, not "
                         f"{tensor.quantization.scale.size}")
    return tensor


def constant(operator: Operator, index: int, what: str) -> np.ndarray:
    """The values of a constant input."""
    values = data(operator, index).data
    if values is None:
        raise ModelError(f"{label(operator)} must have constant {what}")
    return values


def integers(operator: Operator, index: int, what: str, count: int | None = None) -> list[int]:
    """A constant input of whole numbers, ``count`` of them."""
    values = constant(operator, index, what)
    if values.dtype.kind not in "iu" or (count is not None and values.size != count):
        raise ModelError(f"{label(operator)} must have {what} of {count or 'some'} whole numbers, "
                         f"not {values.dtype} {list(values.shape)}")
    return [int(value) for value in values.reshape(-1)]


def image(operator: Operator) -> tuple[int, int, int, int]:
    shape = quantized(operator, data(operator, 0), "input").shape
    if len(shape) != 4:
        raise ModelError(f"{label(operator)} must have an input of 4 dimensions, not {len(shape)}")
    return shape[0], shape[1], shape[2], shape[3]


def weights(operator: Operator, dimensions: int, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """int8 weights, and a float32 scale for each of their ``axis``."""
    tensor = data(operator, 1)
    values = constant(operator, 1, "weights")
    if values.dtype != np.int8 or tensor.quantization is None or values.ndim != dimensions:
        raise ModelError(f"{label(operator)} must have quantized int8 weights of {dimensions} "
                         f"dimensions, not {values.dtype} {list(values.shape)}")
    scale, zero = tensor.quantization.scale, tensor.quantization.zero_point
    if zero.any():
        raise ModelError(f"{label(operator)} must have weights of zero point 0, "
                         f"not {zero[zero != 0][0]}")
    if scale.size > 1 and tensor.quantization.axis != axis:
        raise ModelError(f"{label(operator)} must have weight scales per tensor or for dimension "
                         f"{axis}, not {tensor.quantization.axis}")
    return values, np.broadcast_to(scale, (values.shape[axis],)).astype(np.float32)


def bias(operator: Operator, count: int) -> np.ndarray:
    """int32 [count]; zeros without one."""
    if len(operator.inputs) < 3 or operator.inputs[2] is None:
        return np.zeros(count, np.int32)
    values = constant(operator, 2, "bias")
    if values.dtype != np.int32 or values.shape != (count,):
        raise ModelError(f"{label(operator)} must have an int32 bias of {count} values, not "
                         f"{values.dtype} {list(values.shape)}")
    return values


def same_quantization(operator: Operator, source: Tensor, target: Tensor) -> None:
    if (source.scale, source.zero_point) != (target.scale, target.zero_point):
        raise ModelError(
            f"{label(operator)} must have an output with the scale and zero point of its input, "
            f"{source.scale:g} and {source.zero_point}, not {target.scale:g} and "
            f"{target.zero_point}")


def output(operator: Operator, shape: tuple[int, ...] | None = None) -> Tensor:
    target = quantized(operator, operator.outputs[0], "output")
    if shape is not None and target.shape != shape:
        raise ModelError(f"{label(operator)} must make {list(shape)}, not {list(target.shape)}")
    return target
