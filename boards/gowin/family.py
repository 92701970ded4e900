"""Gowin GW2A: its devices, and how Yosys and nextpnr are told to build for them."""

from weft.boards.clock import ClockSource, PlainClock, PllClock
from weft.boards.family import KEEP_FLAGS, BlockMemory, Capacity, Device, Family, Tools

from .delay_lines import replace_delay_lines
from .pll import GowinPll

__all__ = ["GOWIN"]


def _clock(oscillator_mhz: float, asked_mhz: float) -> ClockSource:
    if asked_mhz == oscillator_mhz:
        return PlainClock(oscillator_mhz)
    return PllClock(GowinPll.nearest(oscillator_mhz, asked_mhz))


# The design says itself which multipliers go into blocks.
_SYNTH = "synth_gowin -nodsp -nowidelut -family gw2a -top top"

# A flip-flop shares its place with a LUT, of which it can only take the output, and with its
# neighbour clock enable and reset. So short sums and comparisons become LUTs, since a carry chain
# begins at the first place of a tile, and enables and resets that few have become LUTs too.
_LONE = "-mince 6 -minsrst 6 -cell $_DFF_P_ 0 -cell $_DFFE_PP_ 0 -cell $_SDFF_PP?_ r " \
        "-cell $_SDFFE_PP?P_ r"
_SYNTHESIS = f"{_SYNTH} -run :map_gates; techmap t:$alu r:Y_WIDTH<=9 %i; " \
             f"{_SYNTH} -run map_gates:map_ffs; opt_clean; dfflegalize {_LONE}; " \
             f"{_SYNTH} -run map_ffs:"


GOWIN = Family(
    name="gowin",
    devices={
        "GW2AR-LV18QN88C8/I7": Device(
            capacity=Capacity(luts=20_736, ffs=15_552, multipliers=96, block_rams=46),
            synthesis=f"{KEEP_FLAGS}; {_SYNTHESIS}",
            place=("--device", "GW2AR-LV18QN88C8/I7", "--vopt", "family=GW2A-18C"),
            # What nextpnr knows of the delays of this family is some 20 % short.
            margin=1.2),
    },
    tools=Tools(
        place="nextpnr-himbaechel-gowin", pack="gowin_pack",
        place_options=("--vopt", "cst={pins}", "--vopt", "ioreg_in_iob"), text_option="--write",
        pack_options=("-d", "GW2A-18C", "-o", "{image}", "{routed}"),
        constraints=".cst", image=".fs", clock_setting="target_freq",
        # With the places that carry chains and distributed memories take.
        luts={"LUT4": 1}, ffs={"DFF": 1},
        multipliers={"MULT9X9": 1, "MULT18X18": 2}, block_rams={"BSRAM": 1}),
    clock=_clock,
    rework=replace_delay_lines,
    block_memory=BlockMemory(36, 512, 6),
    cells={"LUT?": ("luts", 1), "ALU": ("luts", 1), "RAM16SDP?": ("luts", 8),
           "DFF*": ("ffs", 1), "MULT9X9": ("multipliers", 1), "MULT18X18": ("multipliers", 2),
           "SDP*B": ("block_rams", 1)},
    suffixes=(r"DFF\w*", r"LUT\d", r"MUX2_LUT\d", "ALU", r"RAM16SDP\d", r"SDP\w*B",
              r"MULT\d+X\d+"))
"""Gowin GW2A."""
