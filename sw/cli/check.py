"""``weft check``: what runs where, before anything is built."""

import argparse
import json

from weft.errors.guard import EXIT_MISMATCH
from weft.hw.isa.presets import load_config

from .model import add_model_arguments, chosen_plan
from .options import Commands, add_config_option

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Adds the sub-command to those of the command line."""
    parser = commands.add_parser(
        "check", help="tell what runs where, before anything is built",
        description="Lists every node of a model: where it runs, why not on the accelerator, what "
                    "it takes. Builds nothing.")
    add_model_arguments(parser)
    add_config_option(parser)
    parser.add_argument("--strict", action="store_true",
                        help="exit with 1 if the host runs more than quantizing, dequantizing and "
                             "softmax at the graph's edges, or all of the model")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(program=_check)


def _check(options: argparse.Namespace) -> int:
    from weft.report.inspection import inspect_plan
    from weft.report.terminal import print_inspection, terminal

    config = load_config(options.config)
    inspection = inspect_plan(chosen_plan(options, config), config)
    if options.json:
        print(json.dumps(inspection.to_dict(options.model), indent=2))
    else:
        print_inspection(inspection, terminal())
    on_host = inspection.fallbacks or inspection.plan.warning
    return EXIT_MISMATCH if options.strict and on_host else 0
