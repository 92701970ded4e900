"""The lanes of the vector engine: multipliers, sums and maxima."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from weft.config import AcceleratorConfig

from .commands import VectorCommand, VectorOp
from .delay import delay
from .multiplier import Multiplier
from .vector_tap import tap_layout

__all__ = ["VectorAlu"]


class VectorAlu(wiring.Component):
    """``vector_taps`` multipliers, an int32 accumulator and a maximum for each lane.

    A group of taps per cycle. What the multipliers take depends on the operation: words of the
    window and weights; bytes of a long multiplier, which multiply the same word; or two words. In
    the second case product ``t`` counts ``2**(8 * t)`` times.

    Members
    -------
    command : :py:`In(VectorCommand)`
    valid : :py:`In(1)`
    tap : :py:`In(tap_layout(config))`
    window : :py:`In(data.ArrayLayout(data.ArrayLayout(signed(8), rows), vector_taps))`
        The words of the tap's group so far, newest last.
    weights : :py:`In(data.ArrayLayout(data.ArrayLayout(8, rows), vector_taps))`
        The weight entry of the tap's group.
    sums : :py:`Out(data.ArrayLayout(signed(32), rows))`
        The sums of a position, :attr:`SUM_LATENCY` cycles after its last word.
    sums_valid : :py:`Out(1)`
        For this cycle only.
    sums_block_end : :py:`Out(1)`
        The position was the last one of its channel block.
    maxima : :py:`Out(data.ArrayLayout(signed(8), rows))`
        The maxima of a position, :attr:`MAX_LATENCY` cycles after its last word.

    Attributes
    ----------
    SUM_LATENCY, MAX_LATENCY : :class:`int`
    """

    SUM_LATENCY = 4
    MAX_LATENCY = 2

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        lanes = config.word_lanes
        super().__init__({
            "command":        In(VectorCommand),
            "valid":          In(1),
            "tap":            In(tap_layout(config)),
            "window":         In(data.ArrayLayout(data.ArrayLayout(signed(8), lanes),
                                                  config.vector_taps)),
            "weights":        In(data.ArrayLayout(data.ArrayLayout(8, lanes),
                                                  config.vector_taps)),
            "sums":           Out(data.ArrayLayout(signed(32), lanes)),
            "sums_valid":     Out(1),
            "sums_block_end": Out(1),
            "maxima":         Out(data.ArrayLayout(signed(8), lanes)),
        })

    def elaborate(self, platform):
        m = Module()

        taps    = self._config.vector_taps
        lanes   = self._config.word_lanes
        command = self.command
        op      = Signal(VectorOp)
        is_add  = Signal()
        is_mul  = Signal()
        scaled  = Signal()
        m.d.comb += [
            op.eq(command.op),
            is_add.eq(op == VectorOp.ADD),
            is_mul.eq(op == VectorOp.MULTIPLY),
            scaled.eq(is_add | is_mul | (op == VectorOp.CONV)),
        ]

        control = Signal(data.StructLayout({
            "add": 1, "begin": 1, "negative": 1, "pass_": 2, "end": 1, "block_end": 1}))
        m.d.comb += [
            control.add.eq(self.valid & self.tap.last),
            control.begin.eq(self.tap.begin),
            control.negative.eq(is_add & command.subtract & self.tap.second),
            control.pass_.eq(self.tap.pass_),
            control.end.eq(self.valid & self.tap.end & scaled),
            control.block_end.eq(self.tap.block_end),
        ]
        control_1 = delay(m, control, 1, name="control")
        control_2 = delay(m, control_1, 1, name="control_1")
        control_3 = delay(m, control_2, 1, name="control_2")
        control_4 = delay(m, control_3, 1, name="control_3")
        m.d.comb += [
            self.sums_valid.eq(control_4.end),
            self.sums_block_end.eq(control_4.block_end),
        ]

        for lane in range(lanes):
            newest = self.window[taps - 1][lane]
            before = Signal(signed(8), name=f"before_{lane}", reset_less=True)
            with m.If(self.valid):
                m.d.sync += before.eq(newest)

            total = C(0)
            for tap in range(taps):
                m.submodules[f"multiplier_{lane}_{tap}"] = multiplier = Multiplier(
                    a_width=9, b_width=9)
                weight = self.weights[tap][lane]
                m.d.comb += [
                    multiplier.a.eq(self.window[tap][lane]),
                    multiplier.b.eq(Cat(weight, weight[7] & ~is_add).as_signed()),
                ]
                with m.If(is_add):
                    m.d.comb += multiplier.a.eq(newest)
                with m.If(is_mul):
                    m.d.comb += multiplier.b.eq(newest - command.second_zero if tap == 0 else 0)
                    if tap == 0:
                        m.d.comb += multiplier.a.eq(before - command.in_zero)
                product = multiplier.o
                if 0 < tap < 3:
                    product = Mux(is_add, product << (8 * tap), product)
                total = total + product

            # The multiplier's bytes need further passes if there are fewer than 3 taps.
            summed = Signal(signed(32), name=f"summed_{lane}", reset_less=True)
            m.d.sync += summed.eq(total)
            for number in range(1, -(-3 // taps)):
                with m.If(is_add & (control_2.pass_ == number)):
                    m.d.sync += summed.eq(total << (8 * taps * number))

            acc = Signal(signed(32), name=f"acc_{lane}", reset_less=True)
            with m.If(control_3.add):
                m.d.sync += acc.eq(Mux(control_3.begin, 0, acc)
                                   + Mux(control_3.negative, ~summed, summed)
                                   + control_3.negative)
            m.d.comb += self.sums[lane].eq(acc)

            best = Signal(signed(8), name=f"best_{lane}", reset_less=True)
            high = Signal(signed(8), name=f"high_{lane}", reset_less=True)
            m.d.sync += best.eq(_maximum([
                Mux(self.tap.places[tap], self.window[tap][lane], -128)[:8].as_signed()
                for tap in range(taps)]))
            with m.If(control_1.add):
                m.d.sync += high.eq(Mux(control_1.begin | (best > high), best, high))
            m.d.comb += self.maxima[lane].eq(high)

        return m


def _maximum(values):
    """The greatest of some values, as a tree."""
    if len(values) == 1:
        return values[0]
    half = len(values) // 2
    a, b = _maximum(values[:half]), _maximum(values[half:])
    return Mux(a > b, a, b)
