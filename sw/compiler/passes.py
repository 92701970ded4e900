"""The passes of the compiler, in order.

Each takes a :class:`Compilation` and sets what is its own to find. What it changes of the graph is
verified before the next one begins.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from weft.errors import CompileError
from weft.hw.isa.commands import COMMAND_BYTES, Opcode
from weft.hw.isa.limits import MAX_COMMANDS
from weft.ir import Graph

from .assembly.allocate import allocate
from .assembly.check import check
from .assembly.constants import place_constants
from .assembly.describe import describe
from .assembly.emit import emit
from .assembly.merge import merge_constants
from .assembly.order import ListSchedule
from .assembly.pieces import cut_loads
from .assembly.schedule import schedule
from .channel_layout import lay_out_channels
from .collector import no_collection
from .compilation import Compilation
from .estimate import check_engines
from .first_layer import pack
from .lowering.layers import lower
from .misfit import MisfitError
from .ops import Buffer, Lowered, Op, Space
from .planning.grouping import plan_groups
from .planning.placement import MemoryPlan, plan_memory
from .planning.split import split_layers
from .transpose import transpose, wide
from .verify import verify

__all__ = ["PASSES", "Pass", "outline", "prove", "run", "without_constants"]


_IMPOSSIBLE_CYCLES = 1e15   # of a plan whose commands no device can take
_WORTH = 0.995              # of the cycles of another plan, so that it is surely the better one
_WORTH_UNSPLIT = 0.99       # the same of plans whose layers are yet to be split


@dataclass(frozen=True)
class Pass:
    """A step of the compiler; ``decides`` whether a graph fits, or only makes the best of it; a
    sketch of the graph ``sketches`` with it."""
    name: str
    run: Callable[[Compilation], None]
    decides: bool = True
    sketches: bool = True


def run(compilation: Compilation) -> None:
    """Runs all passes. The traceback of an error names the pass: each is a function."""
    _run(compilation, PASSES)


def prove(compilation: Compilation) -> None:
    """Runs the passes that decide whether a graph fits: what they accept, all passes do."""
    compilation.outline = True
    _run(compilation, (each for each in PASSES if each.decides))


def outline(compilation: Compilation) -> None:
    """Runs the passes that a sketch takes: no command is encoded."""
    _run(compilation, (each for each in PASSES if each.sketches))


def _run(compilation: Compilation, passes: Iterable[Pass]) -> None:
    with no_collection():
        for each in passes:
            each.run(compilation)


def _verify(compilation: Compilation) -> None:
    verify(compilation.graph)


def _pack_inputs(compilation: Compilation) -> None:
    """Rearranges the input of the first layer (im2col, space-to-depth), where that is faster."""
    check_engines(compilation.graph, compilation.config)
    compilation.packed = pack(compilation.graph, compilation.config)
    verify(compilation.packed.graph)


def _lay_out_channels(compilation: Compilation) -> None:
    """Finds a place for every channel, so that concatenations cost nothing."""
    compilation.laid_out = lay_out_channels(compilation.packed.graph, compilation.config,
                                            keep_tensors=compilation.keep_tensors)
    verify(compilation.laid_out.graph)


def _plan_memory(compilation: Compilation) -> None:
    """Decides what lives on chip, and tiles the layers that read or write what does not."""
    compilation.plan = plan_memory(compilation.laid_out, compilation.config,
                                   keep_tensors=compilation.keep_tensors)


def _group_layers(compilation: Compilation) -> None:
    """Computes layers depth first, where that is faster than one by one, played through."""
    worth = 1.0
    for grouped in plan_groups(compilation.laid_out, compilation.config, compilation.plan,
                               keep_tensors=compilation.keep_tensors):
        if _faster(compilation, grouped, worth):
            compilation.plan = grouped
        worth = _WORTH_UNSPLIT


def _faster(compilation: Compilation, plan: MemoryPlan, worth: float) -> bool:
    """Whether a plan takes fewer cycles than ``worth`` of those of the one that there is."""
    try:
        found = _play(compilation, plan)
    except CompileError:    # a command of a group has no field for what one of a layer has
        return False
    cycles, commands = _play(compilation, compilation.plan)
    return found < (worth * cycles, commands)


def _transpose_planes(compilation: Compilation) -> None:
    """Computes rows as columns, where planes are wide and that is faster, played through."""
    graph = compilation.graph
    if not wide(graph) or not any(storage.external
                                  for storage in compilation.plan.storages.values()):
        return
    transposed = transpose(graph)
    if transposed is None:
        return
    other = Compilation(transposed, compilation.config, keep_tensors=compilation.keep_tensors,
                        base=compilation.base, search=compilation.search,
                        memory=compilation.memory)
    try:
        for step in (_verify, _pack_inputs, _lay_out_channels, _plan_memory, _group_layers):
            step(other)
        better = _play(other, other.plan) < _play(compilation, compilation.plan)
    except CompileError:    # what fits one way need not fit the other
        return
    if better:
        compilation.packed, compilation.laid_out = other.packed, other.laid_out
        compilation.plan, compilation.known = other.plan, other.known
        compilation.transposed = True


def _split_layers(compilation: Compilation) -> None:
    """Splits layers on chip, so that engines overlap: the best of some splits, played through."""
    compilation.plan = split_layers(
        compilation.laid_out, compilation.config, compilation.plan,
        lambda candidate: _play(compilation, candidate), compilation.search)


def _spread_buffers(compilation: Compilation) -> None:
    """Uses places of the activation memory again as late as possible, if that is faster, played
    through: what is written there then need not wait for what is read there. Else they stay where
    they are, close together."""
    plan = compilation.plan
    if not plan.others:
        return
    fewest, _ = _play(compilation, plan)
    for other in plan.others:
        # Layers without tile buffers are those that were split.
        spread = replace(other, layers=tuple(
            its if its.tile_buffers else mine
            for mine, its in zip(plan.layers, other.layers, strict=True)))
        cycles, _ = _play(compilation, spread)
        if cycles < _WORTH * fewest:
            compilation.plan, fewest = spread, cycles


def _play(compilation: Compilation, plan: MemoryPlan) -> tuple[float, int]:
    """Cycles of a plan, and commands."""
    config = compilation.config
    lowered = _lowered(compilation, plan)
    allocation = allocate(lowered, config, streams=())
    ops = lowered.ops
    try:
        allocate(lowered, config, streams=_streams(compilation, lowered), base=compilation.base)
    except CompileError:    # a plan with fewer commands may do
        return _IMPOSSIBLE_CYCLES, len(ops)
    if lowered.settled:
        ops = without_constants(ops) or ops
    played = ListSchedule(ops, allocation, config, compilation.memory, compilation.costs)
    return played.cycles, len(ops)


def _lower(compilation: Compilation) -> None:
    """Makes symbolic commands of layers, and places constants on chip."""
    compilation.lowered = _lowered(compilation, compilation.plan)


def _lowered(compilation: Compilation, plan: MemoryPlan) -> Lowered:
    lowered = lower(compilation.laid_out, compilation.config, plan,
                    keep_tensors=compilation.keep_tensors, known=compilation.known,
                    outline=compilation.outline)
    config = compilation.config
    return cut_loads(place_constants(merge_constants(lowered, config), config), config)


def _divide_streams(compilation: Compilation) -> None:
    """Decides on a second stream, for frames that find all constants on chip."""
    compilation.streams = _streams(compilation, compilation.lowered)


def _streams(compilation: Compilation, lowered: Lowered) -> tuple[Buffer, ...]:
    graph = compilation.graph
    count = len(lowered.ops)
    if not 1 <= count <= MAX_COMMANDS:
        (most, share), = Counter(op.layer or 0 for op in lowered.ops).most_common(1) or [(0, 0)]
        raise MisfitError({most: CompileError(
            f"Model {graph.name!r} takes {count} commands, {share} of them for layer "
            f"{graph.layers[most].name!r}; a stream can have 1 to {MAX_COMMANDS}")})
    again = without_constants(lowered.ops)
    streams = [_stream("commands", graph, lowered.ops)]
    if lowered.settled and 1 <= len(again) < count:
        streams.append(_stream("warm commands", graph, again))
    return tuple(streams)


def _stream(name: str, graph: Graph, ops: Sequence[Op]) -> Buffer:
    return Buffer(name=name, space=Space.EXTERNAL, size=len(ops) * COMMAND_BYTES, layer=graph.name)


def without_constants(ops: Iterable[Op]) -> tuple[Op, ...]:
    """All but the loads of constants."""
    return tuple(op for op in ops if op.opcode is not Opcode.LOAD
                 or not all(region.buffer.space.ring for region in op.writes))


def _allocate(compilation: Compilation) -> None:
    """Gives every buffer an address."""
    compilation.allocation = allocate(compilation.lowered, compilation.config,
                                      streams=compilation.streams, base=compilation.base)


def _order(compilation: Compilation) -> None:
    """Puts commands in the order in which they are likely to start."""
    planned = ListSchedule(compilation.lowered.ops, compilation.allocation, compilation.config,
                           compilation.memory, compilation.costs)
    compilation.ops = tuple(planned.order())
    warm = len(compilation.streams) > 1
    compilation.warm_ops = without_constants(compilation.ops) if warm else ()


def _emit(compilation: Compilation) -> None:
    """Finds the tokens that commands exchange, and encodes them."""
    allocation, config = compilation.allocation, compilation.config
    parts = (compilation.ops, compilation.warm_ops)[:len(compilation.streams)]
    compilation.commands = tuple(emit(part, schedule(part, allocation, config), allocation)
                                 for part in parts)


def _describe(compilation: Compilation) -> None:
    """Collects what a host needs to run the commands."""
    compilation.program = describe(compilation)


def _check(compilation: Compilation) -> None:
    """Proves that the commands are sound, from nothing but their bytes."""
    check(compilation.program)


PASSES = (
    Pass("verify", _verify),
    Pass("pack inputs", _pack_inputs),
    Pass("lay out channels", _lay_out_channels),
    Pass("plan memory", _plan_memory),
    Pass("group layers", _group_layers, decides=False),
    Pass("transpose planes", _transpose_planes, decides=False),
    Pass("split layers", _split_layers, decides=False),
    Pass("spread buffers", _spread_buffers, decides=False),
    Pass("lower", _lower),
    Pass("divide streams", _divide_streams),
    Pass("allocate", _allocate),
    Pass("order", _order, decides=False, sketches=False),
    Pass("emit", _emit, decides=False, sketches=False),
    Pass("describe", _describe, decides=False, sketches=False),
    Pass("check", _check, decides=False, sketches=False),
)
"""In the order in which they run."""
