"""The words of second operands, read beside those of the first."""

from typing import Any

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.lib.checks import are_on, require
from weft.hw.lib.delay import delay
from weft.hw.lib.promise import promised
from weft.hw.lib.queue import Queue
from weft.hw.lib.register_slice import RegisterSlice
from weft.hw.memory.activation import ActivationMemory

__all__ = ["VectorSeconds"]


class VectorSeconds(wiring.Component):
    """Requests the words of second operands a few words ahead, and holds them until their taps
    come.

    Both operands often lie at the same place modulo the banks of the memory. As this side runs
    ahead, by another word whenever both want the same bank, they soon want different ones, in every
    cycle.

    Members
    -------
    address : :py:`In(stream.Signature(24, always_ready=True))`
        Words to read, in order.
    request : :py:`Out(stream.Signature(24))`
        May be refused.
    ready : :py:`Out(1)`
        The next word was asked for, in a cycle before: a tap that needs it may go.
    taken : :py:`In(1)`
        The last tap that needs it goes.
    word : :py:`In(data.ArrayLayout(8, word_data_bytes))`
        The word, ``ActivationMemory.LATENCY`` cycles after its request was accepted.
    pops : :py:`In(1)`
        The last tap that needs the oldest word is at the window, as many cycles after ``taken``.
    o : :py:`Out(data.ArrayLayout(signed(8), word_lanes))`
        The oldest word, for the tap that is at the window.

    Attributes
    ----------
    DEPTH : :class:`int`
        Words that are held, or on their way. With 5 or more, four banks and another reader that
        goes from word to word, nobody waits for long.
    """

    DEPTH = 8

    def __init__(self, config: AcceleratorConfig, *, queue_depth: int):
        self._config = config
        self._queue_depth = queue_depth
        super().__init__({
            "address": In(stream.Signature(24, always_ready=True)),
            "request": Out(stream.Signature(24)),
            "ready":   Out(1),
            "taken":   In(1),
            "word":    In(data.ArrayLayout(8, config.word_data_bytes)),
            "pops":    In(1),
            "o":       Out(data.ArrayLayout(signed(8), config.word_lanes)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        asked = self._elaborate_requests(m)
        self._elaborate_words(m, asked)

        return m

    def _elaborate_requests(self, m: Module) -> Value:
        """Returns whether a word is asked for."""
        m.submodules.addresses = addresses = Queue(shape=24, depth=self._queue_depth)
        m.submodules.front     = front     = RegisterSlice(shape=24)
        new = promised(m, addresses.i, because="each has a tap that waits in a queue as deep")
        connect(m, flipped(self.address), new)
        connect(m, addresses.o, front.i)

        lead  = Signal(range(self.DEPTH + 1))  # words asked for, of taps that have not gone
        room  = lead != self.DEPTH
        asked = Signal()
        m.d.comb += [
            self.request.valid.eq(front.o.valid & room),
            self.request.payload.eq(front.o.payload),
            front.o.ready.eq(self.request.ready & room),
            asked.eq(self.request.valid & self.request.ready),
            self.ready.eq(lead.any()),
        ]
        m.d.sync += lead.eq(lead + asked - self.taken)
        require(m, lead.any() | ~self.taken, "a word that is taken was asked for")
        return asked

    def _elaborate_words(self, m: Module, asked: Value) -> None:
        m.submodules.words = words = memory.Memory(
            shape=unsigned(8 * self._config.word_lanes), depth=self.DEPTH, init=[])
        write = words.write_port()
        read  = words.read_port(domain="comb")
        arrives = delay(m, asked, ActivationMemory.LATENCY, name="arrives")
        for pointer, moves in ((write.addr, arrives), (read.addr, self.pops)):
            place = Signal(range(self.DEPTH))
            m.d.sync += place.eq(place + moves)
            m.d.comb += pointer.eq(place)
        if are_on():
            held = Signal(range(self.DEPTH + 1))
            m.d.sync += held.eq(held + arrives - self.pops)
            require(m, held.any() | ~self.pops, "a word that is done with is held")
            require(m, (held != self.DEPTH) | ~arrives | self.pops, "a word that comes has room")
        m.d.comb += [
            write.data.eq(self.word.as_value()),
            write.en.eq(arrives),
            self.o.as_value().eq(read.data),
        ]
