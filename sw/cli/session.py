"""On what a network runs: configuration, device, and the session that has both."""

import argparse
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from weft.errors import HostOnlyWarning, InputError
from weft.hw.isa.config import AcceleratorConfig, load_config

from .options import add_config_option

if TYPE_CHECKING:
    from weft.compiler.timing.memory import MemoryTiming
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
    memory : :class:`weft.compiler.timing.memory.MemoryTiming` or :py:`None`
        That of the board, if one was named.
    """

    config: AcceleratorConfig | None
    device: str
    memory: "MemoryTiming | None" = None


def add_session_options(parser: argparse.ArgumentParser) -> None:
    """The options that say on what to run; see :func:`session_target`."""
    add_config_option(parser, None, "the board's, else base")
    parser.add_argument("--device", default="verilator", metavar="DEVICE",
                        help="verilator: cycle-accurate simulation of the Verilog (default); "
                             "functional: a model that is quick to start and knows no cycles; "
                             "serial:PORT: a board at a serial port; board-sim:BOARD: a board "
                             "under simulation")
    parser.add_argument("--board", metavar="NAME",
                        help="the board at the serial port, for its configuration and baud rate")


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
    memory = None
    if options.board is not None:
        from weft.boards.registry import find_board

        if not device.startswith("serial:"):
            raise InputError(f"A board (--board) needs --device serial:PORT, not {device}")
        board = find_board(options.board)
        config = config or board.config
        memory = board.memory_timing(config)
        if "?" not in device:
            device = f"{device}?baud={board.baud}"
    return SessionTarget(config, device, memory)


@contextmanager
def open_session(model: object, name: str, target: SessionTarget, progress: "Progress", *,
                 trace: Path | None = None, batch: int = 1,
                 rule: str | None = None) -> "Iterator[InferenceSession]":
    """A session that says what it is doing while it is set up, to the model of ``name``."""
    from weft.runtime.session import InferenceSession

    config = "" if target.config is None else f" for {target.config.name}"
    progress.stage(f"Preparing {name}{config} on the device {target.device}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HostOnlyWarning)    # a line of the program's own, instead
        session = InferenceSession(model, config=target.config, device=target.device, trace=trace,
                                   batch=batch, rule=rule, memory=target.memory,
                                   progress=progress.stage)
    with session:
        if session.plan.warning:
            progress.note(f"Warning: {session.plan.warning}")
        yield session


def open_layers_session(session: "InferenceSession", device: str) -> "InferenceSession":
    """A second session like ``session``, for the outputs of its layers."""
    from weft.runtime.session import InferenceSession

    return InferenceSession(session.plan, config=session.config, device=device, keep_tensors=True,
                            batch=session.batch)
