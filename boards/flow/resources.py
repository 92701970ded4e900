"""How much of an FPGA a configuration takes, without synthesis."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from math import ceil
from typing import Any

from weft.boards.board import Board
from weft.boards.family import Capacity, Family
from weft.hw.isa.config import AcceleratorConfig

from .names import place_in_source

__all__ = ["Resources", "features", "resources"]


LUTS_PER_BIT = {
    "arithmetic": 1.6,
    "select": 0.065,
    "logic": 0.17,
    "memory": 1.25,
}
"""Look-up tables for a bit of what the design is made of; see :func:`features`. Fitted to designs
that were synthesized and packed, so they cover what Yosys merges and removes, enables of registers
that look like multiplexers, and the two ends of a carry chain."""

DISTRIBUTED_ROWS = 32
"""Words of a memory, at most, that synthesis makes of look-up tables: it does not waste a block on
so few."""

_NAMES = ("luts", "ffs", "multipliers", "block_rams", "large_rams")

FFS_PER_BIT = 0.905
"""Flip-flops for a bit of a register; the others are merged or removed."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a configuration is expected to take on a board.

    Parameters
    ----------
    board : :class:`Board`
        With the configuration.
    total, available : :class:`Capacity`
    components : dict of :class:`str` to :class:`Capacity`
        What each component takes with all that is in it, by its place in the hierarchy: the parts
        of the system, of the accelerator's core, and of its engines.
    """

    board: Board
    total: Capacity
    available: Capacity
    components: dict[str, Capacity]

    @property
    def fits(self) -> bool:
        """Whether the device has that much."""
        return all(getattr(self.total, name) <= getattr(self.available, name)
                   for name in _NAMES)

    def to_dict(self) -> dict[str, Any]:
        """All figures, JSON-ready."""
        return {
            "board": self.board.name,
            "device": self.board.device,
            "config": self.board.config.to_dict(),
            "fits": self.fits,
            "used": asdict(self.total),
            "available": asdict(self.available),
            "components": {name: asdict(used) for name, used in self.components.items()},
        }


def resources(config: AcceleratorConfig, board: Board) -> Resources:
    """What ``config`` takes on ``board``, with clock, serial port and staging memory.

    The design is generated, so that there is nothing to keep in step with it, and its operators
    are counted: registers, multipliers and memories as they are, look-up tables by a factor for
    each kind of operator. Takes some ten seconds for 16 x 16 MACs per cycle.
    """
    from .bitstream import design

    board = replace(board, config=config)
    _clock_mhz, files = design(board)
    components: dict[str, Counter[str]] = {}
    total: Counter[str] = Counter()
    for module, counts in features(files["top.il"], board.family).items():
        used = _used(counts, board.family)
        total.update(used)
        parts = module.split(".")
        # Down to the parts of an engine: top.system.accelerator.core.matrix.array.
        for depth in range(2, min(len(parts), 6) + 1):
            components.setdefault(".".join(parts[1:depth]), Counter()).update(used)
    return Resources(board=board, total=_capacity(total), available=board.capacity,
                     components={name: _capacity(used)
                                 for name, used in sorted(components.items())})


def _used(counts: Counter[str], family: Family) -> dict[str, float]:
    used: dict[str, float] = {name: counts[name]
                              for name in ("multipliers", "block_rams", "large_rams")}
    used["ffs"] = FFS_PER_BIT * counts["register"]
    used["luts"] = family.count_luts(
        sum(luts * counts[kind] for kind, luts in LUTS_PER_BIT.items()), used["ffs"])
    return used


def _capacity(used: Counter[str]) -> Capacity:
    return Capacity(**{name: round(used[name]) for name in _NAMES})


@dataclass
class _Cell:
    """A cell of an RTLIL module."""
    kind: str
    parameters: dict[str, str] = field(default_factory=dict)
    ports: dict[str, str] = field(default_factory=dict)

    def number(self, name: str) -> int:
        """The parameter as a number; 0 if the cell has no such parameter."""
        return int(self.parameters.get(name, "0"))

    def constant(self, port: str) -> bool:
        """Whether the port is tied to a constant."""
        return re.fullmatch(r"\d+'[01x-]+", self.ports[port]) is not None


def features(rtlil: str, family: Family) -> dict[str, Counter[str]]:
    """What each module of a design is made of.

    Parameters
    ----------
    rtlil : :class:`str`
        The design as Amaranth writes it.
    family : :class:`~weft.boards.family.Family`
        For its cells, and the size of its block memories.

    Returns
    -------
    dict
        For each module, bits of ``register``; of ``arithmetic``, that is sums and comparisons by
        size; of ``select``, that is results of multiplexers and of branches; of ``logic``; and of
        ports of distributed ``memory``. Also ``multipliers``, ``block_rams`` and ``large_rams``.
    """
    found: dict[str, Counter[str]] = {}
    for module, lines in _modules(rtlil):
        component = ".".join(filter(None, place_in_source(module)))
        counts = found.setdefault(component, Counter())
        depths: dict[str, tuple[int, int]] = {}
        cell: _Cell | None = None
        branches = 0
        for line in lines:
            word, _, rest = line.partition(" ")
            if word == "memory":
                _, width, _, depth, name = rest.split(" ")
                depths[name.removeprefix("\\")] = (int(width), int(depth))
            elif word == "cell":
                cell = _Cell(kind=rest.split(" ")[0])
            elif word == "parameter" and cell is not None:
                name, _, value = rest.partition(" ")
                cell.parameters[name.removeprefix("\\")] = value
            elif word == "connect" and cell is not None:
                name, _, value = rest.partition(" ")
                cell.ports[name.removeprefix("\\")] = value
            elif word == "switch":
                branches += 1
            elif word == "assign" and branches:
                counts["select"] += _bits(rest)
            elif word == "end":
                if cell is not None:
                    counts.update(_cell(cell, depths, family))
                    cell = None
                elif branches:
                    branches -= 1
    return found


def _modules(rtlil: str) -> Iterator[tuple[str, list[str]]]:
    for text in re.split(r"^module \\", rtlil, flags=re.MULTILINE)[1:]:
        name, *lines = text.splitlines()
        yield name, [line.strip() for line in lines]


def _bits(target: str) -> int:
    """Bits of the target of an assignment: ``\\signal [7:0] ...``."""
    found = re.match(r"\S+ \[(\d+)(?::(\d+))?\]", target)
    return 1 if found is None else int(found[1]) - int(found[2] or found[1]) + 1


def _cell(cell: _Cell, memories: dict[str, tuple[int, int]],
          family: Family) -> dict[str, int]:
    a, b = cell.number("A_WIDTH"), cell.number("B_WIDTH")
    match cell.kind:
        case "$dff" | "$adff":
            return {"register": cell.number("WIDTH")}
        case "$add" | "$sub" | "$neg":
            return {"arithmetic": min(cell.number("Y_WIDTH"), max(a, b) + 1)}
        case "$lt" | "$le" | "$gt" | "$ge":
            return {"arithmetic": max(a, b)}
        case "$mux":
            return {"select": cell.number("WIDTH")}
        case "$and" | "$or" | "$xor":
            return {"logic": cell.number("Y_WIDTH")}
        case "$eq" | "$ne" | "$reduce_or" | "$reduce_and" | "$reduce_xor":
            return {"logic": ceil(max(a, b) / 3)}
        case "$shl" | "$shr" | "$shift" if not cell.constant("B"):
            return {"select": cell.number("Y_WIDTH")}
        case "$mul" if not cell.constant("A") and not cell.constant("B"):
            return {"arithmetic": a * b}
        case "$memrd_v2":
            width, depth = memories[cell.parameters["MEMID"].strip('"').removeprefix("\\\\")]
            if cell.parameters["CLK_ENABLE"] == "0" or depth <= DISTRIBUTED_ROWS:
                return {"memory": width * ceil(depth / 16)}
            return {"block_rams": family.block_memory.count(width, depth)}
        case kind if not kind.startswith("$"):  # a primitive of the family
            return dict(family.costs([kind.removeprefix("\\")]).values())
    return {}
