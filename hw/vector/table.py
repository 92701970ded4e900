"""Look-up tables of 256 entries for all lanes at once."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.lib.delay import delay, register
from weft.hw.memory.registered import RegisteredMemory
from weft.hw.memory.scratch import unit_write_layout

from .tap import lookup_layout

__all__ = ["VectorTable"]


class VectorTable(wiring.Component):
    """All tables, in a memory for each lane. Lanes may have entries of their own.

    An entry must not be looked up in the cycle after its write, or in that before.

    Members
    -------
    write : :py:`In(stream.Signature(unit_write_layout(1), always_ready=True))`
        Entries that all lanes have.
    lane_write : :py:`In(stream.Signature(unit_write_layout(rows), always_ready=True))`
        Entries of each lane; not in the same cycle as ``write``.
    table : :py:`In(ceil_log2(vector_tables))`
    word : :py:`In(data.ArrayLayout(signed(8), rows))`
    enable : :py:`In(1)`
        Look ``word`` up in this cycle.
    o : :py:`Out(data.ArrayLayout(signed(8), rows))`
        The entries, :attr:`LATENCY` cycles after ``enable``.

    Attributes
    ----------
    LATENCY : :class:`int`
    """

    LATENCY = RegisteredMemory.LATENCY

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        lanes = data.ArrayLayout(signed(8), config.word_lanes)
        super().__init__({
            "write":      In(stream.Signature(unit_write_layout(1), always_ready=True)),
            "lane_write": In(stream.Signature(unit_write_layout(config.word_data_bytes),
                                              always_ready=True)),
            "table":      In(lookup_layout(config)["table"].shape),
            "word":       In(lanes),
            "enable":     In(1),
            "o":          Out(lanes),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        depth = self._config.vector_table_bytes

        # Registered, as the memories lie far apart.
        all_lanes, by_lane = self.write.p, self.lane_write.p
        address = register(m, Mux(self.lane_write.valid, by_lane.address,
                                  all_lanes.address)[:max(1, ceil_log2(depth))], "address")
        every   = self.write.valid & all_lanes.mask[0]
        for lane in range(self._config.word_lanes):
            m.submodules[f"lane_{lane}"] = copy = RegisteredMemory(depth=depth, width=8)
            m.d.comb += [
                copy.write_address.eq(address),
                copy.write_data.eq(register(m, Mux(self.lane_write.valid, by_lane.data[lane],
                                                   all_lanes.data[0]), f"entry_{lane}")),
                copy.write_enable.eq(delay(
                    m, every | (self.lane_write.valid & by_lane.mask[lane]), 1,
                    name=f"write_enable_{lane}")),
                copy.read_address.eq(Cat(Value.cast(self.word[lane]),
                                         self.table)[:len(copy.read_address)]),
                copy.read_enable.eq(self.enable),
                self.o[lane].eq(copy.read_data),
            ]

        return m
