"""What enlargements have in common: their factors, and what onnxruntime makes of a plane."""

from collections.abc import Sequence

import numpy as np
import onnx

from weft.errors import ModelError
from weft.reference.golden import GoldenSession

from .builder import Builder
from .nodes import label

__all__ = ["enlarged", "probe_plane", "whole_factors"]


def whole_factors(node: onnx.NodeProto, shape: Sequence[int],
                  target: Sequence[int]) -> list[int]:
    """The factors of all axes but batch and channels; an error if one is no whole number."""
    factors = [large // small for large, small in zip(target, shape, strict=True)]
    if factors[:2] != [1, 1] or [size * factor for size, factor
                                 in zip(shape, factors, strict=True)] != list(target):
        raise ModelError(f"{label(node)} makes {list(target)} of {list(shape)}; only whole "
                         f"factors on height and width are supported")
    return factors[2:]


def enlarged(plane: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """[1, 1, ...] with every value repeated along each axis."""
    for axis, factor in enumerate(factors, 2):
        plane = plane.repeat(factor, axis)
    return plane


def probe_plane(builder: Builder, node: onnx.NodeProto, plane: np.ndarray,
                shape: tuple[int, ...]) -> np.ndarray:
    """What onnxruntime makes of float32 [1, 1, ...] with a Resize, of the given shape."""
    probe = onnx.NodeProto()
    probe.CopyFrom(node)
    constants = {}
    for index, name in enumerate(node.input[1:], 1):
        array = builder.array(name) if name else None
        if name and array is None:
            raise ModelError(f"{label(node)} must have constant sizes or scales")
        if array is not None and array.size == len(shape) and array.dtype == np.int64:
            array = np.array(shape, np.int64)
        if array is not None:
            constants[f"c{index}"] = array
            probe.input[index] = f"c{index}"
    probe.input[0] = "x"
    del probe.output[:]
    probe.output.append("y")
    model = builder.source.probe([probe], {"x": plane}, "y", constants)
    return GoldenSession(model).run({"x": plane})["y"]
