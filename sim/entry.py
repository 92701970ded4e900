"""An entry of the cache: a folder with a list of what it holds, which is checked before each use.

A disk that was full, a copy that was cut short or a bad block must not end in a crash inside a
shared library: an entry that does not match its list counts as absent, and is built again.

Whose an entry is matters too, since it is code that is run. One counts as absent unless it and its
files belong to this user or to root (who can do everything anyway, and who may have put it into an
image for all) and nobody else may write to them. What is sealed here is so under every umask.
"""

import hashlib
import json
import os
import shutil
import stat
from pathlib import Path

__all__ = ["is_sound", "is_trusted", "seal", "store"]


_LIST = "contents.json"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def seal(folder: Path) -> None:
    """Writes the list of what is in ``folder``, and takes the right to write from all others."""
    (folder / _LIST).write_text(json.dumps(_contents(folder), indent=2), encoding="utf-8")
    for path in (folder, *folder.iterdir()):
        path.chmod(path.stat().st_mode & ~_OTHERS_WRITE)


def is_sound(folder: Path) -> bool:
    """Whether ``folder`` was sealed, holds what it held then, and can be trusted."""
    try:
        return (all(is_trusted(path.lstat()) for path in (folder, *folder.iterdir()))
                and json.loads((folder / _LIST).read_text(encoding="utf-8")) == _contents(folder))
    except (OSError, ValueError):
        return False


def is_trusted(status: os.stat_result) -> bool:
    """Whether nobody but this user and root can have written to a file or folder."""
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & _OTHERS_WRITE


def store(folder: Path, place: Path) -> None:
    """Seals ``folder`` and moves it to ``place``, instead of what is there."""
    seal(folder)
    shutil.rmtree(place, ignore_errors=True)
    os.replace(folder, place)


def _contents(folder: Path) -> dict[str, dict[str, int | str]]:
    contents: dict[str, dict[str, int | str]] = {}
    for path in sorted(folder.iterdir()):
        if path.name != _LIST:
            with path.open("rb") as file:
                contents[path.name] = {"bytes": os.fstat(file.fileno()).st_size,
                                       "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    return contents
