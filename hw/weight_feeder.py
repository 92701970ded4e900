"""From weight memory to the array's shadow registers, one weight tile ahead of the pixels."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from weft.config import AcceleratorConfig

from .delay import unreset
from .fault import Fault
from .registered_memory import RegisteredMemory
from .registers import Error
from .step import Step

__all__ = ["WeightFeeder"]


class WeightFeeder(wiring.Component):
    """Loads each step's weight tile while the step before it streams its pixels.

    A step is passed on as soon as its first pixel may be accepted, which is a few cycles before
    the last row is shifted: the pixel needs some cycles to reach the array.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
    accept_to_switch : :class:`int`
        Cycles from the transfer of a step on ``loaded`` to its first pixel at the array.
    shift_to_switch, switch_to_shift : :class:`int`
        As given by :class:`~weft.hw.systolic_array.SystolicArray`.

    Members
    -------
    steps : :py:`In(stream.Signature(Step))`
    loaded : :py:`Out(stream.Signature(Step))`
    read_address : :py:`Out(24)`
        Weight row to read; its data is on ``read_data`` two cycles later.
    read_enable : :py:`Out(1)`
    read_data : :py:`In(data.ArrayLayout(signed(weight_width), weight_row_lanes))`
    shift : :py:`Out({"data": ..., "load": 1})`
        To the array.
    waiting : :py:`Out(1)`
        A step is held whose weights are not loaded yet.
    fault : :py:`Out(Fault)`
        Held until reset.
    """

    READ_LATENCY = RegisteredMemory.LATENCY

    def __init__(self, config: AcceleratorConfig, *, accept_to_switch: int, shift_to_switch: int,
                 switch_to_shift: int):
        self._config   = config
        # The largest number of rows still to be read, after this cycle, when a step is passed on.
        self._lead     = max(0, accept_to_switch - self.READ_LATENCY - shift_to_switch)
        self._cooldown = max(0, accept_to_switch - self.READ_LATENCY - 1 + switch_to_shift)
        row = data.ArrayLayout(signed(config.weight_width), config.weight_row_lanes)
        super().__init__({
            "steps":        In(stream.Signature(Step)),
            "loaded":       Out(stream.Signature(Step)),
            "read_address": Out(24),
            "read_enable":  Out(1),
            "read_data":    In(row),
            "shift":        Out(data.StructLayout({"data": row, "load": 1})),
            "waiting":      Out(1),
            "fault":        Out(Fault),
        })

    def elaborate(self, platform):
        m = Module()

        rows      = self._config.weight_tile_rows
        held      = Signal()
        row       = Signal(24, reset_less=True)
        rows_left = Signal(range(rows + 1))
        cooldown  = Signal(range(self._cooldown + 1))
        # What there is to know of the two counters, without the comparisons.
        whole = Signal()        # all rows are left
        near  = Signal()        # after the next row few enough are left to pass on the step
        final = Signal()        # this row is the last one
        empty = Signal(init=1)  # none is left
        cool  = Signal(init=1)  # no cooldown
        loaded = unreset(m, self.loaded.payload, "loaded")

        issue    = Signal()
        handover = Signal()
        m.d.comb += [
            # Once a tile has begun to shift it goes on: its own switch is what it waits for.
            issue.eq(~empty & (cool | ~whole)),
            self.read_address.eq(row),
            self.read_enable.eq(issue),
            self.loaded.valid.eq(held & (empty | (issue & near))),
            self.waiting.eq(held & ~self.loaded.valid),
            handover.eq(self.loaded.valid & self.loaded.ready),
            # A step that is handed over in this very cycle still has its cooldown to come, so
            # there is time for the next one.
            self.steps.ready.eq(~held & (empty | final) & (self.fault.code == Error.NONE)),
        ]

        with m.If(issue):
            m.d.sync += [
                rows_left.eq(rows_left - 1),
                row.eq(row + 1),
                whole.eq(0),
                near.eq(rows_left <= self._lead + 2),
                final.eq(rows_left == 2),
                empty.eq(final),
            ]
        with m.If(~cool):
            m.d.sync += [cooldown.eq(cooldown - 1), cool.eq(cooldown == 1)]
        with m.If(handover):
            m.d.sync += [
                held.eq(0),
                cooldown.eq(self._cooldown),
                cool.eq(self._cooldown == 0),
            ]
        with m.If(self.steps.valid & self.steps.ready):
            m.d.sync += [
                held.eq(1),
                loaded.eq(self.steps.payload),
                row.eq(self.steps.p.weight_row),
                rows_left.eq(rows),
                whole.eq(1),
                near.eq(rows <= self._lead + 1),
                final.eq(rows == 1),
                empty.eq(0),
            ]
            with m.If(self.steps.p.weight_row > self._config.weight_depth - rows):
                m.d.sync += [
                    held.eq(0),
                    rows_left.eq(0),
                    empty.eq(1),
                    self.fault.code.eq(Error.ADDRESS),
                    self.fault.index.eq(self.steps.p.index),
                ]

        read = Signal()
        m.d.sync += [
            read.eq(issue),
            self.shift.load.eq(read),
        ]
        m.d.comb += self.shift.data.eq(self.read_data)

        return m
