"""Options that several sub-commands share."""

import argparse
from typing import TypeAlias

from weft.errors import InputError
from weft.hw.isa.presets import PRESETS

__all__ = ["Commands", "add_board_option", "add_cluster_options", "add_config_option",
           "add_scheduler_option", "add_state_option", "state_pairs"]


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


def add_cluster_options(parser: argparse.ArgumentParser, *, workers: int) -> None:
    """Where to work: on processes of this machine, or on those of a scheduler."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--workers", type=int, default=workers, metavar="N",
                       help=f"processes of this machine (default: {workers})")
    add_scheduler_option(where)


def add_scheduler_option(parser: "argparse._ActionsContainer") -> None:
    """A scheduler by address."""
    parser.add_argument("--scheduler", metavar="tcp://HOST:PORT",
                        help="work on the workers of this Dask scheduler instead")


def add_state_option(parser: argparse.ArgumentParser, text: str) -> None:
    """Outputs that are inputs of the next frame; see :func:`state_pairs`."""
    parser.add_argument("--state", action="append", default=[], type=_pair, metavar="OUT=IN",
                        help=f"{text}; can be given several times")


def state_pairs(options: argparse.Namespace) -> dict[str, str]:
    """The states by the output that makes them.

    Raises
    ------
    InputError
        If an output is named twice.
    """
    pairs: dict[str, str] = {}
    for output, source in options.state:
        if output in pairs:
            raise InputError(f"State '{output}' must be the input of one name, not of "
                             f"'{pairs[output]}' and '{source}'")
        pairs[output] = source
    return pairs


def _pair(text: str) -> tuple[str, str]:
    output, _, source = text.partition("=")
    if not output or not source:
        raise argparse.ArgumentTypeError(f"must be like OUT=IN, not {text!r}")
    return output, source
