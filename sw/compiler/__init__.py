"""The compiler: from a graph to a command stream.

:data:`weft.compiler.passes.PASSES` lists what happens in which order; each pass is in a file of
its own. Before them, ``batch`` can make one graph of several frames.
"""

from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Graph
from weft.reference.exact import Exactness

from . import passes
from .assembly.check import ProgramError, check
from .batch import batch
from .compilation import Compilation
from .planning.split import Grain, SplitSearch
from .program import CommandInfo, LayerInfo, Program, Resident, Section, Slot

__all__ = ["batch", "compile", "check", "Program", "ProgramError", "CommandInfo", "LayerInfo",
           "Exactness", "Grain", "Resident", "Section", "Slot", "SplitSearch"]


def compile(graph: Graph, config: AcceleratorConfig, *, keep_tensors: bool = False, base: int = 0,
            search: SplitSearch | None = None) -> Program:
    """Compiles ``graph`` for an accelerator of the given configuration.

    Parameters
    ----------
    keep_tensors : :class:`bool`
        Store the output of every layer to external memory, so that all can be read after a frame.
    base : :class:`int`
        First byte of external memory to use, a multiple of 4096.
    search : :class:`SplitSearch`
        How long to look for the best split of layers into commands.

    Raises
    ------
    CompileError
        If the graph does not fit the configuration; the message names the layer and the limit.
    ProgramError
        If the result fails its own check: a mistake of the compiler.
    """
    compilation = Compilation(graph, config, keep_tensors=keep_tensors, base=base,
                              search=search or SplitSearch())
    passes.run(compilation)
    return compilation.program
