"""From accumulators through requantization to activation words."""

from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2, exact_log2

from weft.hw.isa.commands import Engine, Rounding
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.constants import ChannelParameters
from weft.hw.isa.fault import Fault
from weft.hw.isa.registers import Error
from weft.hw.isa.subset import roundings
from weft.hw.lib.delay import delay, register
from weft.hw.lib.half_slice import HalfSlice
from weft.hw.memory.registered import RegisteredMemory
from weft.hw.memory.scratch import unit_write_layout
from weft.hw.requantize.requantizer import Requantizer

from .accumulators import AccumulatorColumn
from .result_table import ResultTable
from .step import DrainJob

__all__ = ["Drain"]


_NEIGHBOURS = 4  # groups of columns that the first choice is among


@dataclass(frozen=True, kw_only=True)
class _Destination:
    """Where the sums that were addressed in the cycle before go."""
    valid:    Value  # there are such
    address:  Value  # word of the activation memory
    slot:     Value  # part of the word
    entry:    Value  # of the parameter memory
    complete: Value  # they are the last ones of their column tile


class Drain(wiring.Component):
    """Requantizes finished pixel tiles and writes them to the activation memory.

    Takes ``requant_lanes`` channels of all pixels of the tile, then the next group of channels:
    one group of one pixel per cycle. A word of ``rows`` channels is so written in parts, each with
    its lane mask, which lets ``rows`` and ``cols`` be chosen independently.

    A job whose sums are kept takes one cycle, in which nothing is read or written: so its command
    is done in its turn.

    What goes through a table is written :attr:`ResultTable.LATENCY` cycles later than what does
    not, and the first tile that does not waits for it.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
    release_to_write : :class:`int`
        Fewest cycles from ``release`` to the first new sum in the bank: it is released as many
        cycles before its last sum is read, but not before the last group of channels.

    Members
    -------
    jobs : :py:`In(stream.Signature(DrainJob))`
        Tiles whose sums are complete.
    bank, pixel, enable : outputs
        Accumulator to read in each column.
    sums : :py:`In(data.ArrayLayout(signed(accumulator_width), array_columns))`
        Their values, ``AccumulatorColumn.DRAIN_LATENCY`` cycles later.
    parameter_address : :py:`Out(24)`
    parameter_enable : :py:`Out(1)`
    parameters : :py:`In(data.ArrayLayout(ChannelParameters, requant_lanes))`
        The entry, ``RegisteredMemory.LATENCY`` cycles after its address.
    table_write : :py:`In(stream.Signature(unit_write_layout(1), always_ready=True))`
        Bytes of the look-up tables; with ``drain_lookup`` only.
    lane_table_write : \
:py:`In(stream.Signature(unit_write_layout(requant_lanes), always_ready=True))`
        The same of each lane; with ``drain_lane_tables`` only.
    write : :py:`Out(stream.Signature(unit_write_layout(word_data_bytes), always_ready=True))`
        To the activation memory.
    release : :py:`Out(1)`
        The tile's accumulator bank may be overwritten.
    done : :py:`Out(1)`
        The last write of a command has been made.
    fault : :py:`Out(Fault)`
        Held until reset.

    Attributes
    ----------
    CHOICE_LATENCY : :class:`int`
        Cycles from the sums of all columns to those of a group, in front of the requantizer.
    WRITE_LATENCY : :class:`int`
        Cycles from the requantizer to ``write`` and ``done``, without a table.
    PARTING : :class:`int`
        Cycles that a tile without a table waits behind one with a table.
    """

    CHOICE_LATENCY = 2
    WRITE_LATENCY = 1
    PARTING = ResultTable.LATENCY - 1  # a cycle lies between two tiles anyway

    def __init__(self, config: AcceleratorConfig, *, release_to_write: int):
        self._config = config
        self._lead   = release_to_write
        super().__init__({
            "jobs":              In(stream.Signature(DrainJob)),
            "bank":              Out(1),
            "pixel":             Out(exact_log2(config.accumulator_pixels)),
            "enable":            Out(1),
            "sums":              In(data.ArrayLayout(signed(config.accumulator_width),
                                                     config.array_columns)),
            "parameter_address": Out(24),
            "parameter_enable":  Out(1),
            "parameters":        In(data.ArrayLayout(ChannelParameters, config.requant_lanes)),
            **({"table_write":    In(stream.Signature(unit_write_layout(1), always_ready=True))}
               if config.drain_lookup else {}),
            **({"lane_table_write": In(stream.Signature(
                unit_write_layout(config.requant_lanes), always_ready=True))}
               if config.drain_lane_tables else {}),
            "write":             Out(stream.Signature(
                unit_write_layout(config.word_data_bytes), always_ready=True)),
            "release":           Out(1),
            "done":              Out(1),
            "fault":             Out(Fault),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        config = self._config
        m.submodules.job = held = HalfSlice(shape=DrainJob)
        job, active = held.o.p, held.o.valid
        waits = self._parting(m, job, active)
        m.d.comb += [
            held.i.payload.eq(self.jobs.payload),
            held.i.valid.eq(self.jobs.valid & ~waits),
            self.jobs.ready.eq(held.i.ready & ~waits),
        ]

        group, last_pixel, last_group = self._elaborate_loops(m, job, active)
        finishing = Signal()
        m.d.comb += [
            finishing.eq(active & last_pixel & last_group),
            held.o.ready.eq(last_pixel & last_group),
            self.bank.eq(job.bank),
            self.enable.eq(active & ~job.keep),
        ]

        target = self._elaborate_addresses(m, job, active, last_pixel, finishing)
        legal = (target.address < config.activation_depth) & (target.entry < config.parameter_depth)
        self._elaborate_fault(m, job, target.valid & ~legal & ~job.keep)

        m.submodules.requantizer = requantizer = Requantizer(
            config, tag_shape=self._tag_layout, rules=roundings(config, Engine.MATRIX))
        # Its input, not reset but for `valid`.
        i = Signal(requantizer.i.shape(), reset_less=True)
        m.d.comb += requantizer.i.eq(i)
        m.d.comb += requantizer.i.valid.eq(delay(m, active, self._operand_latency + 1,
                                                 name="valid"))
        self._elaborate_sideband(m, i, job, target, legal)
        self._elaborate_selection(m, i, group)
        results: Any = requantizer.o
        if config.drain_lookup:
            m.submodules.table = table = ResultTable(config, result=results.shape())
            connect(m, flipped(self.table_write), table.table_write)
            if config.drain_lane_tables:
                connect(m, flipped(self.lane_table_write), table.lane_table_write)
            m.d.comb += table.i.eq(results)
            results = table.o
        self._elaborate_write(m, results)

        return m

    def _parting(self, m: Module, job: Any, active: Value) -> Value:
        """Whether the next tile has to wait, so that its results do not come out with those that
        are looked up."""
        if not self._config.drain_lookup:
            return Const(0)
        recent: list[Value] = [active & (job.table != 0)]  # from the start: once offered, it stays
        for number in range(self.PARTING):
            recent.append(delay(m, recent[-1], 1, name=f"looked_up_{number}"))
        return Cat(recent).any() & (self.jobs.p.table == 0)

    @property
    def _slots(self) -> int:
        """Parts of a word that are written one by one."""
        return self._config.word_slots

    @property
    def _tag_layout(self) -> data.StructLayout:
        """Tag that travels through the requantizer with each group."""
        return data.StructLayout({
            "address": ceil_log2(self._config.activation_depth),  # only legal ones are written to
            "slot":    range(max(2, self._slots)),  # Verilog has no wires without bits
            "write":   1,
            "done":    1,
            **({"looks_up": 1, "table": range(self._config.drain_tables)}
               if self._config.drain_lookup else {}),
        })

    @property
    def _operand_latency(self) -> int:
        """Cycles from the address of an accumulator to the register before the requantizer's."""
        return AccumulatorColumn.DRAIN_LATENCY + self.CHOICE_LATENCY - 1

    def _elaborate_loops(self, m: Module, job: Any, active: Value) -> tuple[Value, Value, Value]:
        """The loop over groups of channels, and in it that over pixels. Returns the group, and
        whether this is the last pixel, and the last group."""
        config = self._config
        new    = self.jobs.p

        pixel = Signal(range(config.accumulator_pixels), reset_less=True)
        group = Signal(range(max(2, config.requant_groups)), reset_less=True)
        bits  = config.accumulator_pixels.bit_length()
        left  = Signal(bits, reset_less=True)              # pixels, this one included
        rest  = Signal(signed(bits + 1), reset_less=True)  # the same, less 3
        # The loop ends in registers, so that no comparison lies behind a counter.
        few        = Signal(reset_less=True)  # the bank is released with the first pixel
        last_pixel = Signal(reset_less=True)
        last_group = Signal(reset_less=True)
        releases   = Signal(reset_less=True)
        groups     = Signal(range(config.requant_groups + 1), reset_less=True)
        m.d.comb += [
            self.pixel.eq(pixel),
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
            release = ~(self._lead < new.pixels[:bits]) | new.keep
            m.d.sync += [
                pixel.eq(0),
                left.eq(new.pixels),
                rest.eq(new.pixels[:bits] - 3),
                last_pixel.eq(new.single | new.keep),
                few.eq(release),
                releases.eq(release),
                group.eq(0),
                groups.eq(count),
                last_group.eq((count == 1) | new.keep),
            ]
        return group, last_pixel, last_group

    def _elaborate_addresses(self, m: Module, job: Any, active: Value, last_pixel: Value,
                             finishing: Value) -> _Destination:
        """Where the group of each pixel goes to, and the entry of its parameters."""
        # Address generation lags one cycle, so it sees the old counters and the new job.
        bits    = self._config.accumulator_pixels.bit_length()
        slots   = self._slots
        slot    = Signal(range(max(2, slots)), reset_less=True)
        block   = Signal(24, reset_less=True)  # first word of the channel block
        entry   = Signal(24, reset_less=True)
        offset  = Signal(24)                   # of the pixel tile in its plane
        first   = Signal(24, reset_less=True)  # word of the tile's first pixel in this block
        address = Signal(24, reset_less=True)  # of the word to write
        # Where the column tile starts, for its further pixel tiles.
        tile_slot  = Signal.like(slot)
        tile_block = Signal.like(block)
        tile_entry = Signal.like(entry)

        # Two equal registers, to limit fan-out: for the word's address, and for the rest.
        placing, counting = (Signal(name=name, attrs={"keep": 1})
                             for name in ("placing", "counting"))
        m.d.sync += [placing.eq(active), counting.eq(active)]
        wraps    = register(m, last_pixel, "wraps")  # to the next group
        leaves   = Signal()
        complete = Signal()  # all pixels of the column tile have been read
        m.d.sync += [leaves.eq(finishing), complete.eq(finishing & job.last_pixels)]
        last_slot  = Signal(reset_less=True)
        next_slot  = Mux(last_slot, 0, slot + 1)
        next_block = (block + Mux(last_slot, job.out_plane, 0))[:24]
        next_first = (first + Mux(last_slot, job.out_plane, 0))[:24]
        base       = Mux(job.first_columns, job.out_base, tile_block)
        start      = (base + offset)[:24]
        begin_slot = Mux(job.first_columns, job.out_slot[:len(slot)], tile_slot)
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
        return _Destination(valid=counting, address=address, slot=slot, entry=entry,
                            complete=complete)

    def _elaborate_fault(self, m: Module, job: Any, illegal: Value) -> None:
        """Reports the first illegal address, with the command it belongs to."""
        address_fault = Signal()
        fault_index   = register(m, job.index, "fault_index")
        m.d.sync += address_fault.eq(illegal)
        with m.If(address_fault & (self.fault.code == Error.NONE)):
            m.d.sync += [self.fault.code.eq(Error.ADDRESS), self.fault.index.eq(fault_index)]

    def _elaborate_sideband(self, m: Module, i: Any, job: Any, target: _Destination,
                            legal: Value) -> None:
        """The operands of the requantizer beside the sums, delayed to arrive with them."""
        config  = self._config
        latency = self._operand_latency

        sideband = Signal(data.StructLayout({
            "tag":       self._tag_layout,
            "out_zero":  signed(8),
            "clamp_min": signed(8),
            "clamp_max": signed(8),
            "rule":      Rounding,
        }), name="sideband")
        m.d.comb += [
            sideband.tag.address.eq(target.address),
            sideband.tag.slot.eq(target.slot),
            sideband.tag.write.eq(legal & ~job.keep),
            sideband.tag.done.eq(target.complete & job.last_columns),
            sideband.out_zero.eq(job.out_zero),
            sideband.clamp_min.eq(job.clamp_min),
            sideband.clamp_max.eq(job.clamp_max),
            sideband.rule.eq(job.rule),
        ]
        if config.drain_lookup:
            m.d.comb += [
                sideband.tag.looks_up.eq(job.table != 0),
                sideband.tag.table.eq(job.table - 1),
            ]
        # A cycle less than the sums: the addresses lag by one.
        delayed: Any = delay(m, sideband, latency - 1, name="sideband", reset_less=True)
        m.d.sync += [
            i.tag.eq(delayed.tag),
            i.out_zero.eq(delayed.out_zero),
            i.clamp_min.eq(delayed.clamp_min),
            i.clamp_max.eq(delayed.clamp_max),
            i.rule.eq(delayed.rule),
        ]
        m.d.comb += i.parameters.eq(delay(m, self.parameters, latency - RegisteredMemory.LATENCY,
                                          name="parameters", reset_less=True))

    def _elaborate_selection(self, m: Module, i: Any, group: Value) -> None:
        """Chooses the sums of a group of channels, in :attr:`CHOICE_LATENCY` stages: first among
        neighbouring columns, then among those that are left, which may be far apart."""
        config = self._config
        lanes  = config.requant_lanes

        if config.array.corrects:
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
                # One-hot, and in registers of their own for each choice, to limit fan-out.
                terms = [Mux(register(m, early[:split] == number, f"near_{lane}_{start}_{number}",
                                      keep=True), value, 0)
                         for number, value in enumerate(sums[start:start + _NEIGHBOURS])]
                among.append(register(m, reduce(or_, terms)[:config.accumulator_width].as_signed(),
                                      f"sum_{lane}_{start}"))
            m.d.sync += i.acc[lane].eq(Array(among)[late])

    def _elaborate_write(self, m: Module, o: Any) -> None:
        """Writes results, from registers: the memory's ports lie far apart."""
        lanes   = self._config.requant_lanes
        written = register(m, o.tag, "written")
        values  = register(m, o.data, "values")
        m.d.sync += [
            self.write.valid.eq(o.valid & o.tag.write),
            self.done.eq(o.valid & o.tag.done),
        ]
        m.d.comb += self.write.p.address.eq(written.address)
        for part in range(self._slots):
            m.d.comb += self.write.p.mask[part * lanes:(part + 1) * lanes].eq(
                (written.slot == part).replicate(lanes))
            for lane in range(lanes):
                m.d.comb += self.write.p.data[part * lanes + lane].eq(values[lane])
