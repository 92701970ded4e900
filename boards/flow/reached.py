"""Which clock a build may reach: a line through those that builds have reached.

``builds.json`` has builds of this hardware, from before and after small changes: the same
configuration placed anew reaches a clock some percent higher or lower, which is more than the size
of the design makes. The line is over the share of the device's look-up tables.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from weft.boards.family import Family

__all__ = ["ClockModel", "clock_model"]


@dataclass(frozen=True, kw_only=True)
class ClockModel:
    """What builds have reached.

    Attributes
    ----------
    builds : :class:`int`
        That it is made from.
    slope, intercept : :class:`float`
        MHz for all LUTs of a device in use, and for none.
    error : :class:`float`
        The mean of how far a build was off a line through the others, as a share.
    routed_share : :class:`float`
        The largest share of a device's LUTs that a design had which was routed.
    """

    builds: int
    slope: float
    intercept: float
    error: float
    routed_share: float

    def clock_mhz(self, share: float) -> float:
        """Of a design that takes this share of the LUTs of its device."""
        return self.intercept + self.slope * share


@cache
def _builds() -> list[dict[str, Any]]:
    text = files("weft.boards.flow").joinpath("builds.json").read_text(encoding="utf-8")
    builds: list[dict[str, Any]] = json.loads(text)
    return builds


def clock_model(family: Family) -> ClockModel:
    """The model of a family's builds."""
    points = [(build["luts"] / family.devices[build["device"]].capacity.luts, build["clock_mhz"])
              for build in _builds() if build["device"] in family.devices]
    slope, intercept = _line(points)
    errors = []
    for number, (share, clock) in enumerate(points):
        other = _line([*points[:number], *points[number + 1:]])
        errors.append(abs(other[0] * share + other[1] - clock) / clock)
    return ClockModel(builds=len(points), slope=slope, intercept=intercept,
                      error=sum(errors) / len(errors),
                      routed_share=max(share for share, _ in points))


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope and intercept of the line of least squares."""
    x = sum(share for share, _ in points) / len(points)
    y = sum(clock for _, clock in points) / len(points)
    square = sum((share - x) ** 2 for share, _ in points)
    slope = sum((share - x) * (clock - y) for share, clock in points) / square
    return slope, y - slope * x
