"""Linear enlargement of an axis: every value is repeated, and then averaged with weights."""

from dataclasses import dataclass

import numpy as np

__all__ = ["EnlargedAxis"]


@dataclass(frozen=True)
class EnlargedAxis:
    """How an axis is enlarged by a whole factor.

    Parameters
    ----------
    factor : :class:`int`
        How often every value is repeated.
    weights : :class:`tuple` of :class:`int`
        Of repeated values, for each output. Together they are those of the two inputs that an
        output lies between; at the rim all values that a window sees are one input.
    before, after : :class:`int`
        Padding in front of the repeated values and behind.
    """

    factor: int
    weights: tuple[int, ...]
    before: int
    after: int

    @classmethod
    def between_centres(cls, factor: int) -> "EnlargedAxis":
        """Outputs and inputs are pixels with a width: the centres of both are spread over the same
        length. The factor is 1 or even."""
        if factor == 1:
            return cls(1, (1,), 0, 0)
        return cls(factor, (1, *[2] * (factor - 1), 1), factor // 2, factor // 2)

    @classmethod
    def from_the_first(cls, factor: int) -> "EnlargedAxis":
        """The first output is the first input."""
        return cls(factor, (1,) * factor, 0, factor - 1)

    def matrix(self, size: int) -> np.ndarray:
        """Weights of all inputs for all outputs: float64 [size * factor, size]."""
        repeated = np.eye(size).repeat(self.factor, axis=0)
        padded = np.pad(repeated, ((self.before, self.after), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(self.weights), axis=0)
        sums = windows @ np.array(self.weights, np.float64)
        return np.asarray(sums / sums.sum(axis=1, keepdims=True))
