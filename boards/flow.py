"""What differs between FPGA families in the way from RTLIL to a bitstream."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from weft.boards.board import Board, Family

__all__ = ["Capacity", "Flow", "capacity", "flow"]


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What an FPGA has, or what a design takes of it.

    Parameters
    ----------
    luts, ffs : :class:`int`
        4-input look-up tables, flip-flops.
    multipliers : :class:`int`
        18 x 18 bits (ECP5) or 16 x 16 bits (iCE40).
    block_rams : :class:`int`
        Of 2 KiB (ECP5) or 512 bytes (iCE40).
    """

    luts: int
    ffs: int
    multipliers: int
    block_rams: int


_CAPACITIES = {
    "LFE5U-85F": Capacity(luts=83_640, ffs=83_640, multipliers=156, block_rams=208),
    "LFE5U-25F": Capacity(luts=24_288, ffs=24_288, multipliers=28, block_rams=56),
    "iCE40UP5K": Capacity(luts=5_280, ffs=5_280, multipliers=8, block_rams=30),
}


def capacity(board: Board) -> Capacity:
    """What the FPGA of ``board`` has."""
    return _CAPACITIES[board.device]


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Tools of a family and their options.

    Parameters
    ----------
    synthesis : :class:`str`
        Yosys command.
    place_tool, pack_tool : :class:`str`
    pack_options : sequence of :class:`str`
    constraints : :class:`str`
        Suffix of the file with pins.
    image : :class:`str`
        Suffix of the file that is loaded into the FPGA.
    luts, ffs, multipliers, block_rams : :class:`str`
        What nextpnr calls these.
    """

    synthesis: str
    place_tool: str
    pack_tool: str
    pack_options: Sequence[str]
    constraints: str
    image: str
    luts: str
    ffs: str
    multipliers: str
    block_rams: str

    def place(self, platform: Any, *, seed: int, text: str, report: str) -> list[str]:
        """Options of the place and route tool, for ``top.json`` in the current folder."""
        if self.place_tool == "nextpnr-ecp5":
            device = [platform._nextpnr_device_options[platform.device],
                      "--package", platform._nextpnr_package_options[platform.package].upper(),
                      "--speed", platform.speed, "--lpf", "top.lpf", "--textcfg", text,
                      # Several times as fast as the default on arrays, and with a better clock.
                      "--router", "router2"]
        else:
            device = [platform._nextpnr_device_options[platform.device],
                      "--package", platform.package.lower(), "--pcf", "top.pcf", "--asc", text]
        return [*device, "--json", "top.json", "--report", report, "--seed", str(seed),
                "--timing-allow-fail"]


_FLOWS = {
    Family.ECP5: Flow(
        synthesis="synth_ecp5 -top top", place_tool="nextpnr-ecp5", pack_tool="ecppack",
        pack_options=("--compress",), constraints=".lpf", image=".bit", luts="TRELLIS_COMB",
        ffs="TRELLIS_FF", multipliers="MULT18X18D", block_rams="DP16KD"),
    Family.ICE40: Flow(
        synthesis="synth_ice40 -device u -dsp -top top", place_tool="nextpnr-ice40",
        pack_tool="icepack", pack_options=(), constraints=".pcf", image=".bin",
        luts="ICESTORM_LC", ffs="ICESTORM_LC", multipliers="ICESTORM_DSP",
        block_rams="ICESTORM_RAM"),
}


def flow(family: Family) -> Flow:
    """Tools of ``family``."""
    return _FLOWS[family]
