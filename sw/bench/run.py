"""Measures many cases, several at a time."""

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from weft.cluster import Cluster
from weft.errors import InputError, WeftError
from weft.errors.termination import exit_when_terminated

from .measure import Measurement, measure
from .suite import Case

__all__ = ["measure_all"]


def measure_all(cases: Sequence[Case], *, models: Path | None = None, jobs: int = 2,
                cluster: Cluster | None = None,
                progress: Callable[[str], None] | None = None) -> list[Measurement]:
    """Measures all cases, in processes of their own if there is to be more than one at a time.

    Parameters
    ----------
    cases : list of :class:`weft.bench.suite.Case`
    models : path
        See :func:`weft.bench.suite.select`.
    jobs : :class:`int`
        Cases at a time, at least 1.
    cluster : :class:`~weft.cluster.Cluster`
        Workers that measure instead; they find ``models`` at the same path.
    progress : callable
        Told what comes next, in a few words.

    Raises
    ------
    WeftError
        The first error of a case, in their order.
    """
    if jobs < 1:
        raise InputError(f"Number of jobs must be at least 1, not {jobs}")
    tell = progress or (lambda text: None)
    one = partial(_measure, models=models)
    if cluster is None and min(jobs, len(cases)) == 1:
        return [_result(case, each) for case, each in zip(cases, map(one, cases), strict=True)]
    if cluster is not None:
        return _collect(cases, cluster.map(one, cases), tell)
    # Not a fork: the process may have threads. Left by an exception, the pool ends its processes.
    with multiprocessing.get_context("spawn").Pool(jobs, initializer=_leave_interrupts) as pool:
        return _collect(cases, pool.imap(one, cases), tell)


def _collect(cases: Sequence[Case], results: Iterable[Measurement | str],
             tell: Callable[[str], None]) -> list[Measurement]:
    tell(f"Measuring {len(cases)} cases")
    found = []
    for case, result in zip(cases, results, strict=True):
        found.append(_result(case, result))
        tell(f"Measured {len(found)} of {len(cases)}: {case}")
    return found


def _leave_interrupts() -> None:
    """Ctrl-C is for the process that started this one, which then terminates it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exit_when_terminated()


def _measure(case: Case, *, models: Path | None) -> Measurement | str:
    try:
        return measure(case, models)
    except WeftError as error:  # as text: not all of them survive the way between processes
        return str(error)


def _result(case: Case, result: Measurement | str) -> Measurement:
    if isinstance(result, str):
        raise WeftError(f"{case}: {result}")
    return result
