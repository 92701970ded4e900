"""Runs tests in a process of their own, on the sources as they are or with one change.

A trial is forked from a process that has the heavy packages at hand, and imports Weft and the tests
itself. The changed source is compiled in memory: no file is touched.
"""

import importlib.machinery
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy  # noqa: F401 - here, so that trials need not
import onnxruntime  # noqa: F401
import pytest
from amaranth.sim import Simulator
from mutation import Mutant

__all__ = ["ROOT", "measure", "outcome"]


ROOT = Path(__file__).parents[2]

_OPTIONS = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(ROOT),
            "-m", "not slow"]
_TRIES = 3      # failures after which a file of tests is given up, if none has passed
_PATIENCE = 10  # a test may take so many times as long as without a change
_LEAST = 10     # seconds of the processor that any test may take


def measure(file: str, log: Path) -> dict[str, Any]:
    """Runs the tests of ``file``: for each that passes ``seconds``, and the lines of hw/ that ran
    for it as ``lines`` of each file. Tests that start a process, such as those that build a
    simulator, count as failing; if the first few do, the others are not tried."""
    def run(report: Any) -> int:
        _refuse_processes()
        recorder = _Recorder()
        code = pytest.main([*_OPTIONS, str(ROOT / file)], plugins=[recorder])
        json.dump(recorder.passed, report)
        return int(code)
    return json.loads(_fork(run, log)[1] or "{}")


def outcome(mutant: Mutant, tests: Mapping[str, float], log: Path) -> tuple[str, str]:
    """Runs ``tests`` (and the seconds that each takes) with a change, the quickest first.

    Returns
    -------
    tuple
        ``"survived"``; ``"killed"`` by the first test that fails; ``"broken"`` if that ended in an
        exception other than a failed assertion, as when no hardware can be made; ``"hung"`` if it
        took too long. And what killed it.
    """
    def run(report: Any) -> int:
        _refuse_processes()
        sys.meta_path.insert(0, _Finder(mutant))
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        files = dict.fromkeys(test.partition("::")[0] for test in tests)
        return int(pytest.main([*_OPTIONS, "-x", *(str(ROOT / file) for file in files)],
                               plugins=[_Selection(tests, report)]))

    if not tests:
        return "survived", ""
    status, reported = _fork(run, log)
    *_, last = reported.splitlines() or [""]
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) == signal.SIGPROF:
            return "hung", last
        return "broken", f"signal {os.WTERMSIG(status)}"
    code = os.waitstatus_to_exitcode(status)
    if code == pytest.ExitCode.OK:
        return "survived", ""
    if code in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED):
        test, _, kind = last.partition("\t")
        return kind or "broken", test or "while the tests were collected"
    raise RuntimeError(f"pytest ended with {code} for {mutant}: see {log}")


def _fork(run: Any, log: Path) -> tuple[int, str]:
    """The status of a child that calls ``run`` with a file, and the content of the file."""
    reported = log.with_suffix(".report")
    child = os.fork()
    if not child:
        code = 70
        try:
            with log.open("w") as output, reported.open("w") as report:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                os.chdir(ROOT)
                code = run(report)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return status, reported.read_text()


def _refuse_processes() -> None:
    def refuse(event: str, arguments: tuple) -> None:
        if event in ("subprocess.Popen", "os.posix_spawn", "os.system"):
            raise OSError("these tests run in one process")
    sys.addaudithook(refuse)


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


class _Recorder:
    """What each passing test takes, and the lines of hw/ that run for it: all that makes hardware
    does so before the simulation runs."""

    def __init__(self) -> None:
        self.passed: dict[str, dict[str, Any]] = {}
        self._lines: dict[str, set[int]] = {}
        self._failed = False
        self._failures = 0
        simulate = Simulator.run

        def untraced(*arguments: Any, **options: Any) -> None:
            sys.settrace(None)
            try:
                simulate(*arguments, **options)
            finally:
                sys.settrace(self._call)
        Simulator.run = untraced

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self._lines, self._failed = {}, False
        begin = time.process_time()
        sys.settrace(self._call)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            if not self._failed:
                self.passed[item.nodeid] = {
                    "seconds": round(time.process_time() - begin, 3),
                    "lines": {file: sorted(lines) for file, lines in self._lines.items()}}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failed |= not report.passed
        self._failures += report.failed

    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        if self._failures >= _TRIES and not self.passed:
            item.session.shouldstop = "its tests seem to need processes"

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(_HARDWARE) or code.co_name == "<module>":
            return None
        lines = self._lines.setdefault(code.co_filename[len(_HARDWARE) - len("hw/"):], set())

        def line(frame: FrameType, event: str, argument: Any) -> Any:
            lines.add(frame.f_lineno)
            return line
        return line(frame, event, argument)


_HARDWARE = f"{(ROOT / 'hw').resolve()}{os.sep}"


class _Selection:
    """Runs the chosen tests only, the quickest first, each with a time limit, and tells how the
    first failure came about."""

    def __init__(self, tests: Mapping[str, float], report: Any):
        self._tests  = tests
        self._report = report

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((item for item in items if item.nodeid in self._tests),
                          key=lambda item: self._tests[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        limit = max(_LEAST, _PATIENCE * self._tests[nodeid])
        signal.setitimer(signal.ITIMER_PROF, limit)
        print(nodeid, file=self._report, flush=True)

    def pytest_exception_interact(self, node: Any, call: Any, report: Any) -> None:
        kind = "killed" if call.excinfo.errisinstance((AssertionError, pytest.fail.Exception)) \
            else "broken"
        print(f"{node.nodeid}\t{kind}", file=self._report, flush=True)
