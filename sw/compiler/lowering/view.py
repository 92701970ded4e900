"""Where on chip a part of a tensor is."""

from dataclasses import dataclass, replace

from weft.compiler.ops import Address, Buffer, Region
from weft.ir import Tensor

__all__ = ["View"]


@dataclass(eq=False, kw_only=True, slots=True)  # not frozen, which would take its time
class View:
    """Some rows, columns and channel blocks of a tensor, where they are on chip: in the tensor
    itself, or in a tile buffer that holds a part of a tensor too large for the chip. Only one in a
    tile buffer may have less than all columns.

    It never changes. Word ``(block, y, x)``, counted from the view's first ones, is at ``offset +
    block * plane + y * width + x`` of ``buffer``.

    Attributes
    ----------
    tensor : :class:`Tensor`
    buffer : :class:`Buffer`
        In activation memory.
    offset : :class:`int`
        Words.
    plane : :class:`int`
        Words from channel block to channel block.
    rows, columns : :class:`range`
        Of the tensor.
    blocks : :class:`range`
        Channel blocks of the tensor, out of its channel map.
    padding, left : :class:`int`
        Only of an input: rows of padding in front of ``rows``, and columns in front of ``columns``,
        for the output that it was read for; negative for those that it leaves out. With them as
        ``pad_top`` and ``pad_left``, and ``len(rows)`` and ``width`` as the input's size, a command
        needs to know nothing of tiles.
    spans : :class:`tuple` of :class:`Region`
        All words of the view, where it is not as it seems.
    """

    tensor: Tensor
    buffer: Buffer
    offset: int
    plane: int
    rows: range
    columns: range
    blocks: range
    padding: int = 0
    left: int = 0
    spans: tuple[Region, ...] = ()

    @property
    def width(self) -> int:
        """Words of a row."""
        return len(self.columns)

    def at(self, words: int = 0) -> Address:
        """Address of a word, counted from the first one of the view; it may lie outside."""
        return Address(self.buffer, self.offset + words)

    def part(self, blocks: range) -> "View":
        """The same rows of fewer channel blocks, given as those of the tensor."""
        if blocks == self.blocks:
            return self
        first = blocks.start - self.blocks.start
        return replace(self, offset=self.offset + first * self.plane, blocks=blocks)

    def regions(self) -> tuple[Region, ...]:
        """All words of the view, for ``reads`` and ``writes`` of an :class:`Op`."""
        if self.spans:
            return self.spans
        words, blocks = len(self.rows) * self.width, len(self.blocks)
        if words == self.plane:
            return (Region(self.buffer, self.offset, self.offset + blocks * self.plane),)
        return (Region(self.buffer, self.offset, self.offset + words, blocks, self.plane),)
