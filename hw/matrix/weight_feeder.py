"""From weight memory to the array's shadow registers, one weight tile ahead of the pixels."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import Fault
from weft.hw.isa.registers import Error
from weft.hw.lib.delay import delay
from weft.hw.lib.half_slice import HalfSlice
from weft.hw.memory.registered import RegisteredMemory

from .step import Step, step_layout

__all__ = ["WeightFeeder"]


class WeightFeeder(wiring.Component):
    """Loads each step's weight tile while the step before it streams its pixels.

    A step is passed on as soon as its first pixel may be accepted, which is a few cycles before
    the last row is shifted: the pixel needs some cycles to reach the array. The next step is taken
    in the cycle after that, and shifted as soon as the rows of the one before and its switch allow,
    but not before :attr:`LATENCY` cycles.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
    accept_to_switch : :class:`int`
        Cycles from the transfer of a step on ``loaded`` to its first pixel at the array.
    shift_to_switch, switch_to_shift : :class:`int`
        As given by :class:`~weft.hw.matrix.systolic_array.SystolicArray`.

    Members
    -------
    steps : :py:`In(stream.Signature(step_layout(config)))`
    loaded : :py:`Out(stream.Signature(Step))`
        The payload is there before ``valid``, for at least a cycle.
    read_address : :py:`Out(24)`
        Weight row to read; its data is on ``read_data`` two cycles later.
    read_enable : :py:`Out(1)`
    read_data : :py:`In(data.ArrayLayout(8, weight_row_data_bytes))`
    shift : :py:`Out({"data": ..., "load": 1})`
        To the array; with ``products`` ``zero``, too, the weight of the column that corrects.
    waiting : :py:`Out(1)`
        A step is held whose weights are not loaded yet.
    fault : :py:`Out(Fault)`
        Held until reset.

    Attributes
    ----------
    READ_LATENCY : :class:`int`
        Cycles from ``read_address`` to ``read_data``.
    LATENCY : :class:`int`
        Fewest cycles from a step that is taken to the first row that is read for it.
    """

    READ_LATENCY = RegisteredMemory.LATENCY
    LATENCY      = 2

    def __init__(self, config: AcceleratorConfig, *, accept_to_switch: int, shift_to_switch: int,
                 switch_to_shift: int):
        self._config   = config
        self._lead     = self.lead(accept_to_switch, shift_to_switch)
        self._cooldown = self.cooldown(accept_to_switch, switch_to_shift)
        super().__init__({
            "steps":        In(stream.Signature(step_layout(config))),
            "loaded":       Out(stream.Signature(Step)),
            "read_address": Out(24),
            "read_enable":  Out(1),
            "read_data":    In(data.ArrayLayout(8, config.weight_row_data_bytes)),
            "shift":        Out(data.StructLayout({
                "data": data.ArrayLayout(config.weight_type.shape, config.weight_row_lanes),
                "load": 1,
                **({"zero": config.weight_type.shape} if config.products else {}),
            })),
            "waiting":      Out(1),
            "fault":        Out(Fault),
        })

    @classmethod
    def lead(cls, accept_to_switch: int, shift_to_switch: int) -> int:
        """The largest number of rows still to be read, after this cycle, when a step is passed
        on."""
        return max(0, accept_to_switch - cls.READ_LATENCY - shift_to_switch)

    @classmethod
    def cooldown(cls, accept_to_switch: int, switch_to_shift: int) -> int:
        """Cycles behind that in which the next step must not be read yet."""
        return max(0, accept_to_switch - cls.READ_LATENCY - 1 + switch_to_shift)

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.step = step = HalfSlice(shape=step_layout(self._config))
        connect(m, flipped(self.steps), step.i)
        with m.If(step.o.valid & ~step.o.p.legal):
            m.d.sync += [self.fault.code.eq(Error.ADDRESS), self.fault.index.eq(step.o.p.index)]

        begin = Signal()
        begun = Signal()        # the step's rows are in the counters
        cool  = Signal(init=1)  # no cooldown
        free, issue, rows_left = self._elaborate_rows(m, begin, step.o.p, cool)
        m.d.comb += begin.eq(step.o.valid & step.o.p.legal & ~begun & free)
        self._elaborate_handover(m, step.o, begin, begun, issue, rows_left, cool)

        return m

    def _elaborate_rows(self, m: Module, begin: Value, step: Any,
                        cool: Value) -> tuple[Value, Value, Value]:
        """Reads the rows of a tile and shifts them into the array. Returns whether the next tile
        may begin, whether a row is read in this cycle, and how many are left."""
        rows      = self._config.weight_tile_rows
        row       = Signal(24, reset_less=True)
        rows_left = Signal(range(rows + 1))
        # The states of the counter in registers, so that no comparison lies behind it.
        whole = Signal()  # all rows are left
        final = Signal()  # this row is the last one
        some  = Signal()  # any is left
        reads = Signal(attrs={"keep": 1})  # the memory's private copy of that, to limit fan-out
        issue = Signal()
        read  = Signal()
        m.d.comb += [
            # Once a tile has begun to shift it goes on: its own switch is what it waits for.
            issue.eq(some & (cool | ~whole)),
            self.read_address.eq(row),
            # Also while none is issued, which does no harm: the row stays the same.
            self.read_enable.eq(reads),
            self.shift.data.eq(Cat(self._config.weight_type.unpack(Value.cast(self.read_data)))),
        ]
        m.d.sync += [read.eq(issue), self.shift.load.eq(read)]

        with m.If(issue):
            m.d.sync += [
                rows_left.eq(rows_left - 1),
                row.eq(row + 1),
                whole.eq(0),
                final.eq(rows_left == 2),
                some.eq(~final),
                reads.eq(~final),
            ]
        with m.If(begin):
            m.d.sync += [
                row.eq(step.weight_row),
                rows_left.eq(rows),
                whole.eq(1),
                final.eq(rows == 1),
                some.eq(1),
                reads.eq(1),
            ]
        if self._config.products:
            zero = Signal.like(self.shift.zero, name="zero", reset_less=True)
            with m.If(begin):
                m.d.sync += zero.eq(step.weight_zero)
            # As late as the rows.
            late = delay(m, zero, self.READ_LATENCY, name="zero", reset_less=True)
            m.d.comb += self.shift.zero.eq(late)
        return ~some | final, issue, rows_left

    def _elaborate_handover(self, m: Module, step: Any, begin: Value, begun: Signal, issue: Value,
                            rows_left: Value, cool: Signal) -> None:
        """Passes a step on early, and holds back the rows of the next one until its switch."""
        cooldown = Signal(range(self._cooldown + 1))
        handover = Signal()
        m.d.comb += [
            # The fields of a Step come first.
            Value.cast(self.loaded.payload).eq(Value.cast(step.payload)),
            self.waiting.eq(step.valid & ~self.loaded.valid),
            handover.eq(self.loaded.valid & self.loaded.ready),
            step.ready.eq(handover),
        ]
        with m.If(~cool):
            m.d.sync += [cooldown.eq(cooldown - 1), cool.eq(cooldown == 1)]
        with m.If(begin):
            m.d.sync += begun.eq(1)

        # In the next cycle, with the row that is issued then, few enough are left.
        with m.If(begun & issue & (rows_left <= self._lead + 2)):
            m.d.sync += self.loaded.valid.eq(1)
        if self._config.weight_tile_rows <= self._lead + 1:
            with m.If((begin | begun) & (cool | (cooldown == 1))):
                m.d.sync += self.loaded.valid.eq(1)
        with m.If(handover):
            m.d.sync += [
                begun.eq(0),
                self.loaded.valid.eq(0),
                cooldown.eq(self._cooldown),
                cool.eq(self._cooldown == 0),
            ]
