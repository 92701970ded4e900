"""What the passes of the compiler work on."""

from collections.abc import Hashable
from typing import Any

from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Graph

from .assembly.allocate import Allocation
from .channel_layout import ChannelLayout
from .first_layer import Packed
from .ops import Buffer, Lowered, Op
from .planning.placement import MemoryPlan
from .planning.split import SplitSearch
from .program import Program
from .timing.engines import Cost
from .timing.memory import MEMORY, MemoryTiming

__all__ = ["Compilation"]


class Compilation:
    """A graph on its way to a program. Each pass reads what those before it have set.

    Parameters
    ----------
    graph : :class:`weft.ir.Graph`
    config : :class:`AcceleratorConfig`
    keep_tensors, base, search, memory
        See :func:`weft.compiler.compile`.

    Attributes
    ----------
    outline : :class:`bool`
        Commands are only counted; see :func:`~weft.compiler.lowering.layers.lower`.
    known : :class:`dict`
        What lowering need not find again for another memory plan of the same graph.
    costs : :class:`dict`
        What commands take that were played, likewise.
    transposed : :class:`bool`
        The planes of all tensors are transposed, from ``packed`` on; see
        :mod:`~weft.compiler.transpose`.
    packed : :class:`Packed`
        The graph with its inputs laid out for the array.
    laid_out : :class:`ChannelLayout`
        The same with a place for every channel.
    plan : :class:`MemoryPlan`
    lowered : :class:`Lowered`
        Symbolic commands for the plan, constants placed.
    streams : :class:`tuple` of :class:`Buffer`
        Sections of the command streams: all commands, and where that makes sense those without
        the loads of constants.
    allocation : :class:`Allocation`
    ops, warm_ops : :class:`tuple` of :class:`Op`
        The commands of either stream in the order in which they are fetched.
    commands : :class:`tuple` of :class:`bytes`
        The same, encoded: one for each of ``streams``.
    program : :class:`Program`
    """

    packed: Packed
    laid_out: ChannelLayout
    plan: MemoryPlan
    lowered: Lowered
    streams: tuple[Buffer, ...]
    allocation: Allocation
    ops: tuple[Op, ...]
    warm_ops: tuple[Op, ...]
    commands: tuple[bytes, ...]
    program: Program

    def __init__(self, graph: Graph, config: AcceleratorConfig, *, keep_tensors: bool, base: int,
                 search: SplitSearch, memory: MemoryTiming = MEMORY):
        self.graph = graph
        self.config = config
        self.keep_tensors = keep_tensors
        self.base = base
        self.search = search
        self.memory = memory
        self.outline = False
        self.transposed = False
        self.known: dict[Hashable, Any] = {}
        self.costs: dict[Op, Cost] = {}
