"""On what a network runs: configuration, device, and the session that has both."""

import argparse
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from weft.errors import HostOnlyWarning, InputError, OtherDesignWarning
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.presets import load_config

from .options import add_config_option

if TYPE_CHECKING:
    from weft.boards.board import Board
    from weft.report.terminal import Progress
    from weft.runtime.session import InferenceSession

__all__ = ["SessionTarget", "add_session_options", "open_layers_session", "open_session",
           "session_target"]


@dataclass(frozen=True)
class SessionTarget:
    """On what to run.

    Attributes
    ----------
    config : :class:`AcceleratorConfig` or :py:`None`
        What was asked for, if anything was.
    device : :class:`str`
    board : :class:`weft.boards.board.Board` or :py:`None`
        What is at the serial port, if that was named.
    other_design : :class:`bool`
        It may have been built from something else, if it has the configuration.
    """

    config: AcceleratorConfig | None
    device: str
    board: "Board | None" = None
    other_design: bool = False


def add_session_options(parser: argparse.ArgumentParser) -> None:
    """The options that say on what to run; see :func:`session_target`."""
    add_config_option(parser, None, "the board's, else base")
    parser.add_argument("--device", default="verilator", metavar="DEVICE",
                        help="verilator: cycle-accurate simulation of the Verilog (default); "
                             "functional: a model that is quick to start and knows no cycles; "
                             "serial:PORT: a board at a serial port; board-sim:BOARD: a board "
                             "under simulation")
    parser.add_argument("--board", metavar="NAME",
                        help="the board at the serial port: its configuration and baud rate, and "
                             "what it must have been built from")
    parser.add_argument("--other-design", action="store_true",
                        help="run on a board that was built from something else than this release "
                             "has for it, if its configuration is the same: a warning in place of "
                             "an error")


def session_target(options: argparse.Namespace) -> SessionTarget:
    """On what to run, by the options.

    Raises
    ------
    ConfigError
        If there is no such configuration or board.
    InputError
        If a board is named for a device that is none at a serial port.
    """
    config = None if options.config is None else load_config(options.config)
    device: str = options.device
    board = None
    if options.board is not None:
        from weft.boards.registry import find_board

        if not device.startswith("serial:"):
            raise InputError(f"A board (--board) needs --device serial:PORT, not {device}")
        board = find_board(options.board)
        config = config or board.config
        if "?" not in device:
            device = f"{device}?baud={board.baud}"
    return SessionTarget(config, device, board, options.other_design)


@contextmanager
def open_session(model: object, name: str, target: SessionTarget, progress: "Progress", *,
                 trace: Path | None = None, batch: int = 1,
                 states: Mapping[str, str] | None = None,
                 rule: str | None = None) -> "Iterator[InferenceSession]":
    """A session that says what it is doing while it is set up, to the model of ``name``."""
    from weft.runtime.device.design import OtherDesign
    from weft.runtime.session import InferenceSession

    config = "" if target.config is None else f" for {target.config.name}"
    progress.stage(f"Preparing {name}{config} on the device {target.device}")
    with warnings.catch_warnings():
        for category in (HostOnlyWarning, OtherDesignWarning):
            warnings.simplefilter("ignore", category)       # a line of the program's own, instead
        try:
            session = InferenceSession(
                model, config=target.config, device=target.device, trace=trace, batch=batch,
                states=states, rule=rule, board=target.board, other_design=target.other_design,
                progress=progress.stage)
        except OtherDesign as error:
            raise OtherDesign(f"{error}; as its configuration is the same, --other-design goes on "
                              f"all the same") from None
    with session:
        for text in filter(None, (session.plan.warning, session.design_warning)):
            progress.note(f"Warning: {text}")
        yield session


def open_layers_session(session: "InferenceSession", device: str) -> "InferenceSession":
    """A second session like ``session``, for the outputs of its layers."""
    from weft.runtime.session import InferenceSession

    return InferenceSession(session.plan, config=session.config, device=device, keep_tensors=True,
                            batch=session.batch, states=session.states)
