"""RESIZE_BILINEAR: between four values, with weights in units of 1 / 1024 for each axis."""

import numpy as np

from weft.errors import ModelError
from weft.frontend.interpolation import EnlargedAxis

from . import inputs
from .file import Operator, label
from .inputs import Values, present
from .rules import Rule

__all__ = ["check_planes", "enlarged_axis", "interpolate"]


_BITS = 10      # of a weight


def check_planes(operator: Operator) -> None:
    """An error if the output is not that of the input in another size."""
    source, target = inputs.data(operator, 0), operator.outputs[0]
    if len(source.shape) != 4 or len(target.shape) != 4 or source.shape[::3] != target.shape[::3]:
        raise ModelError(f"{label(operator)} must make planes of planes, not "
                         f"{list(target.shape)} of {list(source.shape)}")
    inputs.same_quantization(operator, source, inputs.output(operator))


def _weights(operator: Operator, axis: int) -> np.ndarray:
    """Weights of all inputs of an axis for all outputs, in units of 1 / 1024: int64 [outputs,
    inputs]."""
    size, wanted = inputs.data(operator, 0).shape[axis], operator.outputs[0].shape[axis]
    one = 1 << _BITS
    step = (one * size + wanted // 2) // wanted
    if operator.options["AlignCorners"] and wanted > 1:
        step = (one * (size - 1) + (wanted - 1) // 2) // (wanted - 1)
    places = np.arange(wanted) * step
    if operator.options["HalfPixelCenters"]:
        places += step // 2 - one // 2
    low = np.clip(places // one, 0, size - 1)       # of places below zero the first one, too
    high = np.clip(-(-places // one), 0, size - 1)
    share = places - one * low
    result = np.zeros((wanted, size), np.int64)
    np.add.at(result, (np.arange(wanted), low), one - share)
    np.add.at(result, (np.arange(wanted), high), share)
    return result


def interpolate(operator: Operator, rule: Rule, values: Values) -> np.ndarray:
    check_planes(operator)
    sums = np.einsum("yh,xw,nhwc->nyxc", _weights(operator, 1), _weights(operator, 2),
                     present(operator, values).astype(np.int64))
    half = 1 << 2 * _BITS - 1
    return np.asarray(np.sign(sums) * (np.abs(sums) + half >> 2 * _BITS)).astype(np.int8)


def enlarged_axis(operator: Operator, axis: int) -> EnlargedAxis:
    """The enlargement that does the same to an axis.

    Raises
    ------
    ModelError
        If there is none.
    """
    size, wanted = inputs.data(operator, 0).shape[axis], operator.outputs[0].shape[axis]
    factor = wanted // size
    if wanted % size == 0 and factor & factor - 1 == 0:
        weights = _weights(operator, axis)
        for each in (EnlargedAxis.from_the_first(factor), EnlargedAxis.between_centres(factor)):
            if np.array_equal(each.matrix(size) * (1 << _BITS), weights):
                return each
    raise ModelError(f"{label(operator)} makes {wanted} of {size} values; only factors that are "
                     f"powers of 2, without aligned corners, have the same weights everywhere")
