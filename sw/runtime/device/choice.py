"""Devices by name.

``verilator`` and ``functional`` simulate an accelerator of any configuration. ``serial:PORT`` is a
board at a serial port, ``serial:PORT?baud=N`` at another baud rate than 3,000,000.
``board-sim:BOARD`` is a board under simulation, from its serial line on; its line runs at a quarter
of the clock, or at ``?baud=N``. With ``?load=direct`` memory is written and read past the line, at
once: of a chip beside the FPGA, which may hold far more than a simulated line carries in an hour.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from weft.boards.board import Board
from weft.errors import InputError

from .base import Device

__all__ = ["DeviceChoice", "DeviceFactory", "choose_device", "is_simulated", "records_signals",
           "runs_layers"]


DeviceFactory = Callable[..., Device]
"""Called with a configuration, ``memory_bytes`` by keyword and the session's device options."""

_SERIAL = "serial"
_BOARD_SIM = "board-sim"
_DIRECT = "?load=direct"


@dataclass(frozen=True, kw_only=True)
class DeviceChoice:
    """What a name stands for.

    Attributes
    ----------
    factory : :data:`DeviceFactory`
    options : :class:`dict`
        For the factory.
    board : :class:`~weft.boards.board.Board` or :py:`None`
        What the device is, where the name tells.
    """

    factory: DeviceFactory
    options: dict[str, Any] = field(default_factory=dict)
    board: Board | None = None


def is_simulated(device: str) -> bool:
    """True if time is simulated on the device of that name."""
    return device.partition(":")[0] != _SERIAL


def records_signals(device: str | DeviceFactory) -> bool:
    """Whether a waveform of the device can be had."""
    return device == "verilator" or not isinstance(device, str)


def runs_layers(device: str | DeviceFactory) -> bool:
    """Whether a second device of the name can be opened beside the first, with as much memory as
    it takes to store the output of every layer."""
    return not isinstance(device, str) or device.partition(":")[0] not in (_SERIAL, _BOARD_SIM)


def choose_device(device: str | DeviceFactory, *, trace: str | Path | None = None,
                  progress: Callable[[str], None] | None = None) -> DeviceChoice:
    """What ``device`` stands for.

    Parameters
    ----------
    device : :class:`str` or callable
        A name, see the head of this file, or a factory of devices.
    trace : path
        Waveform to write.
    progress : callable
        Told what is being prepared.

    Raises
    ------
    InputError
        If there is no such device, or it cannot write a waveform.
    ConfigError
        If there is no such board.
    """
    if not isinstance(device, str):
        if not callable(device):
            raise _unknown(device)
        return DeviceChoice(factory=device, options={} if trace is None else {"trace": trace})
    if trace is not None and not records_signals(device):
        raise InputError(f"A waveform needs the verilator device, not {device}")
    kind, separator, rest = device.partition(":")
    if device == "verilator":
        from .verilator import VerilatorDevice
        return DeviceChoice(factory=VerilatorDevice, options={"trace": trace, "progress": progress})
    if device == "functional":
        from .functional import FunctionalDevice
        return DeviceChoice(factory=FunctionalDevice)
    if kind == _SERIAL and separator:
        from .serial import DEFAULT_BAUD, SerialDevice
        port, baud = _baud(device, rest)
        return DeviceChoice(factory=SerialDevice, options={"port": port,
                                                           "baud": baud or DEFAULT_BAUD})
    if kind == _BOARD_SIM and separator:
        from weft.boards.registry import find_board
        from weft.sim.board import fast_line

        from .board_sim import BoardSimDevice
        direct = rest.endswith(_DIRECT)
        name, baud = _baud(device, rest.removesuffix(_DIRECT))
        board = find_board(name)
        if direct and board.memory.chip is None:
            raise InputError(f"Board must have a memory chip for {_DIRECT[1:]}, {name} has none")
        board = fast_line(board) if baud is None else dataclasses.replace(board, baud=baud)
        return DeviceChoice(factory=partial(BoardSimDevice, board=board, direct=direct),
                            options={"progress": progress}, board=board)
    raise _unknown(device)


def _baud(device: str, text: str) -> tuple[str, int | None]:
    """What is before ``?baud=``, and the number behind it."""
    name, separator, option = text.partition("?")
    key, _, value = option.partition("=")
    if not name or (separator and (key != "baud" or not value.isdecimal() or not int(value))):
        kind = device.partition(":")[0]
        direct = f", {kind}:NAME{_DIRECT}" if kind == _BOARD_SIM else ""
        raise InputError(f"Device must be {kind}:NAME{direct} or {kind}:NAME?baud=N, not "
                         f"{device!r}")
    return name, int(value) if separator else None


def _unknown(device: object) -> InputError:
    return InputError(f"Device must be 'verilator', 'functional', 'serial:PORT', "
                      f"'board-sim:BOARD' or a callable, not {device!r}")
