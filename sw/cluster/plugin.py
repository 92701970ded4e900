"""What sends values to workers: it needs Dask distributed, which is an extra."""

from collections.abc import Mapping
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

from .store import receive

__all__ = ["Ship"]


class Ship(WorkerPlugin):
    """Gives ``values``, by hash, to each worker that there is or will be."""

    def __init__(self, values: Mapping[str, bytes]):
        self._values = dict(values)

    def setup(self, worker: Any) -> None:
        receive(self._values)
