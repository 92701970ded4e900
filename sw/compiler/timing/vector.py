"""The vector engine in time: commands read one behind the other."""

from collections import deque
from dataclasses import dataclass
from math import prod

from weft.compiler.ops import FieldValues
from weft.hw.isa.commands import VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.vector_rules import PAIRS, REQUANTIZED, kernel_shapes, line_groups
from weft.hw.memory.activation import ActivationMemory
from weft.hw.memory.table import TableMemory
from weft.hw.vector.alu import VectorAlu
from weft.hw.vector.decode import VectorDecoder
from weft.hw.vector.drain import VectorDrain
from weft.hw.vector.engine import VectorEngine
from weft.hw.vector.issue import VectorIssue
from weft.hw.vector.output import VectorOutput
from weft.hw.vector.sequencer import VectorSequencer
from weft.hw.vector.window import VectorWindow
from weft.hw.vector.words import VectorWords

from .banks import Spans, Stream, pair_cycles

__all__ = ["Steps", "VectorTiming", "element_steps", "scales", "sweep_cycles",
           "vector_latency", "vector_overhead", "vector_steps", "window_steps"]


Pair = tuple[int, int]

Steps = tuple[Pair, Pair]
"""Cycles in which a VECTOR reads a word, or with lines may multiply without one, for the first
position of a row and for each of the others: in the first row of a channel block, and in the
others."""


def _first_word() -> int:
    """Cycles from a command that the loops take to its first word."""
    return VectorSequencer.LATENCY + VectorWords.LATENCY + VectorIssue.latency()


def _gap() -> int:
    """Cycles in which the loops make no words, from command to command."""
    return VectorSequencer.TURNAROUND + VectorSequencer.LATENCY - 1


def window_steps(config: AcceleratorConfig, kernel: Pair, *, strides: Pair = (1, 1),
                 pads: Pair = (0, 0), slide: bool = False, lines: bool = False,
                 resumes: bool = False) -> Steps:
    """The steps of a VECTOR; pairs are of the outer axis and the inner one.

    Parameters
    ----------
    kernel : (:class:`int`, :class:`int`)
        Kernel rows, or operands, and taps of a row.
    slide, lines : :class:`bool`
        The window keeps its words from position to position, and also from row to row.
    resumes : :class:`bool`
        With lines, rows in front of the first one are kept already.
    """
    rows, taps = kernel
    if lines:
        groups = len(line_groups(config, rows))
        columns = taps - min(pads[1], taps - 1)
        new = min(strides[0], rows)
        top, other = (max(groups, words) for words in (
            new if resumes else rows - min(pads[0], rows - 1), new))
        return (columns * top, strides[1] * top), (columns * other, strides[1] * other)
    if not slide:
        return ((rows * taps,) * 2,) * 2
    full, rest = divmod(taps, config.vector_taps)
    skipped = min(pads[1], min(taps, config.vector_taps) - 1)
    stride = strides[1]
    return ((rows * (taps - skipped),
             rows * (full * min(config.vector_taps, stride) + min(rest, stride))),) * 2


def element_steps(config: AcceleratorConfig, op: VectorOp) -> Steps:
    """The steps of an operation without a window: a word of each operand, which are read at a time
    with ``vector_pairs``, and passes of ADD."""
    if config.vector_pairs and op in PAIRS:
        return ((1, 1), (1, 1))
    return window_steps(config, kernel_shapes(config)[op])


def sweep_cycles(config: AcceleratorConfig, blocks: int, positions: Pair, steps: Steps, *,
                 scaled: bool) -> int:
    """Cycles in which a VECTOR reads: one for each step, but no results faster than they are
    requantized.

    Parameters
    ----------
    positions : (:class:`int`, :class:`int`)
        Of a block: rows, and those of a row.
    steps : :data:`Steps`
        From :func:`window_steps`.
    scaled : :class:`bool`
        Results are requantized.
    """
    least = config.vector_groups if scaled else 1
    rows, inner = positions
    top, other = (max(first, least) + (inner - 1) * max(others, least) for first, others in steps)
    return blocks * (top + (rows - 1) * other)


def vector_latency(config: AcceleratorConfig, *, scaled: bool) -> int:
    """Cycles from the last word that a VECTOR asks for until it is done."""
    sums, maxima = VectorAlu.latencies_of(config)
    window = ActivationMemory.LATENCY + VectorWindow.LATENCY
    result = (sums + VectorDrain.latency(config) if scaled
              else maxima + VectorEngine.CLAMP_LATENCY)
    return window + result + TableMemory.LATENCY + VectorOutput.LATENCY


def scales(fields: FieldValues) -> bool:
    """Whether the results of a VECTOR are requantized."""
    return VectorOp(fields["op"]) in REQUANTIZED


def vector_overhead(config: AcceleratorConfig, *, scaled: bool) -> int:
    """Cycles of a VECTOR from its start until it is done, beside those in which it reads."""
    return VectorDecoder.LATENCY + _first_word() - 1 + vector_latency(config, scaled=scaled)


def vector_steps(config: AcceleratorConfig, fields: FieldValues) -> Steps:
    """The steps of a VECTOR."""
    if (op := VectorOp(fields["op"])) in kernel_shapes(config):
        return element_steps(config, op)
    return window_steps(config, (fields["kernel_outer"], fields["kernel_inner"]),
                        strides=(fields["stride_outer"], fields["stride_inner"]),
                        pads=(fields["pad_outer"], fields["pad_inner"]),
                        slide=bool(fields["slide"]), lines=bool(fields["lines"]),
                        resumes=bool(fields["resumes"]))


def _patterns(config: AcceleratorConfig, fields: FieldValues) \
        -> tuple[tuple[tuple[int | None, ...], int], ...]:
    """Banks of the words that a position reads, in order, but for the first one of a row; none in a
    step that reads nothing. With lines, of one in the first row of positions and of one in the
    others; each with the steps of all such rows."""
    rows, stride = fields["kernel_outer"], fields["stride_inner"]
    outer, inner, banks = (fields["kernel_outer_step"], fields["kernel_inner_step"],
                           config.activation_banks)
    if not fields["lines"]:
        _, steps = vector_steps(config, fields)[0]
        return (tuple((row * outer + tap * inner) % banks for row in range(rows)
                      for tap in range(max(1, steps // rows))), 1),
    groups = len(line_groups(config, rows))

    def one(new: int) -> tuple[int | None, ...]:
        return tuple(bank for column in range(stride) for bank in (
            *[None] * (groups - new),
            *((column * inner + row * outer) % banks for row in range(new))))

    others = one(min(fields["stride_outer"], rows))
    if fields["resumes"]:
        return (others, len(others) * fields["out_outer"]),
    top = one(rows - min(fields["pad_outer"], rows - 1))
    return (top, len(top)), (others, len(others) * (fields["out_outer"] - 1))


@dataclass(frozen=True)
class _Sweep:
    """A command of the vector engine."""
    index: int
    start: int
    cycles: int    # to read, if nobody is in the way
    scaled: bool
    paced: bool    # words wait for the results of others to be requantized
    patterns: tuple[tuple[tuple[int | None, ...], int], ...]  # from `_patterns`
    step: int                 # of banks, from position to position
    second: int | None        # of banks, to the word of a second operand that is read beside
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
        self._gap = 0         # behind it
        self.next: int | None = None
        self.ready: int | None = 0
        self.writes, self.lookups = Spans(), Spans()
        self.busy = 0

    def accept(self, index: int, start: int, fields: FieldValues) -> None:
        """The engine accepts a command."""
        config = self._config
        (top, other), scaled = vector_steps(config, fields), scales(fields)
        blocks, positions = fields["blocks"], (fields["out_outer"], fields["out_inner"])
        cycles = sweep_cycles(config, blocks, positions, (top, other), scaled=scaled)
        banks = config.activation_banks
        step, second = fields["in_inner_step"] % banks, None
        paired = config.vector_pairs and VectorOp(fields["op"]) in PAIRS
        if paired and not fields["broadcast"]:
            second = fields["kernel_outer_step"] % banks
            cycles = max(cycles, pair_cycles(banks, second, step, blocks * prod(positions)))
        elif paired:
            cycles += 1     # the second word comes first
        self._accepted.append(_Sweep(
            index, start, cycles, scaled, scaled and other[1] < config.vector_groups,
            patterns=_patterns(config, fields), step=step, second=second,
            first=top[0] + paired, writes=Stream(fields["out_inner_step"] % banks,
                                        round(cycles / (blocks * prod(positions))))))
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
        first = _first_word()
        taken = max(sweep.start + VectorDecoder.LATENCY, self._last - first + 1 + self._gap)
        if len(self._accepted) == 1:
            self.ready = taken + 1
        self._begin = max(taken + first, self._last + 1)
        if not sweep.scaled:  # its first result must not overtake one that is requantized
            requantized = (self._scaled_last + self._latency[True] + 1
                           - TableMemory.LATENCY - VectorOutput.LATENCY)
            told = requantized + VectorEngine.SCALED_LATENCY + VectorIssue.SCALED_LATENCY
            self._begin = max(self._begin, told - (sweep.first - 1))
        latency = self._latency[sweep.scaled]
        self.writes.add(self._begin + latency, self._begin + sweep.cycles + latency, sweep.writes)
        self.next = self._begin + sweep.cycles - 1

    def end(self, cycle: int) -> int:
        """:attr:`next`, with all that the matrix engine reads until ``cycle``."""
        sweep, banks = self._accepted[0], self._config.activation_banks
        lost = sum(steps * self._reads.lost(self._begin, cycle + 1, banks, pattern, sweep.step,
                                             sweep.second)
                   for pattern, steps in sweep.patterns if steps)
        every = sum(steps for _, steps in sweep.patterns)
        self.next = self._begin + sweep.cycles - 1 + round(lost / every)
        return self.next

    def finish(self) -> tuple[int, int, tuple[int, int]]:
        """The command that reads asks for its last word: its index, when it is done, and from when
        to when the engine reads for it."""
        assert self.next is not None
        sweep, last = self._accepted.popleft(), self.next
        if sweep.scaled:
            self._scaled_last = last
        self._last = last
        # Words that wait are made in advance, and then the gap comes in advance as well.
        self._gap = 0 if sweep.paced else _gap()
        self.busy += last + 1 - self._begin
        done = last + self._latency[sweep.scaled] + 1
        span = self._begin, last + 1
        self._read()
        return sweep.index, done, span
