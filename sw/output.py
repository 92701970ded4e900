"""Output files that are either whole or absent."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from weft.errors import InputError

__all__ = ["check_writable", "replacing"]


def check_writable(path: Path) -> None:
    """Makes sure that ``path`` can be written, before hours are spent on what goes into it.

    Raises
    ------
    InputError
        If its folder does not exist or may not be written, or ``path`` is a folder.
    """
    folder = path.parent
    if not folder.is_dir():
        raise InputError(f"Output {path} cannot be written: there is no folder {folder}")
    if path.is_dir():
        raise InputError(f"Output {path} cannot be written: it is a folder")
    if not os.access(folder, os.W_OK):
        raise InputError(f"Output {path} cannot be written: no permission for folder {folder}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside ``path``, and moves what was written there to ``path`` when
    the block ends without an exception. Otherwise ``path`` stays as it was.

    The temporary path has the suffix of ``path``. If nothing was written there, nothing is moved.

    Raises
    ------
    InputError
        If writing fails.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        if temporary.exists():
            temporary.replace(path)
    except OSError as error:
        raise InputError(f"Output {path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
