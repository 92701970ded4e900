"""All boards, by name; and those that are defined elsewhere, in a file of Python."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from weft.errors import ToolError
from weft.errors.distribution import install_command
from weft.hw.isa.config import ConfigError

from . import colorlight_i9, icebreaker, icepi_zero, tang_nano_20k, ulx3s
from .board import Board

__all__ = ["BOARDS", "find_board", "load_board", "make_platform"]


_PLATFORMS: dict[str, Callable[[Board], Any]] = {}
"""What makes the platform of a board, by its name."""

BOARDS: dict[str, Board] = {}
"""Boards that can be built, by name."""


def _register(make: Callable[[Board], Any], *boards: Board) -> None:
    for board in boards:
        BOARDS[board.name], _PLATFORMS[board.name] = board, make


_register(ulx3s.make_platform, ulx3s.ULX3S_85F, ulx3s.ULX3S_85F_ONCHIP,
          ulx3s.ULX3S_25F)
_register(icepi_zero.make_platform, icepi_zero.ICEPI_ZERO)
_register(colorlight_i9.make_platform, colorlight_i9.COLORLIGHT_I9)
_register(tang_nano_20k.make_platform, tang_nano_20k.TANG_NANO_20K,
          tang_nano_20k.TANG_NANO_20K_SDRAM)
_register(icebreaker.make_platform, icebreaker.ICEBREAKER)


def find_board(name: str) -> Board:
    """The board called ``name``; or that of a file, see :func:`load_board`, if it ends in ``.py``.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if name.endswith(".py"):
        return load_board(Path(name))
    if name not in BOARDS:
        raise ConfigError(f"Board must be one of {', '.join(BOARDS)} or a .py file, not {name!r}")
    return BOARDS[name]


def load_board(path: Path) -> Board:
    """Executes a file that defines ``BOARD``, a :class:`~weft.boards.board.Board`, and
    ``make_platform``, a function that gives Amaranth's platform of it.

    Raises
    ------
    ConfigError
        If there is no such file, it fails, or it defines something else.
    """
    if not path.is_file():
        raise ConfigError(f"Board file {path} cannot be read: there is no such file")
    spec = importlib.util.spec_from_file_location(f"weft_board_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a class finds its source there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"Board file {path} fails: {type(error).__name__}: {error}") from error
    board, make = getattr(module, "BOARD", None), getattr(module, "make_platform", None)
    if not isinstance(board, Board) or not callable(make):
        raise ConfigError(f"Board file {path} must define BOARD, a weft.boards.board.Board, and a "
                          f"function make_platform")
    _PLATFORMS[board.name] = make
    return board


def make_platform(board: Board) -> Any:
    """Amaranth's platform of ``board``: pins, package, speed grade, primitives.

    Raises
    ------
    ToolError
        If the package with the pins of boards is missing.
    """
    try:
        return _PLATFORMS[board.name](board)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "amaranth_boards":
            raise
        raise ToolError("Package amaranth-boards, which has the pins of boards, is not installed: "
                        f"run {install_command('fpga')}") from None
