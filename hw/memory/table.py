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
    """A copy of all tables for every lane.

    An entry must not be looked up in the cycle after its write, or in that before.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
    lanes : :class:`int`
        Values that are looked up at a time.

    Members
    -------
    write : :py:`In(stream.Signature(unit_write_layout(1), always_ready=True))`
        Bytes of the tables.
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

    def __init__(self, config: AcceleratorConfig, *, lanes: int):
        self._config = config
        self._lanes  = lanes
        word = data.ArrayLayout(signed(8), lanes)
        super().__init__({
            "write":  In(stream.Signature(unit_write_layout(1), always_ready=True)),
            "table":  In(8),
            "word":   In(word),
            "enable": In(1),
            "o":      Out(word),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        depth = self._config.vector_table_bytes

        # Registered, as the copies lie far apart.
        write   = self.write.p
        address = register(m, write.address[:max(1, ceil_log2(depth))], "address")
        entry   = register(m, write.data[0], "entry")
        enable  = delay(m, self.write.valid & write.mask[0], 1, name="write_enable")
        for lane in range(self._lanes):
            m.submodules[f"copy_{lane}"] = copy = RegisteredMemory(depth=depth, width=8)
            m.d.comb += [
                copy.write_address.eq(address),
                copy.write_data.eq(entry),
                copy.write_enable.eq(enable),
                copy.read_address.eq(Cat(Value.cast(self.word[lane]), self.table)),
                copy.read_enable.eq(self.enable),
                self.o[lane].eq(copy.read_data),
            ]

        return m
