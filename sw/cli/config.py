"""``weft config``: the configurations."""

import argparse
import json

from weft.hw.isa.presets import PRESETS, load_config

from .options import Commands

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Adds the sub-command to those of the command line."""
    parser = commands.add_parser("config", help="list or show configurations")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    actions.add_parser("list", help="list the presets").set_defaults(program=_config_list)
    show = actions.add_parser("show", help="print a configuration as TOML")
    show.add_argument("config", nargs="?", default="base", metavar="NAME|FILE.toml",
                      help="configuration (default: base)")
    show.set_defaults(program=_config_show)


def _config_list(options: argparse.Namespace) -> int:
    from weft.report.terminal import config_table, terminal

    terminal().print(config_table(PRESETS.values()))
    return 0


def _config_show(options: argparse.Namespace) -> int:
    # TOML, so that `weft config show base > mine.toml` is a start for a configuration of one's own.
    for field, value in load_config(options.config).to_dict().items():
        print(f"{field} = {json.dumps(value)}")
    return 0
