"""Lattice iCE40: its devices, and how Yosys and nextpnr are told to build for them."""

from weft.boards.clock import ClockSource, PlainClock, PllClock
from weft.boards.family import BlockMemory, Capacity, Device, Family, Tools

from .pll import Ice40Pll

__all__ = ["ICE40"]


def _clock(oscillator_mhz: float, asked_mhz: float) -> ClockSource:
    if asked_mhz == oscillator_mhz:
        return PlainClock(oscillator_mhz)
    return PllClock(Ice40Pll.nearest(oscillator_mhz, asked_mhz))


def _count_luts(luts: float, ffs: float) -> float:
    """Logic cells for look-up tables and flip-flops, which may or may not share one; fitted to
    designs that were synthesized and packed."""
    return 1.35 * luts + 0.34 * ffs


ICE40 = Family(
    name="ice40",
    devices={
        "iCE40UP5K": Device(
            capacity=Capacity(luts=5_280, ffs=5_280, multipliers=8, block_rams=30, large_rams=4),
            # The 8 flip-flops of a tile share their enable. One that few flip-flops have wastes a
            # tile, and a full device cannot be placed: it becomes a multiplexer.
            synthesis="synth_ice40 -abc9 -dffe_min_ce_use 8 -device u -top top",
            place=("--up5k", "--package", "sg48")),
    },
    tools=Tools(
        place="nextpnr-ice40", pack="icepack", place_options=("--pcf", "{pins}"),
        text_option="--asc", constraints=".pcf", image=".bin", luts={"ICESTORM_LC": 1},
        multipliers={"ICESTORM_DSP": 1}, block_rams={"ICESTORM_RAM": 1},
        large_rams={"ICESTORM_SPRAM": 1}),
    clock=_clock,
    block_memory=BlockMemory(16, 256, 4),
    # Flip-flops have a name for each combination of enable and reset.
    cells={"SB_LUT4": ("luts", 1), "SB_DFF*": ("ffs", 1), "SB_RAM40_4K": ("block_rams", 1),
           "SB_MAC16": ("multipliers", 1), "SB_SPRAM256KA": ("large_rams", 1)},
    suffixes=(r"SB_\w+",),
    count_luts=_count_luts)
"""Lattice iCE40."""
