"""A board with the smallest accelerator, under simulation: one build for all tests."""

from typing import Any

from weft.boards.board import Board
from weft.boards.ecp5.family import ECP5
from weft.boards.memory import OnChipMemory
from weft.hw.isa.presets import PRESETS
from weft.runtime.device.board_sim import BoardSimDevice
from weft.sim.board import fast_line

__all__ = ["TINY_BOARD", "open_board"]


TINY_BOARD = fast_line(Board(
    name="tiny_board", title="Board of the tests", family=ECP5, device="none",
    config=PRESETS["tiny"], clock_mhz=48, memory=OnChipMemory(size=32 * 1024), baud=3_000_000))


def open_board(config: Any = TINY_BOARD.config, *, memory_bytes: int = 4096,
               **options: Any) -> BoardSimDevice:
    """Of the board, as a session would open it."""
    return BoardSimDevice(config, memory_bytes=memory_bytes, board=TINY_BOARD, **options)
