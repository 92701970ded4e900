"""ULX3S: a Lattice ECP5 with 85 or 25 thousand LUTs, USB serial, eight LEDs."""

from dataclasses import replace
from typing import Any

from weft.hw.isa.config import AcceleratorConfig

from .board import Board
from .ecp5.family import ECP5
from .memory import OnChipMemory, SdramChipMemory
from .sdram.chip import MT48LC16M16_CLASS

__all__ = ["ULX3S_25F", "ULX3S_85F", "ULX3S_85F_ONCHIP", "make_platform"]


# Staging memory is on the chip and answers at once; short bursts keep the buffers out of block RAM.
_STAGING: dict[str, Any] = {"axi_burst_beats": 8, "axi_outstanding": 2}

ULX3S_85F_ONCHIP = Board(
    name="ulx3s-85f-onchip", title="ULX3S with LFE5U-85F, its SDRAM left out",
    family=ECP5, device="LFE5U-85F", config=AcceleratorConfig(
        name="ulx3s_85f_onchip", rows=16, cols=16, requant_lanes=2, activation_bytes=64 * 1024,
        activation_banks=2, weight_bytes=32 * 1024, accumulator_pixels=512, queue_depth=1,
        vector_taps=1, drain_lookup=False, **_STAGING),
    clock_mhz=100, memory=OnChipMemory(size=128 * 1024), baud=3_000_000, loader="ulx3s")

ULX3S_85F = replace(
    ULX3S_85F_ONCHIP, name="ulx3s-85f", title="ULX3S with LFE5U-85F",
    # Block RAMs that are no staging memory halve the traffic of mobile networks.
    config=ULX3S_85F_ONCHIP.config.replace(name="ulx3s_85f", activation_bytes=128 * 1024,
                                           weight_bytes=64 * 1024),
    memory=SdramChipMemory(chip=MT48LC16M16_CLASS))

ULX3S_25F = Board(
    name="ulx3s-25f", title="ULX3S with LFE5U-25F", family=ECP5, device="LFE5U-25F",
    config=AcceleratorConfig(
        name="ulx3s_25f", rows=4, cols=4, requant_lanes=1, activation_bytes=16 * 1024,
        activation_banks=2, weight_bytes=12 * 1024, accumulator_pixels=256, parameter_channels=256,
        axi_data_width=32, axi_addr_width=16, queue_depth=1, vector_taps=1, counters=False,
        drain_lookup=False, **_STAGING),
    clock_mhz=90, memory=OnChipMemory(size=32 * 1024), baud=3_000_000, loader="ulx3s")


def make_platform(board: Board) -> Any:
    """Amaranth's platform of the board: pins, package and speed grade, and multiplier blocks for
    its configuration."""
    from amaranth.build import Attrs, Pins, Resource
    from amaranth_boards.ulx3s import ULX3S_25F_Platform, ULX3S_85F_Platform

    from weft.boards.ecp5.platform import ecp5_platform

    base, size = {"LFE5U-85F": (ULX3S_85F_Platform, "85F"),
                  "LFE5U-25F": (ULX3S_25F_Platform, "25F")}[board.device]
    platform = ecp5_platform(base, board.config, size)
    # GPIO0 of the ESP32 that shares the board: low, it may take the FPGA over.
    platform.high_pins = ("esp32_idle",)
    platform.add_resources([Resource("esp32_idle", 0, Pins("L2", dir="o"),
                                     Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP"))])
    return platform
