"""The folder in which simulators are kept, and what is removed from it.

What lies in it is loaded and run. So nothing is loaded from a folder that others may write to, or
that belongs to somebody else but root: on a shared disk, in a home that is mounted into a container
of another user, in the home of the one who typed ``sudo``. That is an error and not a silent
rebuild elsewhere: a build takes minutes, and who chose the folder wants to know that it is of no
use. Weft takes the right of others to write to its own folder away, so that a umask of 002 needs no
care. The folders above are not looked at: who may write to them can put a folder of his own there,
which is refused.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from weft.errors import ToolError

from .entry import is_trusted

__all__ = ["cache_directory", "locked", "mark_used", "prune", "simulators_directory"]


_ENTRIES = 20
_BYTES = 2 << 30
# Somebody may be about to load what was looked up or used this recently.
_GRACE_SECONDS = 3600


def cache_directory() -> Path:
    """Where simulators are kept: ``$WEFT_CACHE``, ``$XDG_CACHE_HOME/weft`` or ``~/.cache/weft``."""
    if own := os.environ.get("WEFT_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "weft"


def simulators_directory() -> Path:
    """The part of :func:`cache_directory` that holds simulators, created if it is missing.

    Raises
    ------
    ToolError
        If it cannot be created, or others may have put anything there.
    """
    folder = cache_directory() / "simulators"
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        status = folder.stat()
        if status.st_uid == os.geteuid() and not is_trusted(status):
            with suppress(OSError):
                folder.chmod(status.st_mode & 0o755)
            status = folder.stat()
    except OSError as error:
        raise ToolError(f"The simulator cannot be built in {folder}: {error.strerror}; set "
                        f"WEFT_CACHE to a folder that can be written") from error
    if not is_trusted(status):
        who = "Others than you may write to" if status.st_uid in (os.geteuid(), 0) else \
            "Somebody else owns"
        raise ToolError(f"{who} {folder}, from where simulators are loaded and run: set WEFT_CACHE "
                        f"to a folder of your own")
    return folder


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds a lock, a file that is created and that its holder may remove.

    Raises
    ------
    BlockingIOError
        If somebody else holds it and there is to be no wait.
    """
    while True:
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is_still(file.fileno(), path):
                yield
                return


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one at ``path``: another holder of a lock may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def mark_used(path: Path) -> None:
    """Notes that a file or folder of the cache is in use now."""
    with suppress(OSError):  # a cache that can only be read is never pruned either
        os.utime(path)


def prune(folder: Path) -> None:
    """Removes what was used least recently, beyond 20 simulators or 2 GiB; nothing that is locked
    or was used in the last hour."""
    for lock in _superfluous({lock: _paths(lock) for lock in folder.glob("*.lock")}):
        with suppress(BlockingIOError), locked(lock, wait=False):
            for path in _paths(lock):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
    # Verilator's runtime, compiled once for each set of tools and options.
    for path in _superfluous({path: [path] for path in folder.glob("runtime-*")}):
        shutil.rmtree(path, ignore_errors=True)


def _paths(lock: Path) -> list[Path]:
    """A simulator, the rest of an interrupted build, the log of a failed one and the lock."""
    return [lock.with_suffix(suffix) for suffix in ("", ".part", ".log", ".lock")]


def _superfluous(entries: Mapping[Path, Sequence[Path]]) -> Iterator[Path]:
    """Those of ``entries``, given with all their paths, that are to go."""
    used, size = {}, {}
    for entry, paths in entries.items():
        used[entry] = max(_modified(path) for path in paths)
        size[entry] = sum(_bytes(path) for path in paths)
    total = 0
    for count, entry in enumerate(sorted(entries, key=lambda entry: -used[entry]), 1):
        total += size[entry]
        recent = time.time() - used[entry] < _GRACE_SECONDS
        if not recent and (count > _ENTRIES or total > _BYTES):
            yield entry


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _bytes(path: Path) -> int:
    if path.is_dir():
        return sum(_bytes(inner) for inner in path.iterdir())
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
