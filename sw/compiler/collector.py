"""Without the garbage collector: what the compiler makes is many objects and hardly any circles,
and to look for these over and over takes a tenth of its time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["no_collection"]


@contextmanager
def no_collection() -> Iterator[None]:
    """Circles are left alone meanwhile; who has the collector off has it off afterwards, too."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
