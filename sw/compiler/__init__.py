"""The compiler: from a graph to a command stream.

Passes, each in its own file: lower (symbolic commands), allocate (addresses), schedule (tokens),
emit (bytes), check (proof that the bytes are sound, from nothing but the bytes).
"""

from collections.abc import Iterable
from math import prod

from weft.config import AcceleratorConfig
from weft.errors import CompileError
from weft.hw.commands import COMMAND_BYTES, Engine
from weft.ir import Graph

from .allocate import allocate
from .check import ProgramError, check
from .emit import emit
from .lower import lower
from .ops import Buffer, Region, Space
from .program import CommandInfo, LayerInfo, Program, Section, Slot
from .schedule import schedule

__all__ = ["compile", "check", "Program", "ProgramError", "CommandInfo", "LayerInfo", "Section",
           "Slot"]

_MAX_COMMANDS = (1 << 16) - 1  # the index of a command has 16 bits


def compile(graph: Graph, config: AcceleratorConfig, *,
            keep_tensors: bool = False) -> Program:
    """Compiles ``graph`` for an accelerator of the given configuration.

    Parameters
    ----------
    keep_tensors : :class:`bool`
        Store the output of every layer to external memory, so that all can be read after a frame.

    Raises
    ------
    CompileError
        If the graph does not fit the configuration; the message names the layer and the limit.
    ProgramError
        If the result fails its own check: a mistake of the compiler.
    """
    lowered = lower(graph, config, keep_tensors=keep_tensors)
    ops = lowered.ops
    if not 1 <= len(ops) <= _MAX_COMMANDS:
        raise CompileError(f"Model {graph.name!r} takes {len(ops)} commands, a stream can have 1 "
                           f"to {_MAX_COMMANDS}")
    stream = Buffer(name="commands", space=Space.EXTERNAL, size=len(ops) * COMMAND_BYTES,
                    layer=graph.name)
    allocation = allocate(lowered, config, commands=stream)
    commands = emit(ops, schedule(ops, allocation, config), allocation)
    addresses = allocation.addresses

    def spans(regions: Iterable[Region]) -> tuple[tuple[str, int, int], ...]:
        return tuple((region.buffer.space.value, addresses[region.buffer] + region.start,
                      addresses[region.buffer] + region.stop) for region in regions)

    def slot(tensor: str) -> Slot:
        buffer = lowered.slots[tensor]
        return Slot(tensor=tensor, address=addresses[buffer], size=buffer.size)

    outputs = [edge.tensor for edge in graph.outputs]
    program = Program(
        graph=graph, config=config, commands=commands, command_address=addresses[stream],
        infos=tuple(CommandInfo(layer=op.layer, engine=op.engine, text=op.text,
                                reads=spans(op.reads), writes=spans(op.writes)) for op in ops),
        image=((addresses[stream], commands),
               *((addresses[buffer], buffer.data) for buffer in lowered.external
                 if buffer.data is not None)),
        inputs=tuple(slot(edge.tensor) for edge in graph.inputs if edge.tensor in lowered.slots),
        outputs=tuple(slot(tensor) for tensor in outputs),
        kept=tuple(slot(layer.output) for layer in graph.layers
                   if layer.output in lowered.slots and layer.output not in outputs),
        layers=tuple(LayerInfo(
            name=layer.name, op=layer.op, engine=Engine.MATRIX,
            macs=layer.weights.size * prod(graph.tensors[layer.output].shape[1:]),
            output=layer.output, shape=graph.tensors[layer.output].shape,
            commands=tuple(number for number, op in enumerate(ops) if op.layer == index))
            for index, layer in enumerate(graph.layers)),
        sections=tuple(Section(name=buffer.name, address=addresses[buffer], size=buffer.size)
                       for buffer in (stream, *lowered.external)),
        memory_bytes=allocation.memory_bytes, peak_words=allocation.peak_words)
    check(program)
    return program
