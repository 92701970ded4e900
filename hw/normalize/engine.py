"""The normalization engine: rows of words in the activation memory, normalized."""

from typing import Any

from amaranth import *
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.utils import exact_log2

from weft.hw.floating.multiply_add import MultiplyAdd
from weft.hw.floating.number import Float, float_of
from weft.hw.floating.sum import FloatSum, addend_of
from weft.hw.isa.commands import NormalizeCommand
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.constants import RowConstant
from weft.hw.isa.limits import NORMALIZED_LANES as LANES
from weft.hw.lib.checks import require
from weft.hw.lib.delay import delay
from weft.hw.lib.float32 import SIGNIFICAND_BITS
from weft.hw.memory.activation import ActivationMemory
from weft.hw.memory.registered import RegisteredMemory
from weft.hw.rows.constants import constant_memory
from weft.hw.rows.engine import RowEngine
from weft.hw.rows.sweep import RowSweep
from weft.hw.rows.walk import ROWS, batch_rows

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
    work out what the next pass needs. In each unit one part multiplies and adds for the squares and
    all sums of them, and in the last pass for what is then scaled and shifted by another.

    See :class:`RowEngine`. ``ARGUMENT`` is also a length or a rate without its first bit, or more
    channels than there is room for.
    """

    COMMAND = NormalizeCommand

    @staticmethod
    def cycles(config: AcceleratorConfig, pixels: int, blocks: int) -> int:
        """Cycles of a command from when it is accepted to ``done``, if nobody is in the way."""
        lanes, rows = config.word_lanes, batch_rows(config)
        batches = -(-pixels // rows)
        # The words of its first group are read; three passes follow, with the statistics between.
        ahead  = ActivationMemory.LATENCY + 1
        passes = 3 * blocks * (ROWS * lanes + 1)
        mean   = _VALUE + ExactSums.ADD_LATENCY + RowStatistics.MEAN_CYCLES + 1
        factor = _PRODUCT + RowStatistics.FACTOR_CYCLES + 1
        last   = pixels - (batches - 1) * rows
        return pixels + batches * (ahead + passes + mean + factor) + 4 + _RESULT + last

    def _sweep(self) -> RowSweep:
        return RowSweep(self._config, passes=3, latency=_RESULT)

    def _impossible(self, job: Any) -> Value:
        most = self._config.normalize_channels // self._config.word_lanes
        return ~job.length[-1] | ~job.rate[-1] | (job.blocks > most)

    def _compute(self, m: Module, job: Any, sweep: RowSweep) -> None:
        trail = _Trail(m, sweep)
        m.submodules.statistics = statistics = RowStatistics(self._config.row_units)
        known = Signal(2)   # mean and factor, until the pass that needs them begins
        m.d.sync += known.eq((known | Cat(statistics.mean_known, statistics.factor_known))
                             & ~sweep.opens[1:])
        m.d.comb += [
            sweep.hold.eq(Cat(C(0, 1), ~known)),
            statistics.length.significand.eq(job.length << SIGNIFICAND_BITS - len(job.length)),
            statistics.length.exponent.eq(job.length_exponent),
        ]
        use, valid = trail.at(_VALUE)
        m.d.comb += statistics.summed.eq(delay(
            m, valid & use.ends & (use.number == 0), ExactSums.ADD_LATENCY, name="summed"))
        factors = self._look_up_factors(m, trail)
        use, valid = trail.at(_RESULT)
        for unit in range(self._config.row_units):
            m.submodules[f"unit_{unit}"] = part = Module()
            number   = self._look_up(part, sweep.value[unit])
            total    = self._add_values(part, job, unit, trail, number, statistics)
            distance = self._take_mean(part, unit, trail, number, statistics)
            product, lane = self._multiply(part, job, unit, trail, distance, statistics)
            result   = self._finish(part, job, product, factors)
            m.d.comb += [
                Value.cast(statistics.sum[unit]).eq(Value.cast(total)),
                Value.cast(statistics.lane[unit]).eq(lane),
                Value.cast(statistics.added[unit]).eq(Value.cast(product)),
                sweep.result[unit].eq(Mux(use.inside[unit], result, job.out_zero)),
            ]
        m.d.comb += [
            Value.cast(sweep.result_use).eq(Value.cast(use)),
            sweep.result_valid.eq(valid & (use.number == 2)),
        ]
        self._tell_squares(m, trail, statistics)

    def _table(self, m: Module, name: str, address: Value) -> Value:
        """What a table of ROW_CONSTANT holds at an address."""
        channels = self._config.normalize_channels
        start, depth, step = {
            "terms": (RowConstant.TERMS, 256, 1), "thresholds": (RowConstant.THRESHOLDS, 256, 1),
            "scale": (RowConstant.CHANNELS, channels, 2),
            "shift": (RowConstant.CHANNELS + 1, channels, 2)}[name]
        m.submodules[name] = table = constant_memory(m, self.row_constant, start, depth, step)
        m.d.comb += [table.read_enable.eq(1), table.read_address.eq(address)]
        return Value.cast(table.read_data)

    def _look_up(self, m: Module, value: Value) -> Any:
        """What the value of a lane stands for."""
        return float_of(m, self._table(m, "terms", value), "value")

    def _look_up_factors(self, m: Module, trail: "_Trail") -> dict[str, Any]:
        """Scale and shift of the channel, for the products of all units."""
        early, _ = trail.at(_PRODUCT - _READ)
        return {name: float_of(m, self._table(m, name, early.channel), name)
                for name in ("scale", "shift")}

    def _add_values(self, m: Module, job: Any, unit: int, trail: "_Trail", number: Any,
                    statistics: RowStatistics) -> Any:
        """The first pass; the sum of the row that the statistics ask for."""
        use, valid = trail.at(_VALUE)
        m.submodules.sums = sums = ExactSums()
        m.d.comb += [
            sums.exponent.eq(job.sum_exponent),
            sums.row.eq(use.row),
            Value.cast(sums.value).eq(Value.cast(number)),
            sums.add.eq(valid & use.inside[unit] & (use.number == 0)),
            sums.first.eq(use.first),
            sums.asked.eq(statistics.asked),
        ]
        return sums.sum

    def _take_mean(self, m: Module, unit: int, trail: "_Trail", number: Any,
                   statistics: RowStatistics) -> Any:
        """The distances of values from the mean of their row."""
        use, _ = trail.at(_VALUE)
        m.submodules.distance = distance = FloatSum()
        mean = statistics.mean[unit][use.row]
        m.d.comb += [
            Value.cast(distance.a).eq(Value.cast(addend_of(m, number, "x"))),
            Value.cast(distance.b).eq(Value.cast(addend_of(m, mean, "mean", minus=True))),
        ]
        return distance.o

    def _tell_squares(self, m: Module, trail: "_Trail", statistics: RowStatistics) -> None:
        """When the squares of the batch are added up."""
        use, valid = trail.at(_DISTANCE)
        squares = valid & (use.number == 1)
        require(m, ~(statistics.steps & squares), "lanes are added up when all squares are")
        m.d.comb += statistics.squared.eq(delay(m, squares & use.ends, MultiplyAdd.LATENCY,
                                                name="squared"))

    def _multiply(self, m: Module, job: Any, unit: int, trail: "_Trail", distance: Any,
                  statistics: RowStatistics) -> tuple[Any, Value]:
        """Adds up squares, and multiplies with the factor of the row. Returns what came out, and
        the lane that the statistics ask for."""
        m.submodules.lanes = lanes = Memory(shape=unsigned(Float.as_shape().size),
                                            depth=ROWS * LANES, init=[])
        put, own, other = lanes.write_port(), lanes.read_port(domain="comb"), \
            lanes.read_port(domain="comb")
        m.submodules.multiply = multiply = MultiplyAdd()
        use, valid = trail.at(_DISTANCE)
        step, steps = statistics.step, statistics.steps
        squares = valid & (use.number == 1)
        lane: Any = Signal(data.StructLayout({
            "row": range(ROWS), "number": range(LANES), "written": 1}))
        m.d.comb += [
            lane.row.eq(Mux(steps, step.row, use.row)),
            lane.number.eq(Mux(steps, step.lane, use.channel[:exact_log2(LANES)])),
            lane.written.eq(Mux(steps, ~step.epsilon, squares & use.inside[unit])),
            own.addr.eq(Cat(lane.row, lane.number)),
            other.addr.eq(Cat(step.row, step.other)),
        ]
        number: Any  = Signal(Float)
        epsilon: Any = float_of(m, job.epsilon, "epsilon")
        m.d.comb += Value.cast(number).eq(Value.cast(statistics.number[unit][lane.row]))
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
        ]
        return multiply.o, other.data

    def _finish(self, m: Module, job: Any, product: Any, factors: dict[str, Any]) -> Value:
        """Scales and shifts the last pass, and quantizes it."""
        m.submodules.scaled = scaled = MultiplyAdd()
        m.submodules.quantizer = quantizer = ThresholdQuantizer()
        m.d.comb += [
            Value.cast(scaled.a).eq(Value.cast(product)),
            Value.cast(scaled.b).eq(Value.cast(factors["scale"])),
            Value.cast(scaled.c).eq(Value.cast(factors["shift"])),
            Value.cast(quantizer.i).eq(Value.cast(scaled.o)),
            quantizer.rate.eq(job.rate),
            quantizer.rate_exponent.eq(job.rate_exponent),
            quantizer.zero.eq(job.out_zero),
            quantizer.threshold.eq(self._table(m, "thresholds", quantizer.index)),
        ]
        return quantizer.o


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
