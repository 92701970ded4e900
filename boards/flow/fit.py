"""Fits the factors of :mod:`weft.boards.flow.predict`: ``python -m weft.boards.flow.fit FILES``.

Each file has lines of JSON: ``config``, ``blocks`` (multiplier blocks of the device), and
``components`` as of :meth:`weft.boards.flow.resources.Resources.to_dict`. The factors and their
error go to standard output.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from weft.hw.isa.config import AcceleratorConfig

from .predict import PARTS, terms

__all__ = ["fit", "part_sizes"]


Sample = Mapping[str, Any]

_KINDS = ("luts", "ffs")
_ACCELERATOR = "system.accelerator"
_FOLDS = 5
_RIDGE = 1e-3   # keeps terms that the designs hardly tell apart from growing against each other


def part_sizes(components: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """LUTs and flip-flops of each part, what is named itself left out."""
    places = {part: [f"{_ACCELERATOR}.{name}" if name else "system" for name in names]
              for part, names in PARTS.items()}
    named = [place for found in places.values() for place in found]

    def size(place: str, kind: str) -> int:
        if place not in components:
            return 0
        inner = [other for other in named if other != place and _inside(other, place)
                 and not any(_inside(other, between) and _inside(between, place)
                             and between not in (other, place) for between in named)]
        if place == "system":
            inner = [_ACCELERATOR]
        return components[place][kind] - sum(components.get(other, {}).get(kind, 0)
                                             for other in inner)

    return {part: {kind: sum(size(place, kind) for place in found) for kind in _KINDS}
            for part, found in places.items()}


def _inside(place: str, outer: str) -> bool:
    return place == outer or place.startswith(f"{outer}.")


def fit(samples: Sequence[Sample]) -> dict[str, dict[str, dict[str, float]]]:
    """Factors by part, kind and term: least squares of the relative errors."""
    rows: dict[str, list[tuple[dict[str, float], dict[str, int]]]] = {part: [] for part in PARTS}
    for sample in samples:
        config = AcceleratorConfig(**sample["config"])
        sizes = part_sizes(sample["components"])
        for part, values in terms(config, sample["blocks"]).items():
            rows[part].append((values, sizes[part]))
    factors: dict[str, dict[str, dict[str, float]]] = {}
    for part, found in rows.items():
        if not found:       # of no design
            continue
        names = list(found[0][0])
        matrix = np.array([[float(values[name]) for name in names] for values, _ in found])
        scale = np.maximum(np.abs(matrix).max(axis=0), 1e-9)
        factors[part] = {}
        for kind in _KINDS:
            wanted = np.array([float(sizes[kind]) for _, sizes in found])
            mean = max(1.0, wanted.mean())
            square = np.vstack([matrix / scale, _RIDGE * len(found) ** 0.5 * np.eye(len(names))])
            solved, *_ = np.linalg.lstsq(square, np.concatenate([wanted / mean,
                                                                 np.zeros(len(names))]), rcond=None)
            factors[part][kind] = {name: round(float(value * mean / size), 3)
                                   for name, value, size in zip(names, solved, scale)}
    return factors


def _total(sample: Sample, factors: Mapping[str, Any]) -> dict[str, float]:
    config = AcceleratorConfig(**sample["config"])
    return {kind: sum(factors[part][kind][name] * value
                      for part, values in terms(config, sample["blocks"]).items()
                      for name, value in values.items()) for kind in _KINDS}


def _errors(samples: Sequence[Sample], factors: Mapping[str, Any]) -> list[dict[str, float]]:
    found = []
    for sample in samples:
        total = _total(sample, factors)
        found.append({kind: total[kind] / sample["components"]["system"][kind] - 1
                      for kind in _KINDS})
    return found


def main(paths: Sequence[str]) -> None:
    """Prints the factors, their error by cross-validation, and the largest one."""
    samples = [json.loads(line) for path in paths for line in Path(path).read_text().splitlines()]
    left_out = [error for fold in range(_FOLDS)
                for error in _errors(samples[fold::_FOLDS], fit(
                    [sample for number, sample in enumerate(samples) if number % _FOLDS != fold]))]
    print(json.dumps({
        "designs": len(samples),
        "error": {kind: round(float(np.mean([abs(each[kind]) for each in left_out])), 4)
                  for kind in _KINDS},
        "largest_error": {kind: round(max(abs(each[kind]) for each in left_out), 4)
                          for kind in _KINDS},
        "factors": fit(samples)}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
