"""The buffer of a tensor that goes through a group of layers some rows, or channels, at a time."""

from collections.abc import Sequence

from weft.compiler.ops import Buffer
from weft.compiler.planning.row_flow import Line
from weft.ir import Tensor

from .view import View

__all__ = ["LineBuffer", "TurnBuffer"]


class LineBuffer:
    """A :class:`Line` on chip, at the tile that is being lowered.

    Parameters
    ----------
    tensor : :class:`Tensor`
    line : :class:`Line`
    blocks : :class:`range`
        Channel blocks of the tensor.
    buffer : :class:`Buffer`
        In activation memory.
    """

    def __init__(self, tensor: Tensor, line: Line, blocks: range, buffer: Buffer):
        self._tensor = tensor
        self._line = line
        self._blocks = blocks
        self._buffer = buffer
        self._tile = 0

    def advance(self, tile: int) -> tuple[View, View] | None:
        """Goes on to a tile; the rows to be moved for that, where they are and where they go."""
        before, self._tile = self._tile, tile
        if not self._line.moved[tile]:
            return None
        kept = self._line.flow.kept(tile)
        return self._view(before, kept, self._blocks), self._view(tile, kept, self._blocks)

    def new(self) -> View:
        """The rows that are new in this tile."""
        return self.view(self._line.flow.new[self._tile], self._blocks)

    def view(self, rows: range, blocks: range) -> View:
        """Some of the rows that are held in this tile."""
        return self._view(self._tile, rows, blocks)

    def _view(self, tile: int, rows: range, blocks: range) -> View:
        width = self._tensor.shape[2]
        plane = self._line.rows * width
        place = self._line.places[tile] + rows.start - self._line.flow.held[tile].start
        first = blocks.start - self._blocks.start
        return View(tensor=self._tensor, buffer=self._buffer, plane=plane, rows=rows,
                    columns=range(width), blocks=blocks, offset=first * plane + place * width)


class TurnBuffer:
    """Room for some turns of a tensor, of which each is a tile of rows of a chunk of channel
    blocks, such as a head.

    Parameters
    ----------
    tensor : :class:`Tensor`
    buffer : :class:`Buffer`
        In activation memory.
    size : :class:`int`
        Channel blocks of a chunk.
    tiles : list of :class:`range`
        Rows, top to bottom; no tile has more than the first one.
    slots : :class:`int`
        Turns that there is room for.
    """

    def __init__(self, tensor: Tensor, buffer: Buffer, size: int, tiles: Sequence[range],
                 slots: int):
        self._tensor = tensor
        self._buffer = buffer
        self._size = size
        self._tiles = tiles
        self._slots = slots

    def view(self, rows: range, blocks: range) -> View:
        """Rows of a tile in channel blocks of a chunk."""
        width = self._tensor.shape[2]
        height = len(self._tiles[0])
        plane = height * width
        chunk, first = divmod(blocks.start, self._size)
        tile, row = divmod(rows.start, height)
        slot = (chunk * len(self._tiles) + tile) % self._slots
        return View(tensor=self._tensor, buffer=self._buffer, plane=plane, rows=rows,
                    columns=range(width), blocks=blocks,
                    offset=(slot * self._size + first) * plane + row * width)
