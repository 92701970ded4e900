"""How far a trial is from a front."""

from collections.abc import Sequence

__all__ = ["NEAR", "distance"]


NEAR = 1.06
"""A sketch may be off by as much: what is so near to the front may be on it."""


def distance(values: Sequence[float], front: Sequence[Sequence[float]]) -> float:
    """How much better, as a factor, a trial would have to be in all objectives not to be worse than
    some point; at most 1 if it is not.

    Parameters
    ----------
    values : list of :class:`float`
        Of :meth:`weft.explore.trial.Outcome.values`.
    front : list of these
        Of the points; one or more.
    """
    return max(min(map(_ratio, values, point)) for point in front)


def _ratio(value: float, other: float) -> float:
    """How much worse ``value`` is; the smaller the better, so negative what is to be large."""
    return other / value if value < 0 else value / other
