"""Ends a program that is told to end as it ends by itself: what is open is closed, what it started
is stopped, what is half made is removed."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

__all__ = ["exit_when_terminated", "terminable"]


_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def exit_when_terminated() -> None:
    """From now on SIGTERM and SIGHUP raise :exc:`SystemExit` in the main thread, with the exit code
    that a shell gives: 143 and 129. A signal that was ignored (``nohup``) still is."""
    for number in _SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _exit)


@contextmanager
def terminable() -> Iterator[None]:
    """:func:`exit_when_terminated` for what runs inside, if this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    exit_when_terminated()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
