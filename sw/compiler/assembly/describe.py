"""The program: commands, and everything that a host needs to run them."""

from collections.abc import Iterable, Iterator

from weft.compiler.compilation import Compilation
from weft.compiler.estimate import engine_of
from weft.compiler.ops import Buffer, Op, Region, Space
from weft.compiler.program import CommandInfo, LayerInfo, Program, Resident, Section, Slot
from weft.ir import layout
from weft.reference.exact import exactness

__all__ = ["describe"]


def describe(compilation: Compilation) -> Program:
    """The program of a graph whose commands are encoded."""
    graph, lowered, allocation = compilation.graph, compilation.lowered, compilation.allocation
    addresses, streams = allocation.addresses, compilation.streams
    warm = len(streams) > 1
    outputs = [edge.tensor for edge in graph.outputs]
    kept = [layer.output for layer in graph.layers if compilation.keep_tensors
            and layer.output in lowered.slots and layer.output not in outputs]
    return Program(
        graph=graph, config=compilation.config,
        commands=compilation.commands[0], command_address=addresses[streams[0]],
        infos=_infos(compilation, compilation.ops),
        warm_commands=compilation.commands[1] if warm else b"",
        warm_address=addresses[streams[1]] if warm else 0,
        warm_infos=_infos(compilation, compilation.warm_ops),
        image=(*((addresses[stream], raw)
                 for stream, raw in zip(streams, compilation.commands, strict=True)),
               *((addresses[buffer], buffer.data) for buffer in lowered.external
                 if buffer.data is not None),
               *_constant_tensors(compilation)),
        inputs=tuple(_slot(compilation, edge.tensor) for edge in graph.inputs
                     if edge.tensor in lowered.slots),
        outputs=tuple(_slot(compilation, tensor) for tensor in outputs),
        kept=tuple(_slot(compilation, tensor) for tensor in kept),
        layers=_layers(compilation),
        sections=tuple(Section(name=buffer.name, address=addresses[buffer], size=buffer.size)
                       for buffer in (*streams, *lowered.external)),
        residents=_residents(compilation, compilation.ops),
        warm_residents=_residents(compilation, compilation.warm_ops),
        memory_bytes=allocation.memory_bytes, peak_words=allocation.peak_words)


def _infos(compilation: Compilation, ops: Iterable[Op]) -> tuple[CommandInfo, ...]:
    addresses = compilation.allocation.addresses

    def spans(regions: Iterable[Region]) -> tuple[tuple[str, int, int], ...]:
        return tuple((region.buffer.space.value, start, start + region.stop - region.start)
                     for region in regions for start in region.starts(addresses[region.buffer]))

    return tuple(CommandInfo(layer=op.layer, engine=op.engine, text=op.text,
                             reads=spans(op.reads), writes=spans(op.writes)) for op in ops)


def _slot(compilation: Compilation, tensor: str) -> Slot:
    """Where a tensor lies in external memory."""
    laid_out = compilation.laid_out
    region = compilation.lowered.slots[tensor]
    storage = compilation.plan.storages[laid_out.homes[tensor].root]
    return Slot(tensor=tensor,
                address=compilation.allocation.addresses[region.buffer] + region.start,
                size=region.stop - region.start, shape=laid_out.graph.tensors[tensor].shape,
                channels=laid_out.channels[tensor], plane_bytes=storage.plane_bytes,
                transposed=compilation.transposed,
                packing=compilation.packed.packings.get(tensor))


def _constant_tensors(compilation: Compilation) -> Iterator[tuple[int, bytes]]:
    """Addresses and bytes of the tensors whose values are known, as they were laid out."""
    for name, values in compilation.laid_out.graph.constants.items():
        if name in compilation.lowered.slots:
            slot = _slot(compilation, name)
            yield slot.address, layout.pack_tensor(compilation.config, values,
                                                   channels=slot.channels,
                                                   plane_bytes=slot.plane_bytes)


def _layers(compilation: Compilation) -> tuple[LayerInfo, ...]:
    graph = compilation.graph

    def numbers(ops: Iterable[Op], index: int) -> tuple[int, ...]:
        return tuple(number for number, op in enumerate(ops) if op.layer == index)

    return tuple(LayerInfo(
        name=layer.name, op=layer.op, engine=engine_of(layer),
        macs=layer.macs(graph.tensors[layer.output]), exactness=exactness(graph, layer),
        output=layer.output, shape=graph.tensors[layer.output].shape,
        commands=numbers(compilation.ops, index),
        warm_commands=numbers(compilation.warm_ops, index))
        for index, layer in enumerate(graph.layers))


def _residents(compilation: Compilation, ops: Iterable[Op]) -> tuple[Resident, ...]:
    addresses = compilation.allocation.addresses
    return tuple(Resident(name=buffer.name, address=addresses[buffer], words=buffer.size,
                          first=first, last=last)
                 for buffer, (first, last) in _lifetimes(ops).items())


def _lifetimes(ops: Iterable[Op]) -> dict[Buffer, tuple[int, int]]:
    """Indices of the first and the last command that use each buffer in activation memory."""
    spans: dict[Buffer, tuple[int, int]] = {}
    for index, op in enumerate(ops):
        for region in (*op.reads, *op.writes):
            if region.buffer.space is Space.ACTIVATION:
                spans[region.buffer] = spans.get(region.buffer, (index, index))[0], index
    return spans
