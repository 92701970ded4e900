"""An exploration from its models to its files."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import onnx
from rich.console import Console
from rich.table import Table

from weft.boards.flow.predict import predicted_error
from weft.boards.flow.reached import clock_model
from weft.cluster import cluster, digest
from weft.errors import InputError
from weft.files.output import make_folder, write_text
from weft.frontend import partition
from weft.frontend.registry import find_front_end
from weft.hw.isa.config import AcceleratorConfig
from weft.report.terminal import escape
from weft.runtime.energy import EnergyTable

from .page import exploration_page
from .points import Point, find_points, write_points
from .search import Problem, Progress, Search, Trial, count_reasons
from .space import Space
from .study import Study
from .trial import OBJECTIVES, Job, Network, Outcome, Target, evaluate, find_family
from .verify import verify_build, verify_rtl

__all__ = ["Exploration", "Result", "explore"]


class Listener(Protocol):
    """What is told how far an exploration is."""

    def stage(self, text: str) -> None:
        """Something else begins."""

    def step(self, now: Progress) -> None:
        """So many trials are done."""


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """What is explored.

    Attributes
    ----------
    models : tuple of paths
    rule : :class:`str` or :py:`None`
        As of :func:`weft.frontend.partition`.
    target : :class:`~weft.explore.trial.Target`
    base : :class:`AcceleratorConfig`
        Where the search begins, and the fields that the space does not name.
    space : :class:`~weft.explore.space.Space`
    objectives : tuple of :class:`str`
        Of :data:`~weft.explore.trial.OBJECTIVES`.
    seed, trials : :class:`int`
    seconds : :class:`float` or :py:`None`
    energy : :class:`~weft.runtime.energy.EnergyTable`
    folder : path
        For the study and the results.
    verify : :class:`str`
        ``"rtl"``, ``"build"``, or nothing.
    seeds : :class:`int`
        Placements of each build.
    """

    models: tuple[Path, ...]
    rule: str | None
    target: Target
    base: AcceleratorConfig
    space: Space
    objectives: tuple[str, ...]
    seed: int
    trials: int
    seconds: float | None
    energy: EnergyTable
    folder: Path
    verify: str = ""
    seeds: int = 1


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was found.

    Attributes
    ----------
    about : :class:`dict`
        JSON-ready: networks, target, space, errors of the models.
    trials : list of :class:`~weft.explore.search.Trial`
    points : list of :class:`~weft.explore.points.Point`
    base : :class:`~weft.explore.trial.Outcome`
        Of the configuration where the search began.
    folder : path
    """

    about: dict[str, Any]
    objectives: tuple[str, ...]
    trials: list[Trial]
    points: list[Point]
    base: Outcome
    folder: Path

    def write(self) -> None:
        """Writes all files."""
        write_points(self.points, self.folder, self.about)
        write_text(self.folder / "index.html", exploration_page(self))

    @property
    def proven(self) -> bool:
        """Whether no proof failed; without any, nothing did."""
        return all(proof.get("exact", proof.get("met")) for point in self.points
                   for proof in point.proofs.values())

    def show(self, console: Console) -> None:
        """Prints the front, and why trials could not be."""
        compiled = sum(not trial.outcome.reason for trial in self.trials)
        table = Table(title=f"Front of {len(self.trials):,} trials, {compiled:,} of them worth "
                            f"compiling, as estimated", title_justify="left")
        for name, justify in (("Point", "left"), ("Array", "right"), ("fps", "right"),
                              ("Latency, ms", "right"), ("Energy, uJ", "right"), ("LUTs", "right"),
                              ("Multipliers", "right"), ("Block RAMs", "right"),
                              ("Clock, MHz", "right")):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for point in self.points:
            outcome = point.trial.outcome
            assert outcome.used is not None
            table.add_row(
                point.name, f"{point.config.rows} x {point.config.cols}",
                f"{outcome.value('fps'):,.0f}", f"{outcome.value('latency'):.3f}",
                f"{outcome.value('energy'):,.1f}", f"{outcome.used.luts:,}",
                f"{outcome.used.multipliers:,}", f"{outcome.used.block_rams:,}",
                f"{outcome.clock_mhz:.1f}")
        console.print(table)
        for point in self.points:
            for proof in point.proofs.values():
                console.print(escape(f"{point.name}: {proof['text']}"), highlight=False,
                              style="green" if proof.get("exact", proof.get("met")) else "bold red")
        reasons = ", ".join(f"{kind} {count}" for kind, count, _ in count_reasons(self.trials))
        if reasons:
            console.print(f"not possible: {escape(reasons)}", highlight=False)
        console.print(escape(f"{self.folder / 'index.html'}: the page; front.json and "
                             f"{self.points[0].name}.toml and so on are beside it"),
                      highlight=False, soft_wrap=True)


def explore(task: Exploration, *, workers: int = 1, scheduler: str | None = None,
            progress: Listener) -> Result:
    """Explores, and writes the results.

    Raises
    ------
    InputError
        If there is no such scheduler, the study is another one, or nothing fits.
    ModelError
        If a model cannot be read, or nothing of it can run.
    ToolError
        If several processes are to work and Dask distributed is not installed.
    """
    networks, data = _networks(task)
    problem = Problem(
        base=task.base, space=task.space, objectives=task.objectives, seed=task.seed,
        job=Job(config={}, networks=networks, target=task.target, energy=task.energy,
                objectives=task.objectives))
    make_folder(task.folder)
    with cluster(workers=workers, scheduler=scheduler) as processes, \
            closing(Study(task.folder / "study.db", problem.identity())) as study:
        processes.ship(*data)
        search = Search(problem, study)
        progress.stage("Exploring" if not search.resumed else
                       f"Going on after {search.resumed} trials")
        trials = search.run(processes, trials=task.trials, seconds=task.seconds,
                            progress=progress.step)
        _check_any(trials, task)
        progress.stage("Compiling the front in full")
        points = find_points(trials, problem, study, processes)
        if not points:
            raise InputError("Front must have a point, and networks that were about to fit do not "
                             "when they are compiled in full: more --trials may find others")
        base, = processes.map(evaluate, [replace(problem.job, config=task.base.to_dict(),
                                                 whole=True)])
        result = Result(about=_about(task, trials), objectives=task.objectives, trials=trials,
                        points=points, base=base, folder=task.folder)
        result.write()

        def keep(proven: list[Point]) -> None:
            replace(result, points=proven).write()

        if task.verify == "rtl":
            points = verify_rtl(points, networks, processes, progress.stage, keep)
        elif task.verify == "build":
            points = verify_build(points, task.target.board, task.folder, processes,
                                  seeds=task.seeds, progress=progress.stage, keep=keep)
    return replace(result, points=points)


def _networks(task: Exploration) -> tuple[tuple[Network, ...], list[bytes]]:
    """The networks, and their files."""
    networks, data = [], []
    for path in task.models:
        # What is wrong with it is to be known first.
        partition(path, rule=task.rule).accelerated()
        tflite = find_front_end(path).format == "TFLite"
        # Weights in files of their own go with it.
        data.append(path.read_bytes() if tflite else onnx.load(path).SerializeToString())
        networks.append(Network(name=path.name, hash=digest(data[-1]), rule=task.rule,
                                tflite=tflite))
    repeated = [name for name, count in Counter(each.name for each in networks).items()
                if count > 1]
    if repeated:
        raise InputError(f"Models must have different names, and two are called {repeated[0]}")
    return tuple(networks), data


def _check_any(trials: Sequence[Trial], task: Exploration) -> None:
    """Makes sure that anything fits."""
    if any(not trial.outcome.reason for trial in trials):
        return
    nearest = min(trials, key=lambda trial: trial.outcome.violation)
    raise InputError(f"Space must have a configuration that fits {task.target.title}, and none of "
                     f"{len(trials)} trials does; the nearest: {nearest.outcome.reason}")


def _about(task: Exploration, trials: Sequence[Trial]) -> dict[str, Any]:
    family = find_family(task.target.family)
    model = clock_model(family)
    return {
        "networks": [path.name for path in task.models],
        "target": task.target.title,
        "board": task.target.board or None,
        "objectives": {name: OBJECTIVES[name][1] for name in task.objectives},
        "seed": task.seed,
        "trials": len(trials),
        "space": {name: list(values) for name, values in task.space.choices.items()},
        "errors": {"luts": predicted_error()["luts"], "ffs": predicted_error()["ffs"],
                   "clock": model.error, "builds": model.builds},
        "beaten": sum(trial.outcome.kind == "beaten" for trial in trials),
        "not_possible": {kind: count for kind, count, _ in count_reasons(trials)},
    }
