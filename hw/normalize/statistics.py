"""Mean and factor of the rows of a batch."""

from typing import Any

from amaranth import *
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from weft.hw.floating.multiply_add import MultiplyAdd
from weft.hw.floating.number import Float
from weft.hw.floating.quotient import QuotientOrRoot
from weft.hw.floating.sum import Addend, addend_of
from weft.hw.isa.limits import NORMALIZED_LANES as LANES
from weft.hw.lib.checks import require
from weft.hw.lib.float32 import SIGNIFICAND_BITS
from weft.hw.rows.walk import ROWS

from .sums import ExactSums

__all__ = ["RowStatistics", "Step"]


_LEAD      = ExactSums.LATENCY
_QUOTIENTS = ROWS + QuotientOrRoot.LATENCY
_ADD       = MultiplyAdd.LATENCY
_FOLDS     = sum(ROWS * (LANES >> number) + _ADD for number in range(1, LANES.bit_length()))


class Step(data.Struct):
    """An operation of the unit that multiplies and adds, on numbers of a row."""
    row:     range(ROWS)
    lane:    range(LANES)   # to this one
    other:   range(LANES)   # is added this one
    epsilon: 1              # or epsilon to the number of the row


class _Phase(enum.Enum, shape=3):
    IDLE       = 0
    MEAN       = 1  # sum / length
    FOLD       = 2  # lane + lane
    VARIANCE   = 3  # lane 0 / length
    EPSILON    = 4  # number + epsilon
    ROOT       = 5  # root of the number
    RECIPROCAL = 6  # 1 / number


class RowStatistics(wiring.Component):
    """Computes what the passes over a batch need: the means between the first and the second, and
    between the second and the third the reciprocals of the square roots of variances.

    Each row has a part of its own for quotients and roots, and a register for the number that it
    works on. The rows of a unit begin one cycle after the other, as those of all others do.

    Parameters
    ----------
    units : :class:`int`
        Units with :data:`ROWS` rows each.

    Members
    -------
    length : :py:`In(Float)`
        Values of a row.
    summed : :py:`In(1)`
        The sums of the batch are complete.
    squared : :py:`In(1)`
        So are the squares.
    asked : :py:`Out(range(ROWS))`
        Row whose sum is wanted.
    sum : :py:`In(data.ArrayLayout(Addend, units))`
        Its sum in each unit, ``ExactSums.LATENCY`` cycles later.
    step : :py:`Out(Step)`
        Something to add up.
    steps : :py:`Out(1)`
        There is a step.
    lane : :py:`In(data.ArrayLayout(Float, units))`
        Lane ``other`` of the row of ``step``, in the same cycle.
    added : :py:`In(data.ArrayLayout(Float, units))`
        What a step for epsilon made, ``MultiplyAdd.LATENCY`` cycles later.
    mean : :py:`Out(data.ArrayLayout(data.ArrayLayout(Float, ROWS), units))`
    number : :py:`Out(data.ArrayLayout(data.ArrayLayout(Float, ROWS), units))`
        At the end, the factor of each row.
    mean_known, factor_known : :py:`Out(1)`
        They are complete in the next cycle.
    """

    def __init__(self, units: int) -> None:
        self._units = units
        numbers = data.ArrayLayout(data.ArrayLayout(Float, ROWS), units)
        super().__init__({
            "length":       In(Float),
            "summed":       In(1),
            "squared":      In(1),
            "asked":        Out(range(ROWS)),
            "sum":          In(data.ArrayLayout(Addend, units)),
            "step":         Out(Step),
            "steps":        Out(1),
            "lane":         In(data.ArrayLayout(Float, units)),
            "added":        In(data.ArrayLayout(Float, units)),
            "mean":         Out(numbers),
            "number":       Out(numbers),
            "mean_known":   Out(1),
            "factor_known": Out(1),
        })

    MEAN_CYCLES = _LEAD + _QUOTIENTS
    """From ``summed`` to ``mean_known``."""

    FACTOR_CYCLES = _FOLDS + 3 * _QUOTIENTS + ROWS + _ADD
    """From ``squared`` to ``factor_known``."""

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        phase = Signal(_Phase)
        time  = Signal(range(ROWS * LANES + _ADD + _LEAD + _QUOTIENTS), reset_less=True)
        half  = Signal(range(LANES), reset_less=True)   # lanes to fold into
        length = Signal.like(time)      # of the phase
        ends   = Signal()
        with m.Switch(phase):
            with m.Case(_Phase.MEAN):
                m.d.comb += length.eq(_LEAD + _QUOTIENTS)
            with m.Case(_Phase.FOLD):
                m.d.comb += length.eq(half * ROWS + _ADD)
            with m.Case(_Phase.EPSILON):
                m.d.comb += length.eq(ROWS + _ADD)
            with m.Default():
                m.d.comb += length.eq(_QUOTIENTS)
        m.d.comb += [
            ends.eq((phase != _Phase.IDLE) & (time == length - 1)),
            self.mean_known.eq(ends & (phase == _Phase.MEAN)),
            self.factor_known.eq(ends & (phase == _Phase.RECIPROCAL)),
        ]
        m.d.sync += time.eq(Mux(ends | (phase == _Phase.IDLE), 0, time + 1))
        follows = {_Phase.MEAN: _Phase.IDLE, _Phase.VARIANCE: _Phase.EPSILON,
                   _Phase.EPSILON: _Phase.ROOT, _Phase.ROOT: _Phase.RECIPROCAL,
                   _Phase.RECIPROCAL: _Phase.IDLE}
        with m.If(ends):
            with m.Switch(phase):
                for one, other in follows.items():
                    with m.Case(one):
                        m.d.sync += phase.eq(other)
                with m.Default():
                    m.d.sync += half.eq(half >> 1)
                    with m.If(half == 1):
                        m.d.sync += phase.eq(_Phase.VARIANCE)
        with m.If(self.summed):
            m.d.sync += phase.eq(_Phase.MEAN)
        with m.If(self.squared):
            m.d.sync += [phase.eq(_Phase.FOLD), half.eq(LANES // 2)]
        require(m, (phase == _Phase.IDLE) | ~(self.summed | self.squared),
                "the statistics of a batch are complete before the next pass is")

        row = time[:exact_log2(ROWS)]
        folds, adds = phase == _Phase.FOLD, phase == _Phase.EPSILON
        m.d.comb += [
            self.asked.eq(row),
            self.step.row.eq(row),
            self.step.lane.eq(Mux(folds, time[exact_log2(ROWS):], 0)),
            self.step.other.eq(Mux(folds, self.step.lane + half, 0)),
            self.step.epsilon.eq(adds),
            self.steps.eq((folds & (time < half * ROWS)) | (adds & (time < ROWS))),
        ]
        back, added = self._row_of(time, _ADD)
        for unit in range(self._units):
            self._divide(m, unit, phase, time)
            with m.If(adds & added):
                m.d.sync += self.number[unit][back].eq(self.added[unit])
        return m

    def _row_of(self, time: Value, since: Any) -> tuple[Value, Value]:
        """Whose turn it is if the rows began at a time, and whether it is one's."""
        passed = (time - since).as_signed()
        return passed[:exact_log2(ROWS)], (passed >= 0) & (passed < ROWS)

    def _divide(self, m: Module, unit: int, phase: Any, time: Value) -> None:
        """Quotients and roots of the rows of a unit, and where they go."""
        lead = Mux(phase == _Phase.MEAN, _LEAD, 0)
        row, starts = self._row_of(time, lead)
        number: Any = Signal(Float)
        one: Any    = Signal(Float)
        b: Any      = Signal(Float)
        a: Any      = Signal(Addend)
        m.d.comb += [
            Value.cast(number).eq(Value.cast(self.number[unit][row])),
            one.significand.eq(1 << SIGNIFICAND_BITS - 1),
            Value.cast(b).eq(Value.cast(self.length)),
        ]
        sources = {phase_: addend_of(m, source, name) for phase_, source, name in (
            (_Phase.VARIANCE, self.lane[unit], "squares"), (_Phase.ROOT, number, "square"),
            (_Phase.RECIPROCAL, one, "unit"))}
        with m.Switch(phase):
            for name, source in sources.items():
                with m.Case(name):
                    m.d.comb += Value.cast(a).eq(Value.cast(source))
            with m.Default():
                m.d.comb += Value.cast(a).eq(Value.cast(self.sum[unit]))
        with m.If(phase == _Phase.RECIPROCAL):
            m.d.comb += Value.cast(b).eq(Value.cast(number))
        divides = Cat(phase == name for name in (_Phase.MEAN, *sources)).any()

        place, found = self._row_of(time, lead + QuotientOrRoot.LATENCY)
        results: Any = Signal(data.ArrayLayout(Float, ROWS))
        for index in range(ROWS):
            m.submodules[f"quotient_{unit}_{index}"] = quotient = QuotientOrRoot()
            m.d.comb += [
                quotient.start.eq(divides & starts & (row == index)),
                quotient.root.eq(phase == _Phase.ROOT),
                Value.cast(quotient.a).eq(Value.cast(a)),
                Value.cast(quotient.b).eq(Value.cast(b)),
                Value.cast(results[index]).eq(Value.cast(quotient.o)),
            ]
        with m.If(divides & found):
            with m.If(phase == _Phase.MEAN):
                m.d.sync += self.mean[unit][place].eq(results[place])
            with m.Else():
                m.d.sync += self.number[unit][place].eq(results[place])
