"""The compiler: from a graph to a command stream.

:data:`weft.compiler.passes.PASSES` lists what happens in which order; each pass is in a file of
its own. Before them, ``batch`` can make one graph of several frames; ``parts`` has the graphs of a
model that is divided.
"""

from weft.reference.exact import Exactness

from .assembly.check import ProgramError, check
from .batch import batch
from .misfit import MisfitError
from .parts import compile, compile_parts, misfits
from .planning.split import Grain, SplitSearch
from .program import CommandInfo, LayerInfo, Program, Resident, Section, Slot

__all__ = ["batch", "compile", "compile_parts", "check", "misfits", "Program", "ProgramError",
           "CommandInfo", "LayerInfo", "Exactness", "Grain", "MisfitError", "Resident", "Section",
           "Slot", "SplitSearch"]
