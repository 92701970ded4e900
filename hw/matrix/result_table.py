"""Look-up tables between requantization and the activation memory."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.lib.checks import require
from weft.hw.lib.delay import delay
from weft.hw.memory.scratch import unit_write_layout
from weft.hw.memory.table import TableMemory

__all__ = ["ResultTable"]


class ResultTable(wiring.Component):
    """Replaces results by their entries in a table; those without one pass at once.

    So results with a table are :attr:`LATENCY` cycles later than others, and must not be followed
    by others so many cycles behind. A group of results in each cycle.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
        With ``drain_lookup``.
    result : :class:`data.StructLayout`
        A group of results: ``valid`` (1), ``tag``, ``data`` (array of ``requant_lanes`` signed 8).
        ``looks_up`` (1) and ``table`` of the tag tell whether they have a table, and which one.

    Members
    -------
    table_write : :py:`In(stream.Signature(unit_write_layout(1), always_ready=True))`
        Bytes of the tables.
    lane_table_write : \
:py:`In(stream.Signature(unit_write_layout(requant_lanes), always_ready=True))`
        The same of each lane; with ``drain_lane_tables`` only, and not in the same cycle.
    i, o : of ``result``
        Results, and what is to be written.

    Attributes
    ----------
    LATENCY : :class:`int`
        Cycles from ``i`` to ``o`` of results with a table.
    """

    LATENCY = TableMemory.LATENCY

    def __init__(self, config: AcceleratorConfig, *, result: data.StructLayout):
        self._config = config
        super().__init__({
            "table_write": In(stream.Signature(unit_write_layout(1), always_ready=True)),
            **({"lane_table_write": In(stream.Signature(
                unit_write_layout(config.requant_lanes), always_ready=True))}
               if config.drain_lane_tables else {}),
            "i":           In(result),
            "o":           Out(result),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        config = self._config
        m.submodules.tables = tables = TableMemory(
            config, lanes=config.requant_lanes, by_lane=config.drain_lane_tables)
        connect(m, flipped(self.table_write), tables.write)
        if config.drain_lane_tables:
            connect(m, flipped(self.lane_table_write), tables.lane_write)

        looks_up = self.i.valid & self.i.tag.looks_up
        passes   = self.i.valid & ~self.i.tag.looks_up
        late     = delay(m, looks_up, self.LATENCY, name="late")
        late_tag: Any = delay(m, self.i.tag, self.LATENCY, name="late_tag", reset_less=True)
        require(m, ~late | ~passes, "results with and without a table never meet")
        m.d.comb += [
            tables.word.eq(self.i.data),
            tables.table.eq(self.i.tag.table),
            tables.enable.eq(looks_up),
            self.o.valid.eq(late | passes),
            self.o.tag.eq(Mux(late, late_tag, self.i.tag)),
            Value.cast(self.o.data).eq(Mux(late, Value.cast(tables.o), Value.cast(self.i.data))),
        ]

        return m
