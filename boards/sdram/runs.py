"""Cuts AXI4 bursts into runs that lie in one row of an SDRAM."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from weft.hw.bus.axi import Response

__all__ = ["RunSplitter", "burst_layout", "piece_layout"]


def burst_layout(address_bits: int, id_width: int) -> data.StructLayout:
    """A burst: ``address`` in beats, ``length`` in beats less one, its ``id``, and the ``resp``
    that it is to get."""
    return data.StructLayout({"address": address_bits, "length": 8, "id": id_width,
                              "resp": Response})


def piece_layout(address_bits: int, id_width: int, beats: int) -> data.StructLayout:
    """A run of a burst: ``address`` in beats, ``beats`` less one; the ``last`` of the burst."""
    return data.StructLayout({"address": address_bits, "beats": exact_log2(beats), "last": 1,
                              "id": id_width, "resp": Response})


class RunSplitter(wiring.Component):
    """Cuts each burst where an address is a multiple of so many beats, in order.

    A piece every third cycle, the first one two cycles after its burst.

    Parameters
    ----------
    address_bits : :class:`int`
        Of an address in beats.
    id_width : :class:`int`
    beats : :class:`int`
        Longest piece. A power of 2 of at least 2.

    Members
    -------
    i : :py:`In(stream.Signature(burst_layout(...)))`
    o : :py:`Out(stream.Signature(piece_layout(...)))`
    """

    def __init__(self, *, address_bits: int, id_width: int, beats: int):
        self._beats = beats
        super().__init__({
            "i": In(stream.Signature(burst_layout(address_bits, id_width))),
            "o": Out(stream.Signature(piece_layout(address_bits, id_width, beats))),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        burst = Signal.like(self.i.payload, reset_less=True)
        beats = Signal.like(self.o.p.beats, reset_less=True)
        last  = Signal(reset_less=True)

        # How many beats less one it is to where the burst is cut.
        ahead = (~burst.address)[:exact_log2(self._beats)]
        m.d.sync += [last.eq(burst.length <= ahead),
                     beats.eq(Mux(burst.length <= ahead, burst.length, ahead))]
        m.d.comb += [
            self.o.p.address.eq(burst.address),
            self.o.p.beats.eq(beats),
            self.o.p.last.eq(last),
            self.o.p.id.eq(burst.id),
            self.o.p.resp.eq(burst.resp),
        ]
        with m.FSM():
            with m.State("EMPTY"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += burst.eq(self.i.payload)
                with m.If(self.i.valid):
                    m.next = "JUDGE"
            with m.State("JUDGE"):
                m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.sync += [burst.address.eq(burst.address + beats + 1),
                                 burst.length.eq(burst.length - beats - 1)]
                    m.next = "JUDGE"
                    with m.If(last):
                        m.next = "EMPTY"
        return m
