"""What the read and the write engine have in common: requests, bursts and their addresses."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from weft.hw.lib.checks import require
from weft.hw.lib.delay import unreset

from .axi import BURST_INCR
from .burst import BurstSplitter, check_burst_beats, request_layout

__all__ = ["DmaEngine"]


class DmaEngine(wiring.Component):
    """Base of an engine that makes AXI4 bursts of requests, one after the other.

    Parameters
    ----------
    members : mapping of :class:`str` to :class:`Member`
        What an engine has besides the members below.
    axi : :class:`ReadSignature` or :class:`WriteSignature`
        The half of the memory port.
    data_width : :class:`int`
        Bits of a beat: 32, 64, 128, 256 or 512.
    addr_width : :class:`int`
        Bits of an address, 12..64.
    burst_beats : :class:`int`
        Longest burst. A power of 2, 1..256; a burst may take at most 4 KiB.
    outstanding : :class:`int`
        Bursts in flight at a time, 1..16.
    id : :class:`int`
        Identifier of the transactions.
    id_width : :class:`int`
        Bits of an identifier.

    Members
    -------
    requests : :py:`In(stream.Signature(request_layout(addr_width)))`
    error, idle : :py:`Out(1)`
    halt : :py:`In(1)`
    axi : :py:`Out(axi)`

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    def __init__(self, members: Mapping[str, Any], *, axi: type[wiring.Signature], data_width: int,
                 addr_width: int, burst_beats: int, outstanding: int, id: int, id_width: int):
        if outstanding not in range(1, 17):
            raise ValueError(f"Outstanding bursts must be between 1 and 16, not {outstanding!r}")
        if id not in range(1 << id_width):
            raise ValueError(f"Identifier must be between 0 and {(1 << id_width) - 1}, not {id!r}")
        self._data_width  = data_width
        self._addr_width  = addr_width
        self._outstanding = outstanding
        self._burst_beats = burst_beats
        self._id          = id

        super().__init__({
            "requests": In(stream.Signature(request_layout(addr_width))),
            **members,
            "error":    Out(1),
            "halt":     In(1),
            "idle":     Out(1),
            "axi":      Out(axi(data_width=data_width, addr_width=addr_width, id_width=id_width)),
        })
        check_burst_beats(data_width, burst_beats)

    def _split(self, m: Module) -> BurstSplitter:
        """Makes bursts of the requests."""
        m.submodules.splitter = splitter = BurstSplitter(
            data_width=self._data_width, addr_width=self._addr_width,
            burst_beats=self._burst_beats)
        connect(m, flipped(self.requests), splitter.i)
        return splitter

    def _address(self, m: Module, channel: str, burst: Any, *, may: Value) -> Signal:
        """Puts each burst on the address channel ``"ar"`` or ``"aw"``, through a register. ``halt``
        gates the way into that, so an address is never taken back.

        ``may`` is a register: a burst may go, if there is one. It may still be set in the two
        cycles after a burst was taken, since bursts are three cycles apart. Returns whether a burst
        is taken.
        """
        valid, ready = (getattr(self.axi, f"{channel}{name}") for name in ("valid", "ready"))
        address, length = (unreset(m, getattr(self.axi, channel + name), channel + name)
                           for name in ("addr", "len"))
        issue = Signal()
        m.d.comb += [
            issue.eq(burst.valid & may & ~valid & ~self.halt),
            burst.ready.eq(may & ~valid & ~self.halt),
            getattr(self.axi, f"{channel}id").eq(self._id),
            getattr(self.axi, f"{channel}size").eq(exact_log2(self._data_width // 8)),
            getattr(self.axi, f"{channel}burst").eq(BURST_INCR),
        ]
        with m.If(~valid):
            m.d.sync += [
                valid.eq(issue),
                address.eq(burst.p.address),
                length.eq(burst.p.length),
            ]
        with m.Elif(ready):
            m.d.sync += valid.eq(0)
        return issue

    def _follow(self, m: Module, flying: Signal, *, issue: Value, ended: Value,
                waiting: Value) -> None:
        """Counts the bursts in flight, and is idle while there are none: unless something is
        ``waiting``, which does not matter while the engine is halted."""
        m.d.sync += flying.eq(flying + issue - ended)
        require(m, (flying != self._outstanding) | ~issue | ended, "bursts in flight are limited")
        m.d.comb += self.idle.eq((flying == 0) & (self.halt | ~waiting))
