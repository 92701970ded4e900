"""The roofline plot: MACs per cycle against MACs per byte of memory traffic, both logarithmic.

Williams, Waterman, Patterson: "Roofline: an insightful visual performance model" (2009).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log2
from typing import Any

from weft.hw.isa.config import AcceleratorConfig

__all__ = ["Dot", "roofline"]


WIDTH, HEIGHT = 720, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 700, 16, 330


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A layer.

    Attributes
    ----------
    name, engine : :class:`str`
    macs, cycles, dram_bytes : :class:`int`
        ``macs`` and ``cycles`` at least 1; without traffic it is drawn at the right edge.
    """

    name: str
    engine: str
    macs: int
    cycles: int
    dram_bytes: int

    @property
    def rate(self) -> float:
        """MACs per cycle."""
        return self.macs / self.cycles

    @property
    def intensity(self) -> float | None:
        """MACs per byte."""
        return self.macs / self.dram_bytes if self.dram_bytes else None


def roofline(dots: Sequence[Dot], config: AcceleratorConfig) -> dict[str, Any]:
    """Coordinates of the plot, for the template: axes, ceilings and dots."""
    ceilings = {"array": config.macs_per_cycle}
    if config.vector:
        ceilings["vector engine"] = config.rows * config.vector_taps
    array = ceilings["array"]
    intensities = [dot.intensity for dot in dots if dot.intensity]
    ridge = array / config.axi_bytes
    x_low = floor(log2(min([ridge / 4, *intensities])) - 0.3)
    x_high = ceil(log2(max([ridge * 4, *intensities])) + 0.8)
    y_low = floor(log2(min([min(ceilings.values()) / 4, *(dot.rate for dot in dots)])) - 0.3)
    y_high = ceil(log2(max(ceilings.values())) + 0.4)

    def x(value: float) -> float:
        share = (log2(value) - x_low) / (x_high - x_low)
        return round(_LEFT + share * (_RIGHT - _LEFT), 1)

    def y(value: float) -> float:
        share = (log2(value) - y_low) / (y_high - y_low)
        return round(_BOTTOM - share * (_BOTTOM - _TOP), 1)

    def ceiling(name: str, rate: int) -> dict[str, Any]:
        return {"name": name, "rate": rate, "y": y(rate), "x": x(max(rate / config.axi_bytes,
                                                                     2.0 ** x_low))}

    start = max(2.0 ** x_low, 2.0 ** y_low / config.axi_bytes)
    return {
        "width": WIDTH, "height": HEIGHT, "left": _LEFT, "right": _RIGHT, "top": _TOP,
        "bottom": _BOTTOM,
        "x_ticks": [(x(2.0 ** power), _power(power)) for power in
                    range(x_low, x_high + 1, _step(x_high - x_low))],
        "y_ticks": [(y(2.0 ** power), _power(power)) for power in
                    range(y_low, y_high + 1, _step(y_high - y_low))],
        "ceilings": [ceiling(name, rate) for name, rate in ceilings.items()],
        "slope": {"x1": x(start), "y1": y(start * config.axi_bytes), "x2": x(ridge),
                  "y2": y(array)},
        "bytes": config.axi_bytes,
        "dots": [{"name": dot.name, "engine": dot.engine, "x": x(dot.intensity or 2.0 ** x_high),
                  "y": y(dot.rate), "rate": dot.rate, "intensity": dot.intensity} for dot in dots],
    }


def _step(powers: int) -> int:
    return max(1, -(-powers // 10))


def _power(power: int) -> str:
    return f"{2 ** power:,}" if power >= 0 else f"1/{2 ** -power:,}"
