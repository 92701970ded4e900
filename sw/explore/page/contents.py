"""What the page shows, as plain data for its template and its script."""

from collections import defaultdict
from math import sqrt
from typing import Any

from weft.errors.text import printable
from weft.explore.search import count_reasons
from weft.explore.trial import OBJECTIVES

from .source import Shown

__all__ = ["contents"]


_UNITS = {"fps": "frames per second", "luts": "LUTs", "latency": "ms", "energy": "µJ"}
_AXES = ("luts", "fps", "latency", "energy")    # across, then upwards, of those that are searched


def contents(result: Shown) -> dict[str, Any]:
    """The variables of the template."""
    points = [point.to_dict() for point in result.points]
    across, up = _axes(result.objectives)
    tried = [{"number": trial.number, **{
        # There is no bound of the energy of what was not compiled.
        name: trial.outcome.value(name) if name != "energy" or not trial.outcome.reason else None
        for name in OBJECTIVES}} for trial in result.trials if trial.outcome.fits]
    chosen = [name for name, values in result.about["space"].items() if len(values) > 1]
    base = None if result.base.reason else {
        name: result.base.value(name) for name in OBJECTIVES}
    return {
        "about": {**result.about, "networks": list(map(printable, result.about["networks"])),
                  "target": printable(result.about["target"])},
        "points": points,
        "proofs": {name: any(name in point for point in points) for name in ("rtl", "build")},
        "chosen": chosen,
        "possible": len(tried),
        "compiled": sum(not trial.outcome.reason for trial in result.trials),
        "reasons": [{"kind": kind, "count": count, "reason": printable(reason)}
                    for kind, count, reason in count_reasons(result.trials)],
        "effects": _effects(result, chosen),
        "units": _UNITS,
        "data": {"points": points, "tried": tried, "base": base, "across": across, "up": up,
                 "units": _UNITS, "fields": chosen,
                 "better": {name: direction == "maximize"
                            for name, (direction, _) in OBJECTIVES.items()}},
    }


def _axes(objectives: tuple[str, ...]) -> tuple[str, str]:
    searched = [name for name in _AXES if name in objectives]
    if len(searched) == 1:
        searched.insert(0, next(name for name in _AXES if name not in searched))
    return searched[0], searched[1]


def _effects(result: Shown, chosen: list[str]) -> list[dict[str, Any]]:
    """For each field, what trials with each of its values reached in the middle, and at best."""
    possible = [trial for trial in result.trials if trial.outcome.fits]
    effects = []
    for name in chosen:
        groups: dict[Any, list[Any]] = defaultdict(list)
        tried: dict[Any, int] = defaultdict(int)
        for trial in result.trials:
            tried[trial.parameters[name]] += 1
        for trial in possible:
            groups[trial.parameters[name]].append(trial.outcome)
        rows = []
        for value in result.about["space"][name]:
            found = groups.get(value, [])
            rows.append({
                "value": value, "tried": tried[value], "possible": len(found),
                "front": sum(getattr(point.config, name) == value for point in result.points),
                **{objective: _middle([each.value(objective) for each in found])
                   for objective in result.objectives}})
        effects.append({"field": name, "rows": rows, "ranks": {
            objective: _correlation([(trial.parameters[name], trial.outcome.value(objective))
                                     for trial in possible])
            for objective in result.objectives}})
    return effects


def _middle(values: list[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None


def _correlation(pairs: list[tuple[Any, float]]) -> float | None:
    """Spearman's rank correlation; none where all values are the same."""
    first, second = _ranks([float(pair[0]) for pair in pairs]), _ranks([pair[1] for pair in pairs])
    if not pairs:
        return None
    middle = (len(pairs) - 1) / 2
    both = sum((a - middle) * (b - middle) for a, b in zip(first, second))
    spread = (sqrt(sum((a - middle) ** 2 for a in first))
              * sqrt(sum((b - middle) ** 2 for b in second)))
    return both / spread if spread else None


def _ranks(values: list[float]) -> list[float]:
    """Places in order; equal values share the middle of theirs."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for place in order[start:end + 1]:
            ranks[place] = (start + end) / 2
        start = end + 1
    return ranks
