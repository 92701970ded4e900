"""From accumulators through requantization to activation words."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from weft.config import AcceleratorConfig

from .accumulators import AccumulatorColumn
from .commands import ChannelParameters, Rounding
from .delay import delay, register
from .fault import Fault
from .registers import Error
from .requantize import Requantizer
from .scratch_memory import unit_write_layout
from .step import DrainJob

__all__ = ["Drain"]


_NEIGHBOURS = 4  # groups of columns that the first choice is among


class Drain(wiring.Component):
    """Requantizes finished pixel tiles and writes them to the activation memory.

    Takes ``requant_lanes`` channels of all pixels of the tile, then the next group of channels:
    one group of one pixel per cycle. A word of ``rows`` channels is so written in parts, each with
    its lane mask, which lets ``rows`` and ``cols`` be chosen independently.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
    release_to_write : :class:`int`
        Fewest cycles from ``release`` to the first new sum in the half: it is released as many
        cycles before its last sum is read, but not before the last group of channels.

    Members
    -------
    jobs : :py:`In(stream.Signature(DrainJob))`
        Tiles whose sums are complete.
    half, pixel, enable : outputs
        Accumulators to read.
    sums : :py:`In(data.ArrayLayout(signed(accumulator_width), array_columns))`
        Their values, ``AccumulatorColumn.DRAIN_LATENCY`` cycles later.
    parameter_address : :py:`Out(24)`
    parameter_enable : :py:`Out(1)`
    parameters : :py:`In(data.ArrayLayout(ChannelParameters, requant_lanes))`
        The entry, the cycle after its address.
    write : :py:`Out(stream.Signature(unit_write_layout(rows)))`
        To the activation memory; must always be ready.
    release : :py:`Out(1)`
        The tile's half may be overwritten.
    done : :py:`Out(1)`
        The last write of a command has been made.
    fault : :py:`Out(Fault)`
        Held until reset.

    Attributes
    ----------
    CHOICE_LATENCY : :class:`int`
        Cycles from the sums of all columns to those of a group, in front of the requantizer.
    """

    CHOICE_LATENCY = 2

    def __init__(self, config: AcceleratorConfig, *, release_to_write: int):
        self._config = config
        self._lead   = release_to_write
        super().__init__({
            "jobs":              In(stream.Signature(DrainJob)),
            "half":              Out(1),
            "pixel":             Out(exact_log2(config.accumulator_pixels)),
            "enable":            Out(1),
            "sums":              In(data.ArrayLayout(signed(config.accumulator_width),
                                                     config.array_columns)),
            "parameter_address": Out(24),
            "parameter_enable":  Out(1),
            "parameters":        In(data.ArrayLayout(ChannelParameters, config.requant_lanes)),
            "write":             Out(stream.Signature(unit_write_layout(config.word_lanes))),
            "release":           Out(1),
            "done":              Out(1),
            "fault":             Out(Fault),
        })

    def elaborate(self, platform):
        m = Module()

        config = self._config
        lanes  = config.requant_lanes
        slots  = config.rows // lanes  # parts of a word

        active  = Signal()
        job     = Signal(DrainJob, reset_less=True)
        pixel   = Signal(range(config.accumulator_pixels), reset_less=True)
        group   = Signal(range(config.requant_groups), reset_less=True)
        slot    = Signal(range(slots), reset_less=True)
        block   = Signal(24, reset_less=True)  # first word of the channel block
        entry   = Signal(24, reset_less=True)
        offset  = Signal(24, reset_less=True)  # of the pixel tile in its plane
        first   = Signal(24, reset_less=True)  # word of the tile's first pixel in this block
        address = Signal(24, reset_less=True)  # of the word to write
        left    = Signal(16, reset_less=True)  # pixels, this one included
        release = Signal(16, reset_less=True)  # value of `left`, in the last group
        # Where the column tile starts, for its further pixel tiles.
        tile_slot  = Signal.like(slot)
        tile_block = Signal.like(block)
        tile_entry = Signal.like(entry)

        # Whether they are at their ends, without the comparisons.
        last_pixel = Signal(reset_less=True)
        last_group = Signal(reset_less=True)
        releases   = Signal(reset_less=True)
        last_slot  = Signal(reset_less=True)
        groups     = Signal(range(config.requant_groups + 1), reset_less=True)
        finishing  = Signal()
        next_slot  = Mux(last_slot, 0, slot + 1)
        next_block = Mux(last_slot, block + job.out_plane, block)[:24]
        next_first = Mux(last_slot, first + job.out_plane, first)[:24]
        m.d.comb += [
            finishing.eq(active & last_pixel & last_group),
            self.jobs.ready.eq(~active),
            self.half.eq(job.half),
            self.pixel.eq(pixel),
            self.enable.eq(active),
            self.parameter_address.eq(entry),
            self.parameter_enable.eq(active),
            self.release.eq(active & last_group & releases),
        ]

        with m.If(active):
            m.d.sync += [
                pixel.eq(pixel + 1),
                left.eq(left - 1),
                last_pixel.eq(left == 2),
                releases.eq(left == release + 1),
                address.eq(address + 1),
            ]
            with m.If(last_pixel):
                m.d.sync += [
                    pixel.eq(0),
                    group.eq(group + 1),
                    last_group.eq(group + 2 == groups),
                    entry.eq(entry + 1),
                    slot.eq(next_slot),
                    last_slot.eq(next_slot == slots - 1),
                    block.eq(next_block),
                    first.eq(next_first),
                    address.eq(next_first),
                    left.eq(job.pixels),
                    last_pixel.eq(job.pixels == 1),
                    releases.eq(job.pixels == release),
                ]
            with m.If(finishing):
                m.d.sync += [active.eq(0), offset.eq(offset + job.pixels)]
                with m.If(job.last_pixels):
                    m.d.sync += [
                        offset.eq(0),
                        tile_slot.eq(next_slot),
                        tile_block.eq(next_block),
                        tile_entry.eq(entry + 1),
                    ]

        with m.If(self.jobs.valid & self.jobs.ready):
            new   = self.jobs.p
            base  = Signal(24)
            start = Signal(24)
            few   = new.pixels <= self._lead
            count = Mux(new.last_columns, new.last_groups, config.requant_groups)
            m.d.comb += [
                base.eq(Mux(new.first_columns, new.out_base, tile_block)),
                start.eq(Mux(new.first_pixels, 0, offset)),
            ]
            m.d.sync += [
                active.eq(1),
                job.eq(new),
                pixel.eq(0),
                left.eq(new.pixels),
                last_pixel.eq(new.pixels == 1),
                release.eq(Mux(few, new.pixels, self._lead)),
                releases.eq(few),
                group.eq(0),
                groups.eq(count),
                last_group.eq(count == 1),
                slot.eq(tile_slot),
                last_slot.eq(tile_slot == slots - 1),
                block.eq(base),
                entry.eq(tile_entry),
                offset.eq(start),
                first.eq(base + start),
                address.eq(base + start),
            ]
            with m.If(new.first_columns):
                m.d.sync += [
                    slot.eq(0),
                    last_slot.eq(slots == 1),
                    entry.eq(new.parameter_base),
                    tile_slot.eq(0),
                    tile_block.eq(base),
                    tile_entry.eq(new.parameter_base),
                ]

        legal = (address < config.activation_depth) & (entry < config.parameter_depth)
        with m.If(active & ~legal & (self.fault.code == Error.NONE)):
            m.d.sync += [self.fault.code.eq(Error.ADDRESS), self.fault.index.eq(job.index)]

        # What follows each group of sums down the pipeline.
        tag_layout = data.StructLayout({
            "address": ceil_log2(config.activation_depth),  # only legal ones are written to
            "slot":    range(slots),
            "write":   1,
            "done":    1,
        })
        travelling = data.StructLayout({
            "tag":       tag_layout,
            "group":     range(config.requant_groups),
            "out_zero":  signed(8),
            "clamp_min": signed(8),
            "clamp_max": signed(8),
            "rule":      Rounding,
        })
        stage = Signal(travelling)
        m.d.comb += [
            stage.tag.address.eq(address),
            stage.tag.slot.eq(slot),
            stage.tag.write.eq(legal),
            stage.tag.done.eq(finishing & job.last_pixels & job.last_columns),
            stage.group.eq(group),
            stage.out_zero.eq(job.out_zero),
            stage.clamp_min.eq(job.clamp_min),
            stage.clamp_max.eq(job.clamp_max),
            stage.rule.eq(job.rule),
        ]
        latency = AccumulatorColumn.DRAIN_LATENCY + self.CHOICE_LATENCY - 1
        near    = delay(m, stage.group, AccumulatorColumn.DRAIN_LATENCY, name="near",
                        reset_less=True)
        stage   = delay(m, stage, latency, name="stage", reset_less=True)
        i_valid = delay(m, active, latency + 1, name="valid")
        parameters = delay(m, self.parameters, latency, name="parameters", reset_less=True)

        # The group's lanes are chosen in front of the requantizer in two stages: first among
        # neighbouring columns, then among those that are left, which may be far apart.
        m.submodules.requantizer = requantizer = Requantizer(
            config, tag_shape=tag_layout, double_rounding=config.double_rounding)
        i = Signal(requantizer.i.shape(), reset_less=True)
        m.d.comb += [requantizer.i.eq(i), requantizer.i.valid.eq(i_valid)]
        m.d.sync += [
            i.tag.eq(stage.tag),
            i.out_zero.eq(stage.out_zero),
            i.clamp_min.eq(stage.clamp_min),
            i.clamp_max.eq(stage.clamp_max),
        ]
        m.d.comb += i.parameters.eq(parameters)
        if config.double_rounding:
            m.d.sync += i.rule.eq(stage.rule)
        if config.fip:
            m.d.sync += i.alpha.eq(register(m, self.sums[config.cols], "alpha"))
        split = exact_log2(_NEIGHBOURS)
        for lane in range(lanes):
            sums = [self.sums[number * lanes + lane] for number in range(config.requant_groups)]
            left = [register(m, Array(sums[first:first + _NEIGHBOURS])[near[:split]],
                             f"sum_{lane}_{first}") for first in range(0, len(sums), _NEIGHBOURS)]
            m.d.sync += i.acc[lane].eq(Array(left)[stage.group[split:]])

        o = requantizer.o
        m.d.comb += [
            self.write.valid.eq(o.valid & o.tag.write),
            self.write.p.address.eq(o.tag.address),
            self.done.eq(o.valid & o.tag.done),
        ]
        for part in range(slots):
            m.d.comb += self.write.p.mask[part * lanes:(part + 1) * lanes].eq(
                (o.tag.slot == part).replicate(lanes))
            for lane in range(lanes):
                m.d.comb += self.write.p.data[part * lanes + lane].eq(o.data[lane])

        return m
