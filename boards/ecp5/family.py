"""Lattice ECP5: its devices, and how Yosys and nextpnr are told to build for them."""

from weft.boards.clock import PllClock
from weft.boards.family import KEEP_FLAGS, BlockMemory, Capacity, Device, Family, Tools

from .pll import Ecp5Pll

__all__ = ["ECP5"]


# The design says itself which multipliers go into blocks.
_SYNTHESIS = "synth_ecp5 -nodsp -top top"

# For a small device. A carry chain takes two LUTs more at each end that meets other logic, and ABC
# counts a multiplexer behind two or four LUTs as nothing, but takes the LUTs: short sums and
# comparisons in LUTs, and none of those multiplexers, make a tenth less.
_SMALL = f"{_SYNTHESIS} -nowidelut -cmp2softlogic"
_SMALL_SYNTHESIS = f"{_SMALL} -run :map_gates; techmap t:$alu r:Y_WIDTH<=9 %i; " \
                   f"{_SMALL} -run map_gates:"

# A wire may leave the rectangle around its ends by so many tiles, 3 if nothing is said. In the
# middle of a large device it must, or the design cannot be routed.
_WIDE_ROUTES = {"router2/bbMargin/x": "15", "router2/bbMargin/y": "15"}


def _small_device(package: str) -> Device:
    """An LFE5U-25F of speed grade 6."""
    return Device(
        capacity=Capacity(luts=24_288, ffs=24_288, multipliers=28, block_rams=56),
        synthesis=f"{KEEP_FLAGS}; {_SMALL_SYNTHESIS}",
        place=("--25k", "--package", package, "--speed", "6"),
        reserve=1.03)


ECP5 = Family(
    name="ecp5",
    devices={
        "LFE5U-85F": Device(
            capacity=Capacity(luts=83_640, ffs=83_640, multipliers=156, block_rams=208),
            synthesis=f"{KEEP_FLAGS}; {_SYNTHESIS}",
            # The default placer needs 50 % more wire on the large device: too much to route.
            place=("--85k", "--package", "CABGA381", "--speed", "6", "--placer", "static"),
            reserve=1.05,
            settings=_WIDE_ROUTES),
        "LFE5U-45F": Device(
            capacity=Capacity(luts=43_848, ffs=43_848, multipliers=72, block_rams=108),
            synthesis=f"{KEEP_FLAGS}; {_SMALL_SYNTHESIS}",
            place=("--45k", "--package", "CABGA381", "--speed", "6", "--placer", "static"),
            reserve=1.03,
            settings=_WIDE_ROUTES),
        "LFE5U-25F": _small_device("CABGA381"),
        "LFE5U-25F-BG256": _small_device("CABGA256"),
    },
    tools=Tools(
        place="nextpnr-ecp5", pack="ecppack",
        # router2 is several times as fast as the default on arrays, and reaches a better clock.
        place_options=("--router", "router2", "--lpf", "{pins}"), text_option="--textcfg",
        rip_up=("--tmg-ripup",), pack_options=("--compress", "{routed}", "{image}"),
        constraints=".lpf", image=".bit",
        luts={"TRELLIS_COMB": 1}, ffs={"TRELLIS_FF": 1}, multipliers={"MULT18X18D": 1},
        block_rams={"DP16KD": 1}),
    clock=lambda oscillator_mhz, asked_mhz: PllClock(Ecp5Pll.nearest(oscillator_mhz, asked_mhz)),
    block_memory=BlockMemory(36, 512, 6),
    # A TRELLIS_DPR16X4 is a distributed memory.
    cells={"LUT4": ("luts", 1), "CCU2C": ("luts", 2), "TRELLIS_DPR16X4": ("luts", 4),
           "TRELLIS_FF": ("ffs", 1), "MULT18X18D": ("multipliers", 1), "DP16KD": ("block_rams", 1),
           "PDPW16KD": ("block_rams", 1)},
    suffixes=("TRELLIS_FF", "TRELLIS_DPR16X4", "LUT4", "PFUMX", "L6MUX21", "CCU2C",
              r"P?DP\w?16KD", "MULT18X18D"))
"""Lattice ECP5."""
