"""What a network takes, without building or running anything: ``weft estimate``.

The network is compiled as for a run, and its command streams are played in virtual time
(:mod:`weft.compiler.timing.player`), so the figures are those of a run within a fraction of a
percent, not those of a formula.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from weft import compiler
from weft.compiler import Program
from weft.compiler.batch import check_batch
from weft.compiler.limits import Limits, program_limits
from weft.compiler.timing.memory import MEMORY, MemoryTiming
from weft.compiler.timing.player import Cause, Played, Timeline, play
from weft.hw.isa.commands import COMMAND_BYTES, ROW_OPCODES, Engine
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Partition

from .segment import LayerResult, computes, layer_limits, layer_results

__all__ = ["BoundLayer", "EngineUse", "Estimate", "FrameEstimate", "estimate_plan",
           "estimate_programs"]


_ROW_OPCODES = {opcode.value for opcode in ROW_OPCODES}

_SHARE = 0.5  # of a layer's cycles in which an engine must have work to be what bounds it


@dataclass(frozen=True, kw_only=True)
class BoundLayer:
    """A layer, and what its cycles are owed to.

    Attributes
    ----------
    result : :class:`weft.runtime.segment.LayerResult`
    bound : :class:`str`
        The engine that had most work in the layer's share of the frame: matrix, vector, load or
        store; "rows" in the place of load, if that was softmax or layer normalization; or
        "latency", if all of them waited for one another for more than half of it; empty if it took
        no time.
    limits : :class:`weft.compiler.limits.Limits`
        What it takes at least.
    """

    result: LayerResult
    bound: str
    limits: Limits

    @property
    def reached(self) -> float:
        """The share of what is possible: the limit, of the layer's own cycles or those in which its
        engine had a command of it, whichever are more; 1 if it was loaded before both."""
        return self.limits.share(max(self.result.cycles, self.result.engine_cycles))


@dataclass(frozen=True, kw_only=True)
class EngineUse:
    """An engine's share in a frame.

    Attributes
    ----------
    busy : :class:`int`
        Cycles in which it had work.
    waits : :class:`dict`
        Cycles that it waited for a command, by :class:`weft.compiler.timing.player.Cause`.
    """

    busy: int
    waits: dict[Cause, int]


@dataclass(frozen=True, kw_only=True)
class FrameEstimate:
    """What a frame, or a batch of them, takes.

    Attributes
    ----------
    cycles : :class:`int`
        From doorbell to interrupt, of all accelerated parts.
    layers : :class:`tuple` of :class:`BoundLayer`
        Their cycles add up to ``cycles``.
    engines : :class:`dict`
    dram_read_bytes, dram_write_bytes : :class:`int`
        Traffic of the memory port: whole beats, commands included.
    limits : :class:`weft.compiler.limits.Limits`
        What it takes at least.
    """

    cycles: int
    limits: Limits
    layers: tuple[BoundLayer, ...]
    engines: dict[Engine, EngineUse]
    dram_read_bytes: int
    dram_write_bytes: int

    @property
    def reached(self) -> float:
        """The share of what is possible: the limit, of the cycles."""
        return self.limits.share(self.cycles)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a network takes.

    Attributes
    ----------
    model : :class:`str`
    config : :class:`AcceleratorConfig`
    batch : :class:`int`
        Frames that are computed together.
    first : :class:`FrameEstimate`
        The first frame, or batch, which finds no constants on the chip.
    further : :class:`FrameEstimate`
        Each one after it. Not any faster, unless all constants fit on the chip together.
    warm : :class:`bool`
        They do.
    memory_bytes : :class:`int`
        External memory that is needed: commands, constants and tensors.
    """

    model: str
    config: AcceleratorConfig
    batch: int
    first: FrameEstimate
    further: FrameEstimate
    warm: bool
    memory_bytes: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one frame, as the network defines them."""
        return sum(layer.result.macs for layer in self.first.layers) // self.batch

    def utilization(self, macs: int, cycles: int) -> float:
        """As :meth:`AcceleratorConfig.utilization`."""
        return self.config.utilization(macs, cycles)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; see docs/cli.md for its fields."""
        return {
            "model": self.model,
            "config": self.config.to_dict(),
            "batch": self.batch,
            "warm": self.warm,
            "macs": self.macs,
            "memory_bytes": self.memory_bytes,
            "cycles": [round(frame.cycles / self.batch) for frame in (self.first, self.further)],
            **self._frame(self.further),
            "first": {"cycles": round(self.first.cycles / self.batch), **self._frame(self.first)},
        }

    def _frame(self, frame: FrameEstimate) -> dict[str, Any]:
        return {
            "utilization": self.utilization(self.batch * self.macs, frame.cycles),
            "layers": [{"name": layer.result.name, "op": layer.result.op,
                        "engine": layer.result.engine, "shape": list(layer.result.shape),
                        "macs": layer.result.macs, "cycles": layer.result.cycles,
                        "utilization": self.utilization(layer.result.macs, layer.result.cycles),
                        "bound": layer.bound, **_limit(layer)} for layer in frame.layers],
            **_limit(frame),
            "engines": {engine.name.lower(): {"busy": use.busy,
                                              "waits": {str(cause): cycles for cause, cycles
                                                        in use.waits.items() if cycles}}
                        for engine, use in frame.engines.items()},
            "dram_read_bytes": frame.dram_read_bytes,
            "dram_write_bytes": frame.dram_write_bytes,
        }


def _limit(part: BoundLayer | FrameEstimate) -> dict[str, Any]:
    return {"limits": asdict(part.limits), "limit": part.limits.resource, "reached": part.reached}


def estimate_plan(plan: Partition, config: AcceleratorConfig, *, model: str = "", batch: int = 1,
                  memory: MemoryTiming = MEMORY) -> Estimate:
    """What the accelerated parts of a model take.

    Parameters
    ----------
    model : :class:`str`
        For the report; by default the plan's name.
    batch : :class:`int`
        Frames that are computed together.
    memory : :class:`MemoryTiming`
        By default that of the simulator. It is compiled for that too.

    Raises
    ------
    ModelError
        If nothing of the model runs on the accelerator, with the reason.
    CompileError
        If it does not fit the configuration.
    InputError
        If the batch is not a positive integer.
    """
    check_batch(batch)
    graphs = [compiler.batch(graph, batch) for graph in plan.accelerated()]
    programs = compiler.compile_parts(graphs, config, memory=memory)
    return estimate_programs(programs, model=model or plan.name, memory=memory)


def estimate_programs(programs: Sequence[Program], *, model: str,
                      memory: MemoryTiming = MEMORY) -> Estimate:
    """The same of programs that are there: of one model, and of the same batch."""
    config = programs[0].config
    first = _frame([_play(program, memory, warm=False) for program in programs], config)
    # Each of several parts overwrites the constants of the others.
    warm = len(programs) == 1 and bool(programs[0].warm_commands)
    return Estimate(
        model=model, config=config, batch=programs[0].graph.frames, first=first, warm=warm,
        memory_bytes=max(program.memory_bytes for program in programs),
        further=_frame([_play(programs[0], memory, warm=True)], config) if warm else first)


@dataclass(frozen=True)
class _Part:
    """A program that has been played."""
    timeline: Timeline
    limits: Limits
    layers: tuple[BoundLayer, ...]


def _play(program: Program, memory: MemoryTiming, *, warm: bool) -> _Part:
    address, commands = ((program.warm_address, program.warm_commands) if warm else
                         (program.command_address, program.commands))
    timeline = play(commands, program.config, address=address, memory=memory)
    spans = {index: (played.start, played.done) for index, played in enumerate(timeline.commands)
             if computes(commands, index)}
    results = layer_results(program, spans, timeline.cycles, warm=warm)
    ends = list(accumulate((result.cycles for result in results), initial=0))
    work = {engine: _work([played for played in timeline.commands if played.engine is engine], ends)
            for engine in Engine}
    rows = _work([played for index, played in enumerate(timeline.commands)
                  if commands[index * COMMAND_BYTES] in _ROW_OPCODES], ends)
    layers = []
    limits = program_limits(program, warm=warm)
    own = layer_limits(program, limits)
    for number, result in enumerate(results):
        most = max(Engine, key=lambda engine: work[engine][number])
        bound = ("" if not result.cycles else most.name.lower()
                 if work[most][number] >= _SHARE * result.cycles else "latency")
        if bound == "load" and 2 * rows[number] > work[most][number]:
            bound = "rows"
        layers.append(BoundLayer(result=result, bound=bound, limits=own[number]))
    return _Part(timeline, limits.total, tuple(layers))


def _work(commands: Iterable[Played], ends: Sequence[int]) -> list[int]:
    """Cycles in which an engine worked on some of its commands, between each two of some points in
    time."""
    found = [0] * (len(ends) - 1)
    number, until = 0, 0
    for begin, end in (played.busy for played in commands):
        until = max(until, begin)  # it may have begun while the one before was being finished
        while until < end:
            while ends[number + 1] <= until:
                number += 1
            part = min(end, ends[number + 1])
            found[number] += part - until
            until = part
    return found


def _frame(parts: Sequence[_Part], config: AcceleratorConfig) -> FrameEstimate:
    timelines = [part.timeline for part in parts]
    waits = {engine: [timeline.waits(engine) for timeline in timelines] for engine in Engine}
    return FrameEstimate(
        cycles=sum(timeline.cycles for timeline in timelines),
        limits=Limits.sum(part.limits for part in parts),
        layers=tuple(layer for part in parts for layer in part.layers),
        engines={engine: EngineUse(
            busy=sum(timeline.busy[engine] for timeline in timelines),
            waits={cause: sum(each[cause] for each in waits[engine]) for cause in Cause})
            for engine in Engine},
        dram_read_bytes=config.axi_bytes * sum(timeline.read_beats for timeline in timelines),
        dram_write_bytes=config.axi_bytes * sum(timeline.write_beats for timeline in timelines))
