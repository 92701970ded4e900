"""Runs tests in a process of their own, on the sources as they are or with one change.

A trial is forked from a process that has the heavy packages at hand, and imports Weft and the tests
itself. The changed source is compiled in memory: no file is touched.
"""

import importlib.machinery
import os
import signal
import sys
import time
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

import amaranth.sim  # noqa: F401 - here, so that trials need not
import numpy  # noqa: F401
import onnxruntime  # noqa: F401
import pytest
from mutation import Mutant

__all__ = ["ROOT", "Outcome", "trial"]


ROOT = Path(__file__).parents[2]

_OPTIONS = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(ROOT),
            "-m", "not slow"]
_PATIENCE = 10  # a test may take so many times as long as it is known to
_LEAST = 30     # seconds of the processor that any test may take
_TRIES = 3      # tests that need processes, after which a file is given up if none has passed


@dataclass
class Outcome:
    """What became of a trial.

    Attributes
    ----------
    result : :class:`str`
        ``"survived"``; ``"killed"`` by the first test that fails; ``"broken"`` if that ended in an
        exception other than a failed assertion, as when no hardware can be made; ``"hung"`` if it
        took too long.
    test : :class:`str`
        By which test.
    passed : dict of :class:`str` to :class:`float`
        Tests that passed, with their seconds.
    refused : list of :class:`str`
        Tests that do not count, as they start processes, such as those that build a simulator.
    """
    result: str = "survived"
    test: str = ""
    passed: dict[str, float] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


def trial(mutant: Mutant | None, file: str, seconds: Mapping[str, float], leave_out: Container[str],
          log: Path, only: str = "") -> Outcome:
    """Runs the tests of ``file`` with a change, or without one, until one fails: first those that
    are known to take few ``seconds``. ``only`` names a single one."""
    reported = log.with_suffix(".report")
    child = os.fork()
    if not child:
        code = 70
        try:
            with log.open("w") as output, reported.open("w") as report:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                os.chdir(ROOT)
                selection = _Selection(seconds, leave_out, only, report)
                sys.addaudithook(selection.audit)
                if mutant is not None:
                    sys.meta_path.insert(0, _Finder(mutant))
                signal.signal(signal.SIGPROF, signal.SIG_DFL)
                code = int(pytest.main([*_OPTIONS, str(ROOT / file)], plugins=[selection]))
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)

    outcome = Outcome(test=file)
    kind = "broken"
    for line in reported.read_text().splitlines():
        event, outcome.test, *detail = line.split("\t")
        if event == "passed":
            outcome.passed[outcome.test] = float(detail[0])
        elif event == "refused":
            outcome.refused.append(outcome.test)
        elif event == "failed":
            kind = detail[0]
    if os.WIFSIGNALED(status):
        outcome.result = "hung" if os.WTERMSIG(status) == signal.SIGPROF else "broken"
        return outcome
    code = os.waitstatus_to_exitcode(status)
    if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) or \
            (code == pytest.ExitCode.INTERRUPTED and outcome.refused):
        return outcome
    if code not in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED):
        raise RuntimeError(f"pytest ended with {code} for {mutant}: see {log}")
    outcome.result = kind
    return outcome


class _Finder:
    """Finds the module of the changed file, and nothing else."""

    def __init__(self, mutant: Mutant):
        self._mutant = mutant
        self._file = str((ROOT / mutant.file).resolve())

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if not name.startswith("weft"):
            return None
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target) if finder is not self else None
            if spec is not None:
                if os.path.realpath(spec.origin or "") != self._file:
                    return None
                spec.loader = _Loader(name, self._file, self._mutant)
                return spec
        return None


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, mutant: Mutant):
        super().__init__(name, path)
        self._mutant = mutant

    def get_code(self, name: str) -> CodeType:
        return self.source_to_code(self._mutant.apply(self.get_data(self.path)), self.path)


class _Selection:
    """Runs the chosen tests, the quickest first, each with a time limit, without processes, and
    reports what becomes of each."""

    def __init__(self, seconds: Mapping[str, float], leave_out: Container[str], only: str,
                 report: Any):
        self._seconds   = seconds
        self._leave_out = leave_out
        self._only      = only
        self._report    = report
        self._passes = self._refuses = False
        self._passed = self._refused = 0

    def audit(self, event: str, arguments: tuple) -> None:
        """Refuses processes."""
        if event in ("subprocess.Popen", "os.posix_spawn", "os.system"):
            self._refuses = True
            raise OSError("processes take too long here")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items
             if item.nodeid not in self._leave_out and self._only in ("", item.nodeid)),
            key=lambda item: self._seconds.get(item.nodeid, 0))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        limit = max(_LEAST, _PATIENCE * self._seconds.get(item.nodeid, 0))
        signal.setitimer(signal.ITIMER_PROF, limit)
        self._tell("begins", item.nodeid)
        begin = time.process_time()
        self._passes, self._refuses = True, False
        result = yield
        if self._refuses:
            self._refused += 1
            self._tell("refused", item.nodeid)
            if self._refused >= _TRIES and not self._passed:
                item.session.shouldstop = "these tests seem to need processes"
        elif self._passes:
            self._passed += 1
            self._tell("passed", item.nodeid, f"{time.process_time() - begin:.3f}")
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Any:
        report = yield
        if report.failed:
            if self._refuses:
                report.outcome  = "skipped"
                report.longrepr = (str(item.path), 0, "needs a process")
            else:
                self._passes = False
                asserted = call.excinfo.errisinstance((AssertionError, pytest.fail.Exception))
                self._tell("failed", item.nodeid, "killed" if asserted else "broken")
        return report

    def _tell(self, *fields: str) -> None:
        print(*fields, sep="\t", file=self._report, flush=True)
