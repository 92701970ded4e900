"""Values that this process was sent, by hash."""

from collections.abc import Mapping
from hashlib import sha256

__all__ = ["digest", "receive", "shipped"]


_shipped: dict[str, bytes] = {}


def digest(data: bytes) -> str:
    """The name of ``data``: its SHA-256."""
    return sha256(data).hexdigest()


def shipped(name: str) -> bytes:
    """What was given to :meth:`weft.cluster.Cluster.ship`, in a task."""
    return _shipped[name]


def receive(values: Mapping[str, bytes]) -> None:
    """Keeps ``values``."""
    _shipped.update(values)
