"""The lanes of the vector engine: multipliers, sums and maxima."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from weft.hw.isa.commands import VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.vector_rules import multiplier_passes
from weft.hw.lib.delay import delay, register
from weft.hw.lib.multiplier import Multiplier

from .tap import result_layout, tap_layout

__all__ = ["VectorAlu"]


_SHARING = 2  # lanes that share a register for what controls them


class VectorAlu(wiring.Component):
    """``vector_taps`` multipliers, an int32 accumulator and a maximum for each lane.

    A group of taps per cycle. What the multipliers take depends on the operation: words of the
    window and weights; bytes of a long multiplier, which multiply the same word; or two words. In
    the second case product ``t`` counts ``2**(8 * t)`` times. Products are added, and words
    compared, in trees of two with registers between.

    Members
    -------
    valid : :py:`In(1)`
    tap : :py:`In(tap_layout(config))`
    next_op : :py:`In(VectorOp)`
    next_valid : :py:`In(1)`
        The operation of the next cycle's tap, and whether there is one.
    window : :py:`In(data.ArrayLayout(data.ArrayLayout(signed(8), rows), vector_taps))`
        The words of the tap's group so far, newest last.
    weights : :py:`In(data.ArrayLayout(data.ArrayLayout(8, rows), vector_taps))`
        The weight entry of the tap's group.
    sums : :py:`Out(data.ArrayLayout(signed(32), rows))`
        The sums of a position, :attr:`sum_latency` cycles after its last word.
    sums_coming : :py:`Out(1)`
        There are such in the next cycle, and then only.
    sums_result : :py:`Out(result_layout())`
        What becomes of them, together with ``sums_coming``.
    maxima : :py:`Out(data.ArrayLayout(signed(8), rows))`
        The maxima of a position, :attr:`max_latency` cycles after its last word.

    Attributes
    ----------
    MULTIPLIER_LATENCY : :class:`int`
        Cycles from the operands of the multipliers to their products, at least 2.
    sum_latency, max_latency : :class:`int`
    """

    MULTIPLIER_LATENCY = 5

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        lanes = config.word_lanes
        super().__init__({
            "valid":       In(1),
            "tap":         In(tap_layout(config)),
            "next_op":     In(VectorOp),
            "next_valid":  In(1),
            "window":      In(data.ArrayLayout(data.ArrayLayout(signed(8), lanes),
                                               config.vector_taps)),
            "weights":     In(data.ArrayLayout(data.ArrayLayout(8, lanes), config.vector_taps)),
            "sums":        Out(data.ArrayLayout(signed(32), lanes)),
            "sums_coming": Out(1),
            "sums_result": Out(result_layout()),
            "maxima":      Out(data.ArrayLayout(signed(8), lanes)),
        })

    @property
    def _levels(self) -> int:
        return max(1, ceil_log2(self._config.vector_taps))

    @property
    def sum_latency(self) -> int:
        return self.latencies_of(self._config)[0]

    @property
    def max_latency(self) -> int:
        return self.latencies_of(self._config)[1]

    @classmethod
    def latencies_of(cls, config: AcceleratorConfig) -> tuple[int, int]:
        """:attr:`sum_latency` and :attr:`max_latency` in a configuration."""
        levels = max(1, ceil_log2(config.vector_taps))
        return cls.MULTIPLIER_LATENCY + levels + 1, levels + 1

    def elaborate(self, platform):
        m = Module()

        taps      = self._config.vector_taps
        lanes     = self._config.word_lanes
        operation = self.tap.operation
        adds      = operation.op == VectorOp.ADD
        scales    = adds | (operation.op == VectorOp.MULTIPLY) | (operation.op == VectorOp.CONV)

        # What goes along with a group: to the adders, and to the accumulator.
        control = Signal(data.StructLayout({
            "adds": 1, "pass_": 2, "add": 1, "begin": 1, "negative": 1, "end": 1}))
        m.d.comb += [
            control.adds.eq(adds),
            control.pass_.eq(self.tap.pass_),
            control.add.eq(self.valid & self.tap.last),
            control.begin.eq(self.tap.begin),
            control.negative.eq(adds & operation.subtract & self.tap.second),
            control.end.eq(self.valid & self.tap.end & scales),
        ]
        line = [control]
        for number in range(self.sum_latency - 1):
            line.append(delay(m, line[-1], 1, name=f"control_{number}"))
        products = line[self.MULTIPLIER_LATENCY]
        # Those that the bytes of a multiplier need beside the first.
        passes   = range(1, multiplier_passes(self._config))
        m.d.comb += [
            self.sums_coming.eq(line[-1].end),
            self.sums_result.eq(delay(m, self.tap.result, self.sum_latency - 1, name="result",
                                      reset_less=True)),
        ]

        for lane in range(lanes):
            # What all lanes share would be driven all over the device by one register.
            if lane % _SHARING == 0:
                def share(value, name, lane=lane):
                    return register(m, value, f"{name}_{lane}", keep=True)

                op_adds       = share(self.next_op == VectorOp.ADD, "op_adds")
                op_multiplies = share(self.next_op == VectorOp.MULTIPLY, "op_multiplies")
                comes         = share(self.next_valid, "comes")
                compare       = share(line[self._levels - 1].add, "compare")
                compare_first = share(line[self._levels - 1].begin, "compare_first")
                before_total  = line[self.MULTIPLIER_LATENCY + self._levels - 2]
                shifts        = [share(before_total.adds & (before_total.pass_ == number),
                                       f"shift_{number}") for number in passes]
                add           = share(line[-2].add, "add")
                add_first     = share(line[-2].begin, "add_first")
                negative      = share(line[-2].negative, "negative")
            newest = self.window[taps - 1][lane]
            before = Signal(signed(8), name=f"before_{lane}", reset_less=True)
            with m.If(comes):
                m.d.sync += before.eq(newest)

            terms = []
            for tap in range(taps):
                m.submodules[f"multiplier_{lane}_{tap}"] = multiplier = Multiplier(
                    a_width=9, b_width=9, latency=self.MULTIPLIER_LATENCY)
                weight = self.weights[tap][lane]
                m.d.comb += [
                    multiplier.a.eq(self.window[tap][lane]),
                    multiplier.b.eq(Cat(weight, weight[7] & ~op_adds).as_signed()),
                ]
                with m.If(op_adds):
                    m.d.comb += multiplier.a.eq(newest)
                with m.If(op_multiplies):
                    m.d.comb += multiplier.b.eq(newest - operation.second_zero if tap == 0 else 0)
                    if tap == 0:
                        m.d.comb += multiplier.a.eq(before - operation.in_zero)
                product = multiplier.o
                if 0 < tap < 3:
                    product = Mux(products.adds, product << (8 * tap), product)
                terms.append(product)

            # The multiplier's bytes need further passes if there are fewer than 3 taps.
            summed = Signal(signed(32), name=f"summed_{lane}", reset_less=True)
            for level in range(self._levels - 1):
                terms = [register(m, _wrapped(sum(terms[n:n + 2])), f"term_{lane}_{level}_{n}")
                         for n in range(0, len(terms), 2)]
            total = sum(terms)
            m.d.sync += summed.eq(total)
            for number, shift in zip(passes, shifts, strict=True):
                with m.If(shift):
                    m.d.sync += summed.eq(total << (8 * taps * number))

            acc = Signal(signed(32), name=f"acc_{lane}", reset_less=True)
            with m.If(add):
                m.d.sync += acc.eq(Mux(add_first, 0, acc) + Mux(negative, ~summed, summed)
                                   + negative)
            m.d.comb += self.sums[lane].eq(acc)

            words = [newest] if taps == 1 else [
                Mux(self.tap.places[tap], self.window[tap][lane], -128)[:8].as_signed()
                for tap in range(taps)]
            for level in range(self._levels):
                words = [register(m, _maximum(*words[n:n + 2]), f"best_{lane}_{level}_{n}")
                         for n in range(0, len(words), 2)]
            best, = words
            high = Signal(signed(8), name=f"high_{lane}", reset_less=True)
            with m.If(compare):
                m.d.sync += high.eq(Mux(compare_first | _exceeds(best, high), best, high))
            m.d.comb += self.maxima[lane].eq(high)

        return m


def _wrapped(value):
    """A sum as an int32."""
    return value[:32].as_signed() if len(value) > 32 else value


def _maximum(a, b=None):
    return a if b is None else Mux(_exceeds(a, b), a, b)


def _exceeds(a, b):
    """``a > b``, as the sign of a difference: a carry chain, and nothing behind it."""
    return (b - a)[-1]
