"""The accelerator in a `LiteX <https://github.com/enjoy-digital/litex>`_ SoC.

:py:`python -m weft.litex` simulates a SoC whose processor runs the digits network on it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core import WeftCore, add_weft

__all__ = ["WeftCore", "add_weft"]


def __getattr__(name: str) -> Any:
    """What is exported, imported when it is asked for: it needs LiteX."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import core
    return getattr(core, name)
