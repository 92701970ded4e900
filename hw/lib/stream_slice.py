"""What slices between two streams have in common."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .fanout import alike

__all__ = ["StreamSlice"]


class StreamSlice(wiring.Component):
    """Base of a register between two streams.

    Parameters
    ----------
    shape : shape-like
        Shape of the payload.

    Members
    -------
    i : :py:`In(stream.Signature(shape))`
    o : :py:`Out(stream.Signature(shape))`
    """

    def __init__(self, *, shape: Any):
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
        })

    def _load(self, m: Module, place: Value, where: Sequence[slice], name: str) -> list[Signal]:
        """Loads the payload at ``i`` into ``place`` in every cycle in which that is vacant, so no
        logic lies before the enables. Returns these. They are to be assigned alike: there is one
        for each of the parts ``where`` of the payload, so that none has many sinks."""
        incoming = Value.cast(self.i.payload)
        vacant   = alike(name, max(1, len(where)), init=1)
        for part, enable in zip(where, vacant, strict=False):
            with m.If(enable):
                m.d.sync += place[part].eq(incoming[part])
        return vacant
