"""The search: Optuna proposes, workers try, the study remembers.

Trials are asked for and told in batches of a fixed size, in their order, and the sampler of each
has a seed of its own: so the same seed gives the same trials with any number of workers, and a
search that goes on does what it would have done. The study of the sampler is in memory; trials are
kept in SQLite as they are told. Neither those that are there nor a configuration that comes again
are tried again.
"""

import json
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import optuna

from weft.boards.registry import BOARDS
from weft.cluster import Cluster
from weft.errors import InputError
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.presets import PRESETS

from .space import Space
from .study import Study
from .trial import OBJECTIVES, Job, Outcome, evaluate

__all__ = ["BATCH", "Problem", "Progress", "Search", "Trial", "front"]


BATCH = 16
"""Trials that are asked for before the first of them is told: also how many workers have work."""

_STARTUP = 32           # random trials before the sampler learns
_BAD = {"maximize": 0.0, "minimize": 1e12}      # of a trial that cannot be


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is searched for.

    Attributes
    ----------
    base : :class:`AcceleratorConfig`
        Fields that the space does not name; tried first.
    space : :class:`~weft.explore.space.Space`
    job : :class:`~weft.explore.trial.Job`
        Of any configuration.
    objectives : tuple of :class:`str`
        Of :data:`~weft.explore.trial.OBJECTIVES`.
    seed : :class:`int`
    """

    base: AcceleratorConfig
    space: Space
    job: Job
    objectives: tuple[str, ...]
    seed: int

    def identity(self) -> str:
        """As text: two problems with the same one have the same trials."""
        return json.dumps({
            "base": self.base.to_dict(), "objectives": self.objectives, "seed": self.seed,
            "space": {name: list(values) for name, values in self.space.choices.items()},
            "networks": [asdict(each) for each in self.job.networks],
            "target": asdict(self.job.target), "energy": asdict(self.job.energy),
        }, sort_keys=True)

    def starts(self) -> list[dict[str, int]]:
        """Choices to try first, as their numbers in the space: the base, what differs from it by a
        step in one field, and other configurations that are known to work."""
        choices = self.space.choices
        first = self.space.parameters(self.base)
        found: list[dict[str, Any]] = []
        if first is not None:
            found.append(first)
            for name, values in choices.items():
                number = values.index(first[name])
                found += [{**first, name: values[other]} for other in (number - 1, number + 1)
                          if 0 <= other < len(values)]
        known = [*PRESETS.values(), *(board.config for board in BOARDS.values())]
        found += [inside for each in known
                  if (inside := self.space.parameters(each)) is not None and inside not in found]
        return [{name: choices[name].index(value) for name, value in each.items()}
                for each in found]

    def config(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of the configuration with these choices."""
        return {**self.base.to_dict(), "name": "custom", **parameters}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A configuration that was tried; ``parameters`` are its choices."""
    number: int
    parameters: dict[str, Any]
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a search is: trials done and in all, points on the front, seconds left at most."""
    done: int
    total: int
    front: int
    seconds_left: float | None


def front(trials: Sequence[Trial], objectives: Sequence[str]) -> list[Trial]:
    """Those that no other one is better than in one objective and as good in all, in the order of
    the first objective; of equal ones the first."""
    found: list[tuple[tuple[float, ...], Trial]] = []
    for trial in sorted((each for each in trials if not each.outcome.reason),
                        key=lambda each: (each.outcome.values(objectives), each.number)):
        values = trial.outcome.values(objectives)
        if not any(all(mine >= theirs for mine, theirs in zip(values, other))
                   for other, _ in found):
            found.append((values, trial))
    return [trial for _, trial in found]


class Search:
    """A search that can be stopped and go on.

    Parameters
    ----------
    problem : :class:`Problem`
    study : :class:`~weft.explore.study.Study`
        Of this problem.
    """

    def __init__(self, problem: Problem, study: Study):
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._problem = problem
        self._directions: list[Any] = [OBJECTIVES[name][0] for name in problem.objectives]
        self._sampled = optuna.create_study(directions=self._directions)
        self._study = study
        self._outcomes: dict[tuple[Any, ...], Outcome] = {}     # by choices
        self.resumed = len(study.trials)
        self.trials: list[Trial] = []

    def run(self, cluster: Cluster, *, trials: int, seconds: float | None,
            progress: Callable[[Progress], None]) -> list[Trial]:
        """Tries until there are ``trials`` of them, or ``seconds`` have passed; those of before
        count. Batches are whole: with a limit of time, too."""
        start = time.monotonic()
        while len(self.trials) < trials:
            passed = time.monotonic() - start
            if seconds is not None and passed >= seconds:
                break
            self._batch(cluster, min(BATCH, trials - len(self.trials)))
            done = len(self.trials)
            fresh = max(0, done - self.resumed)
            passed = time.monotonic() - start
            left = None if not fresh else passed / fresh * (trials - done)
            if seconds is not None:
                left = min(max(0.0, seconds - passed), left or seconds)
            progress(Progress(done=done, total=trials, seconds_left=left,
                              front=len(front(self.trials, self._problem.objectives))))
        return self.trials

    def _batch(self, cluster: Cluster, count: int) -> None:
        asked = [self._ask() for _ in range(count)]
        choices = [_choices(self._problem.space, trial.params) for trial in asked]
        first = len(self.trials)
        known = self._study.trials[first:first + count]
        for mine, (before, outcome) in zip(choices, known):
            if mine != before:
                raise InputError("Study must be one of this version of Weft and Optuna to go on: "
                                 "it would try other configurations now; -o with another folder "
                                 "starts anew")
            self._outcomes[tuple(mine.values())] = outcome
        fresh = {tuple(mine.values()): mine for mine in choices
                 if tuple(mine.values()) not in self._outcomes}
        objectives = self._problem.objectives
        job = replace(self._problem.job, beat=tuple(
            trial.outcome.values(objectives) for trial in front(self.trials, objectives)))
        outcomes = cluster.map(evaluate, [replace(job, config=self._problem.config(mine))
                                          for mine in fresh.values()])
        for number, (trial, mine) in enumerate(zip(asked, choices, strict=True)):
            key = tuple(mine.values())
            if key not in self._outcomes:       # so they come in the order of ``fresh``
                self._outcomes[key] = next(outcomes)
            outcome = self._outcomes[key]
            if number >= len(known):
                self._study.keep(first + number, mine, outcome)
            trial.set_user_attr("violation", outcome.violation)
            self._sampled.tell(trial, self._values(outcome))
            self.trials.append(Trial(number=first + number, outcome=outcome, parameters=mine))

    def _ask(self) -> optuna.Trial:
        number = len(self._sampled.get_trials(deepcopy=False))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")     # what Optuna calls experimental
            self._sampled.sampler = optuna.samplers.TPESampler(
                seed=self._problem.seed * 1_000_003 + number, n_startup_trials=_STARTUP,
                multivariate=True, constraints_func=lambda each: (each.user_attrs["violation"],))
        if number == 0:
            for start in self._problem.starts():
                self._sampled.enqueue_trial(start)
        trial = self._sampled.ask()
        # By index: values of a field are in order, and the sampler may learn that.
        for name, values in self._problem.space.choices.items():
            trial.suggest_int(name, 0, len(values) - 1)
        return trial

    def _values(self, outcome: Outcome) -> list[float]:
        if outcome.reason:
            return [_BAD[direction] for direction in self._directions]
        return [outcome.value(name) for name in self._problem.objectives]


def _choices(space: Space, numbers: Mapping[str, int]) -> dict[str, Any]:
    return {name: values[numbers[name]] for name, values in space.choices.items()}


def count_reasons(trials: Sequence[Trial]) -> Iterator[tuple[str, int, str]]:
    """Why trials do not fit: the kind, how many, and one of the reasons; most frequent first."""
    kinds = Counter(trial.outcome.kind for trial in trials if not trial.outcome.fits)
    for kind, count in kinds.most_common():
        reason = next(trial.outcome.reason for trial in trials if trial.outcome.kind == kind)
        yield kind, count, reason
