"""What a board puts in the place of a component."""

from typing import Any

__all__ = ["replacement"]


def replacement(platform: Any, hook: str, component: Any) -> Any:
    """What the platform's method ``hook`` returns for ``component``: something to elaborate in its
    place. ``None`` if it has no such method, or that returns ``None``: then the portable
    description is elaborated."""
    method = getattr(platform, hook, None)
    return None if method is None else method(component)
