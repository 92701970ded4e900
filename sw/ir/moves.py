"""Layers that compute nothing: they join, name, repeat or reorder values."""

from dataclasses import dataclass

import numpy as np

from .layer import Layer

__all__ = ["Alias", "Concat", "Interleave", "Resize"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Concat(Layer):
    """Tensors one behind the other along the channels; all have the output's scale and zero point
    (the front end puts a :class:`Lookup` before those that had not)."""

    sources: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.sources


@dataclass(frozen=True, kw_only=True, eq=False)


class Alias(Layer):
    """The values of a tensor under another name: channels in another order, or some that follow
    each other, and planes of another height and width, whose pixels are the same from the first to
    the last.

    Parameters
    ----------
    order : int64 [C] or :py:`None`
        For each channel that of the input; :py:`None` for ``first``, ``first + 1``...
    first : :class:`int`
        Channel of the input that is the first one.
    """

    input: str
    order: np.ndarray | None = None
    first: int = 0

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Resize(Layer):
    """Nearest-neighbour enlargement: each value is repeated ``factors`` (h, w) times."""

    input: str
    factors: tuple[int, int]

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Interleave(Layer):
    """Planes dealt out in turn, ``factors`` (h, w) of them: ``output[c, y * h + i, x * w + j] =
    sources[i * w + j][c, y, x]``. All have one shape, scale and zero point; rows and columns
    for which the output has no room are dropped."""

    sources: tuple[str, ...]
    factors: tuple[int, int]

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.sources
