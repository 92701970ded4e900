"""Pixel tiles on their way from the pixel streamer to the drain."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.lib.checks import require
from weft.hw.lib.delay import delay
from weft.hw.lib.promise import Promise
from weft.hw.lib.register_slice import RegisterSlice

from .step import DrainJob

__all__ = ["JobQueue"]


class JobQueue(wiring.Component):
    """Keeps each job, which is announced with its last pixel, until that has been accumulated.

    A job of a single pixel may come in the cycle after another job. At most two wait: a tile takes
    an accumulator half, of which there are two, from its first pixel until the drain, which has
    taken the job by then, gives it back.

    Parameters
    ----------
    latency : :class:`int`
        Cycles from a job to ``o``, at least 2: what a pixel takes to the accumulators.

    Members
    -------
    i : :py:`In(stream.Signature(DrainJob, always_ready=True))`
    o : :py:`Out(stream.Signature(DrainJob))`
        Jobs whose sums are complete, in order.
    """

    def __init__(self, *, latency: int):
        if not isinstance(latency, int) or latency < 2:
            raise ValueError(f"Latency must be at least 2, not {latency!r}")
        self._latency = latency
        super().__init__({
            "i": In(stream.Signature(DrainJob, always_ready=True)),
            "o": Out(stream.Signature(DrainJob)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.promise = promise = Promise(
            shape=DrainJob, because="a job holds one of the two accumulator halves")
        m.submodules.waiting = waiting = RegisterSlice(shape=DrainJob)
        connect(m, flipped(self.i), promise.i)
        connect(m, promise.o, waiting.i)

        complete = delay(m, self.i.valid, self._latency - 1, name="complete")
        ready    = Signal(range(3))  # jobs whose sums are complete
        start    = self.o.valid & self.o.ready
        m.d.sync += ready.eq(ready + complete - start)
        m.d.comb += [
            self.o.valid.eq(waiting.o.valid & (ready != 0)),
            self.o.payload.eq(waiting.o.payload),
            waiting.o.ready.eq(self.o.ready & (ready != 0)),
        ]
        require(m, (ready != 2) | ~complete | start, "at most two jobs are complete")
        require(m, (ready == 0) | waiting.o.valid, "a complete job is there")

        return m
