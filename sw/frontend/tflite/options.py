"""The options of operators: which table of the schema holds them, and which of its entries
matter."""

from typing import Any

import tflite

from weft.errors import ModelError

__all__ = ["ACTIVATIONS", "OPTIONS", "PADDINGS", "read_options"]


PADDINGS, ACTIVATIONS = (
    {value: key for key, value in vars(kind).items() if isinstance(value, int)}
    for kind in (tflite.Padding, tflite.ActivationFunctionType))

_WINDOW = ("Padding", "StrideH", "StrideW", "FusedActivationFunction")
_DILATED = (*_WINDOW, "DilationHFactor", "DilationWFactor")

OPTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ADD": ("AddOptions", ("FusedActivationFunction",)),
    "AVERAGE_POOL_2D": ("Pool2DOptions", (*_WINDOW, "FilterHeight", "FilterWidth")),
    "CONCATENATION": ("ConcatenationOptions", ("Axis", "FusedActivationFunction")),
    "CONV_2D": ("Conv2DOptions", _DILATED),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", (*_DILATED, "DepthMultiplier")),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("FusedActivationFunction", "WeightsFormat")),
    "LEAKY_RELU": ("LeakyReluOptions", ("Alpha",)),
    "MAX_POOL_2D": ("Pool2DOptions", (*_WINDOW, "FilterHeight", "FilterWidth")),
    "MEAN": ("ReducerOptions", ("KeepDims",)),
    "MUL": ("MulOptions", ("FusedActivationFunction",)),
    "RESIZE_BILINEAR": ("ResizeBilinearOptions", ("AlignCorners", "HalfPixelCenters")),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions",
                                ("AlignCorners", "HalfPixelCenters")),
    "SOFTMAX": ("SoftmaxOptions", ("Beta",)),
    "SUB": ("SubOptions", ("FusedActivationFunction",)),
}
"""By operator: the table, and the entries that are read."""


def read_options(table: Any, op: str, what: str) -> dict[str, Any]:
    """The options of an operator of the file.

    Raises
    ------
    ModelError
        If they are missing, or those of another operator.
    """
    kind, entries = OPTIONS[op]
    number = table.BuiltinOptionsType()
    given = table.BuiltinOptions()
    if given is None or number != getattr(tflite.BuiltinOptions, kind):
        raise ModelError(f"{what} must have {kind}, which the file lacks")
    options = getattr(tflite, kind)()
    options.Init(given.Bytes, given.Pos)
    found = {entry: getattr(options, entry)() for entry in entries}
    for entry, names in (("Padding", PADDINGS), ("FusedActivationFunction", ACTIVATIONS)):
        if entry in found:
            found[entry] = names.get(found[entry], f"{entry} {found[entry]}")
    return found
