"""The lanes of the vector engine: multipliers, sums and maxima."""

from dataclasses import dataclass
from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from weft.hw.isa.commands import VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.vector_rules import MULTIPLIER_BYTES, multiplier_passes
from weft.hw.lib.delay import delay, register
from weft.hw.lib.multiplier import Multiplier

from .tap import result_layout, tap_layout

__all__ = ["VectorAlu"]


_SHARING = 2  # lanes that share a register for what controls them


@dataclass(frozen=True, kw_only=True)
class _LaneControl:
    """Some lanes' private copies of the control, to limit fan-out; each in time for its stage."""
    adds:          Value        # multipliers: the group is one of ADD
    multiplies:    Value        # multipliers: it is one of MULTIPLY
    valid:         Value        # multipliers: there is one
    compare:       Value        # maximum: the group is complete
    compare_first: Value        # maximum: it is the first one of its position
    shifts:        list[Value]  # last adder: the sum has the weight of this further pass
    add:           Value        # accumulator: the group is complete
    add_first:     Value        # accumulator: it is the first one of its position
    negative:      Value        # accumulator: it is subtracted


class VectorAlu(wiring.Component):
    """``vector_taps`` multipliers, an int32 accumulator and a maximum for each lane.

    A group of taps per cycle. The operands of the multipliers depend on the operation: words of the
    window and weights; the same word and bytes of a long multiplier; or two words. In the second
    case product ``t`` has the weight ``2**(8 * t)``. Products are added, and words compared, in
    pipelined binary trees.

    With ``vector_pairs`` the words of both operands come at a time. Of a sum the second one has the
    next three products; to subtract them each is inverted, which is one too few for each.

    Members
    -------
    valid : :py:`In(1)`
    tap : :py:`In(tap_layout(config))`
    next_op : :py:`In(VectorOp)`
    next_valid : :py:`In(1)`
        The operation of the next cycle's tap, and whether there is one.
    window : :py:`In(data.ArrayLayout(data.ArrayLayout(signed(8), rows), vector_taps))`
        The words of the tap's group so far, newest last.
    second : :py:`In(data.ArrayLayout(signed(8), rows))`
        With ``vector_pairs`` only: the word of the second operand.
    weights : :py:`In(data.ArrayLayout(data.ArrayLayout(8, rows), vector_taps))`
        The weight entry of the tap's group.
    sums : :py:`Out(data.ArrayLayout(signed(32), rows))`
        The sums of a position, :attr:`sum_latency` cycles after its last word.
    sums_coming : :py:`Out(1)`
        ``sums`` are valid in the next cycle, and in that alone.
    sums_result : :py:`Out(result_layout(config))`
        How they are requantized, together with ``sums_coming``.
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
            **({"second": In(data.ArrayLayout(signed(8), lanes))} if config.vector_pairs else {}),
            "weights":     In(data.ArrayLayout(data.ArrayLayout(8, lanes), config.vector_taps)),
            "sums":        Out(data.ArrayLayout(signed(32), lanes)),
            "sums_coming": Out(1),
            "sums_result": Out(result_layout(config)),
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

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        line = self._elaborate_control(m)
        for lane in range(self._config.word_lanes):
            if lane % _SHARING == 0:
                control = self._elaborate_copies(m, lane, line)
            terms = self._elaborate_products(m, lane, control, line[self.MULTIPLIER_LATENCY])
            self._elaborate_sum(m, lane, control, terms)
            self._elaborate_maximum(m, lane, control)

        return m

    @property
    def _passes(self) -> range:
        """The passes that the three bytes of a long multiplier need beside the first one."""
        return range(1, multiplier_passes(self._config))

    def _elaborate_control(self, m: Module) -> list[Any]:
        """The control that goes along with a group, to the adders and to the accumulator: that of
        this cycle, and of each of the cycles before."""
        operation = self.tap.operation
        adds      = operation.op == VectorOp.ADD
        scales    = adds | (operation.op == VectorOp.MULTIPLY) | (operation.op == VectorOp.CONV)

        control = Signal(data.StructLayout({
            "adds": 1, "pass_": 2, "add": 1, "begin": 1, "negative": 1, "end": 1}))
        m.d.comb += [
            control.adds.eq(adds),
            control.pass_.eq(self.tap.pass_),
            control.add.eq(self.valid & self.tap.last),
            control.begin.eq(self.tap.begin),
            control.negative.eq(adds & operation.subtract & (self._config.vector_pairs
                                                             or self.tap.second)),
            control.end.eq(self.valid & self.tap.end & scales),
        ]
        line = [control]
        for number in range(self.sum_latency - 1):
            line.append(delay(m, line[-1], 1, name=f"control_{number}"))
        m.d.comb += [
            self.sums_coming.eq(line[-1].end),
            self.sums_result.eq(delay(m, self.tap.result, self.sum_latency - 1, name="result",
                                      reset_less=True)),
        ]
        return line

    def _elaborate_copies(self, m: Module, lane: int, line: list[Any]) -> _LaneControl:
        def copy(value: Value, name: str) -> Signal:
            return register(m, value, f"{name}_{lane}", keep=True)

        compare = line[self._levels - 1]
        total   = line[self.MULTIPLIER_LATENCY + self._levels - 2]
        add     = line[-2]
        return _LaneControl(
            adds=copy(self.next_op == VectorOp.ADD, "op_adds"),
            multiplies=copy(self.next_op == VectorOp.MULTIPLY, "op_multiplies"),
            valid=copy(self.next_valid, "comes"),
            compare=copy(compare.add, "compare"),
            compare_first=copy(compare.begin, "compare_first"),
            shifts=[copy(total.adds & (total.pass_ == number), f"shift_{number}")
                    for number in self._passes],
            add=copy(add.add, "add"),
            add_first=copy(add.begin, "add_first"),
            negative=copy(add.negative, "negative"),
        )

    def _elaborate_products(self, m: Module, lane: int, control: _LaneControl,
                            group: Any) -> list[Value]:
        """The products of a group, each of its own weight if they are bytes of a multiplier."""
        operation = self.tap.operation
        taps      = self._config.vector_taps

        newest = self.window[taps - 1][lane]
        if self._config.vector_pairs:
            first, second = newest, self.second[lane]
        else:
            first, second = Signal(signed(8), name=f"before_{lane}", reset_less=True), newest
            with m.If(control.valid):
                m.d.sync += first.eq(newest)

        terms: list[Value] = []
        for tap in range(taps):
            m.submodules[f"multiplier_{lane}_{tap}"] = multiplier = Multiplier(
                a_width=9, b_width=9, latency=self.MULTIPLIER_LATENCY)
            weight = self.weights[tap][lane]
            m.d.comb += [
                multiplier.a.eq(self.window[tap][lane]),
                multiplier.b.eq(Cat(weight, weight[7] & ~control.adds).as_signed()),
            ]
            of_second = self._config.vector_pairs and tap >= MULTIPLIER_BYTES
            with m.If(control.adds):
                m.d.comb += multiplier.a.eq(second if of_second else newest)
            with m.If(control.multiplies):
                m.d.comb += multiplier.b.eq(second - operation.second_zero if tap == 0 else 0)
                if tap == 0:
                    m.d.comb += multiplier.a.eq(first - operation.in_zero)
            product = multiplier.o
            byte = tap - MULTIPLIER_BYTES if of_second else tap
            term = product << (8 * byte) if 0 < byte < MULTIPLIER_BYTES else product
            if of_second and byte < MULTIPLIER_BYTES:
                term = Mux(group.negative, ~term, term)
            terms.append(product if term is product else Mux(group.adds, term, product))
        return terms

    def _elaborate_sum(self, m: Module, lane: int, control: _LaneControl,
                       terms: list[Value]) -> None:
        """Adds the products of a group to the sum of the position."""
        for level in range(self._levels - 1):
            terms = [register(m, _wrapped(sum(terms[n:n + 2])), f"term_{lane}_{level}_{n}")
                     for n in range(0, len(terms), 2)]
        total  = sum(terms)
        summed = Signal(signed(32), name=f"summed_{lane}", reset_less=True)
        m.d.sync += summed.eq(total)
        # The multiplier's bytes need further passes if there are fewer than 3 taps.
        for number, shift in zip(self._passes, control.shifts, strict=True):
            with m.If(shift):
                m.d.sync += summed.eq(total << (8 * self._config.vector_taps * number))

        acc = Signal(signed(32), name=f"acc_{lane}", reset_less=True)
        with m.If(control.add):
            if self._config.vector_pairs:
                inverted = Mux(control.negative, MULTIPLIER_BYTES, 0)
                m.d.sync += acc.eq(Mux(control.add_first, inverted, acc) + summed)
            else:
                m.d.sync += acc.eq(Mux(control.add_first, 0, acc)
                                   + Mux(control.negative, ~summed, summed) + control.negative)
        m.d.comb += self.sums[lane].eq(acc)

    def _elaborate_maximum(self, m: Module, lane: int, control: _LaneControl) -> None:
        """Compares the words of a group with the maximum of the position."""
        taps  = self._config.vector_taps
        words = [self.window[taps - 1][lane]] if taps == 1 else [
            Mux(self.tap.places[tap], self.window[tap][lane], -128)[:8].as_signed()
            for tap in range(taps)]
        for level in range(self._levels):
            words = [register(m, _maximum(*words[n:n + 2]), f"best_{lane}_{level}_{n}")
                     for n in range(0, len(words), 2)]
        best, = words
        high = Signal(signed(8), name=f"high_{lane}", reset_less=True)
        with m.If(control.compare):
            m.d.sync += high.eq(Mux(control.compare_first | _exceeds(best, high), best, high))
        m.d.comb += self.maxima[lane].eq(high)


def _wrapped(value: Value) -> Value:
    """A sum as an int32."""
    return value[:32].as_signed() if len(value) > 32 else value


def _maximum(a: Value, b: Value | None = None) -> Value:
    return a if b is None else Mux(_exceeds(a, b), a, b)


def _exceeds(a: Value, b: Value) -> Value:
    """``a > b``, as the sign of a difference: a carry chain, and nothing behind it."""
    return (b - a)[-1]
