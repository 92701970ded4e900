"""The accumulator memory: one column for each column of the array, of two banks."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.lib.checks import are_on, require
from weft.hw.lib.delay import delay, register
from weft.hw.memory.registered import RegisteredMemory

__all__ = ["AccumulatorColumn", "Accumulators", "accumulate_layout"]


def accumulate_layout(pixels: int) -> data.StructLayout:
    """Control of a partial sum: the accumulator it is added to, and whether it starts a new sum."""
    return data.StructLayout({
        "valid": 1,
        "bank":  1,
        "pixel": exact_log2(pixels),
        "first": 1,
    })


class AccumulatorColumn(wiring.Component):
    """Accumulators of one array column.

    Adds ``psum`` to the addressed accumulator, or overwrites it when ``first`` is set; one per
    cycle. The same pixel must not come again within :attr:`REUSE` cycles. The two banks are a
    ping-pong buffer: one may be drained while sums are accumulated in the other, but not the one
    that is being accumulated.

    Parameters
    ----------
    psum_width, width : :class:`int`
        Bits of a partial sum and of an accumulator.
    pixels : :class:`int`
        Accumulators in a bank, a power of 2.

    Members
    -------
    i : :py:`In(accumulate_layout(pixels))`
        Control, in the same cycle as ``psum``.
    psum : :py:`In(signed(psum_width))`
    o : :py:`Out(accumulate_layout(pixels))`
        ``i`` one cycle later, for the next column.
    drain_bank : :py:`In(1)`
    drain_pixel : :py:`In(...)`
    drain_enable : :py:`In(1)`
    drain : :py:`Out(signed(width))`
        The accumulator, :attr:`DRAIN_LATENCY` cycles after its address.
    """

    REUSE = 4
    DRAIN_LATENCY = RegisteredMemory.LATENCY + 1
    ACCUMULATE_LATENCY = 4
    """Cycles from ``i`` until a drain may ask for the sum."""

    def __init__(self, *, psum_width: int, width: int, pixels: int):
        if psum_width > width:
            raise ValueError(f"Accumulator width must be at least {psum_width} (the partial sum), "
                             f"not {width!r}")
        self._width  = width
        self._pixels = pixels
        super().__init__({
            "i":            In(accumulate_layout(pixels)),
            "psum":         In(signed(psum_width)),
            "o":            Out(accumulate_layout(pixels)),
            "drain_bank":   In(1),
            "drain_pixel":  In(exact_log2(pixels)),
            "drain_enable": In(1),
            "drain":        Out(signed(width)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        reads = []
        # Read, register, add, register and write; control and partial sum are delayed to match. No
        # resets: the rest of a stream has left before the next one starts.
        read_i   = Signal.like(self.i, reset_less=True)
        read_sum = Signal.like(self.psum, reset_less=True)
        add_i    = Signal.like(self.i, reset_less=True)
        add_sum  = Signal.like(self.psum, reset_less=True)
        old      = Signal(signed(self._width))
        new      = Signal(signed(self._width), reset_less=True)
        new_i    = Signal.like(self.i, reset_less=True)
        m.d.comb += self.o.eq(read_i)
        m.d.sync += [
            read_i.eq(self.i),
            read_sum.eq(self.psum),
            add_i.eq(read_i),
            add_sum.eq(read_sum),
            new_i.eq(add_i),
            new.eq(old + add_sum),
        ]

        for bank in range(2):
            storage = RegisteredMemory(depth=self._pixels, width=self._width,
                                       role="accumulators")
            m.submodules[f"bank_{bank}"] = storage
            reads.append(storage.read_data)

            accumulating = self.i.valid & (self.i.bank == bank)
            m.d.comb += [
                storage.read_address.eq(Mux(accumulating, self.i.pixel, self.drain_pixel)),
                storage.read_enable.eq(
                    accumulating | (self.drain_enable & (self.drain_bank == bank))),
                storage.write_address.eq(new_i.pixel),
                storage.write_data.eq(new),
                storage.write_enable.eq(new_i.valid & (new_i.bank == bank)),
            ]

        # The bank is selected behind the memories' registers, where the multiplexer shares a LUT
        # with the adder's operand. Each column has registers of its own to and from the drain, as
        # the columns lie all over the device.
        m.d.comb += old.eq(Mux(add_i.first, 0, Mux(add_i.bank, reads[1], reads[0])))
        early = delay(m, self.drain_bank, RegisteredMemory.LATENCY - 1, name="drain_bank",
                      reset_less=True)
        drain_bank = register(m, early, "drain_bank", keep=True)
        m.d.comb += self.drain.eq(register(m, Mux(drain_bank, reads[1], reads[0]), "drained"))

        return m


class Accumulators(wiring.Component):
    """All accumulator columns, fed by the skewed outputs of the array.

    Column ``c`` receives its partial sum ``c`` cycles after column 0; the control passes from
    column to column with the same delay.

    Members
    -------
    i : :py:`In(accumulate_layout(accumulator_pixels))`
        Control of column 0.
    psums : :py:`In(data.ArrayLayout(signed(psum_width), array_columns))`
    drain_bank, drain_pixel, drain_enable
        As in :class:`AccumulatorColumn`, for all columns at once.
    drain : :py:`Out(data.ArrayLayout(signed(accumulator_width), array_columns))`

    Attributes
    ----------
    latency : :class:`int`
        Cycles from ``i`` until all columns may be drained.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "i":            In(accumulate_layout(config.accumulator_pixels)),
            "psums":        In(data.ArrayLayout(signed(config.psum_width), config.array_columns)),
            "drain_bank":   In(1),
            "drain_pixel":  In(exact_log2(config.accumulator_pixels)),
            "drain_enable": In(1),
            "drain":        Out(data.ArrayLayout(signed(config.accumulator_width),
                                                 config.array_columns)),
        })

    @property
    def latency(self) -> int:
        return self.latency_of(self._config)

    @staticmethod
    def latency_of(config: AcceleratorConfig) -> int:
        """:attr:`latency` in a configuration."""
        return config.array_columns - 1 + AccumulatorColumn.ACCUMULATE_LATENCY

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        control = self.i
        for index in range(self._config.array_columns):
            column = AccumulatorColumn(
                psum_width=self._config.psum_width, width=self._config.accumulator_width,
                pixels=self._config.accumulator_pixels)
            m.submodules[f"column_{index}"] = column
            m.d.comb += [
                column.i.eq(control),
                column.psum.eq(self.psums[index]),
                column.drain_bank.eq(self.drain_bank),
                column.drain_pixel.eq(self.drain_pixel),
                column.drain_enable.eq(self.drain_enable),
                self.drain[index].eq(column.drain),
            ]
            control = column.o

        if are_on():
            self._check(m, last=control)
        return m

    def _check(self, m: Module, *, last: Any) -> None:
        # Column 0 is the first to begin a tile, and the last column the last to end one.
        for name, at in (("first", self.i), ("last", last)):
            require(m, ~(at.valid & self.drain_enable & (at.bank == self.drain_bank)),
                    f"the {name} column does not accumulate into the bank that is drained")
        for cycles in range(1, AccumulatorColumn.REUSE):
            past = delay(m, self.i, cycles, name=f"past_{cycles}")
            require(m, ~(self.i.valid & past.valid & (past.bank == self.i.bank)
                         & (past.pixel == self.i.pixel)),
                    "a pixel does not come again before its sum is written")
