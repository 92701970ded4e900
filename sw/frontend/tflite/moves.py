"""Kernels that move values."""


import numpy as np

from weft.errors import ModelError

from . import inputs
from .file import Operator, label
from .inputs import Values, present
from .rules import Rule, activation_bounds, round_away

__all__ = ["concatenation", "pad", "padding", "permutation", "resize", "resized_indices",
           "transpose", "view"]


def view(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    x = present(operator, values)
    target = operator.outputs[0]
    if x.size != int(np.prod(target.shape)) or x.dtype != target.dtype:
        raise ModelError(f"{label(operator)} must make {x.size} values of {x.dtype}, not "
                         f"{target.dtype} {list(target.shape)}")
    return x.reshape(target.shape)


def permutation(operator: Operator) -> tuple[int, ...]:
    """The dimension of the input that each of the output's is."""
    rank = len(inputs.data(operator, 0).shape)
    given = inputs.integers(operator, 1, "a permutation", rank)
    axes = tuple(axis % rank for axis in given if -rank <= axis < rank)
    if sorted(axes) != list(range(rank)):
        raise ModelError(f"{label(operator)} must have a permutation of {rank} dimensions, "
                         f"not {given}")
    return axes


def transpose(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    return np.ascontiguousarray(present(operator, values).transpose(permutation(operator)))


def concatenation(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    target = operator.outputs[0]
    for index in range(len(operator.inputs)):
        source = inputs.data(operator, index)
        if source.quantization is not None and target.quantization is not None \
                and (source.scale, source.zero_point) != (target.scale, target.zero_point):
            raise ModelError(
                f"{label(operator)} must join tensors of the output's scale and zero point, "
                f"{target.scale:g} and {target.zero_point}, not {source.scale:g} and "
                f"{source.zero_point}")
    if activation_bounds(operator, target) != (-128, 127):
        raise ModelError(f"{label(operator)} must have no fused activation")
    arrays = [present(operator, values, index) for index in range(len(values))]
    try:
        return np.concatenate(arrays, operator.options["Axis"]).reshape(target.shape)
    except ValueError as error:
        raise ModelError(f"{label(operator)}: {error}") from None


def padding(operator: Operator) -> tuple[list[tuple[int, int]], int]:
    """Elements before and after each dimension of a PAD, and their value."""
    source = inputs.quantized(operator, inputs.data(operator, 0), "input")
    target = inputs.quantized(operator, operator.outputs[0], "output")
    if (source.scale, source.zero_point) != (target.scale, target.zero_point):
        raise ModelError(f"{label(operator)} must have an output of its input's scale and zero "
                         f"point")
    rank = len(source.shape)
    flat = inputs.integers(operator, 1, "paddings", 2 * rank)
    pairs = [(flat[2 * axis], flat[2 * axis + 1]) for axis in range(rank)]
    shape = tuple(size + sum(pair) for size, pair in zip(source.shape, pairs, strict=True))
    if min(flat) < 0 or shape != target.shape:
        raise ModelError(f"{label(operator)} must make {list(shape)} with paddings of at least 0, "
                         f"not {list(target.shape)} with {pairs}")
    fill = target.zero_point
    if len(operator.inputs) > 2:
        given = inputs.quantized(operator, inputs.data(operator, 2), "fill value")
        if given.scale != target.scale or given.zero_point != target.zero_point:
            raise ModelError(f"{label(operator)} must have a fill value of its output's scale and "
                             f"zero point")
        fill = int(inputs.constant(operator, 2, "a fill value").reshape(-1)[0])
    return pairs, fill


def pad(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    pairs, fill = padding(operator)
    return np.pad(present(operator, values), pairs, constant_values=fill)


def resized_indices(operator: Operator, axis: int) -> np.ndarray:
    """Where each row (axis 1) or column (axis 2) of an enlarged plane comes from."""
    size, wanted = inputs.data(operator, 0).shape[axis], operator.outputs[0].shape[axis]
    corners, centres = operator.options["AlignCorners"], operator.options["HalfPixelCenters"]
    scale = np.float32(size - 1) / np.float32(wanted - 1) if corners and wanted > 1 \
        else np.float32(size) / np.float32(wanted)
    places = (np.arange(wanted).astype(np.float32) + np.float32(0.5 if centres else 0)) * scale
    places = round_away(places) if corners else np.floor(places)
    return np.clip(places.astype(np.int64), 0, size - 1)


def resize(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    source, target = inputs.data(operator, 0), operator.outputs[0]
    if len(source.shape) != 4 or len(target.shape) != 4 or source.shape[::3] != target.shape[::3]:
        raise ModelError(f"{label(operator)} must make planes of planes, not "
                         f"{list(target.shape)} of {list(source.shape)}")
    x = present(operator, values)
    return x[:, resized_indices(operator, 1)][:, :, resized_indices(operator, 2)]
