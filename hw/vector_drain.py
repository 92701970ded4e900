"""From the sums of the vector engine through requantization to words."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from weft.config import AcceleratorConfig

from .commands import ChannelParameters
from .requantize import Requantizer
from .vector_tap import result_layout

__all__ = ["VectorDrain"]


class VectorDrain(wiring.Component):
    """Requantizes the sums of a position, ``requant_lanes`` lanes per cycle.

    Sums may come every ``vector_groups`` cycles. There is no backpressure. A word comes out
    ``vector_groups + Requantizer.latency + 1`` cycles after its sums.

    Members
    -------
    sums, sums_result, sums_valid : inputs
        As of :class:`~weft.hw.vector_alu.VectorAlu`.
    parameter_address : :py:`Out(24)`
    parameter_enable : :py:`Out(1)`
    parameters : :py:`In(data.ArrayLayout(ChannelParameters, requant_lanes))`
        The entry, the cycle after its address.
    o : :py:`Out(data.ArrayLayout(signed(8), rows))`
        The word, in the one cycle in which ``o_valid`` is set.
    o_valid : :py:`Out(1)`
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "sums":              In(data.ArrayLayout(signed(32), config.word_lanes)),
            "sums_result":       In(result_layout()),
            "sums_valid":        In(1),
            "parameter_address": Out(24),
            "parameter_enable":  Out(1),
            "parameters":        In(data.ArrayLayout(ChannelParameters, config.requant_lanes)),
            "o":                 Out(data.ArrayLayout(signed(8), config.word_lanes)),
            "o_valid":           Out(1),
        })

    def elaborate(self, platform):
        m = Module()

        config = self._config
        lanes  = config.requant_lanes
        groups = config.vector_groups

        # The sums at hand move down as their first lanes leave, and on when nobody looks at them.
        held   = Signal.like(self.sums, reset_less=True)
        result = Signal(result_layout(), reset_less=True)
        active = Signal()
        group  = Signal(range(groups), reset_less=True)
        m.d.sync += Value.cast(held).eq(Value.cast(held) >> (32 * lanes))
        with m.If(active):
            m.d.sync += [
                result.parameter.eq(result.parameter + 1),
                group.eq(group + 1),
            ]
            with m.If(group == groups - 1):
                m.d.sync += active.eq(0)
        with m.If(self.sums_valid):
            m.d.sync += [
                held.eq(self.sums),
                result.eq(self.sums_result),
                group.eq(0),
                active.eq(1),
            ]
        m.d.comb += [
            self.parameter_address.eq(result.parameter),
            self.parameter_enable.eq(active),
        ]

        m.submodules.requantizer = requantizer = Requantizer(
            config.replace(fip=False, accumulator_width=32))
        i       = Signal(requantizer.i.shape(), reset_less=True)
        i_valid = Signal()
        m.d.sync += [
            i_valid.eq(active),
            i.out_zero.eq(result.out_zero),
            i.clamp_min.eq(result.clamp_min),
            i.clamp_max.eq(result.clamp_max),
        ]
        m.d.comb += [
            requantizer.i.eq(i),
            requantizer.i.valid.eq(i_valid),
            i.parameters.eq(self.parameters),
        ]
        for lane in range(lanes):
            m.d.sync += i.acc[lane].eq(held[lane])

        o = requantizer.o
        if groups == 1:
            m.d.comb += [self.o.eq(o.data), self.o_valid.eq(o.valid)]
            return m
        place  = Signal(range(groups))
        so_far = Signal(8 * lanes * (groups - 1), reset_less=True)
        whole  = Cat(so_far, o.data)
        m.d.comb += [
            Value.cast(self.o).eq(whole),
            self.o_valid.eq(o.valid & (place == groups - 1)),
        ]
        with m.If(o.valid):
            m.d.sync += [
                so_far.eq(whole[8 * lanes:]),
                place.eq(Mux(place == groups - 1, 0, place + 1)),
            ]

        return m
