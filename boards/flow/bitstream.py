"""From a board and a configuration to a bitstream, and what it came to."""

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from weft.boards.board import Board
from weft.boards.family import Capacity
from weft.cluster import Cluster
from weft.errors import InputError

from .netlist import count_components, find_sources, finish_netlist
from .placement import Route, place, place_all
from .timing import CriticalPath, read_timing
from .tools import find_tool, run_tool, run_yosys

__all__ = ["Build", "Route", "build", "design"]


@dataclass(frozen=True, kw_only=True)
class Build:
    """What a build came to.

    Parameters
    ----------
    board : :class:`Board`
        With the configuration and the clock that were built.
    asked_mhz : :class:`float`
        The clock that the board's oscillator was turned into.
    routes : tuple of :class:`Route`
        One for each seed, best first.
    path : :class:`CriticalPath`
        Of the best.
    used, available : :class:`Capacity`
    components : dict of :class:`str` to :class:`Capacity`
        What each component takes after synthesis, by its place in the hierarchy.
    seconds : dict of :class:`str` to :class:`float`
        Wall time of each step.
    bitstream : :class:`~pathlib.Path` or None
        None if the clock was missed.
    """

    board: Board
    asked_mhz: float
    routes: tuple[Route, ...]
    path: CriticalPath
    used: Capacity
    available: Capacity
    components: dict[str, Capacity]
    seconds: dict[str, float]
    bitstream: Path | None

    @property
    def clock_mhz(self) -> float:
        """What the best route's slowest path allows."""
        return self.routes[0].clock_mhz

    @property
    def met(self) -> bool:
        """Whether the clock that was asked for is reached, and those of USB are."""
        return (self.clock_mhz >= self.asked_mhz
                and self.routes[0].usb_met(self.board.fpga.reserve))

    @property
    def usb_mhz(self) -> dict[str, tuple[float, float]]:
        """Of the clocks of USB, by their domains, what is reached and what they are."""
        return {domain: (reached, round(asked / self.board.fpga.reserve, 1))
                for domain, (reached, asked) in self.routes[0].usb.items()}

    def to_dict(self) -> dict[str, Any]:
        """All figures, JSON-ready."""
        return {
            "board": self.board.name,
            "device": self.board.device,
            "config": self.board.config.to_dict(),
            "asked_mhz": self.asked_mhz,
            "clock_mhz": self.clock_mhz,
            "met": self.met,
            "usb_mhz": self.usb_mhz,
            "seeds": [asdict(route) for route in self.routes],
            "critical_path": self.path.to_dict(),
            "used": asdict(self.used),
            "available": asdict(self.available),
            "components": {name: asdict(used) for name, used in self.components.items()},
            "seconds": self.seconds,
            "bitstream": None if self.bitstream is None else str(self.bitstream),
        }


def design(board: Board) -> tuple[float, dict[str, str]]:
    """The design of ``board`` for the tools.

    Returns
    -------
    :class:`float`
        Its clock in MHz, which may be slightly off what the board asks for.
    dict
        Files by name: ``top.il``, and the constraints.
    """
    from weft.boards.registry import make_platform
    from weft.boards.system.top import Top

    top, reserve = Top(board), board.fpga.reserve
    files = make_platform(board).prepare(top, "top").files
    constraints = f"top{board.family.tools.constraints}"
    return top.clock_mhz, {
        "top.il": files["top.il"],
        constraints: re.sub(r'(?<=^FREQUENCY PORT )("[^"]*") ([\d.]+) HZ', lambda found:
                            f"{found[1]} {float(found[2]) * reserve:.1f} HZ",
                            files[constraints], flags=re.MULTILINE)}


def _settings(board: Board, clock_mhz: float) -> dict[str, str]:
    """What the place tool is told with the netlist."""
    device, name = board.fpga, board.family.tools.clock_setting
    aim = {name: f"{clock_mhz * 1e6 * device.margin * device.reserve:.0f}"} if name else {}
    return {**device.settings, **aim}


def build(board: Board, folder: Path, *, seeds: int = 1, retries: int = 0,
          allow_timing_fail: bool = False, cluster: Cluster | None = None,
          progress: Callable[[str], None] = lambda text: None) -> Build:
    """Builds the bitstream of ``board`` in ``folder``, with all intermediate files and logs.

    Parameters
    ----------
    board : :class:`Board`
        Its ``config`` and ``clock_mhz`` are what is built.
    folder : :class:`~pathlib.Path`
        Created if need be.
    seeds : :class:`int`
        Number of placements to try, two at a time; the fastest is kept.
    retries : :class:`int`
        Further placements, one at a time, as long as the clock is missed: how fast one is varies
        by a tenth from seed to seed, and with everything that is renamed.
    allow_timing_fail : :class:`bool`
        Write the bitstream even if its clock was missed.
    cluster : :class:`~weft.cluster.Cluster`
        Workers that place, each with a seed, instead.
    progress : callable
        Told each step as it begins.

    Raises
    ------
    ToolError
        If a tool is missing or fails.
    ConfigError
        If the clock cannot be made from the board's oscillator.
    InputError
        If there are no seeds, or less than no retries, or the folder cannot be written.
    """
    if seeds < 1:
        raise InputError(f"Seeds must be at least 1, not {seeds}")
    if retries < 0:
        raise InputError(f"Retries must be at least 0, not {retries}")
    tools, device = board.family.tools, board.fpga
    find_tool("yosys")  # what is missing is to be known before the work begins
    find_tool(tools.place)
    pack_tool = find_tool(tools.pack)
    image = folder / f"{board.name}{tools.image}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        image.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"Folder {folder} cannot be written: {error.strerror}") from None

    seconds: dict[str, float] = {}

    @contextmanager
    def step(name: str, text: str) -> Iterator[None]:
        progress(text)
        start = time.monotonic()
        yield
        seconds[name] = round(time.monotonic() - start, 1)

    with step("generate", f"Generating {board.config.name} for {board.title}"):
        clock_mhz, files = design(board)
        rtlil = files.pop("top.il")
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    with step("synthesis", "Synthesis"):
        run_yosys(rtlil, f"{device.synthesis}; write_json top.json", folder=folder)
        netlist = finish_netlist(folder / "top.json", board.family, _settings(board, clock_mhz))

    def placed(numbers: range) -> list[Route]:
        if cluster is not None:
            return place_all(board.name, folder, numbers, cluster)
        with ThreadPoolExecutor(max_workers=2) as pool:
            return list(pool.map(partial(place, device, tools, folder), numbers))

    numbers = range(1, seeds + 1)
    with step("place and route", "Place and route" + (f", {seeds} seeds" if seeds > 1 else "")):
        found = placed(numbers)

    def meets(route: Route) -> bool:
        return route.clock_mhz >= clock_mhz and route.usb_met(device.reserve)

    for seed in range(seeds + 1, seeds + retries + 1):
        if any(map(meets, found)):
            break
        with step(f"seed {seed}", f"Place and route once more: "
                                  f"{max(route.clock_mhz for route in found):.1f} MHz reached"):
            found += placed(range(seed, seed + 1))
    routes = tuple(sorted(found, key=lambda route: (not route.usb_met(device.reserve),
                                                    -route.clock_mhz)))
    best = routes[0].seed
    timing = read_timing(folder / f"seed{best}.json")
    components = count_components(netlist, board.family)
    used = timing.used(tools)
    if not tools.ffs:
        used = replace(used, ffs=sum(component.ffs for component in components.values()))

    met = meets(routes[0])
    if met or allow_timing_fail:
        with step("pack", "Packing the bitstream"):
            run_tool([pack_tool, *(option.format(routed=f"seed{best}.txt", image=image.name)
                                   for option in tools.pack_options)],
                     folder=folder, log=folder / "pack.log")
    return Build(board=board, asked_mhz=clock_mhz, routes=routes,
                 path=timing.path.located(find_sources(netlist)),
                 used=used, available=board.capacity,
                 components=components, seconds=seconds,
                 bitstream=image if met or allow_timing_fail else None)
