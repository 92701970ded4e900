"""``weft survey``: many networks, what of them runs where, whether they are exact, how fast."""

import argparse
from pathlib import Path

from weft.errors.guard import EXIT_MISMATCH
from weft.files.output import check_outputs
from weft.hw.isa.presets import load_config

from .options import Commands, add_config_option

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Adds the sub-command to those of the command line."""
    parser = commands.add_parser(
        "survey", help="try many networks, and compare every byte",
        description="Runs random frames through each network, compares the outputs and lists what "
                    "came of it. A network that does not run is listed with the reason. Exit "
                    "code: 1 if a byte differs.")
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="int8 networks")
    add_config_option(parser)
    parser.add_argument("--device", default="verilator", metavar="DEVICE",
                        help="as of weft run (default: verilator)")
    parser.add_argument("--frames", type=int, default=2, metavar="N",
                        help="random frames of each (default: 2)")
    parser.add_argument("--record", type=Path, metavar="FILE.json",
                        help="put the results in this file, in place of those of the same network "
                             "and configuration")
    parser.set_defaults(program=_survey)


def _survey(options: argparse.Namespace) -> int:
    from weft.report.survey import load_survey, merge_survey, save_survey, survey
    from weft.report.terminal import Progress, print_survey, terminal

    config = load_config(options.config)
    record: Path | None = options.record
    check_outputs({"--record": record}, {f"network {each}": each for each in options.models})
    recorded = load_survey(record) if record is not None and record.exists() else []
    surveyed = []
    with Progress() as progress:
        for model in options.models:
            progress.stage(model.name)
            surveyed.append(survey(model, config, device=options.device, frames=options.frames,
                                   progress=progress.stage))
            if record is not None:      # after each: some of them take minutes
                save_survey(merge_survey(recorded, surveyed), record)
    print_survey(surveyed, terminal())
    return EXIT_MISMATCH if any(each.differing for each in surveyed) else 0
