"""What a test sends signals to: they may be ignored around it, as under ``nohup``, in a background
job of a shell script or of a CI, and what is ignored is inherited."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["by_default", "take_by_default"]


_HANDLERS = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler,
             signal.SIGTERM: signal.SIG_DFL}


def take_by_default() -> None:
    """Nothing is ignored from now on: the ``preexec_fn`` of a process."""
    for number, handler in _HANDLERS.items():
        signal.signal(number, handler)


@contextmanager
def by_default() -> Iterator[None]:
    """The same for this process, and as it was before in the end."""
    before = {number: signal.getsignal(number) for number in _HANDLERS}
    take_by_default()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
