"""The lanes of rows, one by one, as often as a row command needs them."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.lib.checks import require
from weft.hw.lib.delay import delay, register
from weft.hw.memory.scratch import unit_write_layout

from .reader import GROUPS, RowReader, unit_of, word_use
from .walk import ROWS, batch_rows
from .writer import RowWriter

__all__ = ["RowSweep", "lane_use"]


def lane_use(config: AcceleratorConfig) -> data.StructLayout:
    """What the values of a lane are for, of a row of each unit."""
    return data.StructLayout({
        "row":    range(ROWS),
        "number": 2,        # of the pass
        "inside": config.row_units,     # for each unit: the lane is one of the row, and the row
                                        # one of the command
        "first":  1,        # it is the first one of its row
        "whole":  1,        # it is the last one of its group
        "ends":   1,        # it is the last one of the pass
        "lane":   8,
        "channel": 16,
    })


class RowSweep(wiring.Component):
    """Takes the rows of a command batch by batch, and goes through all lanes of a batch in each
    pass: through those of a channel block of all its rows, a lane of a row of each unit in a cycle,
    the rows of a unit by turns. What is made of the lanes of the last pass is written.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
    passes : :class:`int`
        1 to 3.
    latency : :class:`int`
        Cycles from a lane to its result.
    ahead : :class:`int`
        If it is not 0, all words of a batch come once before the passes, and these begin as many
        cycles behind the words that are theirs.

    Members
    -------
    start : :py:`In(1)`
        Begin with a command, of which follow
    in_base, in_plane, out_base, out_plane : :py:`In(24)`
    pixels, blocks : :py:`In(16)`
    lanes : :py:`In(8)`
        fields: the bases are looked at with ``start``, the others until ``done``.
    request : :py:`Out(stream.Signature(24))`
        Words to read.
    word : :py:`In(data.ArrayLayout(8, word_lanes))`
        The word, ``ActivationMemory.LATENCY`` cycles after its request was accepted.
    here : :py:`Out(1)`
        It is there.
    word_use : :py:`Out(word_use(config))`
        What for.
    hold : :py:`In(passes)`
        A pass must not begin yet.
    opens : :py:`Out(passes)`
        One begins.
    use : :py:`Out(lane_use(config))`
    value : :py:`Out(data.ArrayLayout(8, row_units))`
        Of a lane, for each unit.
    valid : :py:`Out(1)`
        There are some.
    result : :py:`In(data.ArrayLayout(8, row_units))`
    result_use : :py:`In(lane_use(config))`
        What for: that of values of the last pass.
    result_valid : :py:`In(1)`
        There are some. They come in the order of the values, and at the same distances.
    write : :py:`Out(stream.Signature(unit_write_layout(word_data_bytes)))`
    moves : :py:`Out(1)`
        A lane is taken, or a word comes.
    done : :py:`Out(1)`
        The last word of a command was taken in the cycle before.
    beyond : :py:`Out(1)`
        A word would be outside the memory.
    """

    def __init__(self, config: AcceleratorConfig, *, passes: int, latency: int, ahead: int = 0):
        self._config = config
        self._passes = passes
        self._ahead  = ahead
        # Those whose results are on their way, one that is filled and one that is written.
        groups = latency // (ROWS * config.word_lanes) + 3
        self._groups = max(4, 1 << (groups - 1).bit_length())
        bytes_ = config.word_data_bytes
        super().__init__({
            "start":        In(1),
            "in_base":      In(24),
            "in_plane":     In(24),
            "out_base":     In(24),
            "out_plane":    In(24),
            "pixels":       In(16),
            "blocks":       In(16),
            "lanes":        In(8),
            "request":      Out(stream.Signature(24)),
            "word":         In(data.ArrayLayout(8, bytes_)),
            "here":         Out(1),
            "word_use":     Out(word_use(config)),
            "hold":         In(passes),
            "opens":        Out(passes),
            "use":          Out(lane_use(config)),
            "value":        Out(data.ArrayLayout(8, config.row_units)),
            "valid":        Out(1),
            "result":       In(data.ArrayLayout(8, config.row_units)),
            "result_use":   In(lane_use(config)),
            "result_valid": In(1),
            "write":        Out(stream.Signature(unit_write_layout(bytes_))),
            "moves":        Out(1),
            "done":         Out(1),
            "beyond":       Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.reader = reader = RowReader(self._config, passes=self._passes,
                                                 ahead=self._ahead > 0)
        m.submodules.writer = writer = RowWriter(self._config, groups=self._groups)
        for part, side in ((reader, "in"), (writer, "out")):
            m.d.comb += [
                part.start.eq(self.start),
                part.base.eq(getattr(self, f"{side}_base")),
                part.plane.eq(getattr(self, f"{side}_plane")),
                part.pixels.eq(self.pixels),
                part.blocks.eq(self.blocks),
            ]
        connect(m, reader.request, flipped(self.request))
        connect(m, writer.write, flipped(self.write))
        use: Any = self.result_use
        m.d.comb += [
            self.here.eq(reader.here),
            Value.cast(self.word_use).eq(Value.cast(reader.use)),
            Value.cast(writer.value).eq(Value.cast(self.result)),
            writer.row.eq(use.row),
            writer.lane.eq(use.lane),
            writer.valid.eq(self.result_valid),
            writer.whole.eq(self.result_valid & use.whole),
            self.done.eq(writer.done),
            self.beyond.eq(reader.beyond | writer.beyond),
        ]
        self._sweep(m)
        return m

    def _sweep(self, m: Module) -> None:
        """Goes through the lanes of each group that has come."""
        reader, writer = m.submodules.reader, m.submodules.writer
        lanes, units = self._config.word_lanes, self._config.row_units
        come  = reader.here & ~reader.use.ahead
        ready = delay(m, come & reader.use.ends, self._ahead, name="ready")

        running = Signal()
        there   = Signal(range(GROUPS + 1))     # groups that have come, and are not begun
        group   = Signal(range(GROUPS))
        row     = Signal(range(ROWS), reset_less=True)
        lane    = Signal(range(lanes), reset_less=True)
        number  = Signal(range(max(2, self._passes)), reset_less=True)  # of the pass
        first   = Signal(reset_less=True)       # block of the row
        channel = Signal(16, reset_less=True)
        blocks  = Signal(16, reset_less=True)   # of the row, with this one
        left    = Signal(17, reset_less=True)   # rows, from the first one of this batch on
        last    = number == self._passes - 1
        begins  = Signal()
        tail    = blocks == 1
        ends    = running & (row == ROWS - 1) & (lane == lanes - 1)
        m.d.comb += [
            begins.eq(~running & (there != 0) & ~(last & writer.full)
                      & ~(first & self.hold.bit_select(number, 1))),
            self.opens.eq(Mux(begins & first, 1 << number, 0)),
            writer.begins.eq(begins & last),
            reader.group_ends.eq(ends),
            reader.batch_ends.eq(ends & tail & last),
            self.moves.eq(running | reader.here),
        ]
        m.d.sync += there.eq(there + ready - begins)
        require(m, (there != GROUPS) | ~ready, "there is room for a group that comes")
        require(m, ~running | (left.any() & ~left[-1]), "a batch that is begun has rows")
        with m.If(begins):
            m.d.sync += [running.eq(1), row.eq(0), lane.eq(0)]
        with m.If(running):
            m.d.sync += row.eq(row + 1)
            with m.If(row == ROWS - 1):
                m.d.sync += [lane.eq(lane + 1), channel.eq(channel + 1)]
        with m.If(ends):
            m.d.sync += [
                running.eq(0),
                group.eq(group + 1),
                first.eq(tail),
                blocks.eq(Mux(tail, self.blocks, blocks - 1)),
            ]
            with m.If(tail):
                m.d.sync += [number.eq(Mux(last, 0, number + 1)), channel.eq(0)]
                with m.If(last):
                    m.d.sync += left.eq(left - batch_rows(self._config))
        with m.If(self.start):
            m.d.sync += [number.eq(0), first.eq(1), channel.eq(0), blocks.eq(self.blocks),
                         left.eq(self.pixels)]

        self._keep(m, Cat(row, group), lane)

        use: Any = Signal(lane_use(self._config))
        m.d.comb += [
            use.row.eq(row),
            use.number.eq(number),
            use.inside.eq(Mux(~tail | (lane < self.lanes), Cat(
                row + ROWS * unit < left for unit in range(units)), 0)),
            use.first.eq(first & (lane == 0)),
            use.whole.eq(ends),
            use.ends.eq(ends & tail),
            use.lane.eq(lane),
            use.channel.eq(channel),
            Value.cast(self.use).eq(delay(m, Value.cast(use), 1, name="use", reset_less=True)),
            self.valid.eq(delay(m, running, 1, name="valid")),
        ]

    def _keep(self, m: Module, place: Value, lane: Value) -> None:
        """Keeps the words of groups that wait, those of the rows of each unit in a memory of its
        own; of the words at ``place`` a lane is taken."""
        reader, lanes = m.submodules.reader, self._config.word_lanes
        come = reader.here & ~reader.use.ahead
        for unit in range(self._config.row_units):
            m.submodules[f"words_{unit}"] = words = Memory(
                shape=unsigned(8 * lanes), depth=GROUPS * ROWS, init=[])
            put = words.write_port()
            get = words.read_port(domain="comb")
            m.d.comb += [
                put.addr.eq(Cat(reader.use.row, reader.use.group)),
                put.data.eq(self.word),
                put.en.eq(come & (unit_of(self._config, reader.use) == unit)),
                get.addr.eq(place),
                self.value[unit].eq(register(m, get.data.word_select(lane, 8),
                                             f"value_held_{unit}")),
            ]
