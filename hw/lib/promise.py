"""A stream that its consumer has promised to accept."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from .checks import require

__all__ = ["Promise", "promised"]


class Promise(wiring.Component):
    """Joins a producer that cannot wait to a consumer that could refuse, but never does.

    No logic. A producer that does not look at ``ready`` has ``always_ready=True`` in the signature
    of its stream, which :func:`amaranth.lib.wiring.connect` joins only to a consumer that has it
    too: a memory, say. Where the consumer is a queue, that it always has room is a promise of the
    surrounding logic. It is stated here, and checked in every simulation.

    Parameters
    ----------
    shape : shape-like
        Shape of the payload.
    because : :class:`str`
        Why there is always room.

    Members
    -------
    i : :py:`In(stream.Signature(shape, always_ready=True))`
    o : :py:`Out(stream.Signature(shape))`
        Ready whenever it is valid.
    """

    def __init__(self, *, shape: Any, because: str):
        self._because = because
        super().__init__({
            "i": In(stream.Signature(shape, always_ready=True)),
            "o": Out(stream.Signature(shape)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.comb += [self.o.valid.eq(self.i.valid), self.o.payload.eq(self.i.payload)]
        require(m, ~self.o.valid | self.o.ready, f"always accepted: {self._because}")
        return m


def promised(m: Module, consumer: Any, *, because: str, name: str = "promise") -> Any:
    """The stream through which a producer that cannot wait feeds ``consumer``.

    Parameters
    ----------
    m : :class:`Module`
        Gets a :class:`Promise` as its submodule ``name``.
    consumer : :py:`In(stream.Signature(shape))`
        Input of a submodule of ``m``: a queue, say.
    because : :class:`str`
        Why it always has room.
    name : :class:`str`

    Returns
    -------
    :py:`In(stream.Signature(shape, always_ready=True))`
        To be driven by ``m``.
    """
    m.submodules[name] = promise = Promise(shape=consumer.payload.shape(), because=because)
    connect(m, promise.o, consumer)
    return promise.i
