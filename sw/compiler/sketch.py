"""About how long a graph takes, a tenth of a second after it was asked: for a search that asks
often, and compiles in full what it chooses.

The passes that decide whether a graph fits run as for a program. Layers of a large graph are split
by one grain, and the commands are played by the list scheduler, which knows neither the fetch of
commands nor that loads and fetches share the memory port: so the cycles are low where the port is
busy.
"""

from dataclasses import dataclass

from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Graph

from .activity import Activity, ops_activity
from .assembly.order import ListSchedule
from .compilation import Compilation
from .passes import outline, without_constants
from .planning.split import Grain, SplitSearch

__all__ = ["Sketch", "sketch"]


_SEARCH = SplitSearch(grains=(Grain(matrix=400, vector=150),), effort=0)

# A graph of few commands takes little time to try, and depends more on how they are split.
_FEW = 100
_SEARCH_OF_FEW = SplitSearch(effort=1500)


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """What a graph takes, roughly.

    Attributes
    ----------
    first, further : :class:`float`
        Cycles of the first frame, and of each one behind it: within 1 % of those of a run where
        constants stay on the chip, up to 12 % too low where the memory port limits.
    warm : :class:`bool`
        Further frames find all constants on the chip.
    memory_bytes : :class:`int`
        External memory in use from address 0, as of a program with the same commands.
    activity : :class:`~weft.compiler.activity.Activity`
        Of a further frame.
    """

    first: float
    further: float
    warm: bool
    memory_bytes: int
    activity: Activity


def sketch(graph: Graph, config: AcceleratorConfig, *, base: int = 0) -> Sketch:
    """What ``graph`` takes on an accelerator of ``config``.

    Parameters
    ----------
    base : :class:`int`
        As of :func:`weft.compiler.compile`.

    Raises
    ------
    MisfitError
        As :func:`weft.compiler.compile`.
    """
    compilation = _compile(graph, config, base, _SEARCH)
    if len(compilation.lowered.ops) <= _FEW:
        compilation = _compile(graph, config, base, _SEARCH_OF_FEW)
    allocation = compilation.allocation
    ops = compilation.lowered.ops
    costs = compilation.costs
    first = further = ListSchedule(ops, allocation, config, costs=costs).cycles
    warm = len(compilation.streams) > 1
    if warm:
        ops = without_constants(ops)
        further = ListSchedule(ops, allocation, config, costs=costs).cycles
    return Sketch(first=first, further=further, warm=warm, memory_bytes=allocation.memory_bytes,
                  activity=ops_activity(config, ops))


def _compile(graph: Graph, config: AcceleratorConfig, base: int,
             search: SplitSearch) -> Compilation:
    compilation = Compilation(graph, config, keep_tensors=False, base=base, search=search)
    outline(compilation)
    return compilation
