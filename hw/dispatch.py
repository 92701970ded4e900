"""Hands each command to its engine once the engines it waits for have given their tokens."""

from collections.abc import Iterable

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from weft.config import AcceleratorConfig
from weft.hw.commands import COMMAND_BYTES, Engine, Header, engines
from weft.hw.fault import Fault
from weft.hw.fetch import FetchedCommand
from weft.hw.queue import Queue
from weft.hw.registers import Error

__all__ = ["Dispatcher", "EngineCommand", "IN_FLIGHT", "SEMAPHORE_MAX"]


IN_FLIGHT = 4
"""Commands that an engine may hold at a time: accepted, but not done."""

SEMAPHORE_MAX = 255
"""Tokens that a semaphore can hold."""


class EngineCommand(data.Struct):
    """A command as an engine sees it; the engine reads ``command`` in the layout of its opcode."""
    index:   unsigned(16)
    command: unsigned(8 * COMMAND_BYTES)


class _InFlight(wiring.Component):
    """What has to be remembered of the commands in an engine, oldest first.

    A shift register, so that a command is at the head in the cycle after it was pushed.
    """
    push:  In(1)
    pop:   In(1)
    new:   In(data.StructLayout({"index": 16, "post": len(Engine)}))
    head:  Out(data.StructLayout({"index": 16, "post": len(Engine)}))
    valid: Out(1)
    full:  Out(1)

    def elaborate(self, platform) -> Module:
        m = Module()

        entries = [Signal.like(self.new, name=f"entry_{n}", reset_less=True)
                   for n in range(IN_FLIGHT)]
        # Bit n: entry n is in use; entries fill up from 0.
        used = Signal(IN_FLIGHT)
        kept = Signal(IN_FLIGHT)
        m.d.comb += [
            self.head.eq(entries[0]),
            self.valid.eq(used[0]),
            self.full.eq(used[-1]),
            kept.eq(Mux(self.pop, used >> 1, used)),
        ]
        m.d.sync += used.eq(Mux(self.push, kept << 1 | 1, kept))
        for n, entry in enumerate(entries):
            with m.If(self.push & ~kept[n]):
                m.d.sync += entry.eq(self.new)
            with m.Elif(self.pop & (n < IN_FLIGHT - 1)):
                m.d.sync += entry.eq(entries[min(n + 1, IN_FLIGHT - 1)])

        return m


class Dispatcher(wiring.Component):
    """A queue for each engine, and a counting semaphore for each ordered pair of engines.

    The command at the head of a queue is offered to its engine once every engine in its ``wait``
    mask has given it a token; the tokens are taken as it is offered. When the engine reports it
    done, a token goes to each engine in its ``post`` mask. Engines do not wait for one another in
    any other way, and a command that finds its queue full holds up all that follow it.

    A command is offered two cycles after it reaches the head of its queue, or two cycles after the
    ``done`` that gave it its last token. Each engine can take a command every third cycle.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
        Gives the depth of the queues.
    present : iterable of :class:`Engine`
        Engines that have a queue. By default those of the configuration; a command for any
        other is never accepted.

    Members
    -------
    commands : :py:`In(stream.Signature(FetchedCommand))`
        All commands in stream order.
    engines : :py:`Out(stream.Signature(EngineCommand)).array(4)`
        Commands for each :class:`Engine`, in stream order.
    done : :py:`In(4)`
        Bit for each engine: its oldest command is done. At the earliest in the cycle after it was
        taken.
    clear : :py:`In(1)`
        Pulse; a new command stream begins: ``completed`` and all semaphores go to zero. Only while
        ``idle``.
    halt : :py:`In(1)`
        Offer no more commands. One that is already offered stays so.
    event_start, event_done : :py:`Out(4)`
        Bit for each engine: it takes a command, or finishes one, in this cycle.
    event_start_index, event_done_index : :py:`Out(ArrayLayout(16, 4))`
        Index of that command.
    completed : :py:`Out(32)`
        Commands done since ``clear``.
    pending : :py:`Out(4)`
        Bit for each engine: a command is in its queue.
    waiting : :py:`Out(4)`
        Bit for each engine: the command at the head of its queue lacks a token.
    oldest : :py:`Out(16)`
        The smallest index of all commands that are queued or in an engine; while there are none,
        the index of the next command to come. Two cycles late.
    idle : :py:`Out(1)`
        No command is queued or in an engine.
    fault : :py:`Out(Fault)`
        ``SEMAPHORE`` for one cycle: the command of this index gave a token to a full semaphore.
    """

    def __init__(self, config: AcceleratorConfig, *,
                 present: Iterable[Engine] | None = None):
        if present is None:
            present = engines(config).values()
        self._queue_depth = config.queue_depth
        self._present     = frozenset(Engine(engine) for engine in present)
        super().__init__({
            "commands":          In(stream.Signature(FetchedCommand)),
            "engines":           Out(stream.Signature(EngineCommand)).array(len(Engine)),
            "done":              In(len(Engine)),
            "clear":             In(1),
            "halt":              In(1),
            "event_start":       Out(len(Engine)),
            "event_done":        Out(len(Engine)),
            "event_start_index": Out(data.ArrayLayout(16, len(Engine))),
            "event_done_index":  Out(data.ArrayLayout(16, len(Engine))),
            "completed":         Out(32),
            "pending":           Out(len(Engine)),
            "waiting":           Out(len(Engine)),
            "oldest":            Out(16),
            "idle":              Out(1),
            "fault":             Out(Fault),
        })

    @property
    def present(self) -> frozenset[Engine]:
        """Engines that have a queue."""
        return self._present

    def elaborate(self, platform) -> Module:
        m = Module()

        semaphores = {(producer, consumer): Signal(range(SEMAPHORE_MAX + 1),
                                                   name=f"tokens_{producer.name.lower()}_to_"
                                                        f"{consumer.name.lower()}")
                      for producer in Engine for consumer in Engine
                      if {producer, consumer} <= self._present}
        # Whether a semaphore has tokens, without the comparison.
        some = {pair: Signal(name=tokens.name.replace("tokens", "some"))
                for pair, tokens in semaphores.items()}
        give = Array(Signal(len(Engine), name=f"give_{engine.name.lower()}") for engine in Engine)
        take = Array(Signal(len(Engine), name=f"take_{engine.name.lower()}") for engine in Engine)
        busy = Signal(len(Engine))
        ages = []  # (there is a command, its index) for each engine

        for engine in sorted(self._present, key=lambda engine: engine.value):
            e = engine.value
            port = self.engines[e]

            m.submodules[f"queue_{engine.name.lower()}"] = queue = \
                Queue(shape=EngineCommand, depth=self._queue_depth)
            m.submodules[f"in_flight_{engine.name.lower()}"] = in_flight = _InFlight()

            m.d.comb += queue.i.p.index.eq(self.commands.p.index)
            m.d.comb += queue.i.p.command.eq(self.commands.p.raw)
            with m.If(self.commands.p.engine == engine):
                m.d.comb += queue.i.valid.eq(self.commands.valid)
                m.d.comb += self.commands.ready.eq(queue.i.ready)

            # The grant is a register: the tokens leave as it is set, so they leave once however
            # long the engine takes, and the comparison of masks is not in the engine's path.
            # Its masks come from registers, to which they are copied first.
            header  = Header(queue.o.p.command[:Header.as_shape().size])
            known   = Signal(name=f"known_{engine.name.lower()}")
            wait    = Signal(len(Engine), name=f"wait_{engine.name.lower()}", reset_less=True)
            post    = Signal(len(Engine), name=f"post_{engine.name.lower()}", reset_less=True)
            index   = Signal(16, name=f"index_{engine.name.lower()}", reset_less=True)
            tokens  = Signal(len(Engine), name=f"tokens_at_{engine.name.lower()}")
            lacking = Signal(name=f"lacking_{engine.name.lower()}")
            granted = Signal(name=f"granted_{engine.name.lower()}")
            m.d.comb += [
                tokens.eq(Cat(some[producer, engine] if producer in self._present else 0
                              for producer in Engine)),
                lacking.eq((wait & ~tokens).any()),
                self.pending[e].eq(queue.o.valid),
                self.waiting[e].eq(known & ~granted & lacking),
                port.payload.eq(queue.o.payload),
                port.valid.eq(granted),
                queue.o.ready.eq(granted & port.ready),
            ]
            m.d.sync += [wait.eq(header.wait), post.eq(header.post), index.eq(queue.o.p.index)]
            with m.If(granted):
                with m.If(port.ready):
                    m.d.sync += [granted.eq(0), known.eq(0)]
            with m.Elif(known):
                with m.If(~lacking & ~in_flight.full & ~self.halt):
                    m.d.sync += granted.eq(1)
                    m.d.comb += take[e].eq(wait)
            with m.Else():
                m.d.sync += known.eq(queue.o.valid)

            m.d.comb += [
                self.event_start[e].eq(granted & port.ready),
                self.event_start_index[e].eq(index),
                in_flight.push.eq(self.event_start[e]),
                in_flight.new.index.eq(index),
                in_flight.new.post.eq(post),
                # An engine that reports more than it was given would corrupt every count.
                self.event_done[e].eq(self.done[e] & in_flight.valid),
                self.event_done_index[e].eq(in_flight.head.index),
                in_flight.pop.eq(self.event_done[e]),
                give[e].eq(Mux(self.event_done[e], in_flight.head.post, 0)),
            ]

            m.d.comb += busy[e].eq(in_flight.valid | (queue.level != 0) | queue.i.valid)
            ages.append((in_flight.valid | known,
                         Mux(in_flight.valid, in_flight.head.index, index)))

        m.d.comb += self.idle.eq(busy == 0)

        overflow = {e: Signal(name=f"overflow_{e.name.lower()}")
                    for e in sorted(self._present, key=lambda engine: engine.value)}
        for (producer, consumer), tokens in semaphores.items():
            given = give[producer.value][consumer.value]
            taken = take[consumer.value][producer.value]
            with m.If(given & ~taken):
                with m.If(tokens == SEMAPHORE_MAX):
                    m.d.comb += overflow[producer].eq(1)
                with m.Else():
                    m.d.sync += [tokens.eq(tokens + 1), some[producer, consumer].eq(1)]
            with m.If(taken & ~given):
                m.d.sync += [tokens.eq(tokens - 1), some[producer, consumer].eq(tokens != 1)]
            with m.If(self.clear):
                m.d.sync += [tokens.eq(0), some[producer, consumer].eq(0)]

        m.d.sync += self.fault.code.eq(
            Mux(Cat(overflow.values()).any(), Error.SEMAPHORE, Error.NONE))
        for engine, overflows in reversed(overflow.items()):
            with m.If(overflows):
                m.d.sync += self.fault.index.eq(self.event_done_index[engine.value])

        m.d.sync += self.completed.eq(self.completed + sum(self.event_done[e]
                                                           for e in range(len(Engine))))
        with m.If(self.clear):
            m.d.sync += self.completed.eq(0)

        self._find_oldest(m, ages)
        return m

    def _find_oldest(self, m: Module, ages: list) -> None:
        coming = Signal(16)
        with m.If(self.commands.valid & self.commands.ready):
            m.d.sync += coming.eq(self.commands.p.index + 1)
        with m.If(self.clear):
            m.d.sync += coming.eq(0)

        # Registered between the levels of the tree: nothing waits for the result.
        def older(left, right):
            return Mux(left[0] & (~right[0] | (left[1] < right[1])), left[1], right[1])

        level = []
        for n in range(0, len(ages), 2):
            pair  = ages[n:n + 2]
            valid = Signal(name=f"older_valid_{n}")
            index = Signal(16, name=f"older_index_{n}")
            m.d.sync += valid.eq(Cat(age[0] for age in pair).any())
            m.d.sync += index.eq(older(*pair) if len(pair) == 2 else pair[0][1])
            level.append((valid, index))
        found = older(*level) if len(level) == 2 else level[0][1]
        m.d.sync += self.oldest.eq(Mux(Cat(valid for valid, _ in level).any(), found, coming))
