"""The compiler: from a graph to a command stream.

Passes, each in its own file: pack (windows of the first layer), maps (channels and
concatenations), plan (what lives on chip, tiles), pieces (of layers on chip), lower (symbolic
commands), constants (where they lie on chip), allocate (external memory), order (of commands),
schedule (tokens), emit (bytes), check (proof that the bytes are sound, from nothing but the bytes).
Before them, batch can make one graph of several frames.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from weft.compiler.assembly.allocate import allocate
from weft.compiler.assembly.check import ProgramError, check
from weft.compiler.assembly.constants import place_constants
from weft.compiler.assembly.emit import emit
from weft.compiler.assembly.order import ListSchedule
from weft.compiler.assembly.schedule import schedule
from weft.compiler.lowering.layers import lower
from weft.compiler.planning.placement import Plan, plan
from weft.compiler.planning.split import cut
from weft.errors import CompileError
from weft.hw.isa.commands import COMMAND_BYTES, Engine
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.limits import MAX_COMMANDS
from weft.ir import Graph
from weft.reference.exact import Exactness, exactness

from .batch import batch
from .channel_layout import map_channels
from .estimate import check_engines, engine_of
from .first_layer import pack
from .ops import Buffer, Lowered, Op, Region, Space
from .program import CommandInfo, LayerInfo, Program, Resident, Section, Slot
from .verify import verify

__all__ = ["batch", "compile", "check", "Program", "ProgramError", "CommandInfo", "LayerInfo",
           "Exactness", "Resident", "Section", "Slot"]


def compile(graph: Graph, config: AcceleratorConfig, *,
            keep_tensors: bool = False, base: int = 0) -> Program:
    """Compiles ``graph`` for an accelerator of the given configuration.

    Parameters
    ----------
    keep_tensors : :class:`bool`
        Store the output of every layer to external memory, so that all can be read after a frame.
    base : :class:`int`
        First byte of external memory to use, a multiple of 4096.

    Raises
    ------
    CompileError
        If the graph does not fit the configuration; the message names the layer and the limit.
    ProgramError
        If the result fails its own check: a mistake of the compiler.
    """
    packed = pack(verify(graph), config)
    mapped = map_channels(verify(packed.graph), config)
    verify(mapped.graph)
    check_engines(mapped.graph, config)
    known: dict[Hashable, Any] = {}

    def lower_plan(candidate: Plan) -> Lowered:
        return place_constants(
            lower(mapped, config, candidate, keep_tensors=keep_tensors, known=known), config)

    def play_plan(candidate: Plan) -> tuple[float, int]:
        lowered = lower_plan(candidate)
        allocation = allocate(lowered, config, streams=())
        ops = lowered.ops
        if lowered.settled:
            ops = tuple(op for op in ops if not _loads_constant(op)) or ops
        return ListSchedule(ops, allocation, config).cycles, len(ops)

    planned = cut(mapped, config, plan(mapped, config, keep_tensors=keep_tensors), play_plan)
    lowered = lower_plan(planned)
    ops = lowered.ops
    if not 1 <= len(ops) <= MAX_COMMANDS:
        raise CompileError(f"Model {graph.name!r} takes {len(ops)} commands, a stream can have 1 "
                           f"to {MAX_COMMANDS}")
    again = tuple(op for op in ops if not _loads_constant(op))
    warm = lowered.settled and 1 <= len(again) < len(ops)
    streams = [_stream("commands", graph, ops)]
    if warm:
        streams.append(_stream("warm commands", graph, again))
    allocation = allocate(lowered, config, streams=streams, base=base)
    ops = tuple(ListSchedule(ops, allocation, config).order())
    again = tuple(op for op in ops if not _loads_constant(op)) if warm else ()
    commands = [emit(part, schedule(part, allocation, config), allocation)
                for part in (ops, again)[:len(streams)]]
    addresses = allocation.addresses

    def spans(regions: Iterable[Region]) -> tuple[tuple[str, int, int], ...]:
        return tuple((region.buffer.space.value, addresses[region.buffer] + region.start,
                      addresses[region.buffer] + region.stop) for region in regions)

    def infos(part: Iterable[Op]) -> tuple[CommandInfo, ...]:
        return tuple(CommandInfo(layer=op.layer, engine=op.engine, text=op.text,
                                 reads=spans(op.reads), writes=spans(op.writes)) for op in part)

    def residents(part: Iterable[Op]) -> tuple[Resident, ...]:
        return tuple(Resident(name=buffer.name, address=addresses[buffer], words=buffer.size,
                              first=first, last=last)
                     for buffer, (first, last) in _lifetimes(part).items())

    def slot(tensor: str) -> Slot:
        region = lowered.slots[tensor]
        source = mapped.graph.tensors[tensor]
        storage = planned.storages[mapped.homes[tensor].root]
        return Slot(tensor=tensor, address=addresses[region.buffer] + region.start,
                    size=region.stop - region.start, shape=source.shape,
                    channels=mapped.channels[tensor], plane_bytes=storage.plane_bytes,
                    packing=packed.packings.get(tensor))

    outputs = [edge.tensor for edge in graph.outputs]
    program = Program(
        graph=graph, config=config,
        commands=commands[0], command_address=addresses[streams[0]], infos=infos(ops),
        warm_commands=commands[1] if warm else b"",
        warm_address=addresses[streams[1]] if warm else 0, warm_infos=infos(again),
        image=(*((addresses[stream], raw) for stream, raw in zip(streams, commands, strict=True)),
               *((addresses[buffer], buffer.data) for buffer in lowered.external
                 if buffer.data is not None)),
        inputs=tuple(slot(edge.tensor) for edge in graph.inputs if edge.tensor in lowered.slots),
        outputs=tuple(slot(tensor) for tensor in outputs),
        kept=tuple(slot(layer.output) for layer in graph.layers
                   if layer.output in lowered.slots and layer.output not in outputs)
        if keep_tensors else (),
        layers=tuple(LayerInfo(
            name=layer.name, op=layer.op, engine=engine_of(layer),
            macs=layer.macs(graph.tensors[layer.output]),
            exactness=exactness(graph, layer),
            output=layer.output, shape=graph.tensors[layer.output].shape,
            commands=tuple(number for number, op in enumerate(ops) if op.layer == index),
            warm_commands=tuple(number for number, op in enumerate(again)
                                if op.layer == index))
            for index, layer in enumerate(graph.layers)),
        sections=tuple(Section(name=buffer.name, address=addresses[buffer], size=buffer.size)
                       for buffer in (*streams, *lowered.external)),
        residents=residents(ops), warm_residents=residents(again),
        memory_bytes=allocation.memory_bytes, peak_words=allocation.peak_words)
    check(program)
    return program


def _stream(name: str, graph: Graph, ops: Sequence[Op]) -> Buffer:
    return Buffer(name=name, space=Space.EXTERNAL, size=len(ops) * COMMAND_BYTES, layer=graph.name)


def _loads_constant(op: Op) -> bool:
    return op.engine is Engine.LOAD and all(region.buffer.space.ring for region in op.writes)


def _lifetimes(ops: Iterable[Op]) -> dict[Buffer, tuple[int, int]]:
    """Indices of the first and the last command that use each buffer in activation memory."""
    spans: dict[Buffer, tuple[int, int]] = {}
    for index, op in enumerate(ops):
        for region in (*op.reads, *op.writes):
            if region.buffer.space is Space.ACTIVATION:
                spans[region.buffer] = spans.get(region.buffer, (index, index))[0], index
    return spans
