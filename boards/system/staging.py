"""On-chip memory in place of external memory: an AXI4 port, and one for single bytes."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from weft.hw.bus.axi import BURST_INCR, MemorySignature, Response
from weft.hw.lib.delay import delay, register
from weft.hw.lib.fanout import alike, assign, copies, parts
from weft.hw.memory.registered import RegisteredMemory
from weft.hw.memory.single_port import SinglePortMemory

__all__ = ["STORAGE_BITS", "ByteSignature", "StagingMemory", "burst_response"]


class ByteSignature(wiring.Signature):
    """Access to single bytes, seen from who asks.

    Members
    -------
    write : :py:`Out(1)`
        Write ``write_data`` at ``write_address``; done two cycles later.
    read : :py:`Out(1)`
        Read at ``read_address``; to be held until ``read_ready``.
    read_ready : :py:`In(1)`
        Taken, a cycle after ``read`` at the earliest; ``read_data`` is there four cycles later,
        and until the next is taken.
    """

    def __init__(self, *, addr_width: int):
        super().__init__({
            "write":         Out(1),
            "write_address": Out(addr_width),
            "write_data":    Out(8),
            "read":          Out(1),
            "read_address":  Out(addr_width),
            "read_ready":    In(1),
            "read_data":     In(8),
        })


STORAGE_BITS = 16
"""Bits of a beat that share a memory, and registers for its address."""


def burst_response(address: Value, size: Value, burst: Value, *, memory_bytes: int,
                   data_width: int) -> Value:
    """What a memory answers to a burst: those of the accelerator never cross 4 KiB, so it is in or
    out as a whole."""
    proper = (size == exact_log2(data_width // 8)) & (burst == BURST_INCR)
    return Mux(~proper, Response.SLVERR,
               Mux(address >= memory_bytes, Response.DECERR, Response.OKAY))


class _Access:
    """A read or a write of the memory: ``data`` comes two cycles after a read, which is one with
    ``enable``, and stays until that of the next one. ``coming`` is the address of the next cycle,
    as registers are in front of the memory: the blocks of a large one lie all over the device."""

    def __init__(self, depth: int, word_bytes: int):
        self.coming  = Signal(range(depth))
        self.enable  = Signal()
        self.mask    = Signal(word_bytes)
        self.data    = Signal(8 * word_bytes)


class StagingMemory(wiring.Component):
    """Memory on the chip, with the AXI4 port of external memory.

    Reads and writes each move a beat per cycle, from one burst to the next too (except writes of
    a single beat, which take two), and at the same time. The first beat comes three cycles after
    its address, the response to a write a cycle after its last beat. A byte access takes
    precedence, and one or two cycles of its direction. Beats outside the memory, and bursts other
    than incrementing ones of full width, are answered with DECERR and SLVERR; they read as anything
    and write nothing.

    Parameters
    ----------
    size : :class:`int`
        Bytes, a power of 2.
    data_width : :class:`int`
        Bits of a beat.
    addr_width : :class:`int`
        Bits of an address on the AXI4 port. ``size`` may not be larger than they reach.
    id_width : :class:`int`
        Bits of a transaction identifier.
    single_port : :class:`bool`
        Never read and write in the same cycle, and let both use the same address: a description
        for memories that can do but one thing at a time. Writes take precedence.

    Members
    -------
    axi : :py:`In(MemorySignature(...))`
    bytes : :py:`In(ByteSignature(...))`

    Attributes
    ----------
    LATENCY : :class:`int`
        Cycles from an address to its first beat.
    """

    LATENCY = 3

    def __init__(self, *, size: int, data_width: int, addr_width: int, id_width: int = 1,
                 single_port: bool = False):
        if size < 4096 or size & (size - 1):
            raise ValueError(f"Size must be a power of 2 of at least 4096, not {size!r}")
        if size > 1 << addr_width:
            raise ValueError(f"Size must be at most {1 << addr_width} ({addr_width} address "
                             f"bits), not {size!r}")
        self._size = size
        self._data_width = data_width
        self._single_port = single_port
        super().__init__({
            "axi":   In(MemorySignature(data_width=data_width, addr_width=addr_width,
                                        id_width=id_width)),
            "bytes": In(ByteSignature(addr_width=exact_log2(size))),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        word_bytes = self._data_width // 8
        depth = self._size // word_bytes
        # Whether a beat is offered; for the bus, and for each part of the memory.
        self._shown = alike("shown", 1 + len(parts(self._data_width, STORAGE_BITS)), init=0)
        # What the two sides want of the memory.
        write = _Access(depth, word_bytes)
        read  = _Access(depth, word_bytes)
        writing = Signal()  # keeps reads away
        if self._single_port:
            m.submodules.storage = single = SinglePortMemory(depth=depth, word_bytes=word_bytes)
            fetched = Signal()
            m.d.comb += [
                writing.eq(write.mask.any()),
                single.enable.eq(writing | read.enable),
                single.address.eq(Mux(writing, register(m, write.coming, "write_address"),
                                      register(m, read.coming, "read_address"))),
                single.write.eq(write.mask),
                single.write_data.eq(write.data),
            ]
            m.d.sync += fetched.eq(read.enable)
            with m.If(fetched):
                m.d.sync += read.data.eq(single.read_data)
        else:
            writes, reads = (
                copies(m, access.coming, name, bits=self._data_width, part=STORAGE_BITS)
                for name, access in (("write_address", write), ("read_address", read)))
            for (part, write_address), (_, read_address), shown in zip(
                    writes, reads, self._shown[1:], strict=True):
                m.submodules[f"storage_{part.start}"] = storage = RegisteredMemory(
                    depth=depth, width=part.stop - part.start, granularity=8, role="staging")
                m.d.comb += [
                    storage.write_address.eq(write_address),
                    storage.write_data.eq(write.data[part]),
                    storage.write_enable.eq(write.mask[part.start // 8:part.stop // 8]),
                    storage.read_address.eq(read_address),
                    # In vain where no beat is asked for, which does no harm.
                    storage.read_enable.eq(~shown | self.axi.rready),
                    read.data[part].eq(storage.read_data),
                ]

        self._write_side(m, write)
        self._read_side(m, read, writing)
        return m

    def _response(self, axi: Any, channel: str) -> Value:
        return burst_response(*(getattr(axi, channel + name) for name in ("addr", "size", "burst")),
                              memory_bytes=self._size, data_width=self._data_width)

    def _write_side(self, m: Module, port: _Access) -> None:
        axi, single = self.axi, self.bytes
        byte_bits = exact_log2(self._data_width // 8)

        # A byte to write, once to choose what memory gets and once to hold the bus up.
        put     = register(m, single.write, "put", keep=True)
        putting = register(m, single.write, "putting", keep=True)
        place   = register(m, single.write_address, "place")
        byte    = register(m, single.write_data, "byte")

        active   = Signal()
        word     = Signal.like(port.coming)
        response = Signal(Response)
        sound    = Signal()  # it is OKAY
        identity = Signal.like(axi.awid)
        beat     = Signal()
        # The response to the burst before was not taken; of a burst of one beat, a cycle passes
        # until that is known.
        stuck    = Signal()
        settling = Signal()
        m.d.comb += [
            axi.wready.eq(active & ~putting & ~stuck & ~settling),
            beat.eq(axi.wvalid & axi.wready),
            axi.awready.eq(~active | (beat & axi.wlast)),
        ]
        m.d.comb += port.coming.eq(Mux(put, place[byte_bits:], word))
        m.d.sync += [
            port.data.eq(Mux(put, byte.replicate(1 << byte_bits), axi.wdata)),
            port.mask.eq(Mux(put, 1 << place[:byte_bits],
                              # A beat that must wait for `bready` is written more than once.
                              Mux(axi.wvalid & active & sound, axi.wstrb, 0))),
            stuck.eq(axi.bvalid & ~axi.bready),
            settling.eq(axi.awvalid & axi.awready & (axi.awlen == 0)),
        ]
        with m.If(axi.bready):
            m.d.sync += axi.bvalid.eq(0)
        with m.If(beat):
            m.d.sync += word.eq(word + 1)
            with m.If(axi.wlast):
                m.d.sync += axi.bvalid.eq(1)
                m.d.sync += axi.bresp.eq(response)
                m.d.sync += axi.bid.eq(identity)
        with m.If(axi.awready):
            its = self._response(axi, "aw")
            m.d.sync += [
                active.eq(axi.awvalid),
                word.eq(axi.awaddr[byte_bits:]),
                response.eq(its),
                sound.eq(its == Response.OKAY),
                identity.eq(axi.awid),
            ]

    def _read_side(self, m: Module, port: _Access, writing: Signal) -> None:
        axi, single = self.axi, self.bytes
        byte_bits = exact_log2(self._data_width // 8)

        active   = Signal()
        word     = Signal.like(port.coming)
        following = Signal.like(word)  # what `word` will be
        serving  = Signal()  # the addresses are that of a byte, not `word`
        left     = Signal(8)
        last     = Signal()  # left == 0
        response = Signal(Response)
        identity = Signal.like(axi.arid)
        free     = Signal()  # there is a place for what the memory gives, and it may be asked
        beat     = Signal()
        m.d.comb += [
            free.eq((~axi.rvalid | axi.rready) & ~writing),
            beat.eq(active & free & ~serving),
            single.read_ready.eq(serving & free),
            port.enable.eq(free & (active | serving)),
            following.eq(word),
            axi.arready.eq(~active | (beat & last)),
        ]
        coming = single.read & ~single.read_ready
        m.d.comb += port.coming.eq(Mux(coming, single.read_address[byte_bits:], following))
        m.d.sync += [
            word.eq(following),
            serving.eq(coming),
        ]
        with m.If(beat):
            m.d.comb += following.eq(word + 1)
            m.d.sync += [left.eq(left - 1), last.eq(left == 1)]
        with m.If(axi.arready):
            m.d.comb += following.eq(axi.araddr[byte_bits:])
            m.d.sync += [
                active.eq(axi.arvalid),
                left.eq(axi.arlen),
                last.eq(axi.arlen == 0),
                identity.eq(axi.arid),
                response.eq(self._response(axi, "ar")),
            ]

        # A beat in the memory, and one in the register behind it. If the other side does not take
        # that one it is held, since the memory goes on to the next.
        about = data.StructLayout({"id": len(axi.rid), "resp": Response, "last": 1})
        inside = Signal()
        behind = Signal()
        held   = Signal()
        its_inside = Signal(about, reset_less=True)
        its_behind = Signal(about, reset_less=True)
        its_held   = Signal(about, reset_less=True)
        shown     = Signal(about)
        held_data = Signal(self._data_width, reset_less=True)
        m.d.comb += [
            shown.eq(Mux(held, its_held, its_behind)),
            axi.rvalid.eq(self._shown[0]),
            axi.rdata.eq(Mux(held, held_data, port.data)),
            axi.rid.eq(shown.id),
            axi.rresp.eq(shown.resp),
            axi.rlast.eq(shown.last),
        ]
        keeps = axi.rvalid & ~axi.rready
        m.d.sync += [
            inside.eq(beat),
            held.eq(keeps),
            *assign(self._shown, keeps | Mux(held, behind, inside)),
        ]
        with m.If(beat):
            m.d.sync += [its_inside.id.eq(identity), its_inside.resp.eq(response),
                         its_inside.last.eq(last)]
        with m.If(~held):
            m.d.sync += [behind.eq(inside), its_behind.eq(its_inside),
                         its_held.eq(its_behind), held_data.eq(port.data)]

        # A byte goes the same way, and then to registers of its own.
        beat_of = register(m, port.data, "beat_of")
        lane    = delay(m, single.read_address[:byte_bits], 3, name="lane")
        passed  = delay(m, single.read_ready, 3, name="passed")
        with m.If(passed):
            m.d.sync += single.read_data.eq(beat_of.word_select(lane, 8))
