"""A first in, first out queue between two streams."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from .fanout import parts
from .half_slice import HalfSlice

__all__ = ["Queue"]


_COLUMNS = 272  # bits of the payload that share pointers: 68 blocks of 4 bits


class Queue(wiring.Component):
    """Stream queue.

    Transfers one payload per cycle at both ends at the same time, unless ``depth`` is 1, when it is
    one in two cycles. Up to :attr:`DISTRIBUTED_DEPTH` the payloads lie in distributed memory (one
    lies in registers) and the latency is one cycle; deeper queues lie in block memory and the
    latency is two cycles. ``i.ready``, ``o.valid`` and ``level`` are registers up to that depth.

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

    Attributes
    ----------
    DISTRIBUTED_DEPTH : :class:`int`
        Payloads, at most, that are held in distributed memory.

    Raises
    ------
    ValueError
        If the depth is not a positive integer.
    """

    DISTRIBUTED_DEPTH = 16

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

    @classmethod
    def latency(cls, depth: int) -> int:
        """Cycles from ``i`` to ``o`` of an empty queue of such a depth."""
        return 1 if depth <= cls.DISTRIBUTED_DEPTH else 2

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        if self._depth == 1:
            self._hold_one(m)
        elif self.latency(self._depth) == 1:
            self._distribute(m)
        else:
            self._buffer(m)

        return m

    def _hold_one(self, m: Module) -> None:
        m.submodules.storage = storage = HalfSlice(shape=self.i.payload.shape())
        connect(m, flipped(self.i), storage.i)
        connect(m, storage.o, flipped(self.o))
        m.d.comb += self.level.eq(storage.o.valid)

    def _buffer(self, m: Module) -> None:
        width = Value.cast(self.i.payload).shape().width
        m.submodules.storage = storage = fifo.SyncFIFOBuffered(width=width, depth=self._depth)

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

    def _distribute(self, m: Module) -> None:
        push = Signal()
        pop  = Signal()
        ready = Signal(init=1, attrs={"keep": 1})  # not one of the enables below: they are busy
        m.d.comb += [
            self.i.ready.eq(ready),
            push.eq(self.i.valid & self.i.ready),
            pop.eq(self.o.valid & self.o.ready),
        ]

        # Both ends look at registers alone. Their next states are plain logic, not enables and
        # resets, which would take a level more.
        grows   = Signal()
        shrinks = Signal()
        space   = Signal()  # there is some, in the next cycle
        m.d.comb += [
            grows.eq(push & ~pop),
            shrinks.eq(pop & ~push),
            space.eq(shrinks | (self.i.ready & ~(grows & (self.level == self._depth - 1)))),
        ]
        m.d.sync += [
            self.level.eq(self.level + grows - shrinks),
            ready.eq(space),
            self.o.valid.eq(grows | (self.o.valid & ~(shrinks & (self.level == 1)))),
        ]

        # While there is space, whatever is at the input goes into the next entry in every cycle,
        # so that no enable depends on `valid`; only the pointer does. Pointers and enable drive
        # memory all over the place: each group of columns has its own.
        incoming, outgoing = Cat(self.i.payload), Cat(self.o.payload)
        for columns in parts(len(incoming), _COLUMNS):
            first = columns.start
            written, read = (Signal(range(self._depth), name=f"{name}_{first}", attrs={"keep": 1})
                             for name in ("written", "read"))
            enable = Signal(init=1, name=f"enable_{first}", attrs={"keep": 1})
            with m.If(push):
                m.d.sync += written.eq(_following(written, self._depth))
            with m.If(pop):
                m.d.sync += read.eq(_following(read, self._depth))
            m.d.sync += enable.eq(space)

            m.submodules[f"storage_{first}"] = storage = \
                Memory(shape=columns.stop - columns.start, depth=self._depth, init=[])
            writer = storage.write_port()
            reader = storage.read_port(domain="comb")
            m.d.comb += [
                writer.addr.eq(written),
                writer.data.eq(incoming[columns]),
                writer.en.eq(enable),
                reader.addr.eq(read),
                outgoing[columns].eq(reader.data),
            ]


def _following(pointer: Value, depth: int) -> Value:
    return Mux(pointer == depth - 1, 0, pointer + 1)
