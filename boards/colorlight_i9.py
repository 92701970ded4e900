"""Colorlight i9 v7.2: a Lattice ECP5 with 45 thousand LUTs, SDRAM of 32 bits beside it, an LED."""

from typing import Any

from .board import Board
from .ecp5.family import ECP5
from .memory import SdramChipMemory
from .sdram.chip import M12L64322A_UNMASKED
from .ulx3s import ULX3S_85F_ONCHIP

__all__ = ["COLORLIGHT_I9", "make_platform"]


COLORLIGHT_I9 = Board(
    name="colorlight-i9", title="Colorlight i9 v7.2 with LFE5U-45F and its SDRAM", family=ECP5,
    device="LFE5U-45F",
    config=ULX3S_85F_ONCHIP.config.replace(name="colorlight_i9", rows=8, cols=8, axi_addr_width=23),
    clock_mhz=90, memory=SdramChipMemory(chip=M12L64322A_UNMASKED),
    # The debug adapter on the usual extension board is the other end of the line.
    baud=115_200, loader="colorlight-i9")


def make_platform(board: Board) -> Any:
    """Amaranth's platform of the board, with multiplier blocks for its configuration.

    amaranth_boards lacks it. The pins are those of github.com/wuxx/Colorlight-FPGA-Projects,
    and the same as in LiteX-Boards; the serial line goes to the adapter of the usual extension
    board.
    """
    from amaranth.build import Attrs, Clock, Pins, PinsN, Resource, Subsignal
    from amaranth.vendor import LatticeECP5Platform

    from weft.boards.ecp5.platform import ecp5_platform

    standard = Attrs(IO_TYPE="LVCMOS33")

    class ColorlightI9Platform(LatticeECP5Platform):  # type: ignore[misc]  # Amaranth has no types
        device = "LFE5U-45F"
        package = "BG381"
        speed = "6"
        default_clk = "clk25"
        resources = (
            Resource("clk25", 0, Pins("P3", dir="i"), Clock(25e6), standard),
            Resource("led", 0, PinsN("L2", dir="o"), standard),
            Resource("uart", 0, Subsignal("rx", Pins("H18", dir="i")),
                     Subsignal("tx", Pins("J17", dir="o")), standard),
            # CKE is tied high, CS and the four DQM low.
            Resource("sdram", 0,
                     Subsignal("clk", Pins("B9", dir="o")),
                     Subsignal("ras", PinsN("B10", dir="o")),
                     Subsignal("cas", PinsN("A9", dir="o")),
                     Subsignal("we", PinsN("A10", dir="o")),
                     Subsignal("ba", Pins("B11 C8", dir="o")),
                     Subsignal("a", Pins("B13 C14 A16 A17 B16 B15 A14 A13 A12 A11 B12", dir="o")),
                     Subsignal("dq", Pins("B6 A5 A6 A7 C7 B8 B5 A8 D8 D7 E8 D6 C6 D5 E7 C5 "
                                          "C10 D9 E11 D11 C11 D12 E9 C12 E14 C15 E13 D15 E12 B17 "
                                          "D14 D13", dir="io")),
                     Attrs(IO_TYPE="LVCMOS33", SLEWRATE="FAST")),
        )
        connectors = ()

    return ecp5_platform(ColorlightI9Platform, board.config, "45F")
