"""The system of a board under simulation, from its serial line on: a thin binding of
``board_harness.cpp``."""

import ctypes
import dataclasses
from ctypes import POINTER, c_char_p, c_int, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import weft.boards
from weft.boards.board import Board
from weft.errors import InputError, ToolError, WeftError

from .build import TOP, Build, Harness, Progress, build_library, hardware_identity
from .cache import mark_used
from .sdram import SdramParameters, sdram_parameters
from .simulator import RuleError

__all__ = ["BoardSimulator", "ChipError", "build_board", "fast_line"]


def build_board(board: Board, *, progress: Progress | None = None) -> Build:
    """The simulator of :class:`~weft.boards.system.chip.System` for ``board``, from the cache or
    built now; otherwise as :func:`weft.sim.build.build`. It has the serial line, be there USB in
    place of it or not."""
    board = dataclasses.replace(board, usb=False)

    def generate() -> str:
        from weft.boards.system.chip import System
        from weft.boards.system.design_hash import design_hash
        from weft.hw.verilog import to_verilog

        from .top import SimulationTop
        system = System(board, design=design_hash(board))
        return to_verilog(SimulationTop(system), name=TOP, checks=True)

    identity = hardware_identity(board.config, Path(weft.boards.__file__).parent)
    # Of the board itself, what the hardware hangs on.
    identity += f"\n{board.family.name} {board.clock_mhz} {board.baud} {board.memory}"
    return build_library(identity, generate, Harness(
        source="board_harness.cpp", headers=("line.h", "rules.h", "sdram.h"),
        constants={}), progress=progress)


class _LineParameters(ctypes.Structure):
    """``LineParameters`` of the harness."""
    _fields_ = [("bit", c_uint64), ("latency", c_uint64)]


class _LineFault(ctypes.Structure):
    """``LineFault`` of the harness."""
    _fields_ = [("number", c_uint64), ("flip", c_uint32), ("lose", c_uint32)]


_FUNCTIONS: dict[str, tuple[list[Any], Any]] = {
    "board_create":             ([POINTER(_LineParameters), POINTER(SdramParameters)], c_void_p),
    "board_destroy":            ([c_void_p], None),
    "board_reset":              ([c_void_p], None),
    "board_run":                ([c_void_p, c_uint64], None),
    "board_cycle":              ([c_void_p], c_uint64),
    "board_rule_line":          ([c_void_p], c_int),
    "board_chip_error":         ([c_void_p], c_char_p),
    "board_chip_bytes":         ([c_void_p, c_uint64, c_uint64], c_void_p),
    "board_break_refresh":      ([c_void_p], c_int),
    "board_available":          ([c_void_p], c_uint64),
    "board_send":               ([c_void_p, c_char_p, c_uint64], None),
    "board_run_until_received": ([c_void_p, c_uint64, c_uint64], None),
    "board_receive":            ([c_void_p, c_char_p, c_uint64], c_uint64),
    "board_fault":              ([c_void_p, c_int, POINTER(_LineFault)], None),
    "board_cut":                ([c_void_p, c_int], None),
}


class ChipError(WeftError):
    """The simulated hardware did what the SDRAM beside it does not allow."""

    def __init__(self, rule: str):
        super().__init__(f"The board broke a rule of its SDRAM, which is a defect of Weft; please "
                         f"report it: {rule}")


class BoardSimulator:
    """A board under simulation: reset, configured and waiting for bytes.

    Time passes only in the methods that say so.

    Parameters
    ----------
    board : :class:`Board`
        For its clock and its baud rate.
    build : :class:`Build`
        Of that board.
    mismatch : :class:`float`
        By how much the host's baud rate is higher than the board's: 0.02 for 2 %.
    latency : :class:`float`
        Seconds that a byte takes on the host's side, in each direction: those of a USB adapter.
    """

    def __init__(self, board: Board, build: Build, *, mismatch: float = 0.0, latency: float = 0.0):
        self._handle: int | None = None
        try:
            self._library = ctypes.CDLL(str(build.library))
        except OSError as error:
            raise ToolError(f"The simulator {build.library} cannot be loaded ({error}): delete its "
                            f"folder to have it built again") from None
        for name, (arguments, result) in _FUNCTIONS.items():
            function = getattr(self._library, name)
            function.argtypes = arguments
            function.restype = result
        mark_used(build.library.parent)
        self._build = build
        self._clock_hz = board.clock_mhz * 1e6
        bit = self._clock_hz / board.baud / (1 + mismatch)
        chip = None
        if board.memory.chip is not None:
            chip = ctypes.byref(sdram_parameters(board.memory.chip, clock_mhz=board.clock_mhz,
                                                 beat_bits=board.config.axi_data_width))
        self._startup_cycles = board.memory.startup_cycles(board.clock_mhz)
        self._handle = self._library.board_create(ctypes.byref(_LineParameters(
            bit=round(bit * 65536), latency=round(latency * self._clock_hz))), chip)
        self.run(self._startup_cycles)

    def close(self) -> None:
        """Free everything."""
        if self._handle:
            self._library.board_destroy(self._handle)
            self._handle = None

    def __del__(self) -> None:
        self.close()

    def _open(self) -> int:
        if not self._handle:
            raise InputError("The simulator is closed")
        return self._handle

    def _check(self) -> None:
        if line := self._library.board_rule_line(self._open()):
            raise RuleError(self._build, line, self.cycle)
        if broken := self._library.board_chip_error(self._open()):
            raise ChipError(broken.decode())

    @property
    def cycle(self) -> int:
        """Clock cycles since the simulator was created."""
        return int(self._library.board_cycle(self._open()))

    def cycles(self, seconds: float) -> int:
        """Clock cycles of the board in so many seconds."""
        return round(seconds * self._clock_hz)

    def reset(self) -> None:
        """Hold the reset for some cycles, and wait until the memory may be used. Its contents
        stay."""
        self._library.board_reset(self._open())
        self.run(self._startup_cycles)

    def chip_bytes(self, address: int, count: int) -> ctypes.Array[ctypes.c_char]:
        """Bytes of the chip beside the FPGA, to be read and changed without the board's knowledge.

        Raises
        ------
        InputError
            If the board has no such chip, or the chip not so many bytes.
        """
        place = self._library.board_chip_bytes(self._open(), address, count)
        if not place:
            raise InputError(f"Board has no {count} bytes at {address:#x} in a chip of its own")
        return (ctypes.c_char * count).from_address(place)

    def break_refresh(self) -> None:
        """The chip beside the FPGA takes its REFRESH commands and does nothing: a row that is not
        used for its ``refresh_ms`` and a little more loses bits.

        Raises
        ------
        InputError
            If the board has no such chip.
        """
        if not self._library.board_break_refresh(self._open()):
            raise InputError("Board has no chip of its own whose refresh could break")

    def run(self, cycles: int) -> None:
        """Let time pass; errors as in :meth:`run_until_received`.

        Raises
        ------
        RuleError
            If the hardware breaks a rule of its own.
        ChipError
            If it breaks one of the chip beside it.
        """
        self._library.board_run(self._open(), cycles)
        self._check()

    def send(self, data: bytes) -> None:
        """Put bytes on the line to the board, behind those that are on their way; no time
        passes."""
        self._library.board_send(self._open(), data, len(data))

    @property
    def available(self) -> int:
        """Bytes from the board that have arrived."""
        return int(self._library.board_available(self._open()))

    def run_until_received(self, count: int, max_cycles: int) -> None:
        """Let time pass until ``count`` bytes have arrived, at most ``max_cycles``."""
        self._library.board_run_until_received(self._open(), count, max_cycles)
        self._check()

    def receive(self, count: int) -> bytes:
        """Up to ``count`` bytes that have arrived."""
        buffer = ctypes.create_string_buffer(max(1, count))
        received = self._library.board_receive(self._open(), buffer, count)
        return buffer.raw[:received]

    def disturb(self, *, to_board: bool, number: int, flip: int = 0, lose: bool = False) -> None:
        """Change bits of a byte on the line, or lose it: the one with ``number``, where 0 is the
        next that is sent in that direction."""
        self._library.board_fault(self._open(), to_board, ctypes.byref(_LineFault(
            number=number, flip=flip, lose=lose)))

    def cut(self, cut: bool = True) -> None:
        """Cut the line in both directions, or mend it."""
        self._library.board_cut(self._open(), cut)


def fast_line(board: Board) -> Board:
    """``board`` with the highest baud rate that its clock allows: a simulation spends most of its
    cycles on bits that go over the line."""
    return dataclasses.replace(board, baud=int(board.clock_mhz * 1e6 / 4))
