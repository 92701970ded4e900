"""How a program ends: its result, or one line on standard error, never a traceback by surprise."""

import errno
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress

from . import WeftError
from .termination import terminable
from .text import printable

__all__ = ["DEBUG", "EXIT_ERROR", "EXIT_INTERRUPTED", "EXIT_MISMATCH", "EXIT_PIPE", "guarded"]


EXIT_MISMATCH = 1
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141     # what a shell makes of a program that writes to a pipe nobody reads

DEBUG = "--debug"
"""An option of all programs: show the traceback of an error, too."""


def guarded(program: Callable[[list[str]], int], arguments: list[str] | None = None) -> int:
    """Runs ``program`` and gives the exit code of the process.

    Parameters
    ----------
    program : callable
        Given the arguments, all but :data:`DEBUG`; returns an exit code.
    arguments : list of :class:`str`
        By default those of the process.

    Returns
    -------
    :class:`int`
        The result of ``program``; or 2 with one line on standard error, for an error that is the
        user's to mend and for any other; 130 after Ctrl-C; 141, quietly, if nobody reads standard
        output to its end. SIGTERM raises :exc:`SystemExit`, see
        :func:`weft.errors.termination.terminable`.
    """
    given = sys.argv[1:] if arguments is None else arguments
    _open_streams()
    try:
        try:
            with terminable():
                return program([argument for argument in given if argument != DEBUG])
        finally:
            # What cannot be written is to be noticed here, and not while Python ends.
            sys.stdout.flush()
    except KeyboardInterrupt:
        return _end("interrupted", EXIT_INTERRUPTED)
    except Exception as error:
        failure = _output_failure()
        if isinstance(failure or error, BrokenPipeError):
            return EXIT_PIPE
        if DEBUG in given:
            with suppress(OSError):
                traceback.print_exc()
        if failure is not None:
            text = f"Output cannot be written: {failure.strerror or failure}"
        else:
            text = _describe(error)
        return _end(f"error: {text}", EXIT_ERROR)


def _open_streams() -> None:
    """Standard streams that take any text, even where the process was started without them."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))   # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _output_failure() -> OSError | None:
    """Why standard output cannot be written, if so; it leads nowhere from then on."""
    try:
        sys.stdout.flush()
    except OSError as error:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None


def _end(text: str, code: int) -> int:
    with suppress(OSError):
        print(f"weft: {printable(text)}", file=sys.stderr, flush=True)
    return code


def _describe(error: Exception) -> str:
    place = next((f"{frame.f_globals['__name__']}:{line}"
                  for frame, line in reversed(list(traceback.walk_tb(error.__traceback__)))
                  if frame.f_globals.get("__name__", "").startswith("weft.")), "an unknown place")
    match error:
        case WeftError():
            return f"{error}; {error.cure}" if error.cure else str(error)
        case MemoryError():
            return (f"Memory must be enough for what is computed at {place}, and there is no more: "
                    f"a smaller model or fewer frames need less")
        case OSError(errno=int(number)) if number not in (errno.EBADF, errno.EINVAL):
            # A full disk, a lost file, no permission: of the system, not of the program.
            name = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
            if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) and not name:
                return f"Output cannot be written: {error.strerror}"
            return f"{name}{error.strerror} (at {place})"
    kind = type(error)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return (f"Weft made a mistake at {place}: {name}: {error}; please report it, with the model "
            f"and what {DEBUG} shows")
