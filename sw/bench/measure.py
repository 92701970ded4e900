"""Measures one case: two frames on the simulated accelerator."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from weft.errors import WeftError
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Convolution, Depthwise, Graph
from weft.runtime.estimate import estimate_programs
from weft.runtime.runner import random_frames, run_frames
from weft.runtime.segment import Figures
from weft.runtime.session import InferenceSession

from .suite import CONFIGS, NETWORKS, Case

__all__ = ["LayerMeasurement", "Measurement", "gemm", "measure"]


@dataclass(frozen=True, kw_only=True)
class LayerMeasurement:
    """A layer of the last frame.

    Attributes
    ----------
    cycles : :class:`int`
        From the end of the layer before it to its own end.
    engine_cycles : :class:`int`
        In which its engine had a command of it.
    gemm : list of :class:`int`
        As matrix products: how many, and rows, columns and depth of each. Output pixels, output
        channels and taps of a convolution; a depthwise one has a product for each channel. Empty
        for other layers.
    """

    name: str
    op: str
    engine: str
    shape: list[int]
    macs: int
    cycles: int
    engine_cycles: int
    gemm: list[int]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What came out of a case.

    Attributes
    ----------
    network, config : :class:`str`
    macs : :class:`int`
        Of a frame, or of the frames that the network computes together.
    cycles_cold, cycles_warm : :class:`int` or :py:`None`
        Of a frame that loads all constants, and of one that finds them on chip; no warm one if
        they do not all fit.
    estimate_cold, estimate_warm : :class:`int` or :py:`None`
        What :mod:`weft.runtime.estimate` tells of them without a simulator.
    dram_bytes_cold, dram_bytes_warm : :class:`int` or :py:`None`
        Read and written by these frames, commands included.
    multipliers : :class:`int`
        Of the array, the alpha column included.
    utilization : :class:`float`
        Of the array, in the warm frame if there is one.
    macs_per_multiplier : :class:`float`
        And per cycle, in that frame.
    sim_cycles_per_second : :class:`float`
        How fast the simulation was; it depends on the machine.
    limit, limit_cycles : :class:`str`, :class:`int`
        What that frame takes at least, and of which resource:
        :class:`weft.compiler.limits.Limits`. Empty and 0 in a record from before there was one.
    layers : list of :class:`LayerMeasurement`
        Of that frame.
    """

    network: str
    config: str
    macs: int
    cycles_cold: int
    cycles_warm: int | None
    estimate_cold: int
    estimate_warm: int | None
    dram_bytes_cold: int
    dram_bytes_warm: int | None
    multipliers: int
    utilization: float
    macs_per_multiplier: float
    sim_cycles_per_second: float
    limit: str = ""
    limit_cycles: int = 0
    layers: list[LayerMeasurement]

    @property
    def reached(self) -> float:
        """The limit's share of the cycles of the warm frame, or else of the cold one."""
        return self.limit_cycles / (self.cycles_warm or self.cycles_cold)

    @property
    def kernel_cycles(self) -> int | None:
        """Of a network that is a single layer: its own cycles, with all data on chip."""
        if not NETWORKS[self.network].kernel:
            return None
        return sum(layer.engine_cycles for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        layers = [LayerMeasurement(**layer) for layer in values["layers"]]
        return cls(**{**values, "layers": layers})


def measure(case: Case, models: Path | None = None,
            progress: Callable[[str], None] | None = None) -> Measurement:
    """Runs a frame, or a batch, on a device that was just loaded, and another one behind it, and
    compares every byte of the outputs.

    Parameters
    ----------
    case : :class:`weft.bench.suite.Case`
    models : path
        See :func:`weft.bench.suite.select`.
    progress : callable
        Told what is being prepared, in a few words.

    Raises
    ------
    WeftError
        If the outputs are not those of the golden implementation.
    """
    config, network = CONFIGS[case.config], NETWORKS[case.network]
    frames: list[Figures] = []
    with InferenceSession(network.load(models), config=config, batch=network.batch,
                          progress=progress) as session:
        stays = len(session.programs) == 1 and bool(session.program.warm_commands)
        count = 2 if stays else 1
        run = run_frames(session, random_frames(session, count * network.batch),
                         model=case.network, device="verilator", verify=True,
                         observe=frames.append)
        layers = _layers(frames[-1], session.plan.graphs, network.batch)
        estimate = estimate_programs(session.programs, model=case.network)
    if run.differing and not run.caveats:
        raise WeftError(f"{run.differing} of {run.compared} output bytes differ from {run.golden}")
    macs, limits = network.batch * run.macs, estimate.further.limits
    cold, warm = frames[0], frames[1] if count == 2 else None
    return Measurement(
        network=case.network, config=case.config, macs=macs, cycles_cold=cold.cycles,
        cycles_warm=None if warm is None else warm.cycles, estimate_cold=estimate.first.cycles,
        estimate_warm=estimate.further.cycles if estimate.warm else None,
        dram_bytes_cold=_traffic(cold),
        dram_bytes_warm=None if warm is None else _traffic(warm), multipliers=config.multipliers,
        utilization=round(run.utilization(macs, frames[-1].cycles), 4),
        macs_per_multiplier=round(_per_multiplier(macs, frames[-1].cycles, config), 4),
        sim_cycles_per_second=round(run.cycles_per_second, -3), limit=limits.resource,
        limit_cycles=limits.cycles, layers=layers)


def _per_multiplier(macs: int, cycles: int, config: AcceleratorConfig) -> float:
    return macs / (cycles * config.multipliers)


def _traffic(figures: Figures) -> int:
    return figures.dram_read_bytes + figures.dram_write_bytes


def _layers(figures: Figures, graphs: tuple[Graph, ...], batch: int) -> list[LayerMeasurement]:
    products = [gemm(graph, index, batch) for graph in graphs
                for index in range(len(graph.layers))]
    return [LayerMeasurement(name=layer.name, op=layer.op, engine=layer.engine,
                             shape=list(layer.shape), macs=layer.macs, cycles=layer.cycles,
                             engine_cycles=layer.engine_cycles, gemm=product)
            for layer, product in zip(figures.layers, products, strict=True)]


def gemm(graph: Graph, index: int, batch: int) -> list[int]:
    """A layer as matrix products, see :class:`LayerMeasurement`."""
    layer = graph.layers[index]
    if not isinstance(layer, Convolution | Depthwise):
        return []
    channels, height, width = graph.tensors[layer.output].shape
    taps = layer.weights[0].size
    if isinstance(layer, Depthwise):
        return [channels, batch * height * width, 1, taps]
    return [1, batch * height * width, channels, taps]
