"""The results of rows on their way to the activation memory."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.lib.checks import require
from weft.hw.lib.register_slice import RegisterSlice
from weft.hw.memory.scratch import unit_write_layout

from .walk import PLACES, ROWS, BatchWalk, batch_rows

__all__ = ["RowWriter"]


class RowWriter(wiring.Component):
    """Makes words of the lanes of a group, and writes them.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
    groups : :class:`int`
        Groups that may be begun and not yet written, a power of 2.

    Members
    -------
    start, base, plane, pixels, blocks
        See :data:`PLACES`.
    begins : :py:`In(1)`
        A group is begun; not while it is ``full``.
    full : :py:`Out(1)`
        There is no room for another group.
    value : :py:`In(data.ArrayLayout(8, row_units))`
    row, lane : :py:`In(...)`
        For each unit, the value of a lane of a row of the first group that is not complete.
    valid : :py:`In(1)`
        There is one.
    whole : :py:`In(1)`
        It is the last one of its group.
    write : :py:`Out(stream.Signature(unit_write_layout(word_data_bytes)))`
    done : :py:`Out(1)`
        The last word of a command was taken in the cycle before.
    beyond : :py:`Out(1)`
        A word would be outside the memory: nothing is written any more.
    """

    def __init__(self, config: AcceleratorConfig, *, groups: int):
        self._config = config
        self._groups = groups
        super().__init__({
            **PLACES,
            "begins": In(1),
            "full":   Out(1),
            "value":  In(data.ArrayLayout(8, config.row_units)),
            "row":    In(range(ROWS)),
            "lane":   In(range(config.word_lanes)),
            "valid":  In(1),
            "whole":  In(1),
            "write":  Out(stream.Signature(unit_write_layout(config.word_data_bytes))),
            "done":   Out(1),
            "beyond": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        lanes, groups, units = self._config.word_lanes, self._groups, self._config.row_units
        filling, emptying = (Signal(range(groups), name=name) for name in ("filling", "emptying"))
        opened, whole = (Signal(range(groups + 1), name=name) for name in ("opened", "whole"))
        closes = Signal()
        m.d.comb += self.full.eq(opened == groups)
        m.d.sync += [
            opened.eq(opened + self.begins - closes),
            whole.eq(whole + self.whole - closes),
            filling.eq(filling + self.whole),
            emptying.eq(emptying + closes),
        ]
        require(m, ~self.begins | ~self.full, "there is room for a group that begins")
        require(m, (opened > whole) | ~self.valid, "a value belongs to a group that was begun")
        require(m, ~self.start | (opened == 0), "a command begins when none is written")

        m.submodules.walk = walk = BatchWalk(batch_rows(self._config))
        row, unit = walk.row[:exact_log2(ROWS)], walk.row[exact_log2(ROWS):]
        made: Any = Signal(data.ArrayLayout(8 * lanes, units))
        for number in range(units):
            m.submodules[f"words_{number}"] = words = Memory(
                shape=unsigned(8 * lanes), depth=groups * ROWS, init=[])
            put = words.write_port(granularity=8)
            get = words.read_port(domain="comb")
            m.d.comb += [
                put.addr.eq(Cat(self.row, filling)),
                put.data.eq(self.value[number].replicate(lanes)),
                put.en.eq(Mux(self.valid, 1 << self.lane, 0)),
                get.addr.eq(Cat(row, emptying)),
                made[number].eq(get.data),
            ]
        m.d.comb += [getattr(walk, name).eq(getattr(self, name)) for name in PLACES]
        failed = Signal()
        m.submodules.leaving = leaving = RegisterSlice(shape=data.StructLayout({
            "address": 24, "data": 8 * lanes, "last": 1}))
        legal = walk.address < self._config.activation_depth
        goes  = leaving.i.valid & leaving.i.ready
        m.d.comb += [
            walk.step.eq(goes),
            leaving.i.valid.eq((whole != 0) & legal & ~failed),
            leaving.i.p.address.eq(walk.address),
            leaving.i.p.data.eq(made[unit]),
            leaving.i.p.last.eq(walk.ends & walk.tail & walk.final),
            self.beyond.eq((whole != 0) & ~legal),
            closes.eq(goes & walk.ends),
            self.write.valid.eq(leaving.o.valid),
            self.write.p.address.eq(leaving.o.p.address),
            Value.cast(self.write.p.data).eq(leaving.o.p.data),
            self.write.p.mask.eq(~0),
            leaving.o.ready.eq(self.write.ready),
        ]
        m.d.sync += self.done.eq(leaving.o.valid & leaving.o.ready & leaving.o.p.last)
        with m.If(self.beyond):
            m.d.sync += failed.eq(1)
        return m
