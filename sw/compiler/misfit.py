"""Layers that a configuration has no room for."""

from collections.abc import Mapping

from weft.errors import CompileError

__all__ = ["MisfitError", "with_field"]


def with_field(field: str, least: int) -> str:
    """The cure for a layer that a field of the configuration is too small for."""
    return f"use a configuration with {field} = {least} or more (--config FILE.toml)"


class MisfitError(CompileError):
    """A graph with layers that do not fit; its message is that of the first.

    Parameters
    ----------
    layers : :class:`dict`
        Why not, by index in the graph that is compiled.
    """

    def __init__(self, layers: Mapping[int, CompileError]):
        self.layers = dict(sorted(layers.items()))
        first = next(iter(self.layers.values()))
        super().__init__(str(first), cure=first.cure)
