"""From the sums of the vector engine through requantization to words."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from weft.config import AcceleratorConfig

from .commands import ChannelParameters, VectorCommand
from .fault import Fault
from .registers import Error
from .requantize import Requantizer

__all__ = ["VectorDrain"]


class VectorDrain(wiring.Component):
    """Requantizes the sums of a position, ``requant_lanes`` lanes per cycle.

    Sums may come every ``vector_groups`` cycles. There is no backpressure.

    Members
    -------
    command : :py:`In(VectorCommand)`
    index : :py:`In(16)`
    start : :py:`In(1)`
        A command begins: back to its first parameter entry.
    sums, sums_valid, sums_block_end : inputs
        As of :class:`~weft.hw.vector_alu.VectorAlu`.
    parameter_address : :py:`Out(24)`
    parameter_enable : :py:`Out(1)`
    parameters : :py:`In(data.ArrayLayout(ChannelParameters, requant_lanes))`
        The entry, the cycle after its address.
    o : :py:`Out(data.ArrayLayout(signed(8), rows))`
        The word, in the one cycle in which ``o_valid`` is set.
    o_valid : :py:`Out(1)`
    fault : :py:`Out(Fault)`
        Held until reset. ``ADDRESS``: outside the parameter memory.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "command":           In(VectorCommand),
            "index":             In(16),
            "start":             In(1),
            "sums":              In(data.ArrayLayout(signed(32), config.word_lanes)),
            "sums_valid":        In(1),
            "sums_block_end":    In(1),
            "parameter_address": Out(24),
            "parameter_enable":  Out(1),
            "parameters":        In(data.ArrayLayout(ChannelParameters, config.requant_lanes)),
            "o":                 Out(data.ArrayLayout(signed(8), config.word_lanes)),
            "o_valid":           Out(1),
            "fault":             Out(Fault),
        })

    def elaborate(self, platform):
        m = Module()

        config = self._config
        lanes  = config.requant_lanes
        groups = config.vector_groups

        # The sums at hand move down as their first lanes leave.
        held      = Signal.like(self.sums, reset_less=True)
        active    = Signal()
        block_end = Signal(reset_less=True)
        group     = Signal(range(groups), reset_less=True)
        entry     = Signal(24, reset_less=True)
        first     = Signal(24, reset_less=True)  # entry of this channel block
        last      = group == groups - 1
        following = Mux(block_end & ~self.command.shared, entry + 1, first)
        with m.If(active):
            m.d.sync += [
                Value.cast(held).eq(Value.cast(held) >> (32 * lanes)),
                group.eq(group + 1),
                entry.eq(entry + 1),
            ]
            with m.If(last):
                m.d.sync += [active.eq(0), entry.eq(following), first.eq(following)]
        with m.If(self.sums_valid):
            m.d.sync += [
                held.eq(self.sums),
                block_end.eq(self.sums_block_end),
                group.eq(0),
                active.eq(1),
            ]
        with m.If(self.start):
            m.d.sync += [
                entry.eq(self.command.parameter_base),
                first.eq(self.command.parameter_base),
            ]
        m.d.comb += [
            self.parameter_address.eq(entry),
            self.parameter_enable.eq(active),
        ]
        with m.If(active & (entry >= config.vector_parameter_depth)
                  & (self.fault.code == Error.NONE)):
            m.d.sync += [self.fault.code.eq(Error.ADDRESS), self.fault.index.eq(self.index)]

        m.submodules.requantizer = requantizer = Requantizer(
            config.replace(fip=False, accumulator_width=32))
        i = Signal(requantizer.i.shape())
        m.d.sync += i.valid.eq(active)
        m.d.comb += [
            requantizer.i.eq(i),
            i.parameters.eq(self.parameters),
            i.out_zero.eq(self.command.out_zero),
            i.clamp_min.eq(self.command.clamp_min),
            i.clamp_max.eq(self.command.clamp_max),
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
