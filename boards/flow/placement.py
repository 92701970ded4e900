"""Placing and routing a netlist, here or on a worker."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from weft.boards.family import Device, Tools
from weft.boards.registry import find_board
from weft.cluster import Cluster, digest, shipped

from .rip_up import RipUp
from .timing import read_timing
from .tools import find_tool, run_tool

__all__ = ["Route", "place", "place_all"]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One placed and routed design.

    Parameters
    ----------
    seed : :class:`int`
        Of the placer.
    clock_mhz : :class:`float`
        What the slowest path of the accelerator's clock allows, less the device's margin.
    seconds : :class:`float`
        How long it took.
    usb : dict of (:class:`float`, :class:`float`)
        Of the clocks of USB what is reached, and what the place tool was asked for.
    """

    seed: int
    clock_mhz: float
    seconds: float
    usb: dict[str, tuple[float, float]] = field(default_factory=dict)

    def usb_met(self, reserve: float) -> bool:
        """Whether those clocks are what they must be; the tool was asked for ``reserve`` times as
        much."""
        return all(reached * reserve >= asked for reached, asked in self.usb.values())


def place(device: Device, tools: Tools, folder: Path, seed: int) -> Route:
    """Places and routes ``top.json`` in ``folder``, with its constraints."""
    start = time.monotonic()
    command = [find_tool(tools.place), *device.place, *tools.options(seed)]
    log = folder / f"seed{seed}.log"
    # What cannot be in time is routed once more without the attempt.
    if not run_tool([*command, *tools.rip_up], folder=folder, log=log, stop=RipUp().in_vain):
        run_tool(command, folder=folder, log=log)
    timing = read_timing(folder / f"seed{seed}.json")
    return Route(seed=seed, clock_mhz=round(timing.clock_mhz / device.margin, 2), usb=timing.usb,
                 seconds=round(time.monotonic() - start, 1))


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A placement for a worker: the hashes of its files, by name."""
    board: str
    files: dict[str, str]
    seed: int


def _place_shipped(job: _Job) -> tuple[Route, dict[str, bytes]]:
    """The route, and the files that were made."""
    board = find_board(job.board)
    with tempfile.TemporaryDirectory(prefix="weft-") as name:
        folder = Path(name)
        for file, content in job.files.items():
            (folder / file).write_bytes(shipped(content))
        route = place(board.fpga, board.family.tools, folder, job.seed)
        return route, {path.name: path.read_bytes() for path in folder.glob(f"seed{job.seed}.*")}


def place_all(board: str, folder: Path, seeds: Sequence[int], cluster: Cluster) -> list[Route]:
    """Places the netlist in ``folder`` with each of the seeds, on workers that have the tools; what
    they make of it is in ``folder`` then."""
    suffix = find_board(board).family.tools.constraints
    data = {name: (folder / name).read_bytes() for name in ("top.json", f"top{suffix}")}
    cluster.ship(*data.values())
    files = {name: digest(content) for name, content in data.items()}
    routes = []
    for route, made in cluster.map(_place_shipped, [_Job(board=board, files=files, seed=seed)
                                                    for seed in seeds]):
        routes.append(route)
        for name, content in made.items():
            (folder / name).write_bytes(content)
    return routes
