"""Reshapes and transposes without their steps."""

from dataclasses import dataclass
from math import prod

import numpy as np

__all__ = ["View"]


@dataclass(frozen=True, eq=False)
class View:
    """Elements of another tensor in a new shape and order: what a chain of reshapes and transposes
    does, without naming its steps.

    Parameters
    ----------
    shape : :class:`tuple`
    indices : int64 array of that shape, or :py:`None`
        Flat index into the other tensor of each element; :py:`None` for 0, 1, 2...
    """

    shape: tuple[int, ...]
    indices: np.ndarray | None = None

    @classmethod
    def of(cls, indices: np.ndarray) -> "View":
        """A view with these indices; in the short form where they are just counting."""
        if np.array_equal(indices.reshape(-1), np.arange(indices.size)):
            return cls(indices.shape)
        return cls(indices.shape, indices)

    def array(self) -> np.ndarray:
        """The indices, whether stored or not."""
        if self.indices is None:
            return np.arange(prod(self.shape)).reshape(self.shape)
        return self.indices

    def flat(self) -> np.ndarray | None:
        """The indices in one dimension, or :py:`None` for 0, 1, 2..."""
        return None if self.indices is None else self.indices.reshape(-1)

    def reshape(self, shape: tuple[int, ...]) -> "View":
        return View(shape, None if self.indices is None else self.indices.reshape(shape))

    def transpose(self, axes: tuple[int, ...]) -> "View":
        return View.of(self.array().transpose(axes))

    def inverse(self, shape: tuple[int, ...]) -> "View":
        """The view, in ``shape``, through which the other tensor sees this one."""
        if self.indices is None:
            return View(shape)
        inverse = np.empty(self.indices.size, np.int64)
        inverse[self.indices.reshape(-1)] = np.arange(self.indices.size)
        return View(shape, inverse.reshape(shape))

    def through(self, other: "View") -> "View":
        """This view of ``other``, as a view of what ``other`` looks at."""
        if other.indices is None:
            return self
        return View.of(other.indices.reshape(-1)[self.array()])

    def channels(self, other: "View", shape: tuple[int, ...]) -> np.ndarray | None:
        """The channels of this view, [C, H, W] of a tensor of ``shape``, that make up ``other``
        one behind the other, pixel by pixel; :py:`None` where the pixels' order differs, too."""
        if self.shape[0] != other.shape[0]:
            return None
        count = prod(self.shape[1:])
        where = self.inverse(shape).array().reshape(-1)[other.array()].reshape(-1, count)
        channels = where[:, 0] // count
        planes = channels[:, None] * count + np.arange(count)
        return channels if np.array_equal(where, planes) else None

    def same(self, other: "View") -> bool:
        """Whether shapes and elements agree."""
        return self.shape == other.shape and (
            (self.indices is None and other.indices is None)
            or np.array_equal(self.array(), other.array()))
