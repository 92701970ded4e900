"""The segments of a partition, ready to run: a graph loaded on a device, or a part for the host."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from weft import compiler
from weft.compiler.limits import Limits, ProgramLimits
from weft.hw.isa.commands import COMMAND_BYTES, ROW_OPCODES, Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.registers import Counter
from weft.ir import Edge, Graph, HostPart

from .device import Driver, Event, EventKind, RunResult

__all__ = ["LayerResult", "Execution", "Figures", "GraphResult", "LoadedGraph",
           "LoadedHostPart", "computes", "layer_limits", "layer_results"]


_COMPUTING = {opcode.value for opcode in (Opcode.MATRIX, Opcode.VECTOR, *ROW_OPCODES)}


@dataclass(frozen=True, kw_only=True)
class LayerResult:
    """A layer of one frame, or of all frames of a batch together.

    Attributes
    ----------
    name, op, engine : :class:`str`
        The node of the model, its operator, and what computed it; no engine if nothing was to
        be done.
    shape : (C, H, W)
        Of its output.
    macs : :class:`int`
        Multiply-accumulates of the network.
    cycles : :class:`int`
        From the end of the layer before it to its own end; the first counts from the doorbell and
        the last to the interrupt. 0 on a device without a clock, or one that does not record
        when commands end.
    engine_cycles : :class:`int`
        In which its engine had a command of it. Engines work on several layers at a time, so these
        may be more than ``cycles``.
    """

    name: str
    op: str
    engine: str
    shape: tuple[int, int, int]
    macs: int
    cycles: int
    engine_cycles: int

    def utilization(self, config: AcceleratorConfig) -> float:
        """The share of the multipliers of its own engine that were used in ``engine_cycles``."""
        lanes = config.cols if self.engine == "matrix" else config.vector_taps
        capacity = self.engine_cycles * config.rows * lanes
        return self.macs / capacity if capacity else 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Execution:
    """One run of a program on the device.

    Attributes
    ----------
    program : :class:`weft.compiler.Program`
    warm : :class:`bool`
        It was the program's warm stream that ran.
    cycles : :class:`int`
        From doorbell to interrupt.
    counters : :class:`dict`
        Performance counters by name, in lower case.
    events : sequence of :class:`weft.runtime.device.Event`
        Starts and ends of commands; empty where the device cannot tell.
    """

    program: compiler.Program
    warm: bool
    cycles: int
    counters: dict[str, int]
    events: Sequence[Event]

    @property
    def infos(self) -> tuple[compiler.CommandInfo, ...]:
        """What each command of the stream is for."""
        return self.program.warm_infos if self.warm else self.program.infos

    @property
    def commands(self) -> bytes:
        """The stream."""
        return self.program.warm_commands if self.warm else self.program.commands

    @property
    def residents(self) -> tuple[compiler.Resident, ...]:
        """Buffers in activation memory, with the commands of the stream that use them."""
        return self.program.warm_residents if self.warm else self.program.residents


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a frame, or a batch of them, took.

    Attributes
    ----------
    cycles : :class:`int`
        From doorbell to interrupt.
    layers : list of :class:`LayerResult`
        Their cycles add up to ``cycles``, where the device can tell them apart.
    counters : :class:`dict`
        Performance counters by name, in lower case. All but ``cycles`` are 0 if the configuration
        has no counters.
    warm : :class:`bool`
        The constants were on chip already, from the frame or batch before.
    dram_read_bytes, dram_write_bytes : :class:`int`
        Traffic of the memory port: whole beats, commands included. 0 without counters.
    executions : tuple of :class:`Execution`
        One for each accelerated graph, in the order in which they ran.
    """

    cycles: int
    layers: list[LayerResult]
    counters: dict[str, int]
    dram_read_bytes: int
    dram_write_bytes: int
    warm: bool = False
    executions: tuple[Execution, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class GraphResult(Figures):
    """Results and figures of the frames of a graph.

    Attributes
    ----------
    values : list of :class:`dict`
        For each frame, the graph's outputs by the model's names.
    tensors : list of :class:`dict`
        As in :class:`weft.runtime.session.BatchResult`.
    """

    values: list[dict[str, np.ndarray]]
    tensors: list[dict[str, np.ndarray]]


class LoadedGraph:
    """A compiled graph in a device's memory.

    Parameters
    ----------
    graph : :class:`weft.ir.Graph`
        Of one frame.
    program : :class:`weft.compiler.Program`
        Of that graph, or of a batch of it.
    driver : :class:`weft.runtime.device.Driver`
        Its device has the program's constants and command streams, see
        :func:`weft.runtime.loading.load_programs`.
    """

    def __init__(self, graph: Graph, program: compiler.Program, driver: Driver):
        self.graph = graph
        self.program = program
        self._driver = driver
        self._device = driver.device

    def run(self, frames: Sequence[Mapping[str, np.ndarray]], *, warm: bool = False,
            tensors: bool = False, timeout_cycles: int | None = None) -> GraphResult:
        """Runs all frames of the program at once.

        Parameters
        ----------
        frames : list of :class:`dict`
            For each of them the model's tensors by name, those that the graph reads among them.
        warm : :class:`bool`
            The run before was of this graph too, so that its constants are still on chip.
        tensors : :class:`bool`
            Read the output of every layer too; the program must keep them.
        """
        program = self.program
        self._write_inputs(frames)
        warm = warm and bool(program.warm_commands)
        address, commands = ((program.warm_address, program.warm_commands) if warm else
                             (program.command_address, program.commands))
        result = self._driver.run(address, len(commands) // COMMAND_BYTES, commands=commands,
                                  timeout_cycles=timeout_cycles)
        beat = program.config.axi_bytes
        counters = {counter.name.lower(): value for counter, value in result.counters.items()}
        return GraphResult(
            values=self._read_outputs(),
            tensors=[self._read_tensors(frame) if tensors else {}
                     for frame in range(program.graph.frames)],
            cycles=result.cycles, warm=warm,
            # Without events, as at a serial port, the cycles of layers are not known.
            layers=layer_results(program, _spans(result, commands),
                                 result.cycles if result.events else 0, warm=warm),
            counters=counters,
            dram_read_bytes=result.counters[Counter.READ_BEATS] * beat,
            dram_write_bytes=result.counters[Counter.WRITE_BEATS] * beat,
            executions=(Execution(program=program, warm=warm, cycles=result.cycles,
                                  counters=counters, events=result.events),))

    def _write_inputs(self, frames: Sequence[Mapping[str, np.ndarray]]) -> None:
        graph = self.program.graph
        slots = {slot.tensor: slot for slot in self.program.inputs}

        def write(edge: Edge, values: Mapping[str, np.ndarray]) -> None:
            if edge.tensor in slots:
                slot = slots[edge.tensor]
                packed = self.program.pack(slot, graph.enter(edge, values[edge.name]))
                self._device.write_memory(slot.address, packed)

        count = len(self.graph.inputs)
        for number, edge in enumerate(graph.inputs):  # frame by frame
            write(edge, frames[number // count])

    def _read(self, slot: compiler.Slot) -> np.ndarray:
        raw = self._device.read_memory(slot.address, slot.size)
        return self.program.unpack(slot, raw)

    def _read_outputs(self) -> list[dict[str, np.ndarray]]:
        graph, count = self.program.graph, len(self.graph.outputs)
        outputs: list[dict[str, np.ndarray]] = [{} for _ in range(graph.frames)]
        pairs = zip(graph.outputs, self.program.outputs, strict=True)
        for number, (edge, slot) in enumerate(pairs):  # frame by frame
            outputs[number // count][edge.name] = graph.leave(edge, self._read(slot))
        return outputs

    def _read_tensors(self, frame: int) -> dict[str, np.ndarray]:
        stored = {slot.tensor: slot for slot in (*self.program.outputs, *self.program.kept)}
        # Of every layer there is one copy for each frame, side by side.
        copies = self.program.graph.layers[frame::self.program.graph.frames]
        tensors = [self.graph.tensors[layer.output] for layer in self.graph.layers]
        return {tensor.name: tensor.to_model(self._read(stored[copy.output]))
                for tensor, copy in zip(tensors, copies, strict=True)}


def computes(commands: bytes, index: int) -> bool:
    """Whether a command of a stream computes something, and does not only move or prepare it."""
    return commands[index * COMMAND_BYTES] in _COMPUTING


def _spans(result: RunResult, commands: bytes) -> dict[int, tuple[int, int]]:
    """When each command that computes something started and was done."""
    events = [event for event in result.events if computes(commands, event.index)]
    starts = {event.index: event.cycle for event in events if event.kind == EventKind.START}
    return {event.index: (starts[event.index], event.cycle) for event in events
            if event.kind == EventKind.DONE}


def _covered(spans: Iterable[tuple[int, int]]) -> int:
    """Cycles in at least one of some spans of time."""
    total = until = 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, until))
        until = max(until, end)
    return total


def layer_results(program: compiler.Program, spans: Mapping[int, tuple[int, int]], cycles: int, *,
                  warm: bool) -> list[LayerResult]:
    """Every layer's share of a frame's cycles, by the end of the last command that computes it.

    Parameters
    ----------
    spans : :class:`dict`
        By index in the stream, the cycles in which a command that :func:`computes` starts and is
        done.
    cycles : :class:`int`
        Of the frame, or batch.
    warm : :class:`bool`
        The stream is that of the warm commands.
    """
    layers, before = [], 0
    frames = program.graph.frames
    infos = program.warm_infos if warm else program.infos
    for number in range(0, len(program.layers), frames):
        copies = program.layers[number:number + frames]
        info = copies[0]
        indices = [index for copy in copies
                   for index in (copy.warm_commands if warm else copy.commands) if index in spans]
        # Engines overlap: a layer may end before its predecessor.
        end = max([before, *(spans[index][1] for index in indices)])
        if number + frames == len(program.layers):
            end = cycles
        layers.append(LayerResult(
            name=info.name, op=info.op, engine=info.engine.name.lower() if info.engine else "",
            shape=info.shape, macs=frames * info.macs, cycles=end - before,
            engine_cycles=_covered(
                spans[index] for index in indices if infos[index].engine is info.engine)))
        before = end
    return layers


def layer_limits(program: compiler.Program, limits: ProgramLimits) -> list[Limits]:
    """The limits of every layer, those of all frames of a batch together."""
    frames = program.graph.frames
    return [Limits.sum(limits.layers[number:number + frames])
            for number in range(0, len(program.layers), frames)]


class LoadedHostPart:
    """A part of the model that the host runs.

    Raises
    ------
    ModelError
        If the host lacks what it takes.
    """

    def __init__(self, part: HostPart):
        self._inputs = part.inputs
        self._executor = part.program.load()

    def run(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Its outputs by name, for ``values`` among which its inputs are.

        Raises
        ------
        ModelError
            If it cannot be computed.
        """
        return self._executor.run({name: values[name] for name in self._inputs})
