"""What a synthesized design is made of, and where its signals come from."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weft.boards.family import Capacity, Family

from .names import place_in_source, source_line

__all__ = ["finish_netlist", "count_components", "find_sources"]


def finish_netlist(file: Path, family: Family, settings: Mapping[str, str]) -> dict[str, Any]:
    """Makes the netlist in ``file`` what is placed: what ``family`` changes, and ``settings`` for
    which nextpnr has no options.

    Returns
    -------
    dict
        The top module of the netlist.
    """
    netlist = json.loads(file.read_text(encoding="utf-8"))
    top: dict[str, Any] = next(module for module in netlist["modules"].values()
                               if "top" in module["attributes"])
    family.rework(top)
    if settings:
        top["settings"] = dict(settings)
    file.write_text(json.dumps(netlist), encoding="utf-8")
    return top


def count_components(netlist: dict[str, Any], family: Family) -> dict[str, Capacity]:
    """What each component takes by itself, without the components in it, by its place in the
    hierarchy. Yosys names cells after wires, so that at borders a few may be counted next door.

    Parameters
    ----------
    netlist : dict
        As :func:`finish_netlist` returns it.
    family : :class:`~weft.boards.family.Family`
        For what its cells are.
    """
    costs = family.costs({cell["type"] for cell in netlist["cells"].values()})
    counts: dict[str, Counter[str]] = {}
    for name, cell in netlist["cells"].items():
        if cell["type"] in costs:
            what, number = costs[cell["type"]]
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
