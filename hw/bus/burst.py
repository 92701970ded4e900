"""Splits memory requests into bursts that AXI allows."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from weft.hw.isa.limits import PAGE_BYTES

__all__ = ["BurstSplitter", "burst_layout", "check_burst_beats", "request_layout"]


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
    highest = min(256, PAGE_BYTES // (data_width // 8))
    if burst_beats not in [1 << n for n in range(9)] or burst_beats > highest:
        raise ValueError(f"Burst beats must be a power of 2 between 1 and {highest} at a data "
                         f"width of {data_width}, not {burst_beats!r}")


class BurstSplitter(wiring.Component):
    """Cuts each request into bursts, in order.

    A burst is as long as possible: it ends where the request ends, after ``burst_beats``, or in
    front of a 4 KiB boundary, which AXI forbids to cross. Makes one burst in :attr:`PERIOD` cycles,
    also from one request to the next; the first one is there :attr:`LATENCY` cycles after its
    request was taken.

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
        Requests. ``ready`` is a register.
    o : :py:`Out(stream.Signature(burst_layout(addr_width)))`
        Bursts. ``valid`` is a register.
    idle : :py:`Out(1)`
        No request is being cut and no burst is waiting. A register.

    Attributes
    ----------
    LATENCY : :class:`int`
        Cycles from a request that is taken to its first burst on ``o``.
    PERIOD : :class:`int`
        Cycles from a burst that is taken to the next one of its request on ``o``.

    Raises
    ------
    ValueError
        If the longest burst is not such a number.
    """

    LATENCY = 2
    PERIOD  = 3

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

        shift = exact_log2(self._beat_bytes)
        low   = exact_log2(self._burst_beats)

        address = Signal.like(self.i.p.address, reset_less=True)
        left    = Signal.like(self.i.p.beats, reset_less=True)
        longest = Signal(range(self._burst_beats + 1), reset_less=True)  # that the page allows
        last    = Signal(reset_less=True)  # all that is left fits into it

        # One bit for each state, of which just one is set: each is an enable of its own.
        empty = Signal(init=1)  # takes a request
        judge = Signal()        # finds out how long the next burst is
        step  = Signal()        # goes on behind a burst
        m.d.comb += [
            self.i.ready.eq(empty),
            self.idle.eq(empty),
            self.o.p.address.eq(address),
            self.o.p.length.eq((Mux(last, left, longest) - 1)[:low]),
            self.o.p.last.eq(last),
        ]
        with m.If(empty):
            m.d.sync += [address.eq(self.i.p.address), left.eq(self.i.p.beats)]
            with m.If(self.i.valid):
                m.d.sync += [empty.eq(0), judge.eq(1)]
        with m.If(judge):
            m.d.sync += [judge.eq(0), self.o.valid.eq(1)]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [self.o.valid.eq(0), empty.eq(last), step.eq(~last)]
        with m.If(step):
            m.d.sync += [
                step.eq(0),
                judge.eq(1),
                address.eq(address + (longest << shift)),
                left.eq(left - longest),
            ]

        # Only in the last stretch of a page does the page shorten a burst, to the complement of
        # where in that stretch it begins.
        within = address[shift:shift + low]
        ending = address[shift + low:exact_log2(PAGE_BYTES)].all()
        more   = left[low + 1:].any() | (left[low] & left[:low].any())  # than `burst_beats`
        m.d.sync += [
            longest.eq(Mux(ending & within.any(), (-within)[:low], self._burst_beats)),
            last.eq(~more & (~ending | (left[:low + 1] + within <= self._burst_beats))),
        ]

        return m
