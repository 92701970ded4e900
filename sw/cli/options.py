"""Options that several sub-commands share."""

import argparse
from typing import TypeAlias

from weft.hw.isa.config import PRESETS

__all__ = ["Commands", "add_board_option", "add_config_option"]


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What a sub-command adds its parser to."""


def add_config_option(parser: argparse.ArgumentParser, default: str | None = "base",
                      default_text: str = "base") -> None:
    """The configuration, by default ``default``, which the help text calls ``default_text``."""
    parser.add_argument("--config", default=default, metavar="NAME|FILE.toml",
                        help=f"configuration: {', '.join(PRESETS)}, or a file; other values for "
                             f"fields may follow, as in base,vector_taps=5 "
                             f"(default: {default_text})")


def add_board_option(parser: argparse.ArgumentParser) -> None:
    """The board, without a default."""
    from weft.boards.registry import BOARDS

    parser.add_argument("--board", required=True, metavar="NAME",
                        help=f"board: {', '.join(BOARDS)}")
