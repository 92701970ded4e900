"""Single beats to and from external memory."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from weft.hw.bus.axi import BURST_INCR, MemorySignature

__all__ = ["BeatMaster", "BeatSignature"]


class BeatSignature(wiring.Signature):
    """Access to a beat of external memory, seen from who asks.

    Members
    -------
    valid : :py:`Out(1)`
        A beat is asked for; this and the next three stay as they are until ``done``.
    write : :py:`Out(1)`
    address : :py:`Out(addr_width)`
        In bytes, a multiple of the beat.
    write_data : :py:`Out(data_width)`
    done : :py:`In(1)`
        Pulse: the beat was read or written.
    read_data : :py:`In(data_width)`
        With ``done``.
    error : :py:`In(1)`
        With ``done``: there was an error response.
    """

    def __init__(self, *, data_width: int, addr_width: int):
        super().__init__({
            "valid":      Out(1),
            "write":      Out(1),
            "address":    Out(addr_width),
            "write_data": Out(data_width),
            "done":       In(1),
            "read_data":  In(data_width),
            "error":      In(1),
        })


class BeatMaster(wiring.Component):
    """AXI4 bursts of one beat, one at a time.

    :attr:`CYCLES`, and what the memory takes to answer.

    Parameters
    ----------
    data_width, addr_width, id_width : :class:`int`
        Bits of a beat, of an address, and of an identifier, which is always zero.

    Members
    -------
    beat : :py:`In(BeatSignature(...))`
    halt : :py:`In(1)`
        Begin no more beats.
    idle : :py:`Out(1)`
        Nothing is in flight.
    axi : :py:`Out(MemorySignature(...))`

    Attributes
    ----------
    CYCLES : :class:`int`
        Cycles of a beat beside the latency of the memory. One that is written takes
        :attr:`WRITE_CYCLES` more, on the bus.
    """

    CYCLES       = 2
    WRITE_CYCLES = 1

    def __init__(self, *, data_width: int, addr_width: int, id_width: int = 1):
        self._data_width = data_width
        super().__init__({
            "beat": In(BeatSignature(data_width=data_width, addr_width=addr_width)),
            "halt": In(1),
            "idle": Out(1),
            "axi":  Out(MemorySignature(data_width=data_width, addr_width=addr_width,
                                        id_width=id_width)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        axi, beat = self.axi, self.beat

        # Who asks holds its address and data, so there are no registers for them here. `halt`
        # gates the way into `open`, so nothing is taken back from the bus.
        open_  = Signal()
        asked  = Signal()  # the address was taken
        handed = Signal()  # the data to write was taken
        m.d.comb += [
            self.idle.eq(~open_),
            axi.arvalid.eq(open_ & ~beat.write & ~asked),
            axi.awvalid.eq(open_ & beat.write & ~asked),
            axi.wvalid.eq(open_ & beat.write & ~handed),
            axi.araddr.eq(beat.address),
            axi.awaddr.eq(beat.address),
            axi.wdata.eq(beat.write_data),
            axi.wstrb.eq(-1),
            axi.wlast.eq(1),
            axi.arsize.eq(exact_log2(self._data_width // 8)),
            axi.awsize.eq(exact_log2(self._data_width // 8)),
            axi.arburst.eq(BURST_INCR),
            axi.awburst.eq(BURST_INCR),
            axi.rready.eq(1),
            axi.bready.eq(1),
            beat.done.eq(axi.rvalid | axi.bvalid),
            beat.read_data.eq(axi.rdata),
            beat.error.eq(Mux(axi.rvalid, axi.rresp.as_value()[1], axi.bresp.as_value()[1])),
        ]
        with m.If((axi.arvalid & axi.arready) | (axi.awvalid & axi.awready)):
            m.d.sync += asked.eq(1)
        with m.If(axi.wvalid & axi.wready):
            m.d.sync += handed.eq(1)
        with m.If(~open_):
            m.d.sync += [open_.eq(beat.valid & ~self.halt), asked.eq(0), handed.eq(0)]
        with m.Elif(beat.done):
            m.d.sync += open_.eq(0)
        return m
