"""How long the engines take: one model for each of them, from the latencies of the hardware.

Time is in clock cycles. A model takes commands in order, each with the cycle in which its engine
accepts it, and tells when the engine can accept the next one and when the command is done.
:mod:`weft.compiler.timing` plays whole command streams with them.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from math import ceil
from typing import Any

from amaranth.utils import ceil_log2

from weft.config import AcceleratorConfig
from weft.errors import InputError
from weft.hw.accumulators import AccumulatorColumn
from weft.hw.activation_memory import ActivationMemory
from weft.hw.commands import Memory, Opcode, VectorOp
from weft.hw.pe import ProcessingElement
from weft.hw.pixel_streamer import PixelStreamer
from weft.hw.requantize import Requantizer
from weft.hw.systolic_array import SystolicArray
from weft.hw.vector_alu import _MULTIPLIER as VECTOR_PRODUCT
from weft.hw.vector_window import VectorWindow
from weft.hw.weight_feeder import WeightFeeder

__all__ = ["MEMORY", "FETCH_OUTSTANDING", "Cost", "LoadTiming", "MatrixTiming", "MemoryTiming",
           "ReadPort", "Spans", "StoreTiming", "Stream", "VectorTiming", "bursts", "command_cost",
           "queue_latency", "stall_rate", "step_cycles", "sweep_cycles", "transfer_size",
           "vector_latency", "vector_overhead", "vector_words", "window_words"]


Fields = Mapping[str, Any]
"""Fields of a command by name."""


@dataclass(frozen=True, kw_only=True)
class MemoryTiming:
    """What is assumed of the external memory.

    Parameters
    ----------
    latency : :class:`int`
        Cycles from an address to its first beat, and from the last beat written to the response.
    bandwidth : :class:`float` or :py:`None`
        Beats per cycle, at most 1; without it, 1. Each direction has that for itself.

    Raises
    ------
    InputError
        If one of them is not positive, or the bandwidth is above 1.
    """

    latency: int = 32
    bandwidth: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.latency, int) or self.latency < 1:
            raise InputError(f"Memory latency must be an integer of at least 1, "
                             f"not {self.latency!r}")
        if self.bandwidth is not None and not 0 < self.bandwidth <= 1:
            raise InputError(f"Memory bandwidth must be above 0 and at most 1 beat per cycle, "
                             f"not {self.bandwidth!r}")

    def cycles(self, beats: int) -> int:
        """From the first of some beats to the last."""
        return beats - 1 if self.bandwidth is None else ceil((beats - 1) / self.bandwidth)


MEMORY = MemoryTiming()
"""What is assumed if nothing else is said: the memory of the simulator."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a command takes of its engine if it need not wait for anything.

    Attributes
    ----------
    busy : :class:`int`
        Cycles until the engine can take up the next command at full speed.
    latency : :class:`int`
        Cycles from its start until it is done.
    """

    busy: int
    latency: int


def command_cost(config: AcceleratorConfig, opcode: Opcode, fields: Fields,
                 memory: MemoryTiming = MEMORY) -> Cost:
    """What a command takes alone, on an engine at rest.

    Parameters
    ----------
    fields : :class:`dict`
        Of the command; no addresses, nor differences of them, are looked at.
    """
    match opcode:
        case Opcode.MATRIX:
            matrix = MatrixTiming(config)
            _, done, (begin, end) = matrix.run(0, fields)
            return Cost(busy=end - begin, latency=done)
        case Opcode.VECTOR:
            scaled = _scaled(fields)
            cycles = sweep_cycles(config, fields["blocks"] * fields["out_outer"],
                                  fields["out_inner"], vector_words(config, fields), scaled=scaled)
            return Cost(busy=cycles, latency=cycles + vector_overhead(config, scaled=scaled))
    lines, beats, moves = transfer_size(config, opcode, fields)
    cycles = lines * max(beats, moves)
    # The first line waits for the memory, the others follow without a gap.
    return Cost(busy=cycles, latency=cycles + memory.latency + (
        _LOAD_LATENCY if opcode is Opcode.LOAD else _STORE_LATENCY))


# Banks ----------------------------------------------------------------------------------------

_TRIALS = 32  # positions; about a row, after which the addresses jump


@dataclass(frozen=True)
class Stream:
    """Words of the activation memory that one engine reads, or writes, before another may.

    Attributes
    ----------
    step : :class:`int`
        From word to word, modulo the number of banks.
    every : :class:`int`
        Cycles from word to word.
    """

    step: int
    every: int


@cache
def stall_rate(banks: int, pattern: tuple[int, ...], step: int, other: Stream) -> float:
    """Cycles, of all, that are lost to a stream that goes first.

    Parameters
    ----------
    pattern : :class:`tuple` of :class:`int`
        Addresses, modulo ``banks``, of one position of the one that has to wait. It accesses one
        in each cycle in which the bank is free.
    step : :class:`int`
        From position to position.
    """
    lost = 0
    for phase in range(banks * other.every):
        time = phase
        for position in range(_TRIALS):
            for offset in pattern:
                bank = (position * step + offset) % banks
                for _ in range(banks * other.every):
                    number, rest = divmod(time, other.every)
                    if rest or number * other.step % banks != bank:
                        break
                    time += 1
                    lost += 1
                time += 1
    return lost / (lost + banks * other.every * _TRIALS * len(pattern))


class Spans:
    """When there are which streams: spans of time in order, and in which share of each."""

    def __init__(self) -> None:
        self.last = -1  # end of all
        self._spans: deque[tuple[int, int, Stream, float]] = deque()

    def add(self, begin: int, end: int, stream: Stream, share: float = 1.0) -> None:
        """From ``begin`` to ``end`` there is a stream in a ``share`` of the cycles."""
        self._spans.append((begin, end, stream, share))
        self.last = max(self.last, end)

    def lost(self, begin: int, end: int, banks: int, pattern: tuple[int, ...],
             step: int) -> float:
        """Cycles between ``begin`` and ``end`` that are lost to them: see :func:`stall_rate`."""
        if self.last <= begin:
            return 0.0
        lost = 0.0
        for first, last, stream, share in reversed(self._spans):
            if last <= begin:
                break
            if first < end:
                cycles = (min(last, end) - max(first, begin)) * share
                lost += cycles * stall_rate(banks, pattern, step, stream)
        return lost


# Matrix ---------------------------------------------------------------------------------------

def step_cycles(config: AcceleratorConfig, pixels: int) -> int:
    """Cycles from one weight tile to the next while ``pixels`` stream through each."""
    return max(pixels, config.pe_rows, AccumulatorColumn.REUSE)


class MatrixTiming:
    """Sequencer, weight feeder, pixel streamer, accumulator halves and drain.

    Attributes
    ----------
    busy : :class:`int`
        Cycles in which a pixel entered the array, so far.
    streamed : :class:`int`
        When the last pixel has left the pixel streamer.
    reads, writes : :class:`Spans`
        Of the activation memory.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._rows = config.pe_rows
        # Cycles from an accepted step to the first row of the next, as the feeder counts them; and
        # rows that may still be unread when a step is handed over.
        to_switch = PixelStreamer.ACCEPT_TO_SWITCH - WeightFeeder.READ_LATENCY
        self._cooldown = 1 + max(0, to_switch - 1 + SystolicArray.switch_to_shift)
        self._lead = max(0, to_switch - SystolicArray.shift_to_switch)
        # From the last pixel of a tile to the first read of its sums.
        array = ProcessingElement.psum_delay + config.pe_rows
        columns = config.array_columns - 1 + AccumulatorColumn.ACCUMULATE_LATENCY
        self._to_drain = PixelStreamer.LATENCY + array + columns
        # From the last read of a sum to the word in activation memory.
        self._to_done = AccumulatorColumn.DRAIN_LATENCY + 1 + Requantizer.latency
        # Of the step before: in which cycle it was accepted by the streamer, and its first row of
        # weights was read; and its pixels.
        self._accepted, self._shifted, self._pixels = -1000, -1000, 0
        self._released = deque([-1000, -1000], maxlen=2)  # by the drain, of the last two tiles
        self.busy = 0
        self.reads, self.writes = Spans(), Spans()

    @property
    def streamed(self) -> int:
        return self._accepted + self._pixels + 1

    def run(self, start: int, fields: Fields) -> tuple[int, int, tuple[int, int]]:
        """For the command that is accepted in cycle ``start``: when the next one can be accepted,
        when it is done, and from when to when pixels stream."""
        config, rows = self._config, self._rows
        lead = max(0, rows - 1 - self._lead)
        fed = max(start + 1, self._accepted, self._shifted + rows - 1)
        shifted = max(fed + 1, self._accepted + self._cooldown)
        accepted = max(shifted + lead,
                       self._accepted + max(self._pixels, AccumulatorColumn.REUSE))
        begin, busy = None, self.busy
        steps = fields["kernel_h"] * fields["kernel_w"] * fields["channel_blocks"]
        tile, total = fields["tile_pixels"], fields["out_pixels"]
        columns = fields["col_tiles"]
        for column in range(columns):
            groups = (fields["last_groups"] if column == columns - 1 else config.requant_groups)
            for first in range(0, total, tile):
                pixels = min(tile, total - first)
                # The half that it wants has been drained.
                accepted = max(accepted, self._released[0] + 1)
                if begin is None:
                    begin = accepted + 1  # the cycle of its first pixel
                cycles = step_cycles(config, pixels)
                if steps > 1:
                    accepted += (steps - 2) * cycles
                    if steps > 2:
                        shifted = accepted - cycles + self._cooldown
                    fed = max(accepted, shifted + rows - 1)
                    shifted = max(fed + 1, accepted + self._cooldown)
                    accepted += cycles
                drained = max(accepted + pixels + self._to_drain, self._released[1] + 1)
                end = drained + pixels * groups
                self._released.append(end)
                self.writes.add(drained + self._to_done, end + self._to_done, Stream(1, 1))
                self._accepted, self._shifted, self._pixels = accepted, shifted, pixels
                self.busy += steps * pixels
                # Of the next step, if there is one.
                if first + tile < total or column < columns - 1:
                    fed = max(accepted, shifted + rows - 1)
                    shifted = max(fed + 1, accepted + self._cooldown)
                    accepted = max(shifted + lead, accepted + max(pixels, AccumulatorColumn.REUSE))
        assert begin is not None
        cycles = self.streamed - begin
        self.reads.add(begin, self.streamed,
                       Stream(fields["stride_w"] % config.activation_banks, 1),
                       min(1.0, (self.busy - busy) / cycles))
        return fed + 1, self._released[1] + self._to_done, (begin, self.streamed)


# Vector ---------------------------------------------------------------------------------------

# Of the vector engine's stages: from the start of a command to its offer by the decoder, from there
# to its first word, and from the last word to the write of its result beside what those in between
# tell of themselves.
_VECTOR_DECODE = 3
_VECTOR_FIRST = 5
_VECTOR_OUTPUT = 3


def window_words(config: AcceleratorConfig, kernel: tuple[int, int], *, stride: int, pad: int,
                 slide: bool) -> tuple[int, int]:
    """Words that a VECTOR reads for the first position of a row, and for each of the others.

    Parameters
    ----------
    kernel : (:class:`int`, :class:`int`)
        Kernel rows, or operands, and taps of a row.
    stride, pad : :class:`int`
        Along the row.
    slide : :class:`bool`
        The window keeps its words from position to position.
    """
    rows, taps = kernel
    if not slide:
        return rows * taps, rows * taps
    full, rest = divmod(taps, config.vector_taps)
    skipped = min(pad, min(taps, config.vector_taps) - 1)
    return (rows * (taps - skipped),
            rows * (full * min(config.vector_taps, stride) + min(rest, stride)))


def sweep_cycles(config: AcceleratorConfig, rows: int, positions: int, words: tuple[int, int], *,
                 scaled: bool) -> int:
    """Cycles in which a VECTOR reads: a word in each, but no results faster than they are
    requantized.

    Parameters
    ----------
    rows, positions : :class:`int`
        Of all blocks together, and in a row.
    words : (:class:`int`, :class:`int`)
        From :func:`window_words`.
    scaled : :class:`bool`
        Results are requantized.
    """
    least = config.vector_groups if scaled else 1
    first, others = words
    return rows * (max(first, least) + (positions - 1) * max(others, least))


def vector_latency(config: AcceleratorConfig, *, scaled: bool) -> int:
    """Cycles from the last word that a VECTOR asks for until it is done."""
    levels = max(1, ceil_log2(config.vector_taps))
    window = ActivationMemory.LATENCY + VectorWindow.LATENCY
    if not scaled:
        return window + levels + 2 + _VECTOR_OUTPUT
    return (window + VECTOR_PRODUCT + levels + 1 + config.vector_groups + Requantizer.latency + 1
            + _VECTOR_OUTPUT)


def _scaled(fields: Fields) -> bool:
    """Whether the results of a VECTOR are requantized."""
    return VectorOp(fields["op"]) not in (VectorOp.MAX, VectorOp.LOOKUP)


def vector_overhead(config: AcceleratorConfig, *, scaled: bool) -> int:
    """Cycles of a VECTOR from its start until it is done, beside those in which it reads."""
    return _VECTOR_DECODE + _VECTOR_FIRST - 1 + vector_latency(config, scaled=scaled)


def vector_words(config: AcceleratorConfig, fields: Fields) -> tuple[int, int]:
    """Words that a VECTOR reads for the first position of a row, and for each of the others."""
    return window_words(config, (fields["kernel_outer"], fields["kernel_inner"]),
                        stride=fields["stride_inner"], pad=fields["pad_inner"],
                        slide=bool(fields["slide"]))


@dataclass(frozen=True)
class _Sweep:
    """A command of the vector engine."""
    index: int
    start: int
    cycles: int    # to read, if nobody is in the way
    scaled: bool
    pattern: tuple[int, ...]  # of banks, of the words of a position
    step: int                 # from position to position
    first: int                # of the first position
    writes: Stream


class VectorTiming:
    """Commands read one behind the other, while the results of the one before are on their way.

    :meth:`accept` gives it a command. :attr:`next` is when the one that reads asks for its last
    word, if the matrix engine will not be in its way; then, :meth:`end` tells if it was, and
    :meth:`finish` that it was not.

    Attributes
    ----------
    next : :class:`int` or :py:`None`
    ready : :class:`int` or :py:`None`
        When the next command can be accepted; :py:`None` while that is not known.
    busy : :class:`int`
        Cycles in which words were read, or waited for, so far.
    writes, lookups : :class:`Spans`
        Of the activation memory, and of the tables.
    """

    def __init__(self, config: AcceleratorConfig, reads: Spans | None = None):
        self._config = config
        self._reads = Spans() if reads is None else reads
        # From the last word of a position to the write of its result, by whether it is scaled.
        self._latency = {scaled: vector_latency(config, scaled=scaled) - 1
                         for scaled in (False, True)}
        self._accepted: deque[_Sweep] = deque()
        self._begin = 0       # first word of the one that reads
        self._last = -1000    # last word of the one before
        self._scaled_last = -1000
        self.next: int | None = None
        self.ready: int | None = 0
        self.writes, self.lookups = Spans(), Spans()
        self.busy = 0

    def accept(self, index: int, start: int, fields: Fields) -> None:
        """The engine accepts a command."""
        config = self._config
        kernel = fields["kernel_outer"], fields["kernel_inner"]
        words, scaled = vector_words(config, fields), _scaled(fields)
        rows, inner = fields["blocks"] * fields["out_outer"], fields["out_inner"]
        cycles = sweep_cycles(config, rows, inner, words, scaled=scaled)
        banks = config.activation_banks
        in_row = max(1, words[1] // kernel[0])
        self._accepted.append(_Sweep(
            index, start, cycles, scaled,
            pattern=tuple((row * fields["kernel_outer_step"] + tap * fields["kernel_inner_step"])
                          % banks for row in range(kernel[0]) for tap in range(in_row)),
            step=fields["in_inner_step"] % banks,
            first=words[0], writes=Stream(fields["out_inner_step"] % banks,
                                          round(cycles / (rows * inner)))))
        self.ready = None
        if self.next is None:
            self._read()

    def _read(self) -> None:
        """The oldest command reads."""
        if not self._accepted:
            self.next = None
            return
        sweep = self._accepted[0]
        # The loops take a command when they have made the last group of the one before.
        taken = max(sweep.start + _VECTOR_DECODE, self._last - _VECTOR_FIRST + 1)
        if len(self._accepted) == 1:
            self.ready = taken + 1
        self._begin = max(taken + _VECTOR_FIRST, self._last + 1)
        if not sweep.scaled:  # its first result must not overtake one that is requantized
            requantized = self._scaled_last + self._latency[True] - _VECTOR_OUTPUT + 1
            self._begin = max(self._begin, requantized + 2 - sweep.first)
        latency = self._latency[sweep.scaled]
        self.writes.add(self._begin + latency, self._begin + sweep.cycles + latency, sweep.writes)
        self.next = self._begin + sweep.cycles - 1

    def end(self, cycle: int) -> int:
        """:attr:`next`, with all that the matrix engine reads until ``cycle``."""
        sweep, banks = self._accepted[0], self._config.activation_banks
        lost = self._reads.lost(self._begin, cycle + 1, banks, sweep.pattern, sweep.step)
        self.next = self._begin + sweep.cycles - 1 + round(lost)
        return self.next

    def finish(self) -> tuple[int, int, tuple[int, int]]:
        """The command that reads asks for its last word: its index, when it is done, and from when
        to when the engine reads for it."""
        assert self.next is not None
        sweep, last = self._accepted.popleft(), self.next
        if sweep.scaled:
            self._scaled_last = last
        self._last = last
        self.busy += last + 1 - self._begin
        done = last + self._latency[sweep.scaled] + 1
        span = self._begin, last + 1
        self._read()
        return sweep.index, done, span


# Transfers ------------------------------------------------------------------------------------

_FRONT = 5           # from the start to the first line asked for
_LOAD_LATENCY = 9
_STORE_LATENCY = 18 + ActivationMemory.LATENCY


@lru_cache
def _unit_bytes(config: AcceleratorConfig) -> dict[int, int]:
    """Bytes of a unit of each memory in external memory."""
    return {Memory.ACTIVATION.value: config.word_bytes,
            Memory.WEIGHT.value: config.weight_row_bytes,
            Memory.PARAMETER.value: config.parameter_entry_bytes,
            Memory.VECTOR_WEIGHT.value: config.vector_entry_bytes,
            Memory.VECTOR_PARAMETER.value: config.parameter_entry_bytes,
            Memory.TABLE.value: 1}


def transfer_size(config: AcceleratorConfig, opcode: Opcode,
                  fields: Fields) -> tuple[int, int, int]:
    """Lines of a LOAD or STORE, beats of a line, and cycles to move it inside."""
    memory = Memory.ACTIVATION if opcode is Opcode.STORE else Memory(fields["memory"])
    unit = _unit_bytes(config)[memory.value]
    beats = -(-fields["units"] * unit // config.axi_bytes)
    return fields["lines"], beats, max(beats, fields["units"])


def bursts(config: AcceleratorConfig, address: int, beats: int) -> Iterator[int]:
    """Lengths of the bursts that a run of beats is cut into: see
    :class:`~weft.hw.burst.BurstSplitter`."""
    page = (_PAGE_BYTES - address % _PAGE_BYTES) // config.axi_bytes
    while beats:
        length = min(beats, page, config.axi_burst_beats)
        yield length
        beats -= length
        page -= length
        if not page:
            page = _PAGE_BYTES // config.axi_bytes


FETCH_OUTSTANDING = 2
"""Bursts of commands in flight at a time: see :class:`~weft.hw.core.Core`."""

_PAGE_BYTES = 4096
_DISTRIBUTED_DEPTH = 16


def queue_latency(depth: int) -> int:
    """Of :class:`~weft.hw.queue.Queue`."""
    return 1 if depth <= _DISTRIBUTED_DEPTH else 2


class ReadPort:
    """The read half of the memory port: bursts are answered in the order of their addresses.

    Attributes
    ----------
    beats : :class:`int`
        Transferred so far.
    """

    def __init__(self, memory: MemoryTiming):
        self._memory = memory
        self._latency = memory.latency
        self._address = -1  # cycle of the last address
        self._free = 0      # first cycle without a beat
        self.beats = 0

    def read(self, cycle: int, beats: int) -> tuple[int, int, int]:
        """An address that wants the bus from ``cycle`` on: when it gets it, and the cycles of its
        first and its last beat."""
        address = self._address + 1
        if address < cycle:
            address = cycle
        self._address = address
        first = address + self._latency
        if first < self._free:
            first = self._free
        last = first + self._memory.cycles(beats)
        self._free = last + 1
        self.beats += beats
        return address, first, last


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
        self._queue = queue_latency(self._buffer)
        self.next: int | None = None
        self.ready: int | None = 0
        self.busy = 0
        self._lines: deque[_Line] = deque()  # checked, but not asked for
        self._upcoming: _Line | None = None  # asked for while the one before is cut
        self._line: _Line | None = None      # being cut into bursts
        self._bursts: Iterator[int] = iter(())
        self._length = self._left = 0        # beats of the next burst, and of the line behind it
        self._moves = 0                      # cycles to move what is left of the line
        self._asked = self._split = self._issued = self._address = -1
        self._flying: deque[int] = deque(maxlen=config.axi_outstanding)  # their last beats
        self._total = 0       # beats issued
        self._taken: deque[tuple[int, int, int, int]] = deque()
        self._moved = -1      # cycle of the last move
        self._lost = 0.0      # cycles, not yet counted
        self._began = 0

    def begin(self, index: int, start: int, fields: Fields) -> None:
        """The engine accepts a command."""
        config = self._config
        lines, beats, cycles = transfer_size(config, Opcode.LOAD, fields)
        slots = max(1, config.axi_bytes // _unit_bytes(config)[Memory(fields["memory"]).value])
        offered = start + 3 + (lines - 1).bit_length()
        parts = max(1, config.word_bytes // config.axi_bytes)
        pattern = (0,) * parts if fields["memory"] == Memory.ACTIVATION.value else ()
        self.ready = None
        self._lines += [_Line(index, offered, fields["address"] + line * fields["stride"], beats,
                              cycles, slots, pattern, line == 0, line == lines - 1)
                        for line in range(lines)]
        if self._line is None:
            self._ask()
            self._take_line()
        elif not self._left:
            self._ask()

    def _ask(self) -> None:
        """The splitter takes the next line."""
        if self._upcoming is not None or not self._lines:
            return
        self._upcoming = line = self._lines.popleft()
        self._asked = max(self._asked + 1, self._split, line.offered + 1)
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
            self._began = max(self._line.offered + 1, self._moved + 1)
            self._moved = self._began
        self._prepare(self._asked + 1)

    def _prepare(self, split: int) -> None:
        """Finds out when the next burst is issued."""
        self._length = length = next(self._bursts)
        self._left -= length
        issued = self._issued
        if split < issued:
            split = issued
        self._split = split
        cycle = split + 1
        if cycle < self._address:
            cycle = self._address
        # As many may be in flight as there are; and there must be room for it in the buffer.
        flying = self._flying
        if len(flying) == self._outstanding and cycle <= flying[0]:
            cycle = flying[0] + 1
        need = self._total + length - self._buffer
        taken = self._taken
        while taken and taken[0][0] < need:
            taken.popleft()
        if taken:
            total, beats, end, slots = taken[0]
            room = end - (total - need) * slots + 1
            if need > total - beats and cycle < room:
                cycle = room
        self.next = cycle
        if not self._left:
            self._ask()

    def advance(self) -> tuple[int, int, int] | None:
        """Issues the next burst. If it is the last one of a command: the index, when it is done,
        and since when it was moved."""
        assert self.next is not None and self._line is not None
        line, length = self._line, self._length
        self._issued = self.next
        self._address, first, last = self._port.read(self.next + 1, length)
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
            self._prepare(self._split + 1)
            return None
        began = self._began
        self._take_line()
        return (line.index, end + 2, began) if line.last else None


class StoreTiming:
    """The store engine with its write engine.

    Attributes
    ----------
    beats : :class:`int`
        Written so far.
    busy : :class:`int`
        Cycles with a command, so far.
    """

    def __init__(self, config: AcceleratorConfig, memory: MemoryTiming):
        self._config = config
        self._memory = memory
        self._parts = max(1, config.word_bytes // config.axi_bytes)
        self._slots = max(1, config.axi_bytes // config.word_bytes)
        self._queue = queue_latency(2 * config.axi_burst_beats + 1)
        self._flying: deque[int] = deque(maxlen=config.axi_outstanding)  # their responses
        self._asked = self._split = self._issued = self._address = self._sent = -1
        self._read = -1000    # cycle in which the last word was asked for
        self._packed = -1000  # cycle in which the last word was packed
        self._steps: deque[int] = deque([-1000, -1000], maxlen=2)
        self._begun: deque[int] = deque(maxlen=4)
        self.beats = 0
        self.busy = 0
        self._until = 0

    def run(self, start: int, fields: Fields) -> tuple[int, int, tuple[int, int]]:
        """For the command that is accepted in cycle ``start``: when the next one can be accepted,
        when it is done, and from when to when the engine works on it."""
        config = self._config
        lines, beats, _ = transfer_size(config, Opcode.STORE, fields)
        begun = max(start + 3 + (lines - 1).bit_length(), self._read + 1)
        if len(self._begun) == self._begun.maxlen:
            begun = max(begun, self._begun[0])
        self._asked = max(begun, self._asked)
        # A word is read in every cycle, but not more than 16 ahead of the packer.
        word = begun + 1
        packed = max(self._packed + 1, word + 2 + ActivationMemory.LATENCY)
        address, units, response = fields["address"], fields["units"], start
        for _ in range(lines):
            left = units
            self._asked = max(self._asked + 1, self._split)
            split_from = self._asked + 1
            for length in bursts(config, address, beats):
                words = min(left, length * self._slots // self._parts or 1)
                left -= words
                work = words * self._parts
                packed = max(packed, self._steps[0] - config.axi_burst_beats)
                packed += work
                filled = packed  # the last beat is in the buffer
                split = max(split_from, self._issued)
                split_from = split + 1
                cycle = max(split + 1, self._address, filled + 1)
                if len(self._flying) == self._flying.maxlen:
                    cycle = max(cycle, self._flying[0] + 1)
                self._split = split
                self._issued = cycle
                self._address = cycle + 1
                first = max(cycle + 1, self._sent + 1, filled - length + 1 + self._queue)
                self._sent = first + self._memory.cycles(length)
                self._steps.append(self._sent)
                response = self._sent + 1 + self._memory.latency
                self._flying.append(response)
                self.beats += length
            address += fields["stride"]
        self._packed = packed - 1
        self._read = max(word + lines * units - 1, packed - 16 * self._parts)
        done = response + 2
        self._begun.append(response + 2)
        self.busy += max(0, done - max(start + 1, self._until))
        self._until = done
        return max(self._asked + 1, begun), done, (start, done)
