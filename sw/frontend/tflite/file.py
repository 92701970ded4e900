"""A TFLite file as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from weft.errors.text import printable

__all__ = ["File", "Operator", "Quantization", "Tensor", "label"]


@dataclass(frozen=True, eq=False)
class Quantization:
    """``real = scale * (value - zero_point)``.

    Parameters
    ----------
    scale : float32 [1] or [N]
        Positive and finite.
    zero_point : int64 of the same shape
    axis : :class:`int`
        The dimension of the N scales.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int = 0


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the file.

    Parameters
    ----------
    name : :class:`str`
        Unique in the file, on one line.
    shape : :class:`tuple`
    dtype : :class:`numpy.dtype`
    quantization : :class:`Quantization` or :py:`None`
    data : array or :py:`None`
        Of a constant.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    quantization: Quantization | None = None
    data: np.ndarray | None = None

    @property
    def scale(self) -> float:
        """Of a tensor with one scale."""
        assert self.quantization is not None
        return float(self.quantization.scale[0])

    @property
    def zero_point(self) -> int:
        """Of a tensor with one scale."""
        assert self.quantization is not None
        return int(self.quantization.zero_point[0])


@dataclass(frozen=True, eq=False)
class Operator:
    """An operator of the file.

    Parameters
    ----------
    name : :class:`str`
        Made of the name of its output, as operators have none of their own; unique.
    op : :class:`str`
        Such as ``CONV_2D``; the name of a custom one.
    inputs : :class:`tuple` of :class:`Tensor` or :py:`None`
        :py:`None` for an optional one that is not there.
    outputs : :class:`tuple` of :class:`Tensor`
    options : :class:`dict`
        By the names of the schema.
    custom : :class:`bool`
    """

    name: str
    op: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    custom: bool = False


def label(operator: Operator) -> str:
    """How messages name an operator."""
    return printable(f"{operator.op} '{operator.name}'")


@dataclass(frozen=True, eq=False)
class File:
    """A model with one subgraph.

    Parameters
    ----------
    name : :class:`str`
        For messages.
    content : :class:`bytes`
        The file itself.
    tensors : :class:`tuple` of :class:`Tensor`
        By the file's index.
    operators : :class:`tuple` of :class:`Operator`
        In execution order.
    inputs, outputs : :class:`tuple` of :class:`Tensor`
    """

    name: str
    content: bytes
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
