"""One trial: what a configuration takes, and what the networks take on it.

:func:`evaluate` is a task for a worker; networks are known by the hash of their file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import exp, log
from typing import Any

from weft.boards.ecp5.floorplan import ECP5_SITES, Floorplan
from weft.boards.families import FAMILIES
from weft.boards.family import Capacity, Family
from weft.boards.flow.predict import predict
from weft.boards.flow.reached import clock_model
from weft.boards.memory import BoardMemory
from weft.cluster import shipped
from weft.compiler import compile_parts
from weft.compiler.activity import Activity, stream_activity
from weft.compiler.estimate import least_cycles
from weft.compiler.sketch import sketch
from weft.errors import CompileError
from weft.frontend import partition
from weft.hw.isa.config import AcceleratorConfig, ConfigError
from weft.ir import Partition
from weft.runtime.energy import EnergyTable, energy_pj
from weft.runtime.estimate import estimate_programs

from .near import NEAR, distance

__all__ = ["OBJECTIVES", "Job", "Network", "NetworkFigures", "Outcome", "Target", "evaluate"]


OBJECTIVES = {
    "fps": ("maximize", "frames per second of a further frame, of several networks the geometric "
                        "mean"),
    "luts": ("minimize", "look-up tables of the FPGA"),
    "latency": ("minimize", "milliseconds of the first frame, of the slowest network"),
    "energy": ("minimize", "microjoules of a further frame, of several networks the geometric "
                           "mean"),
}
"""What a search may be for: the direction, and what it is."""

_RESOURCES = {"luts": "LUTs", "ffs": "flip-flops", "multipliers": "multipliers",
              "block_rams": "block RAMs"}
_IMPOSSIBLE = 10.0      # how far off what is no configuration is; one too large is some percent


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the accelerator is for.

    Attributes
    ----------
    title : :class:`str`
    board : :class:`str`
        Its name; empty for an accelerator by itself.
    device : :class:`str`
    capacity : :class:`~weft.boards.family.Capacity`
        What may be used.
    blocks : :class:`int`
        Multiplier blocks that the device has.
    memory : :class:`~weft.boards.memory.BoardMemory` or :py:`None`
        External memory that is on the chip, too.
    """

    title: str
    board: str
    family: str
    device: str
    capacity: Capacity
    blocks: int
    memory: BoardMemory | None


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network, by the hash of its file, which is shipped."""
    name: str
    hash: str
    tflite: bool
    rule: str | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """What :func:`evaluate` needs.

    Attributes
    ----------
    objectives : tuple of :class:`str`
    beat : tuple of tuple of :class:`float`
        Values of these, as of :meth:`Outcome.values`, one of which is to be beaten, or nearly: what
        surely is far behind need not be compiled.
    whole : :class:`bool`
        Compile as for a run, and play every command; otherwise sketch.
    """

    config: dict[str, Any]
    networks: tuple[Network, ...]
    target: Target
    energy: EnergyTable
    objectives: tuple[str, ...] = ()
    beat: tuple[tuple[float, ...], ...] = ()
    whole: bool = False


@dataclass(frozen=True, kw_only=True)
class NetworkFigures:
    """What a network takes: cycles of the first frame and of each further one, microjoules of a
    further one, and bytes of external memory."""
    name: str
    first: int
    further: int
    energy_uj: float
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a trial.

    Attributes
    ----------
    reason : :class:`str`
        Why it cannot be, or not be on a front; empty if it can.
    kind : :class:`str`
        The same in a word or two, to count by.
    violation : :class:`float`
        How far it is from what can be: 0 if it can.
    used : :class:`~weft.boards.family.Capacity` or :py:`None`
    networks : tuple of :class:`NetworkFigures`
        None if it does not fit. If others are sure to beat it, what it can reach at best.
    """

    reason: str = ""
    kind: str = ""
    violation: float = 0.0
    used: Capacity | None = None
    clock_mhz: float = 0.0
    networks: tuple[NetworkFigures, ...] = field(default=())

    @property
    def fits(self) -> bool:
        """Whether all networks can run on it."""
        return bool(self.networks)

    def value(self, objective: str) -> float:
        """The value of one of :data:`OBJECTIVES`."""
        assert self.used is not None and self.networks
        match objective:
            case "fps":
                return _mean([self.clock_mhz * 1e6 / each.further for each in self.networks])
            case "luts":
                return float(self.used.luts)
            case "latency":
                return max(each.first for each in self.networks) / self.clock_mhz / 1e3
        return _mean([each.energy_uj for each in self.networks])

    def values(self, objectives: Sequence[str]) -> tuple[float, ...]:
        """Of the objectives, each the smaller the better."""
        return tuple(-self.value(name) if OBJECTIVES[name][0] == "maximize" else self.value(name)
                     for name in objectives)


def _mean(values: Sequence[float]) -> float:
    """The geometric one."""
    return exp(sum(map(log, values)) / len(values))


def evaluate(job: Job) -> Outcome:
    """Resources first, as they are known at once; networks if it fits."""
    try:
        config = AcceleratorConfig(**job.config)
    except ConfigError as error:
        return Outcome(reason=str(error), kind="no configuration", violation=_IMPOSSIBLE)
    target = job.target
    family = find_family(target.family)
    used = predict(config, family, blocks=target.blocks, memory=target.memory)
    lacking = {name: getattr(used, name) / max(1, getattr(target.capacity, name)) - 1
               for name in _RESOURCES
               if getattr(used, name) > getattr(target.capacity, name)}
    if lacking:
        most = max(lacking, key=lambda name: lacking[name])
        return Outcome(reason=f"{getattr(used, most):,} {_RESOURCES[most]}, "
                              f"{getattr(target.capacity, most):,} are available",
                       kind=_RESOURCES[most], violation=sum(lacking.values()), used=used)
    try:
        Floorplan(config, ECP5_SITES[target.device.removeprefix("LFE5U-")])
    except ConfigError as error:
        return Outcome(reason=str(error), kind="floorplan", violation=1.0, used=used)
    clock = clock_model(family).clock_mhz(
        used.luts / family.devices[target.device].capacity.luts)
    beaten = _beaten(job, config, Outcome(used=used, clock_mhz=clock))
    if beaten is not None:
        return beaten
    figures = []
    for network in job.networks:
        try:
            found = _figures(network, config, job)
        except CompileError as error:
            return Outcome(reason=f"{network.name}: {error}", kind="network", violation=1.0,
                           used=used)
        if target.memory is not None and found.memory_bytes > target.memory.size:
            return Outcome(
                reason=f"{network.name}: {found.memory_bytes:,} bytes of external memory, "
                       f"{target.memory.size:,} are available", kind="external memory",
                violation=found.memory_bytes / target.memory.size - 1, used=used)
        figures.append(found)
    return Outcome(used=used, clock_mhz=clock, networks=tuple(figures))


def find_family(name: str) -> Family:
    """The FPGA family of that name."""
    return next(family for family in FAMILIES if family.name == name)


@lru_cache(maxsize=64)
def plan_of(network: Network) -> Partition:
    """What runs where of a network, on an accelerator of any size, which it has graphs for."""
    data = shipped(network.hash)
    if network.tflite:
        return partition(data, rule=network.rule)
    import onnx

    return partition(onnx.load_from_string(data), rule=network.rule)


def _beaten(job: Job, config: AcceleratorConfig, fitting: Outcome) -> Outcome | None:
    """The outcome of a configuration that cannot come near to what is to be beaten, from the
    cycles that its engines are busy: a matter of milliseconds."""
    if not job.beat or "energy" in job.objectives:  # of which there is no bound
        return None
    figures = []
    for network in job.networks:
        try:
            least = sum(least_cycles(graph, config) for graph in plan_of(network).graphs)
        except CompileError:    # which compiling names
            return None
        figures.append(NetworkFigures(name=network.name, first=least, further=least, energy_uj=0.0,
                                      memory_bytes=0))
    at_best = replace(fitting, networks=tuple(figures))
    behind = distance(at_best.values(job.objectives), job.beat)
    if behind <= NEAR:
        return None
    return replace(at_best, violation=behind - 1, kind="beaten",
                   reason=f"{behind - 1:.1%} behind others at best")


def _figures(network: Network, config: AcceleratorConfig, job: Job) -> NetworkFigures:
    plan = plan_of(network)
    if job.whole:
        programs = compile_parts(plan.graphs, config)
        estimate = estimate_programs(programs, model=network.name)
        first, further = estimate.first.cycles, estimate.further.cycles
        size = programs[-1].memory_bytes
        streams = [program.warm_commands if estimate.warm else program.commands
                   for program in programs]
        activity = Activity.sum(each for stream in streams
                                for each in stream_activity(config, stream))
    else:
        sketches, size = [], 0
        for graph in plan.graphs:
            sketches.append(sketch(graph, config, base=size))
            size = sketches[-1].memory_bytes
        first = round(sum(each.first for each in sketches))
        warm = len(sketches) == 1
        further = round(sum(each.further if warm else each.first for each in sketches))
        activity = Activity.sum(each.activity for each in sketches)
    energy = sum(energy_pj(activity, config, job.energy).values()) / 1e6
    return NetworkFigures(name=network.name, first=first, further=further, energy_uj=energy,
                          memory_bytes=size)
