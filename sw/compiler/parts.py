"""The graphs of a model, side by side in external memory: whether they fit, and their programs."""

from collections.abc import Sequence

from weft.errors import CompileError
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Graph

from . import passes
from .compilation import Compilation
from .misfit import MisfitError
from .planning.split import Grain, SplitSearch
from .program import Program
from .timing.memory import MEMORY, MemoryTiming

__all__ = ["compile", "compile_parts", "misfits"]


_WHOLE = SplitSearch(grains=(Grain(matrix=float("inf"), vector=float("inf")),), effort=0)
"""Leaves layers whole: the fewest commands."""


def compile(graph: Graph, config: AcceleratorConfig, *, keep_tensors: bool = False, base: int = 0,
            search: SplitSearch | None = None, memory: MemoryTiming = MEMORY) -> Program:
    """Compiles ``graph`` for an accelerator of the given configuration.

    Parameters
    ----------
    keep_tensors : :class:`bool`
        Store the output of every layer to external memory, so that all can be read after a frame.
    base : :class:`int`
        First byte of external memory to use, a multiple of 4096.
    search : :class:`SplitSearch`
        How long to look for the best split of layers into commands.
    memory : :class:`MemoryTiming`
        The external memory that the best commands are looked for with: any will do for the result.

    Raises
    ------
    MisfitError
        If the graph does not fit the configuration; the message names a layer and the limit.
    ProgramError
        If the result fails its own check: a mistake of the compiler.
    """
    compilation = Compilation(graph, config, keep_tensors=keep_tensors, base=base,
                              search=search or SplitSearch(), memory=memory)
    passes.run(compilation)
    return compilation.program


def compile_parts(graphs: Sequence[Graph], config: AcceleratorConfig, *,
                  keep_tensors: bool = False, search: SplitSearch | None = None,
                  memory: MemoryTiming = MEMORY) -> tuple[Program, ...]:
    """Compiles graphs that share external memory, one behind the other.

    Raises
    ------
    MisfitError, ProgramError
        As :func:`compile`.
    """
    def programs(search: SplitSearch | None) -> tuple[Program, ...]:
        found: list[Program] = []
        for graph in graphs:
            base = found[-1].memory_bytes if found else 0
            found.append(compile(graph, config, keep_tensors=keep_tensors, base=base,
                                 search=search, memory=memory))
        return tuple(found)

    try:
        return programs(search)
    except MisfitError:
        if len(graphs) == 1:
            raise
        return programs(_WHOLE)     # the commands of one may have taken the room of another


def misfits(graphs: Sequence[Graph], config: AcceleratorConfig) -> dict[str, CompileError]:
    """Layers that a configuration has no room for, by their output tensor, with the reason.

    It is empty if and only if :func:`compile_parts` takes the graphs: it runs the passes that
    decide that, and none of those that look for the best commands. If it is not, there may be more
    of them once those that it names are gone.
    """
    found: dict[str, CompileError] = {}
    base = 0
    for graph in graphs:
        compilation = Compilation(graph, config, keep_tensors=False, base=base, search=_WHOLE)
        try:
            passes.prove(compilation)
            base = compilation.allocation.memory_bytes
        except MisfitError as error:
            found |= {graph.layers[index].output: reason
                      for index, reason in error.layers.items()}
    return found
