"""What Weft knows of an FPGA family: its devices, tools, clocks, and what its cells are."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import ceil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clock import ClockSource

__all__ = ["KEEP_FLAGS", "BlockMemory", "Capacity", "Device", "Family", "Tools"]


KEEP_FLAGS = "setattr -set keep 1 */a:keep %ci1 */t:$*dff* %i"
"""Yosys command for a design just read, one with a hierarchy: it leaves registers alone that drive
a signal with the attribute ``keep``. The attribute at the signal does not keep Yosys from merging
equal registers, and the array's flags are equal along its diagonals."""


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What an FPGA has, or what a design takes of it.

    Parameters
    ----------
    luts, ffs : :class:`int`
        4-input look-up tables, flip-flops. An iCE40 has logic cells with one of either; those in
        use count as LUTs.
    multipliers : :class:`int`
        18 x 18 bits; 16 x 16 bits with an accumulator in an iCE40; 9 x 9 bits in a Gowin FPGA, two
        of which are one of 18 x 18.
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


@dataclass(frozen=True, kw_only=True)
class Device:
    """An FPGA of a family.

    Parameters
    ----------
    capacity : :class:`Capacity`
    synthesis : :class:`str`
        Yosys commands between reading the design and writing the netlist.
    place : sequence of :class:`str`
        Options of the place tool that choose the device, its package and its speed grade.
    reserve : :class:`float`
        What to ask of the place tool, of the oscillator's frequency: some wires may be up to 1 %
        later than its router takes them for, and the rest is a margin.
    settings : dict
        Of the place tool, which has no options for these.
    margin : :class:`float`
        By how much the clock that the place tool says is reached is taken to be too high.
    """

    capacity: Capacity
    synthesis: str
    place: Sequence[str]
    reserve: float = 1
    settings: Mapping[str, str] = field(default_factory=dict)
    margin: float = 1


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Tools of a family and their options.

    Parameters
    ----------
    place, pack : :class:`str`
        Names of the place and route tool, and of that which makes the bitstream.
    place_options : sequence of :class:`str`
        Beside those of the device; ``{pins}`` stands for the file with pins.
    text_option : :class:`str`
        The option that takes the file to write.
    rip_up : sequence of :class:`str`
        Options to route again what is late, which never ends if the clock cannot be met.
    pack_options : sequence of :class:`str`
        ``{routed}`` stands for the file that was written, ``{image}`` for what is loaded.
    constraints : :class:`str`
        Suffix of the file with pins.
    image : :class:`str`
        Suffix of the file that is loaded into the FPGA.
    clock_setting : :class:`str`
        The place tool's setting of the clock to aim at, in Hz; empty if it follows from the
        oscillator's in the file with pins.
    luts, ffs, multipliers, block_rams, large_rams : dict of :class:`int`
        What the place tool calls these, and how many one of each kind is; empty if it has no name
        for them, and flip-flops are counted in the netlist.
    """

    place: str
    pack: str
    place_options: Sequence[str]
    text_option: str
    rip_up: Sequence[str] = ()
    pack_options: Sequence[str] = ("{routed}", "{image}")
    constraints: str
    image: str
    clock_setting: str = ""
    luts: Mapping[str, int]
    ffs: Mapping[str, int] = field(default_factory=dict)
    multipliers: Mapping[str, int]
    block_rams: Mapping[str, int]
    large_rams: Mapping[str, int] = field(default_factory=dict)

    def options(self, seed: int) -> list[str]:
        """Options of the place and route tool beside those of the device, for ``top.json`` in the
        current folder; ``seedN.txt`` is the placed and routed design, ``seedN.json`` the report."""
        return [*(option.format(pins=f"top{self.constraints}") for option in self.place_options),
                "--json", "top.json", self.text_option, f"seed{seed}.txt",
                "--report", f"seed{seed}.json", "--seed", str(seed), "--timing-allow-fail"]


@dataclass(frozen=True)
class BlockMemory:
    """A block memory: ``width`` bits, ``depth`` words, or narrower and deeper in so many
    ``shapes``, each half as wide as the one before."""

    width: int
    depth: int
    shapes: int

    def count(self, width: int, depth: int) -> int:
        """Blocks of a memory of ``depth`` words of ``width`` bits, cut in both directions."""
        return min(ceil(width / (self.width >> k)) * ceil(depth / (self.depth << k))
                   for k in range(self.shapes))


@dataclass(frozen=True, kw_only=True)
class Family:
    """An FPGA family: all that differs between families on the way from a design to a bitstream.

    Parameters
    ----------
    name : :class:`str`
    devices : dict of :class:`Device`
        By the name that a :class:`~weft.boards.board.Board` gives.
    tools : :class:`Tools`
    clock : callable
        Called with the frequency of the oscillator and the one asked for, in MHz; gives what
        drives the clock, see :mod:`weft.boards.clock`, or raises a
        :class:`~weft.hw.isa.config.ConfigError`.
    block_memory : :class:`BlockMemory`
    cells : dict of (:class:`str`, :class:`int`)
        Kind of cell, or a pattern of kinds, to what it takes of which field of a
        :class:`Capacity`.
    rework : callable
        Changes the top module of a netlist, as JSON has it, between synthesis and placing.
    suffixes : sequence of :class:`str`
        Regular expressions for what Yosys appends to a cell's name.
    count_luts : callable
        LUTs in use of the numbers of look-up tables and flip-flops, which may share cells.
    """

    name: str
    devices: Mapping[str, Device]
    tools: Tools
    clock: "Callable[[float, float], ClockSource]"
    block_memory: BlockMemory
    cells: Mapping[str, tuple[str, int]]
    rework: Callable[[dict[str, Any]], None] = lambda top: None
    suffixes: Sequence[str] = ()
    count_luts: Callable[[float, float], float] = lambda luts, ffs: luts

    def costs(self, kinds: Iterable[str]) -> dict[str, tuple[str, int]]:
        """What a cell takes of what, of those ``kinds`` that take anything."""
        return {kind: cost for kind in kinds for pattern, cost in self.cells.items()
                if fnmatchcase(kind, pattern)}
