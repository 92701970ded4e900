"""Progress of a search on the terminal."""

import sys
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from weft.explore.search import Progress
from weft.report.terminal import error_console, escape

__all__ = ["SearchProgress"]


class SearchProgress:
    """A bar with trials, points on the front and the time that is left; elsewhere than on a
    terminal, a line for each batch of trials."""

    def __init__(self) -> None:
        self._console = error_console()
        self._bar = Bar(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                        TextColumn("{task.fields[note]}"), console=self._console, transient=True) \
            if self._console.is_terminal else None
        self._task = None if self._bar is None else self._bar.add_task("", total=None, note="")

    def __enter__(self) -> "SearchProgress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def stage(self, text: str) -> None:
        """Something else begins."""
        if self._bar is None or self._task is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self._bar.update(self._task, description=escape(text), total=None, completed=0, note="")

    def step(self, now: Progress) -> None:
        """So many trials are done."""
        left = "" if now.seconds_left is None else f", {_time(now.seconds_left)} left"
        note = f"trials, {now.front} on the front{left}"
        if self._bar is None or self._task is None:
            print(f"{now.done} of {now.total} {note}", file=sys.stderr, flush=True)
        else:
            self._bar.update(self._task, completed=now.done, total=now.total, note=note)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
