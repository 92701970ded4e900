"""``weft build``: the bitstream of a board."""

import argparse
import dataclasses
import json
from contextlib import ExitStack
from pathlib import Path

from weft.errors.guard import EXIT_MISMATCH
from weft.files.output import check_outputs, write_text
from weft.hw.isa.presets import load_config

from .options import Commands, add_board_option, add_scheduler_option

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Adds the sub-command to those of the command line."""
    parser = commands.add_parser(
        "build", help="build the bitstream of a board",
        description="Builds the bitstream of a board with yosys and nextpnr, and reports clock, "
                    "critical path and resources. Exit code: 0, 1 if the clock was missed, 2 after "
                    "an error.")
    add_board_option(parser)
    parser.add_argument("--config", metavar="NAME|FILE.toml",
                        help="configuration instead of the board's own")
    parser.add_argument("--freq", type=float, metavar="MHZ",
                        help="clock instead of the board's own")
    parser.add_argument("--usb", action="store_true",
                        help="the host at the USB port of the FPGA's own, not at the serial port")
    parser.add_argument("--seeds", type=int, default=1, metavar="N",
                        help="try N placements, two at a time, and keep the fastest (default: 1)")
    parser.add_argument("--retries", type=int, default=2, metavar="N",
                        help="try up to N placements more, one at a time, as long as the clock is "
                             "missed (default: 2)")
    add_scheduler_option(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR",
                        help="folder for bitstream, intermediate files and logs "
                             "(default: build/BOARD)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--allow-timing-fail", action="store_true",
                        help="write the bitstream even if the clock was missed")
    parser.set_defaults(program=_build)


def _build(options: argparse.Namespace) -> int:
    from weft.boards.flow.bitstream import build
    from weft.boards.flow.report import print_build
    from weft.boards.registry import find_board
    from weft.cluster import cluster
    from weft.report.terminal import Progress, terminal

    board = find_board(options.board)
    if options.config is not None:
        board = dataclasses.replace(board, config=load_config(options.config))
    if options.freq is not None:
        board = dataclasses.replace(board, clock_mhz=options.freq)
    if options.usb:
        board = dataclasses.replace(board, usb=True)
    check_outputs({"--json": options.json}, {"--config": options.config})
    folder: Path = options.output or Path("build") / board.name
    with ExitStack() as stack:
        progress = stack.enter_context(Progress())
        workers = None if options.scheduler is None else stack.enter_context(
            cluster(scheduler=options.scheduler))
        result = build(board, folder, seeds=options.seeds, progress=progress.stage,
                       retries=0 if options.allow_timing_fail else options.retries,
                       allow_timing_fail=options.allow_timing_fail, cluster=workers)
    if options.json is not None:
        write_text(options.json, json.dumps(result.to_dict(), indent=2) + "\n")
    print_build(result, terminal())
    return 0 if result.bitstream is not None else EXIT_MISMATCH
