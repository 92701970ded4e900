"""A first in, first out queue between two streams."""

from typing import Any

from amaranth.hdl import Cat, Module, Value
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Queue"]


_DISTRIBUTED_DEPTH = 16


class Queue(wiring.Component):
    """Stream queue.

    Transfers one payload per cycle at both ends at the same time, unless ``depth`` is 1. Up to a
    depth of 16 the payloads lie in distributed memory and the latency is one cycle; deeper queues
    lie in block memory and the latency is two cycles.

    Parameters
    ----------
    shape : shape-like
        Shape of the payload.
    depth : :class:`int`
        Payloads held. At least 1.

    Members
    -------
    i : :py:`In(stream.Signature(shape))`
        Payloads to append. Ready while there is space.
    o : :py:`Out(stream.Signature(shape))`
        The oldest payload.
    level : :py:`Out(range(depth + 1))`
        Payloads held.

    Raises
    ------
    ValueError
        If the depth is not a positive integer.
    """

    def __init__(self, *, shape: Any, depth: int):
        if not isinstance(depth, int) or isinstance(depth, bool) or depth < 1:
            raise ValueError(f"Queue depth must be a positive integer, not {depth!r}")
        self._depth = depth

        super().__init__({
            "i":     In(stream.Signature(shape)),
            "o":     Out(stream.Signature(shape)),
            "level": Out(range(depth + 1)),
        })

    @property
    def depth(self) -> int:
        return self._depth

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        width = Value.cast(self.i.payload).shape().width
        if 1 < self._depth <= _DISTRIBUTED_DEPTH:
            storage: Any = fifo.SyncFIFO(width=width, depth=self._depth)
        else:
            storage = fifo.SyncFIFOBuffered(width=width, depth=self._depth)
        m.submodules.storage = storage

        # Through `Cat`, so that both sides may be structures or signed numbers.
        m.d.comb += [
            storage.w_data.eq(Cat(self.i.payload)),
            storage.w_en.eq(self.i.valid),
            self.i.ready.eq(storage.w_rdy),
            Cat(self.o.payload).eq(storage.r_data),
            self.o.valid.eq(storage.r_rdy),
            storage.r_en.eq(self.o.ready),
            self.level.eq(storage.level),
        ]

        return m
