"""Icepi Zero: a Lattice ECP5 with 25 thousand LUTs, SDRAM beside it, USB serial, five LEDs."""

from typing import Any

from .board import Board
from .ecp5.family import ECP5
from .memory import SdramChipMemory
from .sdram.chip import MT48LC16M16_CLASS
from .ulx3s import ULX3S_25F

__all__ = ["ICEPI_ZERO", "make_platform"]


ICEPI_ZERO = Board(
    name="icepi-zero", title="Icepi Zero with LFE5U-25F and its SDRAM", family=ECP5,
    device="LFE5U-25F-BG256",
    # The array of the same FPGA in another package. Block RAMs that are no staging memory hold
    # twice the activations and weights.
    config=ULX3S_25F.config.replace(name="icepi_zero", activation_bytes=32 * 1024,
                                    weight_bytes=16 * 1024, axi_addr_width=25),
    clock_mhz=90, memory=SdramChipMemory(chip=MT48LC16M16_CLASS), baud=3_000_000,
    loader="icepi-zero")


def make_platform(board: Board) -> Any:
    """Amaranth's platform of the board: pins, package and speed grade, and multiplier blocks for
    its configuration."""
    from amaranth_boards.icepi_zero import IcepiZero1_3Platform

    from weft.boards.ecp5.platform import ecp5_platform

    return ecp5_platform(IcepiZero1_3Platform, board.config, "25F")
