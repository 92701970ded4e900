"""``weft load``: brings a network to a board."""

import argparse

from weft.errors import InputError

from .float_model import int8_model
from .model import add_model_arguments
from .options import Commands
from .session import add_session_options, open_session, session_target

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Adds the sub-command to those of the command line."""
    parser = commands.add_parser(
        "load", help="load a network into a board's memory",
        description="Sends constants and commands of a network to a board, where they stay until "
                    "it is reset or another network takes their place: whoever runs the same "
                    "network afterwards sends inputs only.")
    add_model_arguments(parser)
    add_session_options(parser)
    parser.set_defaults(program=_run)


def _run(options: argparse.Namespace) -> int:
    from weft.report.terminal import Progress

    target = session_target(options)
    if not target.device.startswith("serial:"):
        raise InputError(f"A network stays on a board only: weft load needs --device serial:PORT, "
                         f"not {target.device}")
    with Progress() as progress, open_session(
            int8_model(options), options.model.name, target, progress,
            rule=options.rule) as session:
        sent, count = session.sent, sum(len(data) for program in session.programs
                                        for _address, data in program.image)
    print(f"{options.model.name}: {count:,} bytes, "
          f"{'sent' if sent else 'in the memory of the board already'}")
    return 0
