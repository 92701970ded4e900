"""Gowin GW2A: what moves through many registers moves through distributed memory instead.

A delay line of flip-flops takes one for each bit and cycle, and flip-flops are what a GW2A has
least of. Yosys does not make memories of them, so that the netlist is changed once it is
synthesized. A memory of 16 rows that is written in each cycle at the address of a counter, and read
some rows behind that, is a delay line of four bits.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

__all__ = ["LEAST_CYCLES", "replace_delay_lines"]


LEAST_CYCLES = 5
"""Registers one behind the other that are replaced, at least. A memory takes the place of six
flip-flops, and the last register stays: reading takes a part of a cycle."""

_ROWS = 16
_WIDTH = 4


@dataclass
class _Netlist:
    """The cells of a netlist, and what drives and uses each bit."""
    top: dict[str, Any]
    drivers: dict[int, str] = field(default_factory=dict)
    uses: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    last_bit: int = 0

    def __post_init__(self) -> None:
        for name, cell in self.top["cells"].items():
            for port, bits in cell["connections"].items():
                for bit in bits:
                    if not isinstance(bit, int):
                        continue
                    self.last_bit = max(self.last_bit, bit)
                    if cell["port_directions"][port] == "output":
                        self.drivers[bit] = name
                    else:
                        self.uses[bit] += 1
        for port in self.top["ports"].values():
            for bit in port["bits"]:
                self.uses[bit] += 1

    @property
    def cells(self) -> dict[str, Any]:
        return self.top["cells"]

    def pin(self, name: str, port: str) -> Any:
        """What is connected to a port of one bit."""
        return self.cells[name]["connections"][port][0]

    def bits(self, name: str, width: int) -> list[int]:
        """New bits, called ``name``."""
        bits = [self.last_bit + 1 + k for k in range(width)]
        self.last_bit += width
        self.top["netnames"][name] = {"hide_name": 0, "bits": bits, "attributes": {}}
        return bits

    def add(self, name: str, kind: str, parameters: dict[str, str], outputs: dict[str, list[int]],
            inputs: dict[str, list[Any]]) -> None:
        """A new cell."""
        self.cells[name] = {
            "hide_name": 0, "type": kind, "parameters": parameters, "attributes": {},
            "port_directions": dict.fromkeys(outputs, "output") | dict.fromkeys(inputs, "input"),
            "connections": {**outputs, **inputs}}


def replace_delay_lines(top: dict[str, Any]) -> None:
    """Changes a netlist of Yosys, ``top`` module of its JSON: registers in a row that are always
    enabled and never reset become memories. All start with zeros, as the registers do."""
    netlist = _Netlist(top)
    lines: defaultdict[tuple[Any, int], list[list[str]]] = defaultdict(list)
    for chain in _chains(netlist):
        while len(chain) >= LEAST_CYCLES:
            cycles = min(_ROWS, len(chain) - 1)
            lines[netlist.pin(chain[0], "CLK"), cycles].append(chain[:cycles])
            chain = chain[cycles:]
    counters: dict[Any, list[int]] = {}
    for (clock, cycles), group in sorted(lines.items(), key=str):
        if clock not in counters:
            number = len(counters)
            counters[clock] = netlist.bits(f"delay_line_write_{number}", _WIDTH)
            _address(netlist, f"delay_line_write_{number}", clock, counters[clock],
                     counters[clock], 1)
        write = counters[clock]
        read = write
        if cycles < _ROWS:
            name = f"delay_line_read_{[*counters].index(clock)}_{cycles}"
            read = netlist.bits(name, _WIDTH)
            _address(netlist, name, clock, read, write, 1 - cycles)
        group.sort()
        for first in range(0, len(group), _WIDTH):
            _memory(netlist, group[first:first + _WIDTH], clock, write, read)


def _chains(netlist: _Netlist) -> list[list[str]]:
    """Registers each of which drives nothing but the next one, from the first to the last."""
    before: dict[str, str] = {}
    for name, cell in netlist.cells.items():
        if cell["type"] == "DFF":
            bit = netlist.pin(name, "D")
            driver = netlist.drivers.get(bit)
            if (driver is not None and netlist.cells[driver]["type"] == "DFF"
                    and netlist.uses[bit] == 1
                    and netlist.pin(driver, "CLK") == netlist.pin(name, "CLK")):
                before[name] = driver
    chains = []
    for last in sorted(before.keys() - set(before.values())):
        chain = [last]
        while chain[0] in before and before[chain[0]] != last:
            chain.insert(0, before[chain[0]])
        chains.append(chain)
    return chains


def _address(netlist: _Netlist, name: str, clock: Any, address: list[int], counter: list[int],
             offset: int) -> None:
    """Registers for ``address``, which is that of ``counter``, in the cycle before, plus
    ``offset``."""
    for k, bit in enumerate(address):
        table = "".join(str((value + offset) >> k & 1) for value in reversed(range(_ROWS)))
        following = netlist.bits(f"{name}_next_{k}", 1)
        netlist.add(f"{name}_LUT4_{k}", "LUT4", {"INIT": table}, {"F": following},
                    {f"I{j}": [counter[j]] for j in range(_WIDTH)})
        netlist.add(f"{name}_DFF_{k}", "DFF", {"INIT": "0"}, {"Q": [bit]},
                    {"CLK": [clock], "D": following})


def _memory(netlist: _Netlist, lines: list[list[str]], clock: Any, write: list[int],
            read: list[int]) -> None:
    """A memory in the place of up to four lines of equal length."""
    given = [netlist.pin(line[0], "D") for line in lines]
    outputs = [netlist.pin(line[-1], "Q") for line in lines]
    name = lines[0][0]
    for line in lines:
        for register in line:
            del netlist.cells[register]
    missing = _WIDTH - len(lines)
    netlist.add(f"{name}_RAM16SDP4", "RAM16SDP4",
                {f"INIT_{k}": "0" * _ROWS for k in range(_WIDTH)},
                {"DO": outputs + (netlist.bits(f"{name}_unused", missing) if missing else [])},
                {"CLK": [clock], "WRE": ["1"], "WAD": list(write), "RAD": list(read),
                 "DI": given + ["0"] * missing})
