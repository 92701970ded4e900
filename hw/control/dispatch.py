"""Hands each command to its engine once the engines it waits for have given their tokens."""

from collections.abc import Iterable
from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from weft.hw.isa.commands import COMMAND_BYTES, Engine, Header
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import Fault
from weft.hw.isa.registers import Error
from weft.hw.isa.subset import engines
from weft.hw.lib.checks import require
from weft.hw.lib.delay import register
from weft.hw.lib.half_slice import HalfSlice
from weft.hw.lib.promise import promised
from weft.hw.lib.queue import Queue

from .core_control import CommandEvents
from .fetch import FetchedCommand

__all__ = ["Dispatcher", "EngineCommand"]


class EngineCommand(data.Struct):
    """A command as an engine sees it; the engine reads ``command`` in the layout of its opcode."""
    index:   unsigned(16)
    command: unsigned(8 * COMMAND_BYTES)


class _InFlight(data.Struct):
    """What has to be remembered of a command that is offered to an engine, or in it."""
    index: unsigned(16)
    post:  unsigned(len(Engine))


class _Semaphore(wiring.Component):
    """Counts the tokens from one engine to another, up to ``most``.

    ``some`` tells in the same cycle of a token that ``give`` brings. Whoever sees it may ``take``
    from the next cycle on. Not reset but by ``clear``.
    """
    give:     In(1)
    take:     In(1)
    clear:    In(1)
    some:     Out(1)
    overflow: Out(1)

    def __init__(self, most: int) -> None:
        self._most = most
        super().__init__()

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        tokens = Signal(range(self._most + 1), reset_less=True)
        # Without a comparison in the path.
        held = Signal(reset_less=True)  # tokens != 0
        full = Signal(reset_less=True)  # tokens == most
        m.d.comb += [
            self.some.eq(held | self.give),
            self.overflow.eq(self.give & ~self.take & full),
        ]
        require(m, ~self.take | self.some | self.clear, "a token that is taken is there")
        with m.If(self.give & ~self.take & ~full):
            m.d.sync += [
                tokens.eq(tokens + 1),
                held.eq(1),
                full.eq(tokens == self._most - 1),
            ]
        with m.If(self.take & ~self.give):
            m.d.sync += [tokens.eq(tokens - 1), held.eq(tokens != 1), full.eq(0)]
        with m.If(self.clear):
            m.d.sync += [tokens.eq(0), held.eq(0), full.eq(0)]

        return m


class Dispatcher(wiring.Component):
    """A queue for each engine, and a counting semaphore for each ordered pair of engines.

    The command at the head of a queue is offered to its engine once every engine in its ``wait``
    mask has given it a token; the tokens are taken as it is offered. When the engine reports it
    done, a token goes to each engine in its ``post`` mask. Engines do not wait for one another in
    any other way, and a command that finds its queue full holds up all that follow it.

    A command is offered three cycles after it was accepted (two if a queue holds one command), or
    :attr:`TOKEN_LATENCY` cycles after the ``done`` that gave it its last token. Each engine can
    take a command in :attr:`PERIOD` cycles. What an engine is offered comes straight from
    registers.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
        Gives the depth of the queues, the command on offer included.
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
        Pulse; a new command stream begins: ``completed`` goes to zero, and a cycle later all
        semaphores, which a reset leaves alone. Only while ``idle``.
    halt : :py:`In(1)`
        Offer no more commands. One that is already offered stays so.
    event : :py:`Out(CommandEvents())`
        When each command is taken by its engine, and when it is done.
    completed : :py:`Out(32)`
        Commands done since ``clear``. :attr:`COMPLETED_LATENCY` cycles late, as ``fault``.
    pending : :py:`Out(4)`
        Bit for each engine: a command is in its queue or on offer.
    waiting : :py:`Out(4)`
        Bit for each engine: the command at the head of its queue lacks a token.
    oldest : :py:`Out(16)`
        The smallest index of all commands that are queued or in an engine; while there are none,
        the index of the next command to come. Three cycles late.
    idle : :py:`Out(1)`
        No command is queued or in an engine. A cycle late.
    fault : :py:`Out(Fault)`
        ``SEMAPHORE`` for one cycle: the command of this index gave a token to a full semaphore.
        Not later than ``completed`` counts that command.

    Attributes
    ----------
    IN_FLIGHT : :class:`int`
        Commands that an engine may hold at a time: accepted, but not done.
    SEMAPHORE_MAX : :class:`int`
        Tokens that a semaphore can hold.
    GRANT_LATENCY : :class:`int`
        Cycles from a command at the head of its queue, with all its tokens there, to its offer.
    TOKEN_LATENCY : :class:`int`
        Cycles from ``done`` to the offer of a command that waits for that token, or for room among
        those in flight.
    PERIOD : :class:`int`
        Cycles from a command that an engine takes to the next one that it can take.
    COMPLETED_LATENCY : :class:`int`
        Cycles from ``done`` until ``completed`` counts it.
    """

    IN_FLIGHT         = 4
    SEMAPHORE_MAX     = 255
    GRANT_LATENCY     = 1
    TOKEN_LATENCY     = 1 + GRANT_LATENCY
    PERIOD            = 3
    COMPLETED_LATENCY = 3

    def __init__(self, config: AcceleratorConfig, *,
                 present: Iterable[Engine] | None = None):
        if present is None:
            present = engines(config).values()
        self._queue_depth = config.queue_depth
        self._present     = frozenset(Engine(engine) for engine in present)
        super().__init__({
            "commands":  In(stream.Signature(FetchedCommand)),
            "engines":   Out(stream.Signature(EngineCommand)).array(len(Engine)),
            "done":      In(len(Engine)),
            "clear":     In(1),
            "halt":      In(1),
            "event":     Out(CommandEvents()),
            "completed": Out(32),
            "pending":   Out(len(Engine)),
            "waiting":   Out(len(Engine)),
            "oldest":    Out(16),
            "idle":      Out(1),
            "fault":     Out(Fault),
        })

    @property
    def present(self) -> frozenset[Engine]:
        """Engines that have a queue."""
        return self._present

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        present = sorted(self._present, key=lambda engine: engine.value)
        semaphores = {(producer, consumer): _Semaphore(self.SEMAPHORE_MAX)
                      for producer in present for consumer in present}
        for (producer, consumer), semaphore in semaphores.items():
            m.submodules[f"{producer.name.lower()}_to_{consumer.name.lower()}"] = semaphore
        # One registered copy for each consumer: there are hundreds of sinks.
        for consumer in present:
            clear = register(m, self.clear, f"clear_{consumer.name.lower()}", keep=True)
            for producer in present:
                m.d.comb += semaphores[producer, consumer].clear.eq(clear)

        busy = Signal(len(Engine))
        ages = []       # (there is a command, its index) for each engine, a cycle late
        overflows = []  # (a token too many, the index of the command that gave it)
        for engine in present:
            e    = engine.value
            name = engine.name.lower()
            head, queued = self._queue(m, engine)
            in_flight    = self._offer(m, engine, head, {
                producer: semaphores[producer, engine] for producer in present})
            overflow     = self._finish(m, engine, in_flight, {
                consumer: semaphores[engine, consumer] for consumer in present})
            m.d.comb += [
                self.pending[e].eq(head.valid | queued),
                busy[e].eq(in_flight.valid | head.valid | queued),
            ]
            known = Signal(name=f"known_{name}")
            index = Signal(16, name=f"oldest_{name}", reset_less=True)
            m.d.sync += known.eq(in_flight.valid | head.valid)
            m.d.sync += index.eq(Mux(in_flight.valid, in_flight.p.index, head.p.index))
            ages.append((known, index))
            overflows.append((overflow, register(m, index, f"given_by_{name}")))

        m.d.sync += self.idle.eq(~(busy.any() | self.commands.valid))

        m.d.sync += self.fault.code.eq(
            Mux(Cat(overflow for overflow, _ in overflows).any(), Error.SEMAPHORE, Error.NONE))
        giver = overflows[-1][1]
        for overflow, index in reversed(overflows[:-1]):
            giver = Mux(overflow, index, giver)
        m.d.sync += self.fault.index.eq(giver)

        # As late as a fault of the same command, so that the end does not overtake it.
        finished = register(m, self.event.done, "finished")
        counted  = register(m, sum(finished), "counted")
        m.d.sync += self.completed.eq(self.completed + counted)
        with m.If(self.clear):
            m.d.sync += self.completed.eq(0)

        self._find_oldest(m, ages)
        return m

    def _queue(self, m: Module, engine: Engine) -> tuple[Any, Value]:
        """The queue of an engine. Returns the stream of its oldest command, and whether there are
        others behind that."""
        name = engine.name.lower()
        # The oldest is in registers: the engine, and all that is decided here, start from there.
        m.submodules[f"head_{name}"] = head = HalfSlice(shape=EngineCommand)
        queued: Value = C(0)
        incoming = head.i
        if self._queue_depth > 1:
            m.submodules[f"queue_{name}"] = queue = \
                Queue(shape=EngineCommand, depth=self._queue_depth - 1)
            connect(m, queue.o, head.i)
            queued   = queue.level != 0
            incoming = queue.i
        m.d.comb += incoming.p.index.eq(self.commands.p.index)
        m.d.comb += incoming.p.command.eq(self.commands.p.raw)
        with m.If(self.commands.p.engine == engine):
            m.d.comb += incoming.valid.eq(self.commands.valid)
            m.d.comb += self.commands.ready.eq(incoming.ready)
        return head.o, queued

    def _offer(self, m: Module, engine: Engine, head: Any,
               semaphores: dict[Engine, _Semaphore]) -> Any:
        """Offers the oldest command to its engine once it has its tokens. Returns the stream of
        commands that are offered or in the engine, oldest first."""
        e    = engine.value
        name = engine.name.lower()
        port = self.engines[e]
        m.submodules[f"in_flight_{name}"] = in_flight = Queue(
            shape=_InFlight, depth=self.IN_FLIGHT)
        starting = promised(m, in_flight.i, name=f"promise_{name}",
                            because="a command is granted when there is room for it")

        # The grant is a register: the tokens leave once however long the engine takes, and the
        # comparison of masks is not in the engine's path.
        header  = Header(head.p.command[:Header.as_shape().size])
        lacking = Signal(name=f"lacking_{name}")
        grant   = Signal(name=f"grant_{name}")
        granted = Signal(name=f"granted_{name}")
        taking  = Signal(name=f"taking_{name}")  # the first cycle of the grant
        m.d.comb += [
            lacking.eq(Cat(header.wait[producer.value] & ~semaphore.some
                           for producer, semaphore in semaphores.items()).any()),
            grant.eq(head.valid & ~granted & ~lacking & in_flight.i.ready & ~self.halt),
            self.waiting[e].eq(head.valid & ~granted & lacking),
            port.payload.eq(head.payload),
            port.valid.eq(granted),
            head.ready.eq(granted & port.ready),
            self.event.start[e].eq(granted & port.ready),
            self.event.start_index[e].eq(head.p.index),
            # As it is offered: whether the engine takes it would be known late in the cycle.
            starting.valid.eq(taking),
            starting.p.index.eq(head.p.index),
            starting.p.post.eq(header.post),
        ]
        m.d.sync += [granted.eq(grant | (granted & ~port.ready)), taking.eq(grant)]
        for producer, semaphore in semaphores.items():
            m.d.comb += semaphore.take.eq(taking & header.wait[producer.value])
        return in_flight.o

    def _finish(self, m: Module, engine: Engine, in_flight: Any,
                semaphores: dict[Engine, _Semaphore]) -> Signal:
        """Gives the tokens of a command that is done. Returns whether one was given to a full
        semaphore."""
        e    = engine.value
        name = engine.name.lower()
        m.d.comb += [
            # An engine that reports more than it was given would corrupt every count.
            self.event.done[e].eq(self.done[e] & in_flight.valid),
            self.event.done_index[e].eq(in_flight.p.index),
            in_flight.ready.eq(self.done[e]),
        ]
        # `done` may come from deep inside the engine; tokens move a cycle later.
        give = Signal(len(Engine), name=f"give_{name}")
        m.d.sync += give.eq(Mux(self.event.done[e], in_flight.p.post, 0))
        for consumer, semaphore in semaphores.items():
            m.d.comb += semaphore.give.eq(give[consumer.value])
        overflow = Signal(name=f"overflow_{name}")
        m.d.sync += overflow.eq(Cat(semaphore.overflow for semaphore in semaphores.values()).any())
        return overflow

    def _find_oldest(self, m: Module, ages: list[Any]) -> None:
        # A command that has to wait before it is accepted is not looked at: there are others.
        coming = Signal(16)
        with m.If(self.commands.valid):
            m.d.sync += coming.eq(self.commands.p.index + 1)
        with m.If(self.clear):
            m.d.sync += coming.eq(0)

        # Registered between the levels of the tree: nothing waits for the result.
        def older(left: tuple[Value, Value], right: tuple[Value, Value]) -> Value:
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
