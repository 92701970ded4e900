"""From the sums of the vector engine through requantization to words."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from weft.hw.isa.commands import Engine
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.constants import ChannelParameters
from weft.hw.isa.subset import roundings
from weft.hw.lib.checks import require
from weft.hw.lib.delay import delay, register
from weft.hw.requantize.requantizer import Requantizer

from .tap import lookup_layout, result_layout

__all__ = ["VectorDrain"]


_SHARING = 2  # lanes that share a register for when their sums are loaded


class VectorDrain(wiring.Component):
    """Requantizes the sums of a position, ``requant_lanes`` lanes per cycle.

    Sums may come every ``vector_groups`` cycles. There is no backpressure. A word comes out
    :meth:`latency` cycles after its sums.

    Members
    -------
    sums, sums_coming, sums_result : inputs
        As of :class:`~weft.hw.vector.alu.VectorAlu`.
    parameter_address : :py:`Out(24)`
    parameter_enable : :py:`Out(1)`
    parameters : :py:`In(data.ArrayLayout(ChannelParameters, requant_lanes))`
        The entry, two cycles after its address.
    o : :py:`Out(data.ArrayLayout(signed(8), rows))`
        The word, in the one cycle in which ``o_valid`` is set.
    o_lookup : :py:`Out(lookup_layout(config))`
        Its table, in the same cycle.
    o_valid : :py:`Out(1)`
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "sums":              In(data.ArrayLayout(signed(32), config.word_lanes)),
            "sums_coming":       In(1),
            "sums_result":       In(result_layout(config)),
            "parameter_address": Out(24),
            "parameter_enable":  Out(1),
            "parameters":        In(data.ArrayLayout(ChannelParameters, config.requant_lanes)),
            "o":                 Out(data.ArrayLayout(signed(8), config.word_lanes)),
            "o_lookup":          Out(lookup_layout(config)),
            "o_valid":           Out(1),
        })

    @staticmethod
    def latency(config: AcceleratorConfig) -> int:
        """Cycles from sums to their word."""
        return config.vector_groups + Requantizer.latency + 1

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        config = self._config
        lanes  = config.requant_lanes
        groups = config.vector_groups

        # A shift register, which also shifts while there are no sums. Its load flag is copied, to
        # limit fan-out.
        held = Signal.like(self.sums, reset_less=True)
        for first in range(0, config.word_lanes, _SHARING):
            load = register(m, self.sums_coming, f"load_{first}", keep=True)
            for lane in range(first, min(first + _SHARING, config.word_lanes)):
                m.d.sync += held[lane].eq(Mux(load, self.sums[lane], (
                    held[lane + lanes] if lane + lanes < config.word_lanes else 0)))

        # Parameters are read a cycle before their sums leave.
        result = Signal(result_layout(config), reset_less=True)
        ahead  = Signal()
        last   = Signal(reset_less=True)
        group  = Signal(range(max(2, groups)), reset_less=True)
        require(m, ~self.sums_coming | ~ahead | last, "sums leave room for those before")
        with m.If(self.sums_coming):
            m.d.sync += [
                result.eq(self.sums_result),
                group.eq(0),
                last.eq(groups == 1),
                ahead.eq(1),
            ]
        with m.Elif(ahead):
            m.d.sync += [
                result.parameter.eq(result.parameter + 1),
                group.eq(group + 1),
                last.eq(group == groups - 2),
                ahead.eq(~last),
            ]
        m.d.comb += [
            self.parameter_address.eq(result.parameter),
            self.parameter_enable.eq(ahead),
        ]

        m.submodules.requantizer = requantizer = Requantizer(
            config.replace(fip=False, accumulator_width=32),
            rules=roundings(config, Engine.VECTOR))
        i       = Signal(requantizer.i.shape())
        i_valid = Signal()
        m.d.comb += i_valid.eq(delay(m, ahead, 2, name="ahead"))
        for name, _ in result.shape():
            if name not in ("parameter", "lookup"):
                m.d.comb += i[name].eq(delay(m, result[name], 2, name=name, reset_less=True))
        m.d.comb += [
            requantizer.i.eq(i),
            requantizer.i.valid.eq(i_valid),
            i.parameters.eq(self.parameters),
        ]
        for lane in range(lanes):
            m.d.comb += i.acc[lane].eq(register(m, held[lane], f"acc_{lane}"))

        o = requantizer.o
        m.d.comb += self.o_lookup.eq(delay(m, result.lookup, 2 + Requantizer.latency,
                                           name="lookup", reset_less=True))
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
        # The groups of a word come in consecutive cycles, so this needs no enable.
        m.d.sync += so_far.eq(whole[8 * lanes:])
        with m.If(o.valid):
            m.d.sync += place.eq(Mux(place == groups - 1, 0, place + 1))

        return m
