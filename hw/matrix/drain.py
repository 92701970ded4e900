"""From accumulators through requantization to activation words."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2, exact_log2

from weft.hw.isa.commands import ChannelParameters, Rounding
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import Fault
from weft.hw.isa.registers import Error
from weft.hw.lib.delay import delay, register
from weft.hw.lib.half_slice import HalfSlice
from weft.hw.memory.registered import RegisteredMemory
from weft.hw.memory.scratch import unit_write_layout
from weft.hw.requantize.requantizer import Requantizer

from .accumulators import AccumulatorColumn
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
        The entry, ``RegisteredMemory.LATENCY`` cycles after its address.
    write : :py:`Out(stream.Signature(unit_write_layout(rows), always_ready=True))`
        To the activation memory.
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
    WRITE_LATENCY : :class:`int`
        Cycles from the requantizer to ``write`` and ``done``.
    """

    CHOICE_LATENCY = 2
    WRITE_LATENCY = 1

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
            "write":             Out(stream.Signature(
                unit_write_layout(config.word_lanes), always_ready=True)),
            "release":           Out(1),
            "done":              Out(1),
            "fault":             Out(Fault),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        config = self._config
        lanes  = config.requant_lanes
        slots  = config.rows // lanes  # parts of a word

        m.submodules.job = held = HalfSlice(shape=DrainJob)
        connect(m, flipped(self.jobs), held.i)
        new, job, active = self.jobs.p, held.o.p, held.o.valid

        pixel = Signal(range(config.accumulator_pixels), reset_less=True)
        group = Signal(range(config.requant_groups), reset_less=True)
        bits  = config.accumulator_pixels.bit_length()
        left  = Signal(bits, reset_less=True)              # pixels, this one included
        rest  = Signal(signed(bits + 1), reset_less=True)  # the same, less 3
        # Whether they are at their ends, without the comparisons.
        few        = Signal(reset_less=True)  # the half is released with the first pixel
        last_pixel = Signal(reset_less=True)
        last_group = Signal(reset_less=True)
        releases   = Signal(reset_less=True)
        groups     = Signal(range(config.requant_groups + 1), reset_less=True)
        finishing  = Signal()
        m.d.comb += [
            finishing.eq(active & last_pixel & last_group),
            held.o.ready.eq(last_pixel & last_group),
            self.half.eq(job.half),
            self.pixel.eq(pixel),
            self.enable.eq(active),
            self.release.eq(active & last_group & releases),
        ]

        with m.If(active):
            m.d.sync += [
                pixel.eq(pixel + 1),
                left.eq(left - 1),
                rest.eq(rest - 1),
                last_pixel.eq(rest < 0),
                releases.eq(~few & (left == self._lead + 1)),
            ]
            with m.If(last_pixel):
                m.d.sync += [
                    pixel.eq(0),
                    group.eq(group + 1),
                    last_group.eq(group + 2 == groups),
                    left.eq(job.pixels),
                    rest.eq(job.pixels[:bits] - 3),
                    last_pixel.eq(job.single),
                    releases.eq(few),
                ]
        with m.Else():
            count   = Mux(new.last_columns, new.last_groups, config.requant_groups)
            release = ~(self._lead < new.pixels[:bits])
            m.d.sync += [
                pixel.eq(0),
                left.eq(new.pixels),
                rest.eq(new.pixels[:bits] - 3),
                last_pixel.eq(new.single),
                few.eq(release),
                releases.eq(release),
                group.eq(0),
                groups.eq(count),
                last_group.eq(count == 1),
            ]

        # Addresses come a cycle later. So they are found from what the job before has left, with
        # the new job in its register.
        slot    = Signal(range(slots), reset_less=True)
        block   = Signal(24, reset_less=True)  # first word of the channel block
        entry   = Signal(24, reset_less=True)
        offset  = Signal(24)                   # of the pixel tile in its plane
        first   = Signal(24, reset_less=True)  # word of the tile's first pixel in this block
        address = Signal(24, reset_less=True)  # of the word to write
        # Where the column tile starts, for its further pixel tiles.
        tile_slot  = Signal.like(slot)
        tile_block = Signal.like(block)
        tile_entry = Signal.like(entry)

        # Twice: for the word's address, and for the rest.
        placing, counting = (Signal(name=name, attrs={"keep": 1})
                             for name in ("placing", "counting"))
        m.d.sync += [placing.eq(active), counting.eq(active)]
        wraps    = register(m, last_pixel, "wraps")  # to the next group
        leaves   = Signal()
        complete = Signal()  # all pixels of the column tile are
        m.d.sync += [leaves.eq(finishing), complete.eq(finishing & job.last_pixels)]
        last_slot  = Signal(reset_less=True)
        next_slot  = Mux(last_slot, 0, slot + 1)
        next_block = (block + Mux(last_slot, job.out_plane, 0))[:24]
        next_first = (first + Mux(last_slot, job.out_plane, 0))[:24]
        base       = Mux(job.first_columns, job.out_base, tile_block)
        start      = (base + offset)[:24]
        begin_slot = Mux(job.first_columns, 0, tile_slot)
        with m.If(~placing):
            m.d.sync += [first.eq(start), address.eq(start)]
        with m.Elif(wraps):
            m.d.sync += [first.eq(next_first), address.eq(next_first)]
        with m.Else():
            m.d.sync += address.eq(address + 1)
        with m.If(~counting):
            m.d.sync += [
                slot.eq(begin_slot),
                last_slot.eq(begin_slot == slots - 1),
                block.eq(base),
                entry.eq(Mux(job.first_columns, job.parameter_base, tile_entry)),
            ]
        with m.Elif(wraps):
            m.d.sync += [
                slot.eq(next_slot),
                last_slot.eq(next_slot == slots - 1),
                block.eq(next_block),
                entry.eq(entry + 1),
            ]
        with m.If(leaves):
            m.d.sync += offset.eq(offset + job.pixels[:bits])
        with m.If(complete):
            m.d.sync += [
                offset.eq(0),
                tile_slot.eq(next_slot),
                tile_block.eq(next_block),
                tile_entry.eq(entry + 1),
            ]
        m.d.comb += [self.parameter_address.eq(entry), self.parameter_enable.eq(counting)]

        legal    = (address < config.activation_depth) & (entry < config.parameter_depth)
        trespass = Signal()
        culprit  = register(m, job.index, "culprit")
        m.d.sync += trespass.eq(counting & ~legal)
        with m.If(trespass & (self.fault.code == Error.NONE)):
            m.d.sync += [self.fault.code.eq(Error.ADDRESS), self.fault.index.eq(culprit)]

        # What follows each group of sums down the pipeline.
        tag_layout = data.StructLayout({
            "address": ceil_log2(config.activation_depth),  # only legal ones are written to
            "slot":    range(slots),
            "write":   1,
            "done":    1,
        })
        travelling = data.StructLayout({
            "tag":       tag_layout,
            "out_zero":  signed(8),
            "clamp_min": signed(8),
            "clamp_max": signed(8),
            "rule":      Rounding,
        })
        stage: Any = Signal(travelling)
        m.d.comb += [
            stage.tag.address.eq(address),
            stage.tag.slot.eq(slot),
            stage.tag.write.eq(legal),
            stage.tag.done.eq(complete & job.last_columns),
            stage.out_zero.eq(job.out_zero),
            stage.clamp_min.eq(job.clamp_min),
            stage.clamp_max.eq(job.clamp_max),
            stage.rule.eq(job.rule),
        ]
        latency = AccumulatorColumn.DRAIN_LATENCY + self.CHOICE_LATENCY - 1
        stage   = delay(m, stage, latency - 1, name="stage", reset_less=True)
        i_valid = delay(m, active, latency + 1, name="valid")
        parameters = delay(m, self.parameters, latency - RegisteredMemory.LATENCY,
                           name="parameters", reset_less=True)

        # The group's lanes are chosen in front of the requantizer in two stages: first among
        # neighbouring columns, then among those that are left, which may be far apart.
        m.submodules.requantizer = requantizer = Requantizer(
            config, tag_shape=tag_layout, fixed_point=config.fixed_point)
        i = Signal(requantizer.i.shape(), reset_less=True)
        m.d.comb += [requantizer.i.eq(i), requantizer.i.valid.eq(i_valid)]
        m.d.sync += [
            i.tag.eq(stage.tag),
            i.out_zero.eq(stage.out_zero),
            i.clamp_min.eq(stage.clamp_min),
            i.clamp_max.eq(stage.clamp_max),
        ]
        m.d.comb += i.parameters.eq(parameters)
        if config.fixed_point:
            m.d.sync += i.rule.eq(stage.rule)
        if config.fip:
            m.d.sync += i.alpha.eq(register(m, self.sums[config.cols], "alpha"))
        split = exact_log2(_NEIGHBOURS)
        early = delay(m, group, AccumulatorColumn.DRAIN_LATENCY - 1, name="group",
                      reset_less=True)
        late: Value = Const(0)  # where there is one neighbourhood only
        if len(early) > split:
            late = delay(m, early[split:], 2, name="neighbourhood", reset_less=True)
        for lane in range(lanes):
            sums  = [self.sums[number * lanes + lane] for number in range(config.requant_groups)]
            among = []
            for start in range(0, len(sums), _NEIGHBOURS):
                # A bit for each of them, and registers for this choice alone.
                terms = [Mux(register(m, early[:split] == number, f"near_{lane}_{start}_{number}",
                                      keep=True), value, 0)
                         for number, value in enumerate(sums[start:start + _NEIGHBOURS])]
                among.append(register(m, reduce(or_, terms)[:config.accumulator_width].as_signed(),
                                      f"sum_{lane}_{start}"))
            m.d.sync += i.acc[lane].eq(Array(among)[late])

        # In registers: the memory's ports lie far apart.
        o       = requantizer.o
        written = register(m, o.tag, "written")
        values  = register(m, o.data, "values")
        m.d.sync += [
            self.write.valid.eq(o.valid & o.tag.write),
            self.done.eq(o.valid & o.tag.done),
        ]
        m.d.comb += self.write.p.address.eq(written.address)
        for part in range(slots):
            m.d.comb += self.write.p.mask[part * lanes:(part + 1) * lanes].eq(
                (written.slot == part).replicate(lanes))
            for lane in range(lanes):
                m.d.comb += self.write.p.data[part * lanes + lane].eq(values[lane])

        return m
