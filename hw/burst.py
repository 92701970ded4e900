"""Splits memory requests into bursts that AXI allows."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from weft.hw.register_slice import RegisterSlice

__all__ = ["BurstSplitter", "burst_layout", "check_burst_beats", "request_layout"]


_PAGE_BYTES = 4096


def request_layout(addr_width: int) -> data.StructLayout:
    """A run of consecutive beats: ``address`` in bytes, a multiple of the beat; ``beats``, at
    least 1. It ends inside the address space, so there are not more beats than that has bytes."""
    return data.StructLayout({"address": addr_width, "beats": min(32, addr_width)})


def burst_layout(addr_width: int) -> data.StructLayout:
    """One burst: ``address`` in bytes, ``length`` in beats less one (AxLEN), and whether it is the
    ``last`` of its request."""
    return data.StructLayout({"address": addr_width, "length": 8, "last": 1})


def check_burst_beats(data_width: int, burst_beats: int) -> None:
    """Raises :class:`ValueError` if no burst may be as long as ``burst_beats``, or it is no power
    of 2."""
    highest = min(256, _PAGE_BYTES // (data_width // 8))
    if burst_beats not in [1 << n for n in range(9)] or burst_beats > highest:
        raise ValueError(f"Burst beats must be a power of 2 between 1 and {highest} at a data "
                         f"width of {data_width}, not {burst_beats!r}")


class BurstSplitter(wiring.Component):
    """Cuts each request into bursts, in order.

    A burst is as long as possible: it ends where the request ends, after ``burst_beats``, or in
    front of a 4 KiB boundary, which AXI forbids to cross. Makes one burst per cycle, also from
    one request to the next; latency is two cycles.

    Parameters
    ----------
    data_width : :class:`int`
        Bits of a beat. A power of 2, at least 8.
    addr_width : :class:`int`
        Bits of an address.
    burst_beats : :class:`int`
        Longest burst. A power of 2, 1..256; a burst may take at most 4 KiB.

    Members
    -------
    i : :py:`In(stream.Signature(request_layout(addr_width)))`
        Requests.
    o : :py:`Out(stream.Signature(burst_layout(addr_width)))`
        Bursts.
    idle : :py:`Out(1)`
        No request is being cut and no burst is waiting.

    Raises
    ------
    ValueError
        If the longest burst is not such a number.
    """

    def __init__(self, *, data_width: int, addr_width: int, burst_beats: int):
        check_burst_beats(data_width, burst_beats)
        self._beat_bytes  = data_width // 8
        self._burst_beats = burst_beats

        super().__init__({
            "i": In(stream.Signature(request_layout(addr_width))),
            "o": Out(stream.Signature(burst_layout(addr_width))),
            "idle": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        shift      = exact_log2(self._beat_bytes)
        page_beats = _PAGE_BYTES // self._beat_bytes

        def limit(page: Any) -> Any:
            return Mux(page < self._burst_beats, page, self._burst_beats)

        busy    = Signal()
        address = Signal.like(self.i.p.address, reset_less=True)
        left    = Signal.like(self.i.p.beats, reset_less=True)
        # Beats to the end of the 4 KiB page, and the longest burst that this leaves. The second
        # follows from the first, but is kept in a register to be off the path to `left`.
        page    = Signal(range(page_beats + 1), reset_less=True)
        longest = Signal(range(self._burst_beats + 1), reset_less=True)

        last   = Signal(reset_less=True)  # left <= longest, without the comparison
        step   = Signal()
        # Keeps the bus's `ready` away from the way back to who makes requests.
        m.submodules.output = output = RegisterSlice(shape=self.o.p.shape())
        connect(m, output.o, flipped(self.o))
        m.d.comb += [
            step.eq(busy & output.i.ready),
            self.i.ready.eq(~busy | (step & last)),
            self.idle.eq(~busy & ~self.o.valid),
            output.i.valid.eq(busy),
            output.i.p.address.eq(address),
            output.i.p.length.eq(Mux(last, left[:9], longest) - 1),
            output.i.p.last.eq(last),
        ]
        with m.If(step):
            m.d.sync += busy.eq(~last)
            # After the last burst these hold nothing of use.
            next_page = Mux(page == longest, page_beats, page - longest)
            next_left = (left - longest)[:len(left)]
            # What is left fits into the page behind `longest` if all fits into this one.
            next_fits = (page == longest) | (left <= page)
            m.d.sync += [
                address.eq(address + (longest << shift)),
                left.eq(next_left),
                page.eq(next_page),
                longest.eq(limit(next_page)),
                last.eq((next_left <= self._burst_beats) & next_fits),
            ]

        with m.If(self.i.valid & self.i.ready):
            first_page = page_beats - self.i.p.address[shift:12]
            m.d.sync += [
                busy.eq(1),
                address.eq(self.i.p.address),
                left.eq(self.i.p.beats),
                page.eq(first_page),
                longest.eq(limit(first_page)),
                last.eq((self.i.p.beats <= self._burst_beats)
                        & (self.i.p.beats <= first_page)),
            ]

        return m
