"""Runs the tools of a build, and leaves none behind when the build fails or is interrupted."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path

from weft.errors import ToolError

__all__ = ["Steps", "no_child_left"]


_JOBS = 2


class Steps:
    """Runs tools in one folder with one log, and turns their failures into :class:`ToolError`.

    Each tool is the head of a process group: compilers start further programs, and what ends a
    build (an exception, Ctrl-C) ends all of them at once.

    Parameters
    ----------
    work : :class:`Path`
        Where they run, and where they put temporary files.
    log : :class:`Path`
        Gets the commands and all that the tools say.
    environment : :class:`dict`
        See :func:`weft.sim.toolchain.tool_environment`.
    """

    def __init__(self, work: Path, log: Path, environment: dict[str, str]):
        self._work = work
        self._log = log
        self._environment = environment | {"TMPDIR": str(work.absolute())}
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False
        log.write_text("", encoding="utf-8")

    def run(self, tool: str, command: Sequence[str]) -> None:
        """Runs one command."""
        self.run_all(tool, [command])

    def run_all(self, tool: str, commands: Sequence[Sequence[str]],
                report: Callable[[int], None] = lambda done: None) -> None:
        """Runs commands, some at a time.

        Parameters
        ----------
        tool : :class:`str`
            What they are called in an error.
        report : callable
            Told how many are done, at first and after each.

        Raises
        ------
        ToolError
            If one of them fails, or cannot be started.
        """
        # Signals interrupt the main thread, which must not be amid the start of a process then.
        with ThreadPoolExecutor(_JOBS) as pool:
            futures = [pool.submit(self._run, tool, command) for command in commands]
            try:
                report(0)
                for done, future in enumerate(as_completed(futures), 1):
                    future.result()
                    report(done)
            except BaseException:
                self._stop()
                raise

    def _run(self, tool: str, command: Sequence[str]) -> None:
        with self._lock:
            if self._stopped:
                return
            try:
                process = subprocess.Popen(
                    command, cwd=self._work, env=self._environment, process_group=0,
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                    text=True, errors="replace")
            except OSError as error:
                raise ToolError(f"{tool} cannot be started: {error.strerror}") from None
            self._running.add(process)
        output, _ = process.communicate()
        with self._lock:
            self._running.discard(process)
            killed = self._stopped
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(command)}\n{output}")
        if process.returncode and not killed:
            self._stop()  # here, before another one is started in its place
            raise ToolError(f"{tool} failed (exit code {process.returncode}), the full log is "
                            f"{self._log}: {_reason(output)}")

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def no_child_left() -> Iterator[None]:
    """If what runs inside is interrupted, kills the processes that it started and did not end:
    Amaranth leaves its Yosys behind."""
    before = _children()
    try:
        yield
    except Exception:
        raise
    except BaseException:
        for process in _children() - before:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        raise


def _children() -> set[int]:
    with suppress(OSError):  # not every system has it
        return {int(process) for path in Path("/proc/self/task").glob("*/children")
                for process in path.read_text().split()}
    return set()


def _reason(output: str) -> str:
    """The line of a tool's output that most likely says why it failed."""
    lines = output.strip().splitlines() or ["no output"]
    return next((line for line in lines if "error" in line.lower()), lines[-1]).strip()
