"""Tables of figures as Markdown."""

from collections.abc import Iterable
from typing import Any

__all__ = ["escape", "number", "table"]


def table(columns: dict[str, str], rows: Iterable[Iterable[Any]]) -> str:
    """A table; columns are given with ``<`` or ``>`` for their alignment."""
    lines = [" | ".join(columns),
             " | ".join("---" if side == "<" else "--:" for side in columns.values())]
    lines += [" | ".join(map(str, row)) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def number(value: int | None) -> str:
    """With separators; nothing for :py:`None`."""
    return "" if value is None else f"{value:,}"


def escape(text: str) -> str:
    """Text that is to be read as it is."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "\\<").replace("*", "\\*")
