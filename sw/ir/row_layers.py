"""Layers whose values depend on all of a row of channels."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .layer import Layer

__all__ = ["Normalization", "RowLayer", "Softmax"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Softmax(Layer):
    """The shares of the exponentials of values in their sum, for each pixel over all channels of
    a head: a run of channels, of which there are ``heads`` of one length.

    Parameters
    ----------
    table : float32 [256]
        Exponentials, by the distance from the largest value: see
        :func:`weft.reference.exponentials`.
    factor : :class:`int`
        What a share of 1 is in the output, 1..65535.
    """

    input: str
    table: np.ndarray
    factor: int
    heads: int = 1

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Normalization(Layer):
    """Layer normalization of each pixel over all channels: a mean of 0 and a variance of 1, and
    then a factor and a summand for each channel. See :func:`weft.reference.normalize`.

    Parameters
    ----------
    scale, shift : float32 [C]
    epsilon : :class:`float`
        Added to the variance.
    """

    input: str
    scale: np.ndarray
    shift: np.ndarray
    epsilon: float
    heads: ClassVar[int] = 1

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


RowLayer = Softmax | Normalization
