"""From accumulators to int8 activations."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from weft.hw.isa.commands import Rounding
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.constants import ChannelParameters, FixedPointParameters
from weft.hw.lib.delay import delay
from weft.hw.lib.derived import derived
from weft.hw.lib.multiplier import Multiplier

from .fixed_point import FixedPointScale
from .float32 import FloatScale

__all__ = ["Requantizer"]


class Requantizer(wiring.Component):
    """Corrects, scales, rounds and clamps ``requant_lanes`` accumulators per cycle.

    For each lane, as onnxruntime does it after an integer convolution::

        v = (acc - alpha) + bias                        wrapped to 32 bits
        o = clamp(RNE(fl32(fl32(v) * scale)) + out_zero, clamp_min, clamp_max)

    The difference wraps at ``accumulator_width``, so an accumulator may have wrapped while the
    correction was still in it. The bounds are integers, therefore to round first and clamp
    afterwards is the same as the other way round.

    With the rule ``BYTE``, ``v`` is a byte of that sum: see :class:`Rounding`. With the rules of
    TensorFlow Lite, parameters are :class:`FixedPointParameters`, and the result, of two roundings
    or of one, is ::

        o = clamp(RDBPOT(SRDHM(v << max(shift, 0), multiplier), max(-shift, 0)) + out_zero, ...)
        o = clamp(round(v * multiplier * 2**(shift - 31)) + out_zero, ...)

    No backpressure: one group per cycle goes in and comes out :attr:`latency` cycles later,
    whatever its rule. A rule is all in :class:`~weft.hw.requantize.float32.FloatScale` or
    :class:`~weft.hw.requantize.fixed_point.FixedPointScale`, of which there is one for each
    lane; the two of a lane share its multiplier.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
        Gives lanes and widths.
    tag_shape
        Shape of a tag that travels with a group, such as the address it is written to. Without it
        there is no ``tag``.
    rules : :class:`tuple` of :class:`Rounding`
        Those that groups may have, ``FLOAT32`` among them.

    Members
    -------
    i : :py:`In(data.StructLayout({...}))`
        ``valid`` (1), ``tag`` (``tag_shape``), ``acc`` (array of ``requant_lanes`` signed
        accumulators), ``alpha`` (signed accumulator; where the array has a column that
        corrects only), ``parameters`` (array of
        :class:`ChannelParameters`), ``out_zero``, ``clamp_min``, ``clamp_max`` (signed 8 each),
        ``rule`` (:class:`Rounding`; where there are several).
    o : :py:`Out(data.StructLayout({...}))`
        ``valid`` (1), ``tag`` (``tag_shape``), ``data`` (array of ``requant_lanes`` signed 8).

    Attributes
    ----------
    latency : :class:`int`
        Cycles from ``i`` to ``o``.
    """

    @derived
    def latency(cls) -> int:
        # Two sums in front of the scaling; zero point and clamp behind it.
        return 2 + FloatScale.latency + 2

    def __init__(self, config: AcceleratorConfig, *, tag_shape: Any = None,
                 rules: tuple[Rounding, ...] = (Rounding.FLOAT32,)):
        self._config = config
        self._fixed_point = Rounding.FIXED_POINT in rules
        self._bytes = Rounding.BYTE in rules
        self._rule = {"rule": Rounding} if len(rules) > 1 else {}
        self._tag = {} if tag_shape is None else {"tag": tag_shape}
        lanes = config.requant_lanes
        accumulator = signed(config.accumulator_width)
        super().__init__({
            "i": In(data.StructLayout({
                "valid": 1,
                **self._tag,
                "acc": data.ArrayLayout(accumulator, lanes),
                **({"alpha": accumulator} if config.array.corrects else {}),
                "parameters": data.ArrayLayout(ChannelParameters, lanes),
                "out_zero": signed(8),
                "clamp_min": signed(8),
                "clamp_max": signed(8),
                **self._rule,
            })),
            "o": Out(data.StructLayout({
                "valid": 1,
                **self._tag,
                "data": data.ArrayLayout(signed(8), lanes),
            })),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        line = self._elaborate_shared(m)
        for lane in range(self._config.requant_lanes):
            value = self._elaborate_value(m, lane)
            scaled = self._elaborate_scale(m, lane, value, line)
            self._elaborate_clamp(m, lane, scaled, line)

        return m

    def _elaborate_shared(self, m: Module) -> list[Any]:
        """The control that all lanes share, at each stage of the pipeline."""
        # Only `valid` resets.
        valid: Value = self.i.valid
        for stage in range(self.latency):
            following = Signal(name=f"valid_{stage}")
            m.d.sync += following.eq(valid)
            valid = following
        m.d.comb += self.o.valid.eq(valid)

        shared = Signal(data.StructLayout({
            "out_zero": signed(8), "clamp_min": signed(8), "clamp_max": signed(8),
            **self._tag,
            **self._rule,
        }))
        m.d.comb += [shared[field].eq(self.i[field]) for field, _ in shared.shape()]
        line = [shared]
        for stage in range(self.latency):
            line.append(Signal.like(shared, name=f"shared_{stage}", reset_less=True))
            m.d.sync += line[-1].eq(line[-2])
        if self._tag:
            m.d.comb += self.o.tag.eq(line[-1].tag)
        return line

    def _elaborate_value(self, m: Module, lane: int) -> Value:
        """The accumulator with its correction and bias, in two stages."""
        config = self._config
        parameters = self.i.parameters[lane]
        difference = Signal(signed(config.accumulator_width), name=f"difference_{lane}",
                            reset_less=True)
        bias = Signal(signed(32), name=f"bias_{lane}", reset_less=True)
        value = Signal(signed(32), name=f"value_{lane}", reset_less=True)
        alpha = self.i.alpha if config.array.corrects else 0
        m.d.sync += [
            difference.eq(self.i.acc[lane] - alpha),
            bias.eq(parameters.bias),
            value.eq(difference + bias),
        ]
        if self._fixed_point:
            with m.If(_in_fixed_point(self.i.rule)):
                m.d.sync += bias.eq(FixedPointParameters(Value.cast(parameters)).bias)
        return value

    def _elaborate_scale(self, m: Module, lane: int, value: Value, line: list[Any]) -> Value:
        """The value times its scale, by the rule of its group."""
        parameters = self.i.parameters[lane]
        m.submodules[f"scale_{lane}"] = scale = FloatScale()
        m.d.comb += [
            scale.i.eq(value),
            scale.scale.eq(delay(m, parameters.scale, 2, name=f"scale_{lane}", reset_less=True)),
        ]
        if self._bytes:
            m.d.comb += scale.byte.eq(line[2].rule == Rounding.BYTE)
        a, b, scaled = scale.a, scale.b, scale.o
        if self._fixed_point:
            m.submodules[f"fixed_{lane}"] = fixed = FixedPointScale()
            parameters = FixedPointParameters(Value.cast(parameters))
            m.d.comb += [
                fixed.i.eq(value),
                fixed.multiplier.eq(delay(m, parameters.multiplier, 2, name=f"fixed_{lane}",
                                          reset_less=True)),
                fixed.shift.eq(delay(m, parameters.shift, 2, name=f"shift_{lane}",
                                     reset_less=True)),
                fixed.once.eq(line[2].rule == Rounding.FIXED_POINT_ONCE),
            ]
            to_multiply, to_add = line[2 + FloatScale.factors_latency], line[-3]
            a = Mux(_in_fixed_point(to_multiply.rule), fixed.a, a)
            b = Mux(_in_fixed_point(to_multiply.rule), fixed.b, b)
            scaled = Mux(_in_fixed_point(to_add.rule), fixed.o, scaled)

        m.submodules[f"multiplier_{lane}"] = multiplier = Multiplier(
            a_width=len(a), b_width=len(b), latency=FloatScale.MULTIPLIER_LATENCY,
            role="requantize")
        m.d.comb += [
            multiplier.a.eq(a),
            multiplier.b.eq(b),
            scale.product.eq(multiplier.o),
        ]
        if self._fixed_point:
            m.d.comb += fixed.product.eq(multiplier.o)
        return scaled

    def _elaborate_clamp(self, m: Module, lane: int, scaled: Value, line: list[Any]) -> None:
        """Zero point and clamp, in two stages."""
        to_add, to_clamp = line[-3], line[-2]
        total = Signal(signed(11), name=f"total_{lane}", reset_less=True)
        result = Signal(signed(8), name=f"result_{lane}", reset_less=True)
        m.d.sync += [total.eq(scaled + to_add.out_zero), result.eq(total)]
        with m.If(total < to_clamp.clamp_min):
            m.d.sync += result.eq(to_clamp.clamp_min)
        with m.Elif(total > to_clamp.clamp_max):
            m.d.sync += result.eq(to_clamp.clamp_max)
        m.d.comb += self.o.data[lane].eq(result)


def _in_fixed_point(rule: Any) -> Value:
    """Whether a rule is one of TensorFlow Lite's."""
    return (rule == Rounding.FIXED_POINT) | (rule == Rounding.FIXED_POINT_ONCE)
