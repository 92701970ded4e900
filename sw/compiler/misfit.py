"""Layers that a configuration has no room for."""

from collections.abc import Mapping

from weft.errors import CompileError

__all__ = ["MisfitError"]


class MisfitError(CompileError):
    """A graph with layers that do not fit; its message is that of the first.

    Parameters
    ----------
    layers : :class:`dict`
        Why not, by index in the graph that is compiled.
    """

    def __init__(self, layers: Mapping[int, CompileError]):
        self.layers = dict(sorted(layers.items()))
        super().__init__(str(next(iter(self.layers.values()))))
