"""Random networks on simulated accelerators, on all cores: ``python -m fuzz.networks --help``.

Network N of a seed is the same whatever the number of networks and of processes. One that fails is
made smaller and written to a folder, with what it takes to run it again.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx

from fuzz.networks.cases import CONFIGS, Case, draw_case, quantized
from fuzz.networks.check import Refused, check
from fuzz.networks.shrink import shrink
from weft.cluster import cluster
from weft.errors import WeftError
from weft.sim.build import build


@dataclass
class Outcome:
    """What came of a case: a failure in ``error``, a reason in ``refusal``, or neither.

    ``case`` is what ran: a network that does not fit into part of the memories gets all of them.
    """

    case: Case
    error: str = ""
    refusal: str = ""
    compared: int = 0
    golden: int = 0
    cycles: int = 0
    commands: Counter[str] = field(default_factory=Counter)
    equal: bool = True
    index: int = 0
    seconds: float = 0.0


def run(case: Case) -> Outcome:
    """Runs a case. Whatever is raised is a failure, but for a refusal."""
    try:
        passed = check(case)
    except Refused as refusal:
        if case.memories:
            return run(replace(case, memories={}))
        return Outcome(case, refusal=str(refusal))
    except Exception as error:
        return Outcome(case, error=f"{type(error).__name__}: {error}")
    return Outcome(case, **vars(passed))


def run_one(job: tuple[int, int, str, Path]) -> Outcome:
    """A network, of a seed, on a configuration; one that fails is written to the folder."""
    seed, index, config, folder = job
    start = time.monotonic()
    outcome = run(draw_case(seed, index, config))
    outcome.index = index
    if outcome.error:
        small = shrink(outcome.case, lambda case: bool(run(case).error))
        path = write(small, folder, f"{config}_{seed}_{index}", outcome.error)
        outcome.error += f" ({path})"
    outcome.seconds = time.monotonic() - start
    return outcome


def write(case: Case, folder: Path, name: str, error: str) -> Path:
    """Writes a case as JSON, with its error before and after it was made smaller and the command
    that repeats it, and its quantized model beside that."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    values = {"command": f"PYTHONPATH=tests .venv/bin/python -m fuzz.networks --replay {path}",
              "error": error, "smallest_error": run(case).error, "case": case.to_dict()}
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    onnx.save(quantized(case), path.with_suffix(".onnx"))
    return path


def replay(path: Path) -> int:
    """Runs what :func:`write` has written; the exit code says whether it still fails."""
    error = run(Case.from_dict(json.loads(path.read_text(encoding="utf-8"))["case"])).error
    print(error or "no difference")
    return 1 if error else 0


def run_all(jobs: list[tuple[int, int, str, Path]], processes: int,
            scheduler: str | None = None) -> Iterator[Outcome]:
    """The outcomes of all jobs, as they come; of a scheduler's workers, in their order."""
    if processes == 1 and scheduler is None:
        yield from map(run_one, jobs)
        return
    # By a name that the new processes can import, which `__main__` of a package is not.
    from fuzz.networks.__main__ import run_one as importable

    if scheduler is not None:
        with cluster(scheduler=scheduler) as workers:
            yield from workers.map(importable, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(importable, jobs, chunksize=1)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 1 if there was a difference or a stop, or not all ran."""
    parser = argparse.ArgumentParser(prog="fuzz.networks", description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=100, metavar="N", help="networks in all")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", action="append", choices=CONFIGS,
                        help="may be repeated; by default all of them take turns")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--scheduler", metavar="tcp://HOST:PORT",
                        help="work on the workers of this Dask scheduler, which have tests/ on "
                             "their PYTHONPATH, instead of on processes")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz-networks"),
                        help="for networks that fail (%(default)s)")
    parser.add_argument("--replay", type=Path, metavar="FILE.json", help="run one of those again")
    options = parser.parse_args(arguments)
    if options.replay:
        return replay(options.replay)
    configs = options.config or list(CONFIGS)
    for name in () if options.scheduler else configs:  # one by one: a build keeps all cores busy
        build(CONFIGS[name], progress=lambda text, name=name: progress(f"{name}: {text}"))
    jobs = [(options.seed, index, configs[index % len(configs)], options.folder)
            for index in range(options.first, options.first + options.count)]
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    failed = 0
    start = time.monotonic()
    try:
        for done, outcome in enumerate(run_all(jobs, options.processes,
                                                  options.scheduler), 1):
            outcomes[outcome.case.config].append(outcome)
            if outcome.error:
                failed += 1
                progress("")
                print(f"network {outcome.index} of seed {options.seed} on {outcome.case.config}: "
                      f"{outcome.error}", flush=True)
            progress(f"{done} of {len(jobs)} networks, {failed} failed, "
                     f"{time.monotonic() - start:.0f} s", line=done % 100 == 0)
    except WeftError as error:
        print(f"fuzz.networks: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted after {sum(map(len, outcomes.values()))} networks")
    progress("")
    print(f"{'configuration':<14}{'networks':>9}{'passed':>8}{'refused':>9}{'failed':>8}"
          f"{'s per 100':>11}{'kilocycles':>12}{'bytes':>14}{'onnxruntime':>14}")
    for name in configs:
        if outcomes[name]:
            print(row(name, outcomes[name]))
    reasons = Counter(reason(outcome.refusal) for each in outcomes.values() for outcome in each
                      if outcome.refusal)
    for text, count in reasons.most_common():
        print(f"refused {count}: {text}")
    return 1 if failed or sum(map(len, outcomes.values())) < len(jobs) else 0


def row(name: str, outcomes: list[Outcome]) -> str:
    """A line of the summary."""
    count = len(outcomes)
    refused, failed = (sum(bool(getattr(outcome, field)) for outcome in outcomes)
                       for field in ("refusal", "error"))
    seconds, cycles, compared, golden = (
        sum(getattr(outcome, field) for outcome in outcomes)
        for field in ("seconds", "cycles", "compared", "golden"))
    return (f"{name:<14}{count:>9}{count - refused - failed:>8}{refused:>9}{failed:>8}"
            f"{100 * seconds / count:>11.0f}{cycles // 1000:>12,}{compared:>14,}{golden:>14,}")


def reason(error: str) -> str:
    """A refusal without the names and numbers of one network."""
    words = error.split()
    return " ".join("N" if any(map(str.isdigit, word)) else word for word in words)


def progress(text: str, *, line: bool = False) -> None:
    """Shows a text in place of the one before, on a terminal; elsewhere some of them, as lines."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif line:
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
