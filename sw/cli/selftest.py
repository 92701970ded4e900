"""``weft selftest``: does this board work?"""

import argparse
import dataclasses
from pathlib import Path

from weft.errors import InputError
from weft.errors.guard import EXIT_MISMATCH
from weft.files.output import check_outputs, write_text
from weft.hw.isa.presets import load_config

from .options import Commands, add_board_option

__all__ = ["add_parser"]


_SAMPLE_BYTES = {True: 8 * 1024, False: 1024 * 1024}
"""Of random data, if time is simulated and if it is not: what the line takes some seconds for."""

_HOLD_SECONDS = {True: 0.0, False: 30.0}
"""That a chip has to keep them, at least: at room temperature many cells do so for seconds, without
any refresh. Simulated ones do not."""


def add_parser(commands: Commands) -> None:
    """Adds the sub-command to those of the command line."""
    parser = commands.add_parser(
        "selftest", help="test a board: line, memory, every engine, a network",
        description="Tests a board and names what is wrong: connection, configuration and "
                    "design, data and address lines of its memory, every engine, and the digits "
                    "network, all compared with what must come out. Exit code: 0, 1 if something "
                    "is wrong, 2 after an error.")
    add_board_option(parser)
    parser.add_argument("--device", required=True, metavar="DEVICE",
                        help="serial:PORT, or board-sim:NAME for the board under simulation")
    parser.add_argument("--config", metavar="NAME|FILE.toml",
                        help="configuration that the board was built with instead of its own")
    parser.add_argument("--log", type=Path, metavar="FILE",
                        help="where to write all that was found, to show to others (default: "
                             "selftest-BOARD.log)")
    parser.set_defaults(program=_selftest)


def _selftest(options: argparse.Namespace) -> int:
    from weft.boards.registry import find_board
    from weft.report.terminal import Progress, terminal
    from weft.runtime.device.choice import choose_device, is_simulated
    from weft.runtime.device.serial import SerialDevice
    from weft.selftest import Step, log_text, self_test

    board = find_board(options.board)
    if options.config is not None:
        board = dataclasses.replace(board, config=load_config(options.config))
    device: str = options.device
    if not device.startswith(("serial:", "board-sim:")):
        raise InputError(f"Self-test needs --device serial:PORT or board-sim:NAME, not {device}")
    if device.startswith("serial:") and "?" not in device:
        device = f"{device}?baud={board.baud}"
    log: Path = options.log or Path(f"selftest-{board.name}.log")
    check_outputs({"--log": log}, {"--config": options.config})
    console = terminal()

    def show(step: Step) -> None:
        console.print(f"{'ok  ' if step.passed else 'FAIL'} {step.name}: {step.text}", markup=False,
                      highlight=False, soft_wrap=True, style=None if step.passed else "bold red")

    with Progress() as progress:
        choice = choose_device(device, progress=progress.stage)

        def open_device() -> SerialDevice:
            opened = choice.factory(board.config, memory_bytes=0, **choice.options)
            assert isinstance(opened, SerialDevice)
            return opened

        report = self_test(board, device, open_device, progress=progress.stage, observe=show,
                           sample_bytes=_SAMPLE_BYTES[is_simulated(device)],
                           hold_seconds=_HOLD_SECONDS[is_simulated(device)])
    write_text(log, log_text(report))
    if report.passed:
        console.print(f"PASS: {report.clock_mhz:g} MHz, digits at {report.frames:,.0f} frames per "
                      f"second", style="bold green", highlight=False)
    console.print(f"log: {log}", markup=False, highlight=False, soft_wrap=True)
    return 0 if report.passed else EXIT_MISMATCH
