"""Reads what nextpnr says of a routed design, in terms of the source."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from weft.boards.family import Capacity, Tools

from .names import place_in_source, source_line

__all__ = ["CriticalPath", "PathStep", "Timing", "read_timing"]


_USB_CLOCK = re.compile(r"\b(usb(?:_io)?)_clk\b")
"""A net that is the clock of a domain of USB."""


@dataclass(frozen=True)
class PathStep:
    """One signal on a path.

    Parameters
    ----------
    component : :class:`str`
        Its place in the hierarchy: ``system.core.matrix``.
    signal : :class:`str`
    source : :class:`str` or None
        Where it is defined: ``hw/matrix/engine.py:97``.
    logic_ns, routing_ns : :class:`float`
        Delay of the logic that drives it, and of the wires to the next.
    """

    component: str
    signal: str
    source: str | None
    logic_ns: float
    routing_ns: float


@dataclass(frozen=True, kw_only=True)
class CriticalPath:
    """The slowest path from register to register.

    Parameters
    ----------
    start, end : :class:`str`
        Component and signal of the registers.
    steps : tuple of :class:`PathStep`
    """

    start: str
    end: str
    steps: tuple[PathStep, ...]

    @property
    def logic_ns(self) -> float:
        """Delay of all logic."""
        return round(sum(step.logic_ns for step in self.steps), 2)

    @property
    def routing_ns(self) -> float:
        """Delay of all wires."""
        return round(sum(step.routing_ns for step in self.steps), 2)

    def located(self, sources: Mapping[tuple[str, str], str]) -> "CriticalPath":
        """The path, with what ``sources`` knows of signals whose definition is missing."""
        return replace(self, steps=tuple(
            replace(step, source=step.source or sources.get((step.component, step.signal)))
            for step in self.steps))

    def to_dict(self) -> dict[str, Any]:
        """The path, JSON-ready."""
        return {"start": self.start, "end": self.end, "logic_ns": self.logic_ns,
                "routing_ns": self.routing_ns, "steps": [asdict(step) for step in self.steps]}


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What nextpnr reports.

    Parameters
    ----------
    clock_mhz : :class:`float`
        What the slowest path of the accelerator's clock allows.
    usb : dict of (:class:`float`, :class:`float`)
        What the slowest path of the clocks of USB allows, and what was asked for, in MHz, by the
        name of the domain.
    path : :class:`CriticalPath`
        That of the accelerator's clock.
    utilization : dict
        Cells used, by nextpnr's name of their kind.
    """

    clock_mhz: float
    usb: dict[str, tuple[float, float]]
    path: CriticalPath
    utilization: dict[str, int]

    def used(self, tools: Tools) -> Capacity:
        """What the design takes, of all that nextpnr has a name for."""
        return Capacity(**{
            field: sum(number * self.utilization[name] for name, number in kinds.items())
            for field, kinds in (
                ("luts", tools.luts), ("ffs", tools.ffs), ("multipliers", tools.multipliers),
                ("block_rams", tools.block_rams), ("large_rams", tools.large_rams))})


def read_timing(report: Path) -> Timing:
    """Reads the JSON report of nextpnr."""
    values = json.loads(report.read_text(encoding="utf-8"))
    usb, others = {}, {}
    for clock, found in values["fmax"].items():
        domain = _USB_CLOCK.search(clock)
        if domain is None:
            others[clock] = found
        else:
            usb[domain[1]] = round(found["achieved"], 2), round(found["constraint"], 2)
    clock, slowest = min(others.items(),
                         key=lambda item: item[1]["achieved"] / item[1]["constraint"])
    paths = [path for path in values["critical_paths"]
             if path["from"].endswith(f" {clock}") and path["to"].endswith(f" {clock}")]
    return Timing(clock_mhz=round(slowest["achieved"], 2), usb=usb, path=_path(paths[0]["path"]),
                  utilization={name: cell["used"]
                               for name, cell in values["utilization"].items()})


def _path(segments: list[dict[str, Any]]) -> CriticalPath:
    def register(cell: str) -> str:
        return ".".join(filter(None, place_in_source(cell)))

    steps: list[PathStep] = []
    logic = 0.0
    for segment in segments:
        if segment["type"] != "routing":
            logic += segment["delay"]
            continue
        step = PathStep(*place_in_source(segment["net"]), source_line(segment.get("sources", [])),
                        logic, segment["delay"])
        logic = 0.0
        # The parts of a carry chain or a wide multiplexer are one step.
        if steps and step.signal.startswith("$"):
            step = replace(step, component=steps[-1].component, signal=steps[-1].signal)
        if steps and (step.component, step.signal) == (steps[-1].component, steps[-1].signal):
            step = replace(step, source=steps[-1].source or step.source,
                           logic_ns=steps[-1].logic_ns + step.logic_ns,
                           routing_ns=steps[-1].routing_ns + step.routing_ns)
            steps.pop()
        steps.append(step)
    start, end = (register(segments[k]["to"]["cell"]) for k in (0, -1))
    steps.append(PathStep("", "setup", None, logic, 0.0))
    return CriticalPath(start=start, end=end, steps=tuple(
        replace(step, logic_ns=round(step.logic_ns, 3), routing_ns=round(step.routing_ns, 3))
        for step in steps))
