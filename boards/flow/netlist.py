"""What a synthesized design is made of, and where its signals come from."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weft.boards.family import Capacity

from .names import place_in_source, source_line

__all__ = ["add_settings", "count_components", "find_sources"]


# Kind of cell -> what it takes of what. A TRELLIS_DPR16X4 is a distributed memory.
_COSTS = {
    "LUT4": ("luts", 1), "CCU2C": ("luts", 2), "TRELLIS_DPR16X4": ("luts", 4),
    "TRELLIS_FF": ("ffs", 1), "MULT18X18D": ("multipliers", 1), "DP16KD": ("block_rams", 1),
    "PDPW16KD": ("block_rams", 1),
    "SB_LUT4": ("luts", 1), "SB_RAM40_4K": ("block_rams", 1), "SB_MAC16": ("multipliers", 1),
    "SB_SPRAM256KA": ("large_rams", 1),
}


def add_settings(file: Path, settings: Mapping[str, str]) -> dict[str, Any]:
    """Tells nextpnr ``settings`` for which it has no options, in the netlist ``file``.

    Returns
    -------
    dict
        The top module of the netlist.
    """
    netlist = json.loads(file.read_text(encoding="utf-8"))
    top = next(module for module in netlist["modules"].values() if "top" in module["attributes"])
    if settings:
        top["settings"] = dict(settings)
        file.write_text(json.dumps(netlist), encoding="utf-8")
    return top


def count_components(netlist: dict[str, Any]) -> dict[str, Capacity]:
    """What each component takes by itself, without the components in it, by its place in the
    hierarchy. Yosys names cells after wires, so that at borders a few may be counted next door.

    Parameters
    ----------
    netlist : dict
        As :func:`add_settings` returns it.
    """
    counts: dict[str, Counter[str]] = {}
    for name, cell in netlist["cells"].items():
        kind = cell["type"]
        # The flip-flops of an iCE40 have a name for each combination of enable and reset.
        what, number = ("ffs", 1) if kind.startswith("SB_DFF") else _COSTS.get(kind, ("", 0))
        if what:
            component, _signal = place_in_source(name)
            counts.setdefault(component, Counter())[what] += number
    return {component: Capacity(luts=count["luts"], ffs=count["ffs"],
                                multipliers=count["multipliers"], block_rams=count["block_rams"],
                                large_rams=count["large_rams"])
            for component, count in sorted(counts.items())}


def find_sources(netlist: dict[str, Any]) -> dict[tuple[str, str], str]:
    """Where each signal, by component and name, is defined: ``hw/matrix/engine.py:97``.

    nextpnr tells of a net between two LUTs only which library file the LUTs are from.
    """
    sources: dict[tuple[str, str], str] = {}
    for name, net in netlist["netnames"].items():
        source = source_line(net["attributes"].get("src", "").split("|"))
        if source is not None:
            sources.setdefault(place_in_source(name), source)
    return sources
