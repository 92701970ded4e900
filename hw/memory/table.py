"""Look-up tables of 256 entries for all lanes at once."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.lib.delay import delay, register

from .registered import RegisteredMemory
from .scratch import unit_write_layout

__all__ = ["TableMemory"]


class TableMemory(wiring.Component):
    """All tables, in a memory for each lane.

    An entry must not be looked up in the cycle after its write, or in that before.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
    lanes : :class:`int`
        Values that are looked up at a time.
    by_lane : :class:`bool`
        Whether lanes may have entries of their own.

    Members
    -------
    write : :py:`In(stream.Signature(unit_write_layout(1), always_ready=True))`
        Entries that all lanes have.
    lane_write : :py:`In(stream.Signature(unit_write_layout(lanes), always_ready=True))`
        Entries of each lane, with ``by_lane`` only; not in the same cycle as ``write``.
    table : :py:`In(8)`
    word : :py:`In(data.ArrayLayout(signed(8), lanes))`
    enable : :py:`In(1)`
        Look ``word`` up in this cycle.
    o : :py:`Out(data.ArrayLayout(signed(8), lanes))`
        The entries, :attr:`LATENCY` cycles after ``enable``.

    Attributes
    ----------
    LATENCY : :class:`int`
    """

    LATENCY = RegisteredMemory.LATENCY

    def __init__(self, config: AcceleratorConfig, *, lanes: int, by_lane: bool = False):
        self._config  = config
        self._lanes   = lanes
        self._by_lane = by_lane
        word = data.ArrayLayout(signed(8), lanes)
        super().__init__({
            "write":  In(stream.Signature(unit_write_layout(1), always_ready=True)),
            **({"lane_write": In(stream.Signature(unit_write_layout(lanes), always_ready=True))}
               if by_lane else {}),
            "table":  In(8),
            "word":   In(word),
            "enable": In(1),
            "o":      Out(word),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        depth = self._config.vector_table_bytes

        # Registered, as the memories lie far apart.
        every   = self.write.p
        address = every.address
        values  = [every.data[0]] * self._lanes
        enables = [self.write.valid & every.mask[0]] * self._lanes
        if self._by_lane:
            own, own_valid = self.lane_write.p, self.lane_write.valid
            address = Mux(own_valid, own.address, address)
            values  = [Mux(own_valid, own.data[lane], values[lane])
                       for lane in range(self._lanes)]
            enables = [(own_valid & own.mask[lane]) | enables[lane]
                       for lane in range(self._lanes)]
        address = register(m, address[:max(1, ceil_log2(depth))], "address")
        entry   = register(m, values[0], "entry")
        enable  = delay(m, enables[0], 1, name="write_enable")
        for lane in range(self._lanes):
            if self._by_lane and lane:
                entry  = register(m, values[lane], f"entry_{lane}")
                enable = delay(m, enables[lane], 1, name=f"write_enable_{lane}")
            m.submodules[f"lane_{lane}"] = copy = RegisteredMemory(depth=depth, width=8)
            m.d.comb += [
                copy.write_address.eq(address),
                copy.write_data.eq(entry),
                copy.write_enable.eq(enable),
                copy.read_address.eq(Cat(Value.cast(self.word[lane]), self.table)),
                copy.read_enable.eq(self.enable),
                self.o[lane].eq(copy.read_data),
            ]

        return m
