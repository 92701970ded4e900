"""The store engine: activation memory to external memory."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.bus.burst import request_layout
from weft.hw.bus.dma_write import beat_layout
from weft.hw.isa.commands import Engine, StoreCommand
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import CODE_WIDTH, INDEX_WIDTH, Fault, indexed_layout
from weft.hw.isa.registers import Error
from weft.hw.lib.cycle_accounting import activity_layout
from weft.hw.lib.delay import unreset
from weft.hw.lib.fanout import alike, assign
from weft.hw.lib.promise import promised
from weft.hw.lib.queue import Queue
from weft.hw.lib.register_slice import RegisterSlice

from .front import TransferFront

__all__ = ["StoreEngine", "WordPacker"]


_MARGIN = 2
"""Of the words read ahead, some that may still come after the queue was found full."""


class WordPacker(wiring.Component):
    """Packs activation words into beats for a write engine.

    Each cycle takes one word or makes one beat, whichever is smaller. Bytes that pad a word are
    zero and are written. A line starts on a new beat; in a beat that is not full the strobes of
    the bytes behind the last word are low. Latency is one cycle.

    Parameters
    ----------
    config : :class:`~weft.hw.isa.config.AcceleratorConfig`

    Members
    -------
    i : :py:`In(stream.Signature({"word": 8 * config.word_data_bytes, "last": 1}))`
        Words; ``last`` marks the end of a line.
    o : :py:`Out(stream.Signature(beat_layout(config.axi_data_width)))`
        Beats.
    """

    def __init__(self, *, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({
                "word": 8 * config.word_data_bytes,
                "last": 1,
            }))),
            "o": Out(stream.Signature(beat_layout(config.axi_data_width))),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        beat_bytes = self._config.axi_bytes
        word_bytes = self._config.word_bytes
        word       = Signal(8 * word_bytes)
        m.d.comb += word.eq(self.i.p.word)

        if word_bytes >= beat_bytes:
            parts = word_bytes // beat_bytes
            part  = Signal(range(max(2, parts)))
            last  = Signal(init=parts == 1)  # part == parts - 1, without the comparison
            # So that the queue of words waits for a register alone.
            m.submodules.beats = beats = RegisterSlice(shape=8 * beat_bytes)
            m.d.comb += [
                beats.i.valid.eq(self.i.valid),
                beats.i.payload.eq(word.word_select(part, 8 * beat_bytes)),
                self.i.ready.eq(beats.i.ready & last),
                self.o.valid.eq(beats.o.valid),
                self.o.p.data.eq(beats.o.payload),
                self.o.p.strb.eq(~C(0, beat_bytes)),
                beats.o.ready.eq(self.o.ready),
            ]
            if parts > 1:
                with m.If(self.i.valid & beats.i.ready):
                    m.d.sync += [part.eq(part + 1), last.eq(part == parts - 2)]
        else:
            room = Signal()
            o    = unreset(m, self.o.payload, "o")
            m.d.comb += room.eq(~self.o.valid | self.o.ready)
            with m.If(self.o.ready):
                m.d.sync += self.o.valid.eq(0)
            slots = beat_bytes // word_bytes
            slot  = Signal(range(slots))
            full  = self.i.p.last | (slot == slots - 1)
            m.d.comb += self.i.ready.eq(room)
            with m.If(self.i.valid & room):
                with m.If(slot == 0):
                    m.d.sync += o.strb.eq(0)
                m.d.sync += [
                    self.o.valid.eq(full),
                    o.data.word_select(slot, 8 * word_bytes).eq(word),
                    o.strb.word_select(slot, word_bytes).eq(~C(0, word_bytes)),
                    slot.eq(slot + 1),
                ]
                with m.If(full):
                    m.d.sync += slot.eq(0)

        return m


class StoreEngine(wiring.Component):
    """Executes STORE commands.

    Each cycle moves one word or one beat, whichever is smaller. The next commands are begun while
    earlier ones wait for the memory's acknowledgement.

    Parameters
    ----------
    config : :class:`~weft.hw.isa.config.AcceleratorConfig`

    Members
    -------
    commands : :py:`In(stream.Signature(indexed_layout(StoreCommand)))`
        Commands with their indices. Up to five are taken ahead of ``done``.
    done : :py:`Out(1)`
        Pulses for each command, in order, when memory has acknowledged all of it.
    fault : :py:`Out(Fault)`
        Held until reset. ``ARGUMENT``: no lines or no units. ``ADDRESS``: address or stride are
        not multiples of a beat, or a range ends beyond its memory. ``WRITE``: error response. In
        the first two cases the command has done nothing.
    busy : :py:`Out(1)`
        A command is executing.
    activity : :py:`Out(activity_layout(Engine.STORE))`
        What the engine does in this cycle.
    read_request : :py:`Out(stream.Signature(24))`
        Addresses of words in the activation memory.
    read_data : :py:`In(data.ArrayLayout(8, config.word_data_bytes))`
        The words, in order.
    read_valid : :py:`In(1)`
        A word is there and must be taken. Any latency is right; up to 12 cycles cost nothing.
    requests : :py:`Out(stream.Signature(request_layout(config.axi_addr_width)))`
        Lines, to a write engine.
    beats : :py:`Out(stream.Signature(beat_layout(config.axi_data_width)))`
        Their beats.
    write_done, write_error : :py:`In(1)`
        From the write engine: a line is acknowledged; the oldest line not yet done had an error.

    Attributes
    ----------
    WORDS_AHEAD : :class:`int`
        Words read ahead of those that are packed. A queue of distributed memory on most devices;
        more than the latency of the activation memory, so reading never pauses.
    OPEN_COMMANDS : :class:`int`
        Commands that may wait for their acknowledgements, at least 2.
    DONE_LATENCY : :class:`int`
        Cycles from ``write_done`` to ``done``.
    """

    WORDS_AHEAD   = 16
    OPEN_COMMANDS = 4
    DONE_LATENCY  = 1

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "commands":     In(stream.Signature(indexed_layout(StoreCommand))),
            "done":         Out(1),
            "fault":        Out(Fault),
            "busy":         Out(1),
            "activity":     Out(activity_layout(Engine.STORE)),
            "read_request": Out(stream.Signature(24)),
            "read_data":    In(data.ArrayLayout(8, config.word_data_bytes)),
            "read_valid":   In(1),
            "requests":     Out(stream.Signature(request_layout(config.axi_addr_width))),
            "beats":        Out(stream.Signature(beat_layout(config.axi_data_width))),
            "write_done":   In(1),
            "write_error":  In(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.front = front = TransferFront(config=self._config, command=StoreCommand)
        m.submodules.lasts = lasts = Queue(shape=1, depth=self.WORDS_AHEAD)
        m.submodules.words = words = Queue(
            shape=8 * self._config.word_data_bytes, depth=self.WORDS_AHEAD)
        m.submodules.packer = packer = WordPacker(config=self._config)
        m.submodules.open = open_commands = Queue(shape=data.StructLayout({
            "index": INDEX_WIDTH, "code": CODE_WIDTH, "lines": 16, "one_line": 1}),
            depth=self.OPEN_COMMANDS - 1)
        connect(m, flipped(self.commands), front.commands)
        connect(m, front.requests, flipped(self.requests))
        connect(m, packer.o, flipped(self.beats))

        # A new command is taken by the reading half and by the finishing half at once.
        begin = self._read(m, front.transfers, lasts, words, room=open_commands.i.ready)
        m.d.comb += [
            open_commands.i.valid.eq(begin),
            *(open_commands.i.p[name].eq(front.transfers.p[name])
              for name in ("index", "code", "lines", "one_line")),
        ]
        m.d.comb += [
            packer.i.valid.eq(words.o.valid),
            packer.i.p.word.eq(words.o.payload),
            packer.i.p.last.eq(lasts.o.payload),
            words.o.ready.eq(packer.i.ready),
            lasts.o.ready.eq(packer.i.ready & words.o.valid),
        ]
        finishing = self._finish(m, open_commands.o)

        m.d.comb += [
            self.busy.eq(front.busy | open_commands.o.valid | finishing),
            self.activity.busy.eq((self.read_request.valid & self.read_request.ready)
                                  | (self.beats.valid & self.beats.ready)),
            self.activity.activation.eq(self.read_request.valid),
            self.activity.memory.eq(open_commands.o.valid | finishing),
            self.activity.setup.eq(front.busy),
        ]

        return m

    def _read(self, m: Module, transfers: Any, lasts: Queue, words: Queue, *,
              room: Value) -> Signal:
        """Asks for the words of each transfer. ``lasts`` holds an entry for every word from before
        its request until it is packed, so room in ``lasts`` is room in ``addresses`` and ``words``
        as well. Returns when it begins with a transfer, for which there must be ``room``."""
        m.submodules.addresses = requests = Queue(shape=24, depth=self.WORDS_AHEAD)
        connect(m, requests.o, flipped(self.read_request))
        new_address, new_last, new_word = (
            promised(m, queue.i, name=f"promised_{name}",
                     because="there is room for each word asked for")
            for name, queue in (("addresses", requests), ("lasts", lasts), ("words", words)))
        m.d.comb += [
            new_word.valid.eq(self.read_valid),
            new_word.payload.eq(Cat(self.read_data)),
        ]

        # While there is no transfer at hand, what comes is loaded in every cycle.
        vacant    = Signal(init=1)
        actives   = alike("active", 2, init=0)
        transfer  = Signal.like(transfers.payload, reset_less=True)
        left      = Signal.like(transfer.units, reset_less=True)          # words of this line
        address   = Signal.like(transfer.local_address, reset_less=True)  # of the next word
        # Decided a word, or a line, earlier.
        last_word = Signal(reset_less=True)  # left == 1
        last_line = Signal(reset_less=True)  # transfer.lines == 1
        rooms     = alike("room", 2, init=0)  # in all queues, for a few more
        # A word is asked for: known twice, for what changes with each, and at the end of a line.
        read, read_line = (a & b for a, b in zip(actives, rooms, strict=True))
        m.d.sync += assign(rooms, lasts.level <= self.WORDS_AHEAD - _MARGIN)
        m.d.comb += [
            new_address.valid.eq(read),
            new_address.payload.eq(address),
            new_last.valid.eq(read),
            new_last.payload.eq(last_word),
        ]
        begin = Signal()
        m.d.comb += [
            begin.eq(transfers.valid & vacant & room),
            transfers.ready.eq(vacant & room),
        ]
        with m.If(vacant):
            m.d.sync += [
                vacant.eq(~begin),
                *assign(actives, begin & transfers.p.legal),
                transfer.eq(transfers.payload),
                address.eq(transfers.p.local_address),
                left.eq(transfers.p.units),
                last_word.eq(transfers.p.one_unit),
                last_line.eq(transfers.p.one_line),
            ]
        next_line = transfer.local_address + transfer.local_stride
        with m.If(read):
            m.d.sync += [
                address.eq(address + 1),
                left.eq(left - 1),
                last_word.eq(left == 2),
            ]
            with m.If(last_word):
                m.d.sync += [
                    address.eq(next_line),
                    left.eq(transfer.units),
                    last_word.eq(transfer.one_unit),
                    *assign(actives, ~last_line),
                    vacant.eq(last_line),
                ]
        with m.If(read_line & last_word):
            m.d.sync += [
                transfer.lines.eq(transfer.lines - 1),
                last_line.eq(transfer.lines == 2),
                transfer.local_address.eq(next_line),
            ]
        return begin

    def _finish(self, m: Module, waiting: Any) -> Signal:
        """Counts down the lines of the oldest command that is not done. Errors are reported here,
        in order, so that the earlier command is named. Returns whether there is a command besides
        those that are ``waiting``."""
        oldest   = Signal.like(waiting.payload, reset_less=True)
        valid    = Signal()
        last     = Signal(reset_less=True)  # its last line, without the comparison
        finished = Signal()
        failed   = Signal()
        m.d.comb += [
            finished.eq(self.write_done & ~self.write_error & ~failed & last),
            # After an error it does not matter what becomes of the others.
            waiting.ready.eq(~valid | (self.write_done & last)),
        ]
        m.d.sync += self.done.eq(finished)
        with m.If(waiting.ready):
            m.d.sync += [
                valid.eq(waiting.valid),
                oldest.eq(waiting.payload),
                last.eq(waiting.p.one_line),
            ]
        with m.Elif(self.write_done):
            m.d.sync += [oldest.lines.eq(oldest.lines - 1), last.eq(oldest.lines == 2)]
        with m.If(~failed):
            m.d.sync += self.fault.index.eq(oldest.index)
        with m.If(~failed & valid):
            with m.If(oldest.code != Error.NONE):
                m.d.sync += [failed.eq(1), self.fault.code.eq(oldest.code)]
            with m.Elif(self.write_error):
                m.d.sync += [failed.eq(1), self.fault.code.eq(Error.WRITE)]
        return valid
