"""The load and the store engine in time, burst by burst."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from weft.compiler.ops import FieldValues
from weft.hw.bus.burst import BurstSplitter
from weft.hw.bus.dma_read import ReadEngine
from weft.hw.bus.dma_write import WriteEngine
from weft.hw.isa.commands import Memory, Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.memories import geometry, moved_memory
from weft.hw.lib.queue import Queue
from weft.hw.memory.activation import ActivationMemory
from weft.hw.normalize.engine import NormalizeEngine
from weft.hw.softmax.engine import SoftmaxEngine
from weft.hw.transfer.front import TransferFront
from weft.hw.transfer.load import LoadEngine
from weft.hw.transfer.store import StoreEngine
from weft.hw.transfer.turn import TurnEngine

from .banks import Spans
from .memory import MemoryTiming, ReadPort, bursts

__all__ = ["LoadTiming", "StoreTiming", "load_overhead", "row_cycles", "store_overhead",
           "transfer_size", "turn_cycles", "turn_overhead"]


def transfer_size(config: AcceleratorConfig, opcode: Opcode,
                  fields: FieldValues) -> tuple[int, int, int]:
    """Lines of a LOAD or STORE, beats of a line, and cycles to move it inside."""
    unit = geometry(moved_memory(opcode, fields), config).unit_bytes
    beats = -(-fields["units"] * unit // config.axi_bytes)
    return fields["lines"], beats, max(beats, fields["units"])


def load_overhead(config: AcceleratorConfig, lines: int) -> int:
    """Cycles of a LOAD alone from its start until it is done, beside the latency of the memory and
    those in which it moves."""
    buffer = config.axi_outstanding * config.axi_burst_beats
    return (TransferFront.latency(lines) + BurstSplitter.LATENCY + ReadEngine.ADDRESS_LATENCY
            + Queue.latency(buffer) + LoadEngine.DONE_LATENCY)


def store_overhead(config: AcceleratorConfig, lines: int, moves: int) -> int:
    """The same of a STORE with lines of ``moves`` cycles: its first burst is packed before it is
    sent."""
    slots = max(1, config.axi_bytes // config.word_bytes)
    packed = min(moves, config.axi_burst_beats * slots)
    return (TransferFront.latency(lines) + 1 + 2 * Queue.latency(StoreEngine.WORDS_AHEAD)
            + ActivationMemory.LATENCY + packed + WriteEngine.ROOM_LATENCY
            + WriteEngine.BEAT_LATENCY + WriteEngine.DONE_LATENCY + StoreEngine.DONE_LATENCY)


def turn_cycles(config: AcceleratorConfig, fields: FieldValues) -> int:
    """Steps of a TURN."""
    blocks = -(-fields["pixels"] // config.rows) * fields["blocks"]
    return (blocks + fields["turned"]) * config.rows


def turn_overhead(config: AcceleratorConfig) -> int:
    """Cycles of a TURN from its start until it is done, beside its steps."""
    return TurnEngine.latency(config)


def row_cycles(config: AcceleratorConfig, opcode: Opcode, pixels: int, blocks: int) -> int:
    """Cycles of a SOFTMAX or a NORMALIZE from its start until it is done."""
    engine = SoftmaxEngine if opcode is Opcode.SOFTMAX else NormalizeEngine
    return engine.cycles(config, pixels, blocks)


@dataclass(frozen=True)
class _Line:
    """A line of a LOAD: where it lies, and what follows it."""
    index: int      # of the command
    offered: int    # when its command has been checked
    address: int
    beats: int
    cycles: int     # to move it
    slots: int      # cycles to move a full beat
    pattern: tuple[int, ...]  # of the parts of a word; empty if nobody is in the way
    first: bool     # of its command
    last: bool


class LoadTiming:
    """The load engine with its read engine, burst by burst.

    :meth:`begin` gives it a command; :attr:`next` is when it asks for the next burst, and
    :meth:`advance` lets it do so: nobody else may ask the port for anything before that.

    Attributes
    ----------
    next : :class:`int` or :py:`None`
        Cycle in which the next burst is issued, one before its address is on the bus.
    ready : :class:`int` or :py:`None`
        When the next command can be accepted; :py:`None` while that is not known.
    busy : :class:`int`
        Cycles in which a unit or a beat was moved, so far.
    """

    def __init__(self, config: AcceleratorConfig, port: ReadPort, *before: Spans):
        self._config = config
        self._port = port
        self._before = before  # who writes to the activation memory before it
        self._banks = config.activation_banks
        self._outstanding = config.axi_outstanding
        self._buffer = config.axi_outstanding * config.axi_burst_beats
        self._queue = Queue.latency(self._buffer)
        self.next: int | None = None
        self.ready: int | None = 0
        self.busy = 0
        self._lines: deque[_Line] = deque()  # checked, but not asked for
        self._upcoming: _Line | None = None  # asked for while the one before is cut
        self._line: _Line | None = None      # being cut into bursts
        self._bursts: Iterator[int] = iter(())
        self._length = self._left = 0        # beats of the next burst, and of the line behind it
        self._moves = 0                      # cycles to move what is left of the line
        self._asked = self._address = -1
        self._free = 0        # when the splitter takes the next line
        self._flying: deque[int] = deque(maxlen=config.axi_outstanding)  # their last beats
        self._total = 0       # beats issued
        self._taken: deque[tuple[int, int, int, int]] = deque()
        self._moved = -1      # cycle of the last move
        self._lost = 0.0      # cycles, not yet counted
        self._began = 0

    def begin(self, index: int, start: int, fields: FieldValues) -> None:
        """The engine accepts a command."""
        config = self._config
        lines, beats, cycles = transfer_size(config, Opcode.LOAD, fields)
        memory = moved_memory(Opcode.LOAD, fields)
        slots = max(1, config.axi_bytes // geometry(memory, config).unit_bytes)
        offered = start + TransferFront.latency(lines)
        parts = max(1, config.word_bytes // config.axi_bytes)
        pattern = (0,) * parts if memory is Memory.ACTIVATION else ()
        self.ready = None
        self._lines += [_Line(index, offered, fields["address"] + line * fields["stride"], beats,
                              cycles, slots, pattern, line == 0, line == lines - 1)
                        for line in range(lines)]
        if self._line is None:
            self._ask()
            self._take_line()
        elif not self._left:
            self._ask()

    def turn(self, start: int, opcode: Opcode, fields: FieldValues) -> int:
        """The engine accepts a TURN, a SOFTMAX or a NORMALIZE, for which all before it must be
        done. When it is done."""
        if opcode is Opcode.TURN:
            steps = turn_cycles(self._config, fields)
            done = start + steps + turn_overhead(self._config)
        else:
            steps = row_cycles(self._config, opcode, fields["pixels"], fields["blocks"])
            done = start + steps
        self.busy += steps
        self.ready = done + 1
        return done

    def _ask(self) -> None:
        """The splitter takes the next line."""
        if self._upcoming is not None or not self._lines:
            return
        self._upcoming = line = self._lines.popleft()
        self._asked = max(self._free, line.offered + 1)
        if line.last:
            self.ready = self._asked + 1

    def _take_line(self) -> None:
        self._line, self._upcoming = self._upcoming, None
        if self._line is None:
            self.next = None
            return
        self._left, self._moves = self._line.beats, self._line.cycles
        self._bursts = bursts(self._config, self._line.address, self._line.beats)
        if self._line.first:
            # The moving half takes a command when it has moved all of the one before.
            self._began = max(self._line.offered + Queue.latency(LoadEngine.QUEUE_DEPTH),
                              self._moved + 1)
            self._moved = self._began
        self._prepare(self._asked + BurstSplitter.LATENCY)

    def _prepare(self, cycle: int) -> None:
        """Finds out when the next burst is issued, which is there from ``cycle`` on."""
        self._length = length = next(self._bursts)
        self._left -= length
        if cycle <= self._address:
            cycle = self._address + 1
        # As many may be in flight as there are; and there must be room for any burst.
        flying = self._flying
        room = ReadEngine.ROOM_LATENCY
        if len(flying) == self._outstanding and cycle < flying[0] + room:
            cycle = flying[0] + room
        need = self._total + self._config.axi_burst_beats - self._buffer
        taken = self._taken
        while taken and taken[0][0] < need:
            taken.popleft()
        if taken:
            total, beats, end, slots = taken[0]
            found = end - (total - need) * slots + room
            if need > total - beats and cycle < found:
                cycle = found
        self.next = cycle
        if not self._left:
            self._free = cycle + 1
            self._ask()

    def advance(self) -> tuple[int, int, int] | None:
        """Issues the next burst. If it is the last one of a command: the index, when it is done,
        and since when it was moved."""
        assert self.next is not None and self._line is not None
        line, length = self._line, self._length
        issued = self.next
        self._address, first, last = self._port.read(
            issued + ReadEngine.ADDRESS_LATENCY, length)
        self._flying.append(last)
        self._total += length
        slots = line.slots
        cycles = length * slots if self._left else self._moves
        self._moves -= cycles
        # It is moved as it comes, behind what came before.
        end = max(self._moved + cycles, first + self._queue + cycles - 1,
                  last + self._queue + (cycles - 1) % slots)
        if line.pattern:
            for before in self._before:
                self._lost += before.lost(end - cycles + 1, end + 1, self._banks, line.pattern, 1)
            end += int(self._lost)
            self._lost -= int(self._lost)
        self._moved = end
        self.busy += cycles
        self._taken.append((self._total, length, end, slots))
        if self._left:
            self._prepare(issued + BurstSplitter.PERIOD)
            return None
        began = self._began
        self._take_line()
        return (line.index, end + LoadEngine.DONE_LATENCY, began) if line.last else None


class StoreTiming:
    """The store engine with its write engine.

    Attributes
    ----------
    beats : :class:`int`
        Written so far.
    busy : :class:`int`
        Cycles with a command, so far.
    """

    def __init__(self, config: AcceleratorConfig, memory: MemoryTiming,
                 port: ReadPort | None = None):
        self._config = config
        self._memory = memory
        self._port = port
        self._parts = max(1, config.word_bytes // config.axi_bytes)
        self._slots = max(1, config.axi_bytes // config.word_bytes)
        self._queue = Queue.latency(WriteEngine.BUFFER_BURSTS * config.axi_burst_beats)
        self._flying: deque[int] = deque(maxlen=config.axi_outstanding)  # their responses
        self._free = 0        # when the splitter takes the next line
        self._sent = -1
        self._read = -1000    # cycle in which the last word was asked for
        self._packed = -1000  # cycle in which the last word was packed
        # When the last beats were sent of as many bursts as there is room for, and when as many
        # commands were done as may be open.
        self._steps: deque[int] = deque([-1000] * WriteEngine.BUFFER_BURSTS,
                                        maxlen=WriteEngine.BUFFER_BURSTS)
        self._begun: deque[int] = deque(maxlen=StoreEngine.OPEN_COMMANDS)
        self.beats = 0
        self.busy = 0
        self._until = 0

    def run(self, start: int, fields: FieldValues) -> tuple[int, int, tuple[int, int]]:
        """For the command that is accepted in cycle ``start``: when the next one can be accepted,
        when it is done, and from when to when the engine works on it."""
        config = self._config
        lines, beats, _ = transfer_size(config, Opcode.STORE, fields)
        begun = max(start + TransferFront.latency(lines), self._read + 1)
        if len(self._begun) == self._begun.maxlen:
            begun = max(begun, self._begun[0])
        # A word is read in every cycle, but not too far ahead of the packer. Its address and then
        # the word itself go through a queue.
        ahead = StoreEngine.WORDS_AHEAD
        word = begun + 1
        packed = max(self._packed + 1,
                     word + 2 * Queue.latency(ahead) + ActivationMemory.LATENCY)
        address, units, response = fields["address"], fields["units"], start
        asked = begun
        for _ in range(lines):
            left = units
            asked = max(asked + 1, self._free)
            cut = asked + BurstSplitter.LATENCY
            for length in bursts(config, address, beats):
                words = min(left, length * self._slots // self._parts or 1)
                left -= words
                work = words * self._parts
                packed = max(packed, self._steps[0] - config.axi_burst_beats)
                packed += work
                filled = packed  # the last beat is in the buffer
                cycle = max(cut + WriteEngine.ISSUE_LATENCY, filled + WriteEngine.ROOM_LATENCY)
                if len(self._flying) == self._flying.maxlen:
                    cycle = max(cycle, self._flying[0] + WriteEngine.ROOM_LATENCY)
                cut = cycle + BurstSplitter.PERIOD
                self._free = cycle + 1
                first = max(cycle + WriteEngine.BEAT_LATENCY, self._sent + 1,
                            filled - length + 1 + self._queue)
                self._sent = first + self._memory.cycles(length)
                if self._port is not None:
                    self._port.write(first, length)
                self._steps.append(self._sent)
                response = self._sent + 1 + self._memory.latency
                self._flying.append(response)
                self.beats += length
            address += fields["stride"]
        self._packed = packed - 1
        self._read = max(word + lines * units - 1, packed - ahead * self._parts)
        done = response + WriteEngine.DONE_LATENCY + StoreEngine.DONE_LATENCY
        self._begun.append(done)
        self.busy += max(0, done - max(start + 1, self._until))
        self._until = done
        return asked + 1, done, (start, done)
