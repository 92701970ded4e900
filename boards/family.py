"""What differs between FPGA families in the way from RTLIL to a bitstream."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from weft.boards.ecp5.floorplan import KEEP_FLAGS

from .board import Board, Family

__all__ = ["Capacity", "Flow", "capacity", "flow"]


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What an FPGA has, or what a design takes of it.

    Parameters
    ----------
    luts, ffs : :class:`int`
        4-input look-up tables, flip-flops. An iCE40 has logic cells with one of either; those in
        use count as LUTs.
    multipliers : :class:`int`
        18 x 18 bits; 16 x 16 bits with an accumulator in an iCE40.
    block_rams : :class:`int`
        Of 2 KiB; of 512 bytes in an iCE40.
    large_rams : :class:`int`
        Of 32 KiB, with a single port.
    """

    luts: int
    ffs: int
    multipliers: int
    block_rams: int
    large_rams: int = 0


_CAPACITIES = {
    "LFE5U-85F": Capacity(luts=83_640, ffs=83_640, multipliers=156, block_rams=208),
    "LFE5U-25F": Capacity(luts=24_288, ffs=24_288, multipliers=28, block_rams=56),
    "iCE40UP5K": Capacity(luts=5_280, ffs=5_280, multipliers=8, block_rams=30, large_rams=4),
}


def capacity(board: Board) -> Capacity:
    """What the FPGA of ``board`` has."""
    return _CAPACITIES[board.device]


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Tools of a family and their options.

    Parameters
    ----------
    synthesis : dict of :class:`str`
        Yosys commands by device, between reading the design and writing the netlist.
    place_tool, pack_tool : :class:`str`
    device : dict
        Options of the place tool that choose a device, its package and its speed grade.
    place_options : sequence of :class:`str`
        Further options; the last takes the file with pins.
    rip_up : sequence of :class:`str`
        Options to route again what is late, which never ends if the clock cannot be met.
    text_option : :class:`str`
        The option that takes the file to write.
    pack_options : sequence of :class:`str`
    reserve : dict of :class:`float`
        What to ask of the place tool, of the oscillator's frequency, by device: some wires may be
        up to 1 % later than its router takes them for, and the rest is a margin.
    settings : dict
        Of the place tool, which has no options for these, by device.
    constraints : :class:`str`
        Suffix of the file with pins.
    image : :class:`str`
        Suffix of the file that is loaded into the FPGA.
    luts, ffs, multipliers, block_rams, large_rams : :class:`str`
        What nextpnr calls these; empty if it has no name for them, and flip-flops are counted in
        the netlist.
    """

    synthesis: Mapping[str, str]
    place_tool: str
    pack_tool: str
    device: Mapping[str, Sequence[str]]
    place_options: Sequence[str]
    text_option: str
    pack_options: Sequence[str]
    reserve: Mapping[str, float]
    settings: Mapping[str, Mapping[str, str]]
    constraints: str
    image: str
    luts: str
    ffs: str
    multipliers: str
    block_rams: str
    large_rams: str = ""
    rip_up: Sequence[str] = ()

    def place(self, seed: int) -> list[str]:
        """Options of the place and route tool beside those of the device, for ``top.json`` in the
        current folder; ``seedN.txt`` is the placed and routed design, ``seedN.json`` the report."""
        return [*self.place_options, f"top{self.constraints}", "--json", "top.json",
                self.text_option, f"seed{seed}.txt", "--report", f"seed{seed}.json",
                "--seed", str(seed), "--timing-allow-fail"]


# The design says itself which multipliers go into blocks.
_SYNTH_ECP5 = "synth_ecp5 -nodsp -top top"

# For a small device. A carry chain takes two LUTs more at each end that meets other logic, and ABC
# counts a multiplexer behind two or four LUTs as nothing, but takes the LUTs: short sums and
# comparisons in LUTs, and none of those multiplexers, make a tenth less.
_SMALL = f"{_SYNTH_ECP5} -nowidelut -cmp2softlogic"
_SMALL_ECP5 = f"{_SMALL} -run :map_gates; techmap t:$alu r:Y_WIDTH<=9 %i; {_SMALL} -run map_gates:"

_FLOWS = {
    Family.ECP5: Flow(
        synthesis={"LFE5U-85F": f"{KEEP_FLAGS}; {_SYNTH_ECP5}",
                   "LFE5U-25F": f"{KEEP_FLAGS}; {_SMALL_ECP5}"},
        place_tool="nextpnr-ecp5", pack_tool="ecppack",
        # On the large device the default placer makes half as much wire again: too much to route.
        device={"LFE5U-85F": ("--85k", "--package", "CABGA381", "--speed", "6",
                              "--placer", "static"),
                "LFE5U-25F": ("--25k", "--package", "CABGA381", "--speed", "6")},
        # router2 is several times as fast as the default on arrays, and reaches a better clock.
        place_options=("--router", "router2", "--lpf"), text_option="--textcfg",
        rip_up=("--tmg-ripup",), reserve={"LFE5U-85F": 1.05, "LFE5U-25F": 1.03},
        pack_options=("--compress",),
        # A wire may leave the rectangle around its ends by so many tiles, 3 if nothing is said. In
        # the middle of the large device it must, or the design cannot be routed.
        settings={"LFE5U-85F": {"router2/bbMargin/x": "15", "router2/bbMargin/y": "15"},
                  "LFE5U-25F": {}},
        constraints=".lpf", image=".bit", luts="TRELLIS_COMB",
        ffs="TRELLIS_FF", multipliers="MULT18X18D", block_rams="DP16KD"),
    Family.ICE40: Flow(
        synthesis={"iCE40UP5K": "synth_ice40 -abc9 -device u -top top"},
        place_tool="nextpnr-ice40", pack_tool="icepack",
        device={"iCE40UP5K": ("--up5k", "--package", "sg48")},
        place_options=("--pcf",), text_option="--asc", pack_options=(),
        reserve={"iCE40UP5K": 1}, settings={"iCE40UP5K": {}}, constraints=".pcf",
        image=".bin", luts="ICESTORM_LC", ffs="", multipliers="ICESTORM_DSP",
        block_rams="ICESTORM_RAM", large_rams="ICESTORM_SPRAM"),
}


def flow(family: Family) -> Flow:
    """Tools of ``family``."""
    return _FLOWS[family]
