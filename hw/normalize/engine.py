"""The normalization engine: rows of words in the activation memory, normalized."""

from typing import Any

from amaranth import *
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.utils import exact_log2

from weft.hw.floating.multiply_add import MultiplyAdd
from weft.hw.floating.number import SIGNIFICAND_BITS, Float, float_of
from weft.hw.floating.sum import FloatSum, addend_of
from weft.hw.isa.commands import NormalizeCommand, RowConstant
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.limits import NORMALIZED_LANES as LANES
from weft.hw.lib.checks import require
from weft.hw.lib.delay import delay
from weft.hw.memory.activation import ActivationMemory
from weft.hw.memory.registered import RegisteredMemory
from weft.hw.rows.constants import constant_memory
from weft.hw.rows.engine import RowEngine
from weft.hw.rows.sweep import RowSweep
from weft.hw.rows.walk import ROWS

from .statistics import RowStatistics
from .sums import ExactSums
from .thresholds import ThresholdQuantizer

__all__ = ["NormalizeEngine"]


_READ = RegisteredMemory.LATENCY

# Cycles from a lane of a sweep.
_VALUE    = _READ
_DISTANCE = _VALUE + FloatSum.LATENCY
_PRODUCT  = _DISTANCE + MultiplyAdd.LATENCY     # or its square, added to those before
_SCALED   = _PRODUCT + MultiplyAdd.LATENCY
_RESULT   = _SCALED + ThresholdQuantizer.LATENCY

assert ROWS * LANES > MultiplyAdd.LATENCY   # until the next square of the same lane


class NormalizeEngine(RowEngine):
    """Executes NORMALIZE commands.

    The lanes of a batch are gone through three times: for the sums of rows, for those of the
    squares of distances from the mean, and for the results. Between them :class:`RowStatistics`
    work out what the next pass needs. One unit multiplies and adds for the squares and all sums of
    them, and in the last pass for what is then scaled and shifted by another.

    See :class:`RowEngine`. ``ARGUMENT`` is also a length or a rate without its first bit, or more
    channels than there is room for.
    """

    COMMAND = NormalizeCommand

    @staticmethod
    def cycles(config: AcceleratorConfig, pixels: int, blocks: int) -> int:
        """Cycles of a command from when it is accepted to ``done``, if nobody is in the way."""
        lanes, batches = config.word_lanes, -(-pixels // ROWS)
        # The words of its first group are read; three passes follow, with the statistics between.
        ahead  = ActivationMemory.LATENCY + 1
        passes = 3 * blocks * (ROWS * lanes + 1)
        mean   = _VALUE + ExactSums.ADD_LATENCY + RowStatistics.MEAN_CYCLES + 1
        factor = _PRODUCT + RowStatistics.FACTOR_CYCLES + 1
        last   = pixels - (batches - 1) * ROWS
        return pixels + batches * (ahead + passes + mean + factor) + 4 + _RESULT + last

    def _sweep(self) -> RowSweep:
        return RowSweep(self._config, passes=3, latency=_RESULT)

    def _impossible(self, job: Any) -> Value:
        most = self._config.normalize_channels // self._config.word_lanes
        return ~job.length[-1] | ~job.rate[-1] | (job.blocks > most)

    def _compute(self, m: Module, job: Any, sweep: RowSweep) -> None:
        tables = {name: constant_memory(m, self.row_constant, start, depth, step)
                  for name, start, depth, step in (
                      ("terms", RowConstant.TERMS, 256, 1),
                      ("thresholds", RowConstant.THRESHOLDS, 256, 1),
                      ("scale", RowConstant.CHANNELS, self._config.normalize_channels, 2),
                      ("shift", RowConstant.CHANNELS + 1, self._config.normalize_channels, 2))}
        for name, table in tables.items():
            m.submodules[name] = table
            m.d.comb += table.read_enable.eq(1)
        trail = _Trail(m, sweep)

        m.d.comb += tables["terms"].read_address.eq(sweep.value)
        number = float_of(m, Value.cast(tables["terms"].read_data), "value")
        m.submodules.statistics = statistics = RowStatistics()
        known = Signal(2)   # mean and factor, until the pass that needs them begins
        m.d.sync += known.eq((known | Cat(statistics.mean_known, statistics.factor_known))
                             & ~sweep.opens[1:])
        m.d.comb += [
            sweep.hold.eq(Cat(C(0, 1), ~known)),
            statistics.length.significand.eq(job.length << SIGNIFICAND_BITS - len(job.length)),
            statistics.length.exponent.eq(job.length_exponent),
        ]
        self._add_values(m, job, trail, number, statistics)
        distance = self._take_mean(m, trail, number, statistics)
        product  = self._multiply(m, job, trail, distance, statistics)
        self._finish(m, job, trail, product, tables, sweep)

    def _add_values(self, m: Module, job: Any, trail: "_Trail", number: Any,
                    statistics: RowStatistics) -> None:
        """The first pass."""
        use, valid = trail.at(_VALUE)
        m.submodules.sums = sums = ExactSums()
        m.d.comb += [
            sums.exponent.eq(job.sum_exponent),
            sums.row.eq(use.row),
            Value.cast(sums.value).eq(Value.cast(number)),
            sums.add.eq(valid & use.inside & (use.number == 0)),
            sums.first.eq(use.first),
            sums.asked.eq(statistics.asked),
            Value.cast(statistics.sum).eq(Value.cast(sums.sum)),
            statistics.summed.eq(delay(m, valid & use.ends & (use.number == 0),
                                       ExactSums.ADD_LATENCY, name="summed")),
        ]

    def _take_mean(self, m: Module, trail: "_Trail", number: Any, statistics: RowStatistics) -> Any:
        """The distances of values from the mean of their row."""
        use, _ = trail.at(_VALUE)
        m.submodules.distance = distance = FloatSum()
        mean = statistics.mean[use.row]
        m.d.comb += [
            Value.cast(distance.a).eq(Value.cast(addend_of(m, number, "x"))),
            Value.cast(distance.b).eq(Value.cast(addend_of(m, mean, "mean", minus=True))),
        ]
        return distance.o

    def _multiply(self, m: Module, job: Any, trail: "_Trail", distance: Any,
                  statistics: RowStatistics) -> Any:
        """Adds up squares, and multiplies with the factor of the row."""
        m.submodules.lanes = lanes = Memory(shape=unsigned(Float.as_shape().size),
                                            depth=ROWS * LANES, init=[])
        put, own, other = lanes.write_port(), lanes.read_port(domain="comb"), \
            lanes.read_port(domain="comb")
        m.submodules.multiply = multiply = MultiplyAdd()
        use, valid = trail.at(_DISTANCE)
        step, steps = statistics.step, statistics.steps
        squares = valid & (use.number == 1)
        require(m, ~(steps & squares), "lanes are added up when all squares are")
        lane: Any = Signal(data.StructLayout({
            "row": range(ROWS), "number": range(LANES), "written": 1, "last": 1}))
        m.d.comb += [
            lane.row.eq(Mux(steps, step.row, use.row)),
            lane.number.eq(Mux(steps, step.lane, use.channel[:exact_log2(LANES)])),
            lane.written.eq(Mux(steps, ~step.epsilon, squares & use.inside)),
            lane.last.eq(squares & use.ends),
            own.addr.eq(Cat(lane.row, lane.number)),
            other.addr.eq(Cat(step.row, step.other)),
            Value.cast(statistics.lane).eq(other.data),
        ]
        number: Any  = Signal(Float)
        epsilon: Any = float_of(m, job.epsilon, "epsilon")
        m.d.comb += Value.cast(number).eq(Value.cast(statistics.number[lane.row]))
        with m.If(steps):
            m.d.comb += [
                Value.cast(multiply.a).eq(Mux(step.epsilon, Value.cast(number), other.data)),
                multiply.b.significand.eq(1 << SIGNIFICAND_BITS - 1),
                Value.cast(multiply.c).eq(Mux(step.epsilon, Value.cast(epsilon), own.data)),
            ]
        with m.Else():
            m.d.comb += [
                Value.cast(multiply.a).eq(Value.cast(distance)),
                Value.cast(multiply.b).eq(Value.cast(Mux(squares, distance, number))),
                Value.cast(multiply.c).eq(Mux(squares & (use.channel >= LANES), own.data, 0)),
            ]
        back: Any = delay(m, lane, MultiplyAdd.LATENCY, name="lane")
        m.d.comb += [
            put.addr.eq(Cat(back.row, back.number)),
            put.data.eq(Value.cast(multiply.o)),
            put.en.eq(back.written),
            statistics.squared.eq(back.last),
            Value.cast(statistics.added).eq(Value.cast(multiply.o)),
        ]
        return multiply.o

    def _finish(self, m: Module, job: Any, trail: "_Trail", product: Any, tables: dict[str, Any],
                sweep: RowSweep) -> None:
        """Scales and shifts the last pass, and quantizes it."""
        early, _ = trail.at(_PRODUCT - _READ)
        m.submodules.scaled = scaled = MultiplyAdd()
        m.submodules.quantizer = quantizer = ThresholdQuantizer()
        m.d.comb += Value.cast(scaled.a).eq(Value.cast(product))
        for port, name in ((scaled.b, "scale"), (scaled.c, "shift")):
            m.d.comb += [
                tables[name].read_address.eq(early.channel),
                Value.cast(port).eq(Value.cast(float_of(
                    m, Value.cast(tables[name].read_data), name))),
            ]
        use, valid = trail.at(_RESULT)
        m.d.comb += [
            Value.cast(quantizer.i).eq(Value.cast(scaled.o)),
            quantizer.rate.eq(job.rate),
            quantizer.rate_exponent.eq(job.rate_exponent),
            quantizer.zero.eq(job.out_zero),
            tables["thresholds"].read_address.eq(quantizer.index),
            quantizer.threshold.eq(Value.cast(tables["thresholds"].read_data)),
            sweep.result.eq(Mux(use.inside, quantizer.o, job.out_zero)),
            Value.cast(sweep.result_use).eq(Value.cast(use)),
            sweep.result_valid.eq(valid & (use.number == 2)),
        ]


class _Trail:
    """What the lanes of a sweep are for, some cycles later."""

    def __init__(self, m: Module, sweep: RowSweep):
        self._m = m
        self._known: dict[int, tuple[Any, Value]] = {0: (sweep.use, sweep.valid)}

    def at(self, cycles: int) -> tuple[Any, Value]:
        """Use and validity after ``cycles``."""
        nearest = max(known for known in self._known if known <= cycles)
        use, valid = self._known[nearest]
        behind = cycles - nearest
        self._known[cycles] = (
            delay(self._m, use, behind, name=f"use_{cycles}", reset_less=True),
            delay(self._m, valid, behind, name=f"valid_{cycles}"))
        return self._known[cycles]
