"""Which rows of every tensor a group of layers computes, and holds, tile by tile.

A group computes its layers in turns: of each one only the rows that the next ones need for a tile
of the last one's output. No row is computed twice: rows that a later tile needs again stay in the
tensor's buffer, which holds a few rows at a time.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property

from weft.ir import Layer

from .rows import needed, window

__all__ = ["Flow", "Line", "row_flows", "shortest_line"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Flow:
    """Rows of a tensor on their way through a group.

    Attributes
    ----------
    new : :class:`tuple` of :class:`range`
        For each tile, the rows that are computed, or loaded, for it; there may be none.
    held : :class:`tuple` of :class:`range`
        For each tile, the rows that are in the buffer when its layers read them: old ones that are
        still needed, then the new ones.
    """

    new: tuple[range, ...]
    held: tuple[range, ...]

    def kept(self, tile: int) -> range:
        """The old ones of the rows that are held in a tile."""
        return range(self.held[tile].start, self.new[tile].start)

    @cached_property
    def most(self) -> int:
        """Rows that are held in a tile, at most."""
        return max(map(len, self.held))

    @cached_property
    def step(self) -> int:
        """Rows that are new in a tile, at most; the first one may take more."""
        return max(map(len, self.new[1:] or self.new))


def row_flows(layers: Sequence[Layer], heights: Mapping[str, int], tiles: Sequence[range],
              aligns: Mapping[str, int], whole: AbstractSet[str]) -> dict[str, Flow]:
    """Flows of all tensors that the layers of a group read or write.

    Parameters
    ----------
    layers : list of :class:`Layer`
        In order of execution; all but the output of the last one are read by later ones.
    heights : :class:`dict`
        Rows of each tensor.
    tiles : list of :class:`range`
        Rows of the last layer's output, top to bottom.
    aligns : :class:`dict`
        Parts of these tensors begin at multiples of so many rows.
    whole : :class:`set`
        Tensors of which all rows are computed, whether they are needed or not: where no layer
        reads one, in step with the tiles.
    """
    last = layers[-1].output
    windows = [window(layer, 0) for layer in reversed(layers)]
    stops: dict[str, int] = {}
    new: dict[str, list[range]] = {}
    low: dict[str, list[int | None]] = {}  # first row that a tile reads

    def enter(name: str, tile: int, wanted: range | None) -> range:
        """Takes note of the rows of a tensor that a tile needs; those of them that are new."""
        align, height = aligns.get(name, 1), heights[name]
        start = stops.get(name, 0)
        stop = start if wanted is None else max(start, wanted.stop)
        if tile == len(tiles) - 1 and name in whole:
            stop = height
        stop = min(stop + -stop % align, height)
        stops[name] = stop
        new.setdefault(name, []).append(range(start, stop))
        low.setdefault(name, []).append(None if wanted is None else wanted.start)
        return range(start, stop)

    for tile, out in enumerate(tiles):
        needs: dict[str, range | None] = {name: None for layer in layers for name in layer.inputs}
        for name in whole - needs.keys() - {last}:
            needs[name] = _in_step(out, heights[last], heights[name])
        for layer, shape in zip(reversed(layers), windows, strict=True):
            rows = out if layer.output == last else enter(layer.output, tile,
                                                         needs.pop(layer.output))
            if not rows:
                continue
            for name in layer.inputs:
                wanted, _ = needed(shape, rows, heights[name])
                before = needs[name]
                needs[name] = wanted if before is None else range(
                    min(before.start, wanted.start), max(before.stop, wanted.stop))
        for name, hull in needs.items():
            enter(name, tile, hull)
    flows = {name: Flow(new=tuple(rows), held=_held(rows, low[name]))
             for name, rows in new.items()}
    return flows | {last: Flow(new=tuple(tiles), held=tuple(tiles))}


def _in_step(tile: range, height: int, rows: int) -> range:
    """As many of ``rows`` as a tile has of ``height``."""
    return range(tile.start * rows // height, -(-tile.stop * rows // height))


def _held(new: Sequence[range], low: Sequence[int | None]) -> tuple[range, ...]:
    """What is held for each tile: all from the first row that it or a later one reads."""
    held: list[range] = []
    least: int | None = None
    for rows, first in zip(reversed(new), reversed(low), strict=True):
        least = first if least is None else least if first is None else min(first, least)
        held.append(range(rows.start if least is None else min(least, rows.start), rows.stop))
    return tuple(reversed(held))


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """A buffer for some rows of a tensor. New rows follow the old ones, until there is no room:
    then those that are still needed are moved to the front.

    Attributes
    ----------
    flow : :class:`Flow`
    rows : :class:`int`
        Rows of the buffer.
    places : :class:`tuple` of :class:`int`
        For each tile, the row of the buffer at which the rows begin that are held.
    moved : :class:`tuple` of :class:`bool`
        For each tile, whether the rows that are kept have to be moved there.
    """

    flow: Flow
    rows: int
    places: tuple[int, ...]
    moved: tuple[bool, ...]

    @classmethod
    def of(cls, flow: Flow, rows: int) -> "Line | None":
        """The line of so many rows; :py:`None` if they are too few, or if rows would be moved over
        themselves."""
        places: list[int] = []
        moved: list[bool] = []
        place, start = 0, flow.held[0].start
        for tile, held in enumerate(flow.held):
            place += held.start - start
            start = held.start
            kept, move = len(flow.kept(tile)), False
            if place + len(held) > rows:
                if len(held) > rows or place < kept:
                    return None
                place, move = 0, kept > 0
            places.append(place)
            moved.append(move)
        return cls(flow=flow, rows=rows, places=tuple(places), moved=tuple(moved))

    @cached_property
    def moves(self) -> int:
        """Rows that are moved, in all."""
        return sum(len(self.flow.kept(tile)) for tile, move in enumerate(self.moved) if move)


def shortest_line(flow: Flow) -> Line:
    """The line of the fewest rows."""
    rows = flow.most
    while (line := Line.of(flow, rows)) is None:
        rows += 1
    return line
