"""All boards, by name."""

from typing import Any

from weft.hw.isa.config import ConfigError

from . import icebreaker, ulx3s
from .board import Board

__all__ = ["BOARDS", "find_board", "make_platform"]


_MODULES = {board.name: (board, module) for module, boards in (
    (ulx3s, (ulx3s.ULX3S_85F, ulx3s.ULX3S_25F)),
    (icebreaker, (icebreaker.ICEBREAKER,)),
) for board in boards}

BOARDS: dict[str, Board] = {name: board for name, (board, _module) in _MODULES.items()}
"""Boards that can be built, by name."""


def find_board(name: str) -> Board:
    """The board called ``name``.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if name not in BOARDS:
        raise ConfigError(f"Board must be one of {', '.join(BOARDS)}, not {name!r}")
    return BOARDS[name]


def make_platform(board: Board) -> Any:
    """Amaranth's platform of ``board``: pins, package, speed grade, primitives."""
    _board, module = _MODULES[board.name]
    return module.make_platform(board)
