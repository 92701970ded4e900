"""Output files: whole or absent, followed through links, and never in place of what is read."""

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from weft.errors import InputError

__all__ = ["check_outputs", "check_writable", "make_folder", "replacing", "write_folder",
           "write_text"]


def check_outputs(outputs: Mapping[str, Path | None],
                  inputs: Mapping[str, str | Path | None]) -> None:
    """Makes sure of all files of a command, before hours are spent on what goes into them.

    Parameters
    ----------
    outputs, inputs : :class:`dict`
        Files to be written and to be read, by how a message names them; :py:`None` for one that
        was not asked for. Devices may be written by several.

    Raises
    ------
    InputError
        If an output cannot be written (see :func:`check_writable`), or is an input or another
        output, by whatever name.
    """
    taken = {_identity(Path(path)): name for name, path in inputs.items()
             if path is not None and os.path.exists(path)}
    for name, path in outputs.items():
        if path is None:
            continue
        check_writable(path)
        if _is_device(path):
            continue
        key = _identity(path)
        if key in taken:
            raise InputError(f"Output {path} of {name} must be a file of its own, not that of "
                             f"{taken[key]}")
        taken[key] = name


def check_writable(path: Path) -> None:
    """Makes sure that ``path`` can be written.

    Raises
    ------
    InputError
        If its folder does not exist or may not be written, or ``path`` is a folder, or a link
        that leads to one of these or to itself.
    """
    target = _target(path)
    folder = target.parent
    if _is_device(path):
        if not os.access(path, os.W_OK):
            raise InputError(f"Output {path} cannot be written: no permission")
    elif not folder.is_dir():
        raise InputError(f"Output {path} cannot be written: there is no folder {folder}")
    elif target.is_dir():
        raise InputError(f"Output {path} cannot be written: it is a folder")
    elif not os.access(folder, os.W_OK):
        raise InputError(f"Output {path} cannot be written: no permission for folder {folder}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path, and moves what was written there to ``path`` when the block ends
    without an exception. Otherwise ``path`` stays as it was.

    A link stays, and what it leads to is replaced. What is no plain file, such as a device, a pipe
    or the standard output under any name, is written to and stays, too.

    The temporary path has the name of ``path``. If nothing was written there, nothing is moved.

    Raises
    ------
    InputError
        If writing fails.
    """
    target, device = _target(path), _is_device(path)
    try:
        with tempfile.TemporaryDirectory(prefix=".weft-", ignore_cleanup_errors=True,
                                         dir=None if device else target.parent) as folder:
            temporary = Path(folder) / path.name
            yield temporary
            if not temporary.exists():
                pass
            elif device:
                _write_through(temporary, path)
            else:
                if target.exists():
                    shutil.copymode(target, temporary)
                temporary.replace(target)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"Output {path} cannot be written: {error.strerror or error}") from error


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` to ``path`` as :func:`replacing` does."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def make_folder(folder: Path) -> None:
    """Creates ``folder`` if need be, with those that it is in.

    Raises
    ------
    InputError
        If that cannot be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Folder {folder} cannot be written: {error.strerror}") from None


def write_folder(folder: Path, files: Mapping[str, str]) -> list[Path]:
    """Writes texts by name to ``folder``, created if need be; gives their paths."""
    make_folder(folder)
    for name, text in files.items():
        write_text(folder / name, text)
    return [folder / name for name in files]


def _target(path: Path) -> Path:
    """The file that ``path`` leads to, which need not exist."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):     # Python 3.11 and 3.12 have the latter for a loop of links
        raise InputError(f"Output {path} cannot be written: its links lead nowhere") from None


def _standard_stream(path: Path) -> int | None:
    """The descriptor of the standard stream that ``path`` is, if it is one."""
    for descriptor in (1, 2):
        try:
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                return descriptor
        except OSError:
            continue
    return None


def _is_device(path: Path) -> bool:
    """Whether ``path`` exists, and must be written to as it is."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or _standard_stream(path) is not None


def _write_through(temporary: Path, path: Path) -> None:
    descriptor = _standard_stream(path)
    if descriptor is None:
        target = path.open("wb", buffering=0)
    else:
        # Opened anew, a plain file would be written from its start.
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        target = os.fdopen(os.dup(descriptor), "wb", buffering=0)
    with temporary.open("rb") as source, target:
        shutil.copyfileobj(source, target)


def _identity(path: Path) -> tuple[int, int] | Path:
    """What two names of one file have in common, whether it exists or not."""
    target = _target(path)
    try:
        found = target.stat()
    except OSError:
        return target
    return found.st_dev, found.st_ino
