"""Groups of layers that may be computed depth first: a few rows of all of them in turn.

What the layers of a group hand to one another never leaves the chip, and of each such tensor only
some rows are there at a time. So no other layer may read it, and it must be in a place of its own.
A tensor that other layers read as well can be a *side output*: its rows are stored as they come.
All constants of a group stay on chip until it is done.
"""

from collections import Counter
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from weft.compiler.channel_layout import ChannelLayout
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.vector_rules import add_entries
from weft.ir import (
    Add,
    Affine,
    Alias,
    ChannelSum,
    Concat,
    Convolution,
    Depthwise,
    Layer,
    Lookup,
    MatMul,
    Multiply,
    Pool,
    PoolKind,
    RowLayer,
)

from .columns import weight_tiles
from .products import in_heads

__all__ = ["Group", "GroupFinder"]


_LONGEST = 10  # layers of a group, at most


@dataclass(frozen=True, kw_only=True)
class Group:
    """Layers that follow each other.

    Attributes
    ----------
    layers : :class:`range`
        Indices, at least two.
    inner : :class:`tuple` of :class:`str`
        Tensors that nothing outside of the group reads.
    inputs : :class:`tuple` of :class:`str`
        Tensors from outside.
    output : :class:`str`
        What the last layer makes.
    side_outputs : :class:`tuple` of :class:`str`
        What layers before the last make, and others outside of the group read: it lives in
        external memory.
    by_channels : :class:`bool`
        In turns of some channels, and not of some rows: see
        :mod:`~weft.compiler.planning.channel_groups`.
    by_heads : :class:`bool`
        In turns of some rows of a head: see :mod:`~weft.compiler.planning.head_groups`.
    """

    layers: range
    inner: tuple[str, ...]
    inputs: tuple[str, ...]
    output: str
    side_outputs: tuple[str, ...] = ()
    by_channels: bool = False
    by_heads: bool = False


class GroupFinder:
    """Finds the groups of a graph.

    Parameters
    ----------
    laid_out : :class:`ChannelLayout`
    config : :class:`AcceleratorConfig`
    """

    def __init__(self, laid_out: ChannelLayout, config: AcceleratorConfig):
        self._laid_out = laid_out
        self._graph = laid_out.graph
        self._config = config
        self._readers: dict[str, list[int]] = {}
        for index, layer in enumerate(self._graph.layers):
            for name in layer.inputs:
                self._readers.setdefault(name, []).append(index)
        outputs = {edge.tensor for edge in self._graph.outputs}
        roots = Counter(home.root for home in laid_out.homes.values())
        self._alone = {name for name in self._graph.tensors
                       if name not in outputs and roots[name] == 1
                       and laid_out.homes[name].root == name}
        self._constants = lru_cache(maxsize=None)(self._constants_of)

    def groups(self, wanted: AbstractSet[str], most_sides: int = 0) -> Iterator[Group]:
        """All groups that have one of the tensors ``wanted`` inside, and at most so many side
        outputs: these only for a tensor inside that several layers read, which would else leave
        the chip itself."""
        layers = self._graph.layers
        if self._graph.frames > 1:  # the layers of a frame do not follow each other
            return
        for first in range(len(layers)):
            used = [0] * len(self._limits)
            for stop in range(first + 1, min(first + _LONGEST, len(layers)) + 1):
                layer = layers[stop - 1]
                if isinstance(layer, Concat | Alias | MatMul | RowLayer):
                    break
                used = [a + b for a, b in zip(used, self._constants(stop - 1), strict=True)]
                if any(a > b for a, b in zip(used, self._limits, strict=True)):
                    break
                group = self._group(range(first, stop), most_sides)
                if group is not None and not wanted.isdisjoint(group.inner):
                    yield group

    def channel_groups(self, wanted: AbstractSet[str]) -> Iterator[Group]:
        """All convolutions with the depthwise one that reads them, of which one makes one of the
        tensors ``wanted``."""
        layers, config = self._graph.layers, self._config
        if self._graph.frames > 1 or config.rows != config.cols:
            return
        for index, (layer, reader) in enumerate(pairwise(layers)):
            if not (isinstance(layer, Convolution) and isinstance(reader, Depthwise)):
                continue
            tables = [each.function.table.ndim for each in (layer, reader) if each.function]
            group = self._group(range(index, index + 2))
            if group is not None and 2 not in tables and len(group.inputs) == 1 \
                    and not wanted.isdisjoint((*group.inner, group.output)):
                yield replace(group, by_channels=True)

    def head_groups(self, wanted: AbstractSet[str]) -> Iterator[Group]:
        """All pairs of products with a softmax between them that have one of the tensors ``wanted``
        inside."""
        if self._graph.frames > 1:
            return
        for first in range(len(self._graph.layers) - 2):
            span = range(first, first + 3)
            if in_heads(self._config, self._graph, span):
                group = self._group(span)
                if group is not None and not wanted.isdisjoint(group.inner):
                    yield replace(group, by_heads=True)

    def _group(self, span: range, most_sides: int = 0) -> Group | None:
        layers = [self._graph.layers[index] for index in span]
        made = [layer.output for layer in layers[:-1]]
        if any(name not in self._alone or name not in self._readers for name in made):
            return None
        sides = tuple(name for name in made if any(at not in span for at in self._readers[name]))
        inner = tuple(name for name in made if name not in sides)
        if len(sides) > most_sides or (
                sides and all(len(self._readers[name]) == 1 for name in inner)):
            return None
        names = dict.fromkeys(name for layer in layers for name in layer.inputs)
        return Group(layers=span, inner=inner, output=layers[-1].output, side_outputs=sides,
                     inputs=tuple(name for name in names if name not in made))

    # Constants --------------------------------------------------------------------------------

    @property
    def _limits(self) -> tuple[int, ...]:
        """Weight rows, parameter entries; those of the vector engine, and tables."""
        config = self._config
        return (config.weight_depth, config.parameter_depth, config.vector_entries,
                config.vector_parameter_depth, config.vector_tables)

    def _constants_of(self, index: int) -> tuple[int, ...]:
        """The same that a layer takes, at most."""
        config, layer = self._config, self._graph.layers[index]
        if isinstance(layer, Convolution):
            tiles, steps = weight_tiles(config, self._laid_out, layer)
            return (tiles * steps * config.weight_tile_rows, tiles * config.requant_groups, 0, 0,
                    _tables(layer, tiles))
        blocks = self._laid_out.channels[layer.output].blocks(config)
        entries, parameters = self._entries(layer, blocks)
        return 0, 0, entries, parameters * config.vector_groups, _tables(layer, blocks)

    def _entries(self, layer: Layer, blocks: int) -> tuple[int, int]:
        """Weight entries, and channel blocks with parameters."""
        taps = self._config.vector_taps
        match layer:
            case Depthwise(weights=weights):
                _, height, width = weights.shape
                return blocks * max(height * -(-width // taps), width * -(-height // taps)), blocks
            case Pool(kind=PoolKind.AVERAGE, kernel=(height, width)):
                kinds = (height + 1) * (width + 1)  # of windows: what of them may be padding
                return max(height * -(-width // taps), width * -(-height // taps)), kinds
            case Affine() | ChannelSum():
                return blocks * add_entries(self._config), blocks
            case Add():
                return add_entries(self._config), 1
            case Multiply():
                return 0, 1
        return 0, 0


def _tables(layer: Layer, blocks: int) -> int:
    """Tables of a layer that makes so many channel blocks."""
    function = layer if isinstance(layer, Lookup) else layer.function
    if function is None:
        return 0
    return 1 if function.table.ndim == 1 else blocks
