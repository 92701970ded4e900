"""Plays a command stream in virtual time: when every command starts and is done.

The accelerator has no hazards to resolve and no caches, so its time is a matter of arithmetic:
commands are fetched in order, wait in the queue of their engine for their tokens, and then take
what the models of their engines tell. Rivalry for a bank of the activation memory, which delays a
read or write by a cycle here and there, is a matter of averages.
"""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from heapq import heappop, heappush

from weft.errors import CompileError
from weft.hw.bus.burst import BurstSplitter
from weft.hw.bus.dma_read import ReadEngine
from weft.hw.control.dispatch import Dispatcher
from weft.hw.control.fetch import CommandFetch
from weft.hw.control.port import ControlPort
from weft.hw.isa.commands import COMMAND_BYTES, ENGINES, ROW_OPCODES, Engine, Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import decode
from weft.hw.lib.queue import Queue

from .matrix import MatrixTiming
from .memory import MEMORY, MemoryTiming, ReadPort, bursts
from .sequential import run_sequential
from .transfer import LoadTiming, StoreTiming
from .vector import VectorTiming

__all__ = ["Cause", "MemoryTiming", "Played", "Timeline", "play"]


class Cause(StrEnum):
    """Why an engine waited before a command."""
    FETCH  = "fetch"   #: it had not been fetched
    LOAD   = "load"    #: it needed a token of the load engine
    MATRIX = "matrix"  #: of the matrix engine
    VECTOR = "vector"  #: of the vector engine
    STORE  = "store"   #: of the store engine
    OWN    = "own"     #: its own engine had not finished one, or as many as it may hold

    @property
    def phrase(self) -> str:
        """What was waited for, in words."""
        match self:
            case Cause.FETCH:
                return "commands"
            case Cause.OWN:
                return "its own results"
        return f"the {self} engine"


@dataclass(frozen=True, slots=True)
class Played:
    """A command that has been played.

    Attributes
    ----------
    engine : :class:`weft.hw.isa.commands.Engine`
    start, done : :class:`int`
        Cycles from the doorbell until its engine accepts it, and reports it done; the same as of
        :class:`weft.runtime.device.Event`.
    busy : (:class:`int`, :class:`int`)
        From when to when its engine works on it: pixels stream, words are read or beats move.
    waited : :class:`int`
        Cycles in which its engine could have accepted it.
    cause : :class:`Cause`
        What came last of all that it waited for.
    """

    engine: Engine
    start: int
    done: int
    busy: tuple[int, int]
    waited: int
    cause: Cause


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """A command stream that has been played.

    Attributes
    ----------
    commands : :class:`tuple` of :class:`Played`
        In stream order.
    cycles : :class:`int`
        From doorbell to interrupt.
    busy : :class:`dict`
        For each engine, cycles in which it had work.
    read_beats, write_beats : :class:`int`
        Traffic of the memory port, commands included.
    """

    commands: tuple[Played, ...]
    cycles: int
    busy: dict[Engine, int]
    read_beats: int
    write_beats: int

    def waits(self, engine: Engine) -> dict[Cause, int]:
        """Cycles that an engine waited for commands, by what it waited for."""
        found = dict.fromkeys(Cause, 0)
        for played in self.commands:
            if played.engine is engine:
                found[played.cause] += played.waited
        return found


def play(commands: bytes, config: AcceleratorConfig, *, address: int = 0,
         memory: MemoryTiming = MEMORY) -> Timeline:
    """Plays a command stream.

    Parameters
    ----------
    commands : :class:`bytes`
        64 bytes for each command.
    address : :class:`int`
        Where the stream lies in external memory: bursts end at 4 KiB boundaries.
    memory : :class:`MemoryTiming`

    Raises
    ------
    CompileError
        If a command waits for a token that nobody gives: the stream never ends.
    """
    if config.sequential:
        return _play_sequential(commands, config, memory)
    return _Player(commands, config, address, memory).run()


def _play_sequential(commands: bytes, config: AcceleratorConfig,
                     memory: MemoryTiming) -> Timeline:
    decoded = _decoded(commands)
    run = run_sequential(decoded, config, memory)
    played, busy, before = [], dict.fromkeys(Engine, 0), 0
    for (opcode, _), (start, done) in zip(decoded, run.spans, strict=True):
        engine = ENGINES[opcode]
        busy[engine] += done - start
        played.append(Played(engine, start, done, (start, done), start - before, Cause.FETCH))
        before = done
    return Timeline(commands=tuple(played), cycles=run.cycles, busy=busy,
                    read_beats=run.read_beats, write_beats=run.write_beats)


def _decoded(commands: bytes) -> list[tuple[Opcode, dict[str, int]]]:
    return [decode(commands[at:at + COMMAND_BYTES])
            for at in range(0, len(commands), COMMAND_BYTES)]


_NEVER = 1 << 62
_SINGLE = (Opcode.TURN, *ROW_OPCODES)   # what the load engine does alone
_ALONE = 2  # cycles from the end of all before such a command until it can be accepted
_MASKS = [tuple(engine for engine in Engine if mask >> engine.value & 1)
          for mask in range(1 << len(Engine))]
_CAUSES = {engine: Cause[engine.name] for engine in Engine}


class _Queue:
    """The queue of an engine, and what its commands have come to."""

    def __init__(self) -> None:
        self.commands: list[int] = []  # that have been pushed, in order
        self.pushes: list[int] = []    # when
        self.starts: list[int] = []    # when they start; fewer
        self.found = False             # the next start is known, and has yet to come
        self.full = False              # the fetch waits for room


class _Player:
    # Events: a burst of commands is asked for, a command is pushed, a command starts, a VECTOR has
    # asked for its last word. In the same cycle the fetch goes first, as it does at the port.
    _ASK, _PUSH, _START, _LAST_WORD = range(4)

    def __init__(self, commands: bytes, config: AcceleratorConfig, address: int,
                 memory: MemoryTiming):
        self._config = config
        self._memory = memory
        self._count = len(commands) // COMMAND_BYTES
        self._decoded = _decoded(commands)
        self._engines = [ENGINES[opcode] for opcode, _ in self._decoded]
        self._tokens = self._match()
        self._port = ReadPort(memory)
        self._matrix = MatrixTiming(config)
        self._vector = VectorTiming(config, self._matrix.reads)
        self._store = StoreTiming(config, memory, self._port)
        self._load = LoadTiming(config, self._port, self._matrix.writes, self._vector.writes)
        self._ready: dict[Engine, int | None] = dict.fromkeys(Engine, 0)
        self._queues = {engine: _Queue() for engine in Engine}
        # A queue ends in registers that hold its head; the rest is memory, if there is a rest.
        # There is room in it again so many cycles after its head was taken.
        behind = config.queue_depth - 1
        self._queued = Queue.latency(behind) if behind else 0
        self._room = 2 if behind else 1
        self._done = [_NEVER] * self._count
        self._spans = [(0, 0)] * self._count
        self._waits: list[tuple[int, Cause]] = [(0, Cause.FETCH)] * self._count
        self._events: list[tuple[int, int, int]] = []

        # The fetch: its bursts, the beats of them that have arrived, and those that were taken.
        self._beats = COMMAND_BYTES // config.axi_bytes
        self._bursts = bursts(config, address, self._count * self._beats)
        self._burst = next(self._bursts, None)
        self._buffer = CommandFetch.OUTSTANDING * config.axi_burst_beats
        self._buffered = Queue.latency(self._buffer)
        self._asked = (ControlPort.DOORBELL_LATENCY + ControlPort.START_LATENCY
                       + CommandFetch.REQUEST_LATENCY + BurstSplitter.LATENCY
                       - BurstSplitter.PERIOD)
        self._issued = 0
        self._arrivals: deque[tuple[int, int]] = deque()       # up to beat, cycle of the last
        self._taken = 0
        self._takes: deque[tuple[int, int]] = deque()          # up to beat, cycle of the last
        self._next = 0      # when the next beat can be taken
        self._fetched = 0   # commands pushed
        self._pushing = False

    def _match(self) -> list[list[tuple[Engine, int]]]:
        """For each command, those whose tokens it takes. The tokens of a semaphore are given, and
        taken, in the order of the stream: the n-th that is taken is the n-th that was given."""
        given: dict[tuple[Engine, Engine], deque[int]] = {
            (producer, consumer): deque() for producer in Engine for consumer in Engine}
        for index, (engine, (_, fields)) in enumerate(
                zip(self._engines, self._decoded, strict=True)):
            for consumer in _MASKS[fields["post"]]:
                given[engine, consumer].append(index)
        found = []
        for index, (engine, (_, fields)) in enumerate(
                zip(self._engines, self._decoded, strict=True)):
            wait = fields["wait"]
            for producer in _MASKS[wait]:
                if not given[producer, engine]:
                    raise CompileError(f"Command {index} waits for a token of the "
                                       f"{producer.name.lower()} engine that no command gives")
            found.append([(producer, given[producer, engine].popleft())
                          for producer in _MASKS[wait]])
        return found

    def run(self) -> Timeline:
        events, load = self._events, self._load
        self._plan()
        while events or load.next is not None:
            until = events[0][0] if events else _NEVER
            if load.next is not None and load.next < until:
                self._ask_load(until)
                continue
            cycle, kind, value = heappop(events)
            if kind == self._START:
                self._start(cycle, Engine(value))
            elif kind == self._PUSH:
                self._push(cycle)
            elif kind == self._ASK:
                self._ask(cycle, value)
            else:
                self._last_word(cycle)
        stuck = next((index for index, done in enumerate(self._done) if done == _NEVER), None)
        if stuck is not None:
            raise CompileError(f"Command {stuck} never starts: it waits for one that waits for it")
        starts = [0] * self._count
        for queue in self._queues.values():
            for index, start in zip(queue.commands, queue.starts, strict=True):
                starts[index] = start
        return Timeline(
            commands=tuple(map(Played, self._engines, starts, self._done, self._spans,
                               *zip(*self._waits, strict=True))),
            # The counter of cycles begins with the doorbell, behind its way over the bus.
            cycles=max(self._done) + Dispatcher.COMPLETED_LATENCY + ControlPort.END_LATENCY
            - ControlPort.DOORBELL_LATENCY,
            busy={Engine.LOAD: load.busy, Engine.MATRIX: self._matrix.busy,
                  Engine.VECTOR: self._vector.busy, Engine.STORE: self._store.busy},
            read_beats=self._port.beats, write_beats=self._store.beats)

    # Fetch ------------------------------------------------------------------------------------

    def _plan(self) -> None:
        """Finds out when the next burst of commands is asked for: there must be room for it."""
        if self._burst is None:
            return
        need = self._issued + self._config.axi_burst_beats - self._buffer
        if need > self._taken:
            return
        cycle = self._asked + BurstSplitter.PERIOD
        while self._takes and self._takes[0][0] < need:
            self._takes.popleft()
        if need > 0:
            upto, last = self._takes[0]
            cycle = max(cycle, last - (upto - need) + ReadEngine.ROOM_LATENCY)
        self._asked = cycle
        self._issued += self._burst
        heappush(self._events, (cycle, self._ASK, self._burst))
        self._burst = next(self._bursts, None)

    def _ask(self, cycle: int, length: int) -> None:
        _, _, last = self._port.read(cycle + ReadEngine.ADDRESS_LATENCY, length)
        upto = (self._arrivals[-1][0] if self._arrivals else self._taken) + length
        self._arrivals.append((upto, last))
        self._plan()
        self._take()

    def _take(self) -> None:
        """Takes beats until a command is complete, or there are none."""
        while self._arrivals and not self._pushing:
            upto, arrival = self._arrivals[0]
            complete = (self._fetched + 1) * self._beats
            end = min(upto, complete)
            last = max(self._next + end - self._taken - 1,
                       arrival - self._memory.cycles(upto - end + 1) + self._buffered)
            self._taken, self._next = end, last + 1
            self._takes.append((end, last))
            if end == upto:
                self._arrivals.popleft()
            if end == complete:
                self._pushing = True
                heappush(self._events, (last + CommandFetch.OFFER_LATENCY, self._PUSH, 0))
            self._plan()

    def _push(self, cycle: int) -> None:
        engine = self._engines[self._fetched]
        queue = self._queues[engine]
        before = len(queue.pushes) - self._config.queue_depth
        if before >= 0:
            if before >= len(queue.starts):
                queue.full = True
                return
            room = queue.starts[before] + self._room
            if room > cycle:
                heappush(self._events, (room, self._PUSH, 0))
                return
        queue.commands.append(self._fetched)
        queue.pushes.append(cycle)
        self._fetched += 1
        self._next = max(self._next, cycle + 1)
        self._pushing = False
        self._find_start(engine)
        self._take()

    # Dispatch ---------------------------------------------------------------------------------

    def _find_start(self, engine: Engine) -> None:
        """When the command at the head of a queue starts, if all that it waits for is known."""
        queue = self._queues[engine]
        number = len(queue.starts)
        ready = self._ready[engine]
        if queue.found or number == len(queue.pushes) or ready is None:
            return
        index = queue.commands[number]
        if number and self._decoded[index][0] in _SINGLE:   # which begins alone
            before = self._done[queue.commands[number - 1]]
            if before >= _NEVER:
                return
            ready = max(ready, before + _ALONE)
        # It is granted in the cycle of the last of these.
        token = Dispatcher.TOKEN_LATENCY - Dispatcher.GRANT_LATENCY
        last, cause = queue.pushes[number] + self._queued + 1, Cause.FETCH
        if number:
            ready = max(ready, queue.starts[-1] + Dispatcher.PERIOD)
        if number >= Dispatcher.IN_FLIGHT:
            done = self._done[queue.commands[number - Dispatcher.IN_FLIGHT]] + token
            if done > last:
                last, cause = done, Cause.OWN
        for producer, command in self._tokens[index]:
            done = self._done[command] + token
            if done > last:
                last = done
                cause = Cause.OWN if producer is engine else _CAUSES[producer]
        if last >= _NEVER:
            return
        start = max(last + Dispatcher.GRANT_LATENCY, ready)
        self._waits[index] = start - ready, cause
        queue.found = True
        heappush(self._events, (start, self._START, engine.value))

    def _start(self, cycle: int, engine: Engine) -> None:
        queue = self._queues[engine]
        index = queue.commands[len(queue.starts)]
        queue.starts.append(cycle)
        queue.found = False
        if queue.full:
            queue.full = False
            heappush(self._events, (cycle + self._room, self._PUSH, 0))
        fields = self._decoded[index][1]
        match engine:
            case Engine.LOAD if self._decoded[index][0] in _SINGLE:
                done = self._load.turn(cycle, self._decoded[index][0], fields)
                self._finish(index, self._load.ready, done, (cycle, done))
            case Engine.LOAD:
                self._load.begin(index, cycle, fields)
                self._ready[engine] = self._load.ready
            case Engine.VECTOR:
                idle = self._vector.next is None
                self._vector.accept(index, cycle, fields)
                self._ready[engine] = self._vector.ready
                if idle:
                    self._await_word()
            case Engine.MATRIX:
                ready, done, span = self._matrix.run(cycle, fields)
                self._finish(index, ready, done, span)
            case Engine.STORE:
                ready, done, span = self._store.run(cycle, fields)
                self._finish(index, ready, done, span)
        self._find_start(engine)

    def _await_word(self) -> None:
        if self._vector.next is not None:
            heappush(self._events, (self._vector.next, self._LAST_WORD, 0))

    def _last_word(self, cycle: int) -> None:
        # What the matrix engine read meanwhile is known by now.
        if self._vector.end(cycle) <= cycle:
            index, done, span = self._vector.finish()
            self._finish(index, self._vector.ready, done, span)
        self._await_word()

    def _finish(self, index: int, ready: int | None, done: int, span: tuple[int, int]) -> None:
        """It is known when a command will be done."""
        engine = self._engines[index]
        self._ready[engine], self._done[index], self._spans[index] = ready, done, span
        for consumer in (*_MASKS[self._decoded[index][1]["post"]], engine):
            self._find_start(consumer)

    def _ask_load(self, until: int) -> None:
        """The load engine asks for bursts, before ``until`` or until something comes of it."""
        load, finished = self._load, None
        ready = self._ready[Engine.LOAD]
        while finished is None and load.next is not None and load.next < until \
                and load.ready == ready:
            finished = load.advance()
        if finished is not None:
            index, done, since = finished
            self._finish(index, load.ready, done, (since, done))
        elif load.ready != ready:
            self._ready[Engine.LOAD] = load.ready
            self._find_start(Engine.LOAD)
