"""The softmax engine: rows of words in the activation memory become their shares."""

from typing import Any

from amaranth import *
from amaranth.lib import data

from weft.hw.isa.commands import SoftmaxCommand
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.constants import Exponential, RowConstant
from weft.hw.lib.delay import delay, register
from weft.hw.memory.activation import ActivationMemory
from weft.hw.memory.registered import RegisteredMemory
from weft.hw.rows.constants import constant_memory
from weft.hw.rows.engine import RowEngine
from weft.hw.rows.reader import unit_of
from weft.hw.rows.sweep import RowSweep
from weft.hw.rows.walk import ROWS, batch_rows

from .arithmetic import RowSums, ShareDivider
from .largest import LargestLane

__all__ = ["SoftmaxEngine"]


_TERM   = 1 + RegisteredMemory.LATENCY     # cycles from a lane of a sweep
_RESULT = _TERM + ShareDivider.LATENCY

assert RowSums.ROWS == ROWS


class SoftmaxEngine(RowEngine):
    """Executes SOFTMAX commands.

    The words of a batch are read three times: for the largest value of each row, for the sums, and
    for the shares. The rows of a unit take turns, as an addition takes four cycles.

    See :class:`RowEngine`. ``ARGUMENT`` is also a factor without its first bit.
    """

    COMMAND = SoftmaxCommand

    @staticmethod
    def cycles(config: AcceleratorConfig, pixels: int, blocks: int) -> int:
        """Cycles of a command from when it is accepted to ``done``, if nobody is in the way."""
        lanes, rows = config.word_lanes, batch_rows(config)
        batches = -(-pixels // rows)
        # Its words are read for the largest values, then those of the first group; two passes over
        # all lanes follow.
        ahead  = ActivationMemory.LATENCY + LargestLane.latency(lanes) + 1
        passes = 2 * blocks * (ROWS * lanes + 1)
        last   = pixels - (batches - 1) * rows
        return pixels * (blocks + 1) + batches * (ahead + passes) + 4 + _RESULT + last

    def _sweep(self) -> RowSweep:
        return RowSweep(self._config, passes=2, latency=_RESULT,
                        ahead=LargestLane.latency(self._config.word_lanes))

    def _impossible(self, job: Any) -> Value:
        return ~job.factor[-1]

    def _compute(self, m: Module, job: Any, sweep: RowSweep) -> None:
        largest  = self._find_largest(m, job, sweep)
        valid    = delay(m, sweep.valid, _TERM, name="term_valid")
        use: Any = delay(m, sweep.use, _TERM, name="term_use", reset_less=True)
        for unit in range(self._config.row_units):
            m.submodules[f"unit_{unit}"] = part = Module()
            distance = largest[unit][sweep.use.row] - sweep.value[unit].as_signed()
            entry = register(part, ~distance[:8], "entry")
            part.submodules.table = table = constant_memory(
                part, self.row_constant, RowConstant.TERMS, 256)
            term = data.View(Exponential, Value.cast(table.read_data))
            part.submodules.sums    = sums    = RowSums()
            part.submodules.divider = divider = ShareDivider()
            part.d.comb += [
                table.read_address.eq(entry),
                table.read_enable.eq(1),
                sums.row.eq(use.row),
                Value.cast(sums.term).eq(term.as_value()),
                sums.add.eq(valid & use.inside[unit] & (use.number == 0)),
                sums.first.eq(use.first),
                Value.cast(divider.term).eq(term.as_value()),
                divider.sum.eq(sums.sum),
                divider.used.eq(valid & use.inside[unit] & (use.number == 1)),
                divider.factor.eq(job.factor),
                divider.exponent.eq(job.exponent),
            ]
            total = divider.o + job.out_zero
            m.d.comb += sweep.result[unit].eq(Mux(total > 127, 127, total)[:8])
        m.d.comb += [
            Value.cast(sweep.result_use).eq(Value.cast(delay(
                m, use, ShareDivider.LATENCY, name="share_use", reset_less=True))),
            sweep.result_valid.eq(delay(m, valid & (use.number == 1), ShareDivider.LATENCY,
                                        name="share_valid")),
        ]

    def _find_largest(self, m: Module, job: Any, sweep: RowSweep) -> Any:
        """The largest value of each row of each unit, known when its first group is ready."""
        m.submodules.tree = tree = LargestLane(self._config.word_lanes)
        use    = sweep.word_use
        behind = LargestLane.latency(self._config.word_lanes)
        m.d.comb += [
            Value.cast(tree.i).eq(Value.cast(self.word)),
            tree.count.eq(Mux(use.tail, job.lanes, self._config.word_lanes)),
        ]
        known = delay(m, sweep.here & use.ahead, behind, name="known")
        row, unit, first = (delay(m, value, behind, name=f"known_{name}", reset_less=True)
                            for name, value in (("row", use.row),
                                                ("unit", unit_of(self._config, use)),
                                                ("first", use.first)))
        largest = Signal(data.ArrayLayout(data.ArrayLayout(signed(8), ROWS),
                                          self._config.row_units), reset_less=True)
        with m.If(known & (first | (tree.o > largest[unit][row]))):
            m.d.sync += largest[unit][row].eq(tree.o)
        return largest
