"""Nodes of random float networks."""

from dataclasses import dataclass
from typing import Any, Self

__all__ = ["UNARY", "Node", "Shape", "Unfit"]


Shape = tuple[int, ...]


UNARY: dict[str, dict[str, float]] = {
    "Relu": {}, "Sigmoid": {}, "Tanh": {}, "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "HardSwish": {}, "LeakyRelu": {"alpha": 0.1}, "Elu": {"alpha": 1.0}, "Softplus": {}, "Abs": {},
    "Neg": {}, "Sin": {}, "Atan": {},
}
"""Operators of one value, with their attributes."""


class Unfit(Exception):
    """A description that is no network: shapes that do not fit, or windows without a value."""


@dataclass(frozen=True)
class Node:
    """A node of one output.

    Parameters
    ----------
    name : :class:`str`
        Its own, and that of its tensor.
    op : :class:`str`
        An ONNX operator; ``Depthwise`` for a Conv with a group for each channel, ``Vector`` for a
        Reshape from [1, N] to [1, N, 1, 1], ``Shuffle`` for one that deals out the channels of
        groups in turn, ``Scale`` and ``Shift`` for a Mul and an Add of a constant for each channel,
        ``Turn`` for a Transpose to channels last and back, ``Regroup`` for a Reshape to planes of
        ``factors[0]`` rows (at most; the greatest common divisor with all pixels is taken),
        ``Tokens`` for a MatMul of rows of channels, ``Attend`` for the attention of pixels, with a
        softmax if ``count_pads``, or a sigmoid in its place, ``Normalize`` for a LayerNormalization
        and ``Shares`` for a Softmax of channels, ``Widen`` for a Pad with ``factors`` channels
        before and behind, ``Piece`` for a Slice that takes the ``factors[0]``-th, counted from 1,
        of ``group`` pieces with as many channels each, ``Crop`` for a Slice of planes that leaves
        out ``pads`` and takes every ``strides``-th row and column, ``Place`` for an Add of a
        constant of all values, ``Lead`` for a Concat of a constant with ``factors[0]`` rows in
        front of planes, or, if ``count_pads``, with so many channels behind them, ``Rows`` for a
        Slice of each row of pixels in turn and a Concat of them backwards, ``Flat`` for a Concat of
        all its inputs, channels last, as vectors.
    inputs : list of :class:`str`
        Nodes, or inputs of the graph.
    filters : :class:`int` or :class:`str`
        Output channels of a Conv or Gemm, or of a Gather, at most; a name stands for those of that
        tensor.
    kernel, strides, dilations : (h, w)
    pads : (top, left, bottom, right)
    group : :class:`int`
        Of a convolution or ``Shuffle``, or heads of ``Attend``, at most; the greatest common
        divisor with both numbers of channels is taken. The blocksize of a DepthToSpace.
    bounds : (low, high)
        Of a Clip.
    factors : (h, w)
        Of a Resize; one more than the output_padding of a ConvTranspose; or the first channel of a
        Slice, counted from 1, and its step.
    count_pads : :class:`bool`
        Padding counts in the divisor of an AveragePool; or a DepthToSpace has mode CRD; or a
        Resize has mode linear, half_pixel with a ``group`` of 1, else asymmetric.
    bias : :class:`bool`
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    filters: int | str = 1
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    group: int = 1
    bounds: tuple[float, float] = (0.0, 6.0)
    factors: tuple[int, int] = (1, 1)
    count_pads: bool = False
    bias: bool = True

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """From what JSON makes of a node: tuples have become lists."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value
                      for key, value in values.items()})
