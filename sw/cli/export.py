"""``weft export``: a network and a configuration for other simulators."""

import argparse
from pathlib import Path

from weft.hw.isa.presets import load_config

from .model import add_model_arguments, chosen_plan
from .options import Commands, add_config_option

__all__ = ["add_parser"]


_FORMATS = ("scale-sim", "accelergy")


def add_parser(commands: Commands) -> None:
    """Adds the sub-command to those of the command line."""
    parser = commands.add_parser(
        "export", help="write a network and a configuration for SCALE-Sim or Accelergy",
        description="Writes what other simulators read: for SCALE-Sim a configuration and the "
                    "layers as matrix products, for Accelergy an architecture and action counts.")
    add_model_arguments(parser)
    add_config_option(parser)
    parser.add_argument("--to", choices=_FORMATS, required=True, help="whose files")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR",
                        help="folder for the files, created if need be")
    parser.set_defaults(program=_export)


def _export(options: argparse.Namespace) -> int:
    from weft import compiler
    from weft.bench.exchange import exchange_files
    from weft.files.output import write_folder

    config = load_config(options.config)
    graphs = chosen_plan(options, config).accelerated()
    files = exchange_files(options.to, graphs, compiler.compile_parts(graphs, config))
    for path in write_folder(options.output, files):
        print(path)
    return 0
