"""An SDRAM chip as external memory: an AXI4 port, and one for single bytes."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from weft.boards.system.staging import ByteSignature, burst_response
from weft.hw.bus.axi import MemorySignature, Response
from weft.hw.bus.dma_write import beat_layout
from weft.hw.lib.checks import require
from weft.hw.lib.promise import promised
from weft.hw.lib.queue import Queue

from .chip import SdramTiming
from .controller import SdramController
from .host import HostBytes
from .runs import RunSplitter
from .signals import SdramSignature

__all__ = ["SdramMemory"]


class SdramMemory(wiring.Component):
    """An SDRAM with the AXI4 port of external memory.

    Bursts are answered in the order of their addresses, reads and writes each. A write is
    acknowledged once all its data is here and its place in the order of commands is certain: who
    asks for the same bytes then gets the new ones. Reads and writes take turns, after at most
    :attr:`RUNS_IN_A_ROW` runs of :attr:`RUN_BEATS` beats. A byte access takes precedence. Bursts
    outside the memory, and others than incrementing ones of full width, are answered with DECERR
    and SLVERR; they read as anything and write nothing. Of a chip without byte masks only the host
    writes parts of a beat.

    Consecutive rows of the address space lie in different banks.

    Parameters
    ----------
    timing : :class:`~weft.boards.sdram.chip.SdramTiming`
    data_width : :class:`int`
        Bits of a beat: 2, 4 or 8 words of the chip.
    addr_width : :class:`int`
        Bits of an address on the AXI4 port.
    id_width : :class:`int`
        Bits of a transaction identifier.

    Members
    -------
    axi : :py:`In(MemorySignature(...))`
    bytes : :py:`In(ByteSignature(...))`
        ``write`` is pulsed at most every 40 cycles, as fast as a UART can be.
    chip : :py:`Out(SdramSignature(...))`
    ready : :py:`Out(1)`
        The chip has started. Nothing is to be written to ``bytes`` before.

    Raises
    ------
    ValueError
        If a width is out of its range.
    """

    READ_PIPELINE = 9   # cycles of a read from address to first beat, beside those of the chip
    RUN_BEATS = 8
    RUNS_IN_A_ROW = 4
    QUEUE_DEPTH = 16

    def __init__(self, timing: SdramTiming, *, data_width: int, addr_width: int,
                 id_width: int = 1):
        size = timing.chip.size
        if size > 1 << addr_width:
            raise ValueError(f"Size must be at most {1 << addr_width} ({addr_width} address "
                             f"bits), not {size!r}")
        self._size = size
        self._data_width = data_width
        self._byte_bits = exact_log2(data_width // 8)
        self._byte_masks = timing.chip.byte_masks
        self._tag = data.StructLayout({"id": id_width, "resp": Response, "last": 1, "host": 1})
        self._controller = SdramController(timing, beat_bits=data_width, beats=self.RUN_BEATS,
                                           tag=self._tag)
        self._splitters = [RunSplitter(address_bits=exact_log2(size) - self._byte_bits,
                                       id_width=id_width, beats=self.RUN_BEATS) for _ in range(2)]
        super().__init__({
            "axi":   In(MemorySignature(data_width=data_width, addr_width=addr_width,
                                        id_width=id_width)),
            "bytes": In(ByteSignature(addr_width=exact_log2(size))),
            "chip":  Out(SdramSignature(timing.chip)),
            "ready": Out(1),
        })

    @classmethod
    def latency(cls, timing: SdramTiming, data_width: int) -> int:
        """Cycles from the address of a read to its first beat, if another row is open there."""
        return (cls.READ_PIPELINE + timing.rp + timing.rcd + timing.chip.cas_latency
                + data_width // timing.chip.data_width)

    @staticmethod
    def rate(timing: SdramTiming, data_width: int) -> float:
        """Beats per cycle of long bursts, reads and writes together: refreshes take the rest."""
        refresh = timing.rp + timing.rfc + timing.rcd
        return (1 - refresh / timing.refi) * timing.chip.data_width / data_width

    @staticmethod
    def turnaround(timing: SdramTiming) -> int:
        """Cycles that are lost if a run of writes comes between reads: the chip leaves the bus."""
        return timing.chip.cas_latency + 1

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.controller = controller = self._controller
        connect(m, controller.chip, flipped(self.chip))
        m.d.comb += self.ready.eq(controller.ready)

        reads = self._accept(m, "ar", self._splitters[0])
        writes = self._accept(m, "aw", self._splitters[1])
        host = HostBytes(m, self.bytes, self._byte_bits, depth=self.QUEUE_DEPTH,
                         byte_masks=self._byte_masks)
        may_write = self._buffer_writes(m, writes, host)
        may_read = self._return_reads(m, reads, host)
        self._choose(m, reads, writes, may_read, may_write, host)
        return m

    def _accept(self, m: Module, channel: str, splitter: RunSplitter) -> Any:
        """The runs of the bursts on an address channel."""
        m.submodules[channel] = splitter
        valid, ready, address, length, identity, size, burst = (
            getattr(self.axi, channel + name)
            for name in ("valid", "ready", "addr", "len", "id", "size", "burst"))
        m.d.comb += [
            splitter.i.valid.eq(valid),
            ready.eq(splitter.i.ready),
            splitter.i.p.address.eq(address[self._byte_bits:]),
            splitter.i.p.length.eq(length),
            splitter.i.p.id.eq(identity),
            splitter.i.p.resp.eq(burst_response(address, size, burst, memory_bytes=self._size,
                                                data_width=self._data_width)),
        ]
        return splitter.o

    def _buffer_writes(self, m: Module, writes: Any, host: HostBytes) -> Signal:
        """Collects the data of writes. A run of them may go once all its data is here, and there is
        room for its response; returns a register that says so."""
        axi, controller = self.axi, self._controller
        m.submodules.beats = beats = Queue(shape=beat_layout(self._data_width),
                                           depth=self.QUEUE_DEPTH)
        m.submodules.responses = responses = Queue(
            shape=data.StructLayout({"id": len(axi.bid), "resp": Response}), depth=2)
        taken = writes.valid & writes.ready

        unclaimed = Signal(range(self.QUEUE_DEPTH + 1))  # beats here that no run was sent for
        may = Signal()
        m.d.sync += [
            unclaimed.eq(unclaimed + (beats.i.valid & beats.i.ready)
                         - Mux(taken, writes.p.beats + 1, 0)),
            # It falls before the splitter offers the next run.
            may.eq(writes.valid & (unclaimed > writes.p.beats) & responses.i.ready),
        ]
        wanted = controller.issue & controller.issue_write & ~controller.issue_tag.host
        require(m, ~wanted | beats.o.valid, "a run is sent once its data is here")
        failed = controller.issue_tag.resp != Response.OKAY
        enabled = Mux(failed, 0, beats.o.p.strb)
        if not self._byte_masks:
            require(m, ~wanted | failed | beats.o.p.strb.all(), "beats are written whole")
            enabled = (~failed).replicate(len(beats.o.p.strb))
        m.d.comb += [
            beats.i.valid.eq(axi.wvalid),
            beats.i.p.data.eq(axi.wdata),
            beats.i.p.strb.eq(axi.wstrb),
            axi.wready.eq(beats.i.ready),
            beats.o.ready.eq(wanted),
            controller.write_data.eq(Mux(controller.issue_tag.host, host.stored,
                                         beats.o.p.data)),
            controller.write_mask.eq(~Mux(controller.issue_tag.host, host.enabled, enabled)),
            responses.i.valid.eq(taken & writes.p.last),
            responses.i.p.id.eq(writes.p.id),
            responses.i.p.resp.eq(writes.p.resp),
            axi.bvalid.eq(responses.o.valid),
            axi.bid.eq(responses.o.p.id),
            axi.bresp.eq(responses.o.p.resp),
            responses.o.ready.eq(axi.bready),
        ]
        return may

    def _return_reads(self, m: Module, reads: Any, host: HostBytes) -> Signal:
        """Beats that arrive go to who asked. A run of reads may go once a queue has room for all
        its beats; returns a register that says so."""
        axi, controller = self.axi, self._controller
        m.submodules.asked = asked = Queue(shape=self._tag, depth=self.QUEUE_DEPTH)
        m.submodules.arrived = arrived = Queue(
            shape=data.StructLayout({"data": self._data_width, "id": len(axi.rid),
                                     "resp": Response, "last": 1}), depth=self.QUEUE_DEPTH)
        asking, arriving = (promised(m, queue.i, name=name, because="a beat is read only if there "
                                     "is room") for name, queue in (("asking", asked),
                                                                    ("arriving", arrived)))
        reading = controller.issue & ~controller.issue_write
        for_host = asked.o.p.host
        reserved = Signal(range(self.QUEUE_DEPTH + 1))
        may = Signal()
        m.d.sync += [
            reserved.eq(reserved + Mux(reads.valid & reads.ready, reads.p.beats + 1, 0)
                        - (arrived.o.valid & arrived.o.ready)),
            # It falls before the splitter offers the next run.
            may.eq(reads.valid & (reserved <= self.QUEUE_DEPTH - self.RUN_BEATS)),
        ]
        tag = Signal(self._tag)
        m.d.comb += [
            tag.eq(controller.issue_tag),
            asking.valid.eq(reading),
            asking.payload.eq(tag),
            asking.p.last.eq(tag.last & controller.issue_last),
            asked.o.ready.eq(controller.read_valid),
            arriving.valid.eq(controller.read_valid & ~for_host),
            arriving.p.data.eq(controller.read_data),
            arriving.p.id.eq(asked.o.p.id),
            arriving.p.resp.eq(asked.o.p.resp),
            arriving.p.last.eq(asked.o.p.last),
            axi.rvalid.eq(arrived.o.valid),
            axi.rdata.eq(arrived.o.p.data),
            axi.rid.eq(arrived.o.p.id),
            axi.rresp.eq(arrived.o.p.resp),
            axi.rlast.eq(arrived.o.p.last),
            arrived.o.ready.eq(axi.rready),
            host.written.eq(controller.issue & controller.issue_write & controller.issue_tag.host),
            host.arrived.eq(controller.read_valid & for_host),
            host.beat.eq(controller.read_data),
        ]
        return may

    def _choose(self, m: Module, reads: Any, writes: Any, may_read: Signal, may_write: Signal,
                host: HostBytes) -> None:
        """Hands one run after the other to the controller."""
        runs = self._controller.runs
        one   = Signal()        # a write may go
        other = Signal()        # a read may
        favour_write = Signal()
        streak = Signal(range(self.RUNS_IN_A_ROW))
        write = Signal()
        m.d.comb += [
            one.eq(writes.valid & may_write),
            other.eq(reads.valid & may_read),
            write.eq(one & (~other | favour_write)),
            # Another one may be offered before this one is taken: the controller does not mind.
            runs.valid.eq(host.wants | ((one | other) & ~host.writes)),
            host.taken.eq(runs.ready & host.wants),
            writes.ready.eq(runs.ready & ~host.wants & ~host.writes & write),
            reads.ready.eq(runs.ready & ~host.wants & ~host.writes & ~write & other),
        ]
        with m.If(runs.valid & runs.ready & ~host.wants):
            m.d.sync += [favour_write.eq(write),
                         streak.eq(Mux(favour_write == write, streak + 1, 0))]
            with m.If((favour_write == write) & (streak == self.RUNS_IN_A_ROW - 1)):
                m.d.sync += [favour_write.eq(~write), streak.eq(0)]

        chosen = Signal.like(reads.payload)
        address = Signal.like(chosen.address)
        m.d.comb += [
            chosen.eq(Mux(write, writes.payload, reads.payload)),
            address.eq(Mux(host.wants, host.address[self._byte_bits:], chosen.address)),
            runs.p.write.eq(Mux(host.wants, host.stores, write)),
            Cat(runs.p.column, runs.p.bank, runs.p.row).eq(address),
            runs.p.beats.eq(Mux(host.wants, 0, chosen.beats)),
            runs.p.tag.host.eq(host.wants),
            runs.p.tag.id.eq(chosen.id),
            runs.p.tag.resp.eq(chosen.resp),
            runs.p.tag.last.eq(chosen.last),
        ]
