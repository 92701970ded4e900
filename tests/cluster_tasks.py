"""Tasks that workers import."""

import os
import signal
import time
from pathlib import Path

from weft.cluster import shipped
from weft.errors import InputError

__all__ = ["dies_once", "fails", "length", "waits"]


def length(name):
    return len(shipped(name)), os.getpid()


def fails(item):
    raise InputError(f"Item must not be {item}")


def dies_once(item):
    """Kills its worker at the item that has a folder, if it is the first there to do so."""
    number, folder = item
    if folder:
        mark = Path(folder) / "mark"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return number


def waits(seconds):
    time.sleep(seconds)
