"""The words of rows of channels, batch by batch."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.lib.checks import require

__all__ = ["PLACES", "ROWS", "BatchWalk", "batch_rows"]


ROWS = 4
"""Rows of a unit, which take turns: a batch has so many for each of ``row_units``."""

PLACES = {"start": In(1), "base": In(24), "plane": In(24), "pixels": In(16), "blocks": In(16)}
"""Ports that tell a part of an engine where the words of a command are: with ``start`` it begins,
and looks at ``base``; at the others until it is done."""


def batch_rows(config: AcceleratorConfig) -> int:
    """Rows of a batch."""
    return ROWS * config.row_units


class BatchWalk(wiring.Component):
    """Addresses of the words of a command: of each batch of rows, the groups of its channel blocks,
    and of these the words, row by row.

    Parameters
    ----------
    rows : :class:`int`
        Of a batch, a power of 2.

    Members
    -------
    start, base, plane, pixels, blocks
        See :data:`PLACES`.
    step : :py:`In(1)`
        Go on to the next word.
    again : :py:`In(1)`
        From the last word of a batch back to the first one of it.
    address : :py:`Out(24)`
        Of this word.
    row : :py:`Out(range(rows))`
        Its row in the batch.
    ends : :py:`Out(1)`
        It is the last word of its group.
    tail : :py:`Out(1)`
        Its group is the last one of the batch.
    final : :py:`Out(1)`
        The batch is the last one.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        super().__init__({
            **PLACES,
            "step":    In(1),
            "again":   In(1),
            "address": Out(24),
            "row":     Out(range(rows)),
            "ends":    Out(1),
            "tail":    Out(1),
            "final":   Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        rows    = self._rows
        row     = Signal(range(rows), reset_less=True)
        left    = Signal(17, reset_less=True)   # rows, from the first one of this batch on
        blocks  = Signal(16, reset_less=True)   # of the row, with this one
        address = Signal(24, reset_less=True)
        block   = Signal(24, reset_less=True)   # the first word of this group
        batch   = Signal(24, reset_less=True)   # and of this batch
        m.d.comb += [
            self.address.eq(address),
            self.row.eq(row),
            self.ends.eq((row == rows - 1) | (row + 1 == left)),
            self.tail.eq(blocks == 1),
            self.final.eq(left <= rows),
        ]

        next_batch = Mux(self.again, batch, batch + rows)[:24]
        following  = Mux(self.tail, next_batch, block + self.plane)[:24]
        with m.If(self.step):
            m.d.sync += [row.eq(row + 1), address.eq(address + 1)]
            with m.If(self.ends):
                m.d.sync += [
                    row.eq(0),
                    address.eq(following),
                    block.eq(following),
                    blocks.eq(Mux(self.tail, self.blocks, blocks - 1)),
                ]
                with m.If(self.tail & ~self.again):
                    m.d.sync += [left.eq(left - rows), batch.eq(next_batch)]
        require(m, ~self.step | (left.any() & ~left[-1]), "a word is one of the command")
        with m.If(self.start):
            m.d.sync += [
                left.eq(self.pixels),
                blocks.eq(self.blocks),
                *(place.eq(self.base) for place in (address, block, batch)),
                row.eq(0),
            ]
        return m
