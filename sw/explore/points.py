"""The front of a search: its points compiled in full, and the files that are made of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from weft.cluster import Cluster
from weft.files.output import write_text
from weft.hw.isa.config import AcceleratorConfig

from .near import NEAR, distance
from .search import Problem, Trial, front
from .study import Study
from .trial import OBJECTIVES, Job, evaluate

__all__ = ["Point", "find_points", "write_points"]


_MOST = 24      # trials that are compiled in full


@dataclass(frozen=True, kw_only=True)
class Point:
    """A point of the front.

    Attributes
    ----------
    name : :class:`str`
        ``point1`` is the best in the first objective.
    trial : :class:`~weft.explore.search.Trial`
        With figures of the network compiled in full.
    config : :class:`AcceleratorConfig`
    proofs : :class:`dict`
        What ``--verify`` found: ``rtl``, ``build``.
    """

    name: str
    trial: Trial
    config: AcceleratorConfig
    proofs: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """All figures, JSON-ready; see docs/cli.md for its fields."""
        outcome = self.trial.outcome
        assert outcome.used is not None
        return {
            "name": self.name,
            "trial": self.trial.number,
            "objectives": {name: outcome.value(name) for name in OBJECTIVES},
            "clock_mhz": outcome.clock_mhz,
            "used": asdict(outcome.used),
            "networks": [{
                **asdict(each), "fps": outcome.clock_mhz * 1e6 / each.further,
                "latency_ms": each.first / outcome.clock_mhz / 1e3} for each in outcome.networks],
            "config": self.config.to_dict(),
            **self.proofs,
        }


def find_points(trials: Sequence[Trial], problem: Problem, study: Study,
                cluster: Cluster) -> list[Point]:
    """Compiles the front of the sketches in full, and what is near it, unless the study has that
    from before, and gives the front of it."""
    objectives = problem.objectives
    chosen = _near(trials, objectives)
    fresh = [trial for trial in chosen if trial.number not in study.compiled]
    outcomes = cluster.map(evaluate, [_whole(problem, trial) for trial in fresh])
    for trial, outcome in zip(fresh, outcomes):
        study.keep_compiled(trial.number, outcome)
    whole = [replace(trial, outcome=study.compiled[trial.number]) for trial in chosen]
    return [Point(name=f"point{number}", trial=trial, config=AcceleratorConfig(
                **{**problem.config(trial.parameters), "name": f"point{number}"}))
            for number, trial in enumerate(front(whole, objectives), 1)]


def _whole(problem: Problem, trial: Trial) -> Job:
    return replace(problem.job, config=problem.config(trial.parameters), whole=True)


def _near(trials: Sequence[Trial], objectives: Sequence[str]) -> list[Trial]:
    """The front, and trials that would be on it if it were a bit worse; the nearest of them."""
    best = front(trials, objectives)
    values = [trial.outcome.values(objectives) for trial in best]
    chosen = {tuple(trial.parameters.values()) for trial in best}
    others: list[tuple[float, int, Trial]] = []
    for trial in trials:
        # Of trials of one configuration the first will do.
        if not trial.outcome.reason and tuple(trial.parameters.values()) not in chosen:
            chosen.add(tuple(trial.parameters.values()))
            others.append((distance(trial.outcome.values(objectives), values), trial.number, trial))
    near = [trial for share, _, trial in sorted(others, key=lambda each: each[:2])
            if share <= NEAR]
    return [*best, *near][:max(_MOST, len(best))]


def write_points(points: Sequence[Point], folder: Path, about: Mapping[str, Any]) -> None:
    """Writes ``front.json``, and for each point a configuration: ``point1.toml`` and so on; those
    of an earlier front go."""
    for old in folder.glob("point*.toml"):
        old.unlink()
    for point in points:
        write_text(folder / f"{point.name}.toml", _toml(point))
    write_text(folder / "front.json", json.dumps(
        {"format": 1, **about, "points": [point.to_dict() for point in points]}, indent=2) + "\n")


def _toml(point: Point) -> str:
    outcome = point.trial.outcome
    assert outcome.used is not None
    lines = [f"# {point.name} of weft explore: {outcome.value('fps'):,.0f} frames per second at "
             f"{outcome.clock_mhz:.0f} MHz, {outcome.used.luts:,} LUTs, as estimated."]
    for each in fields(AcceleratorConfig):
        value = getattr(point.config, each.name)
        text = f'"{value}"' if isinstance(value, str) else str(value).lower()
        lines.append(f"{each.name} = {text}")
    return "\n".join(lines) + "\n"
