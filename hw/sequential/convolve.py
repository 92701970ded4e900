"""Convolutions, one output pixel of a column tile at a time."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from weft.hw.isa.commands import MatrixCommand
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.registers import Error
from weft.hw.lib.multiply_accumulate import MultiplyAccumulate

from .fields import Fields, fetched_beat_layout
from .requantize import SerialRequantizer
from .taps import TapWalker

__all__ = ["ConvolutionEngine"]


class ConvolutionEngine(wiring.Component):
    """Executes MATRIX commands.

    The sums of one pixel and ``cols`` channels stay in as many multiply-accumulate units, while
    the words of its window go by, a lane in each cycle. Then they are requantized one after the
    other. A column tile takes :attr:`TILE_CYCLES`; a pixel of it ``rows`` cycles for each word, and
    :attr:`PIXEL_CYCLES`; a channel of a pixel what :class:`SerialRequantizer` takes. Pixel tiles
    make no difference here. A command with an address outside its memory may have done a part of
    its work.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
        With ``sequential``.

    Members
    -------
    fetched : :py:`In(fetched_beat_layout(axi_data_width))`
        The beats of all commands.
    refused : :py:`Out(Error)`
        Why the last command that was fetched cannot be executed, if it is a MATRIX.
    start : :py:`In(1)`
        Pulse: execute it.
    done : :py:`Out(1)`
        Pulse.
    error : :py:`Out(Error)`
        With ``done``: why it was not finished.
    address : :py:`Out(...)`
        Of the activation word to read or write.
    read : :py:`Out(1)`
    word : :py:`In(data.ArrayLayout(8, rows))`
        The word, a cycle later and until the next access.
    write : :py:`Out(rows)`
        Lanes to write ``result`` to.
    result : :py:`Out(8)`
    weight_address : :py:`Out(...)`
        Weight row to read.
    weight_read : :py:`Out(1)`
    weights : :py:`In(data.ArrayLayout(signed(8), cols))`
        The row, a cycle later.
    parameter_address, parameter_part, parameter_read : outputs
        Half of a parameter entry to read.
    parameter : :py:`In(32)`
        It, a cycle later and until the next.

    Attributes
    ----------
    TILE_CYCLES, PIXEL_CYCLES : :class:`int`
    """

    TILE_CYCLES  = 1
    PIXEL_CYCLES = 3

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "fetched":           In(fetched_beat_layout(config.axi_data_width)),
            "refused":           Out(Error),
            "start":             In(1),
            "done":              Out(1),
            "error":             Out(Error),
            "address":           Out(ceil_log2(config.activation_depth)),
            "read":              Out(1),
            "word":              In(data.ArrayLayout(8, config.rows)),
            "write":             Out(config.rows),
            "result":            Out(8),
            "weight_address":    Out(ceil_log2(config.weight_depth)),
            "weight_read":       Out(1),
            "weights":           In(data.ArrayLayout(signed(8), config.cols)),
            "parameter_address": Out(ceil_log2(config.parameter_depth)),
            "parameter_part":    Out(1),
            "parameter_read":    Out(1),
            "parameter":         In(32),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config

        # A plane is inside the memory, and its padding not far outside.
        size       = len(self.address) + 1
        coordinate = signed(size + 1)
        sizes = ("in_h", "in_w", "channel_blocks", "out_w", "out_pixels", "col_tiles")
        fields = Fields(
            m, self.fetched, MatrixCommand,
            dict.fromkeys(sizes, size)
            | dict.fromkeys(("in_base", "in_plane", "pixel_row_step", "kernel_row_step",
                             "out_base", "out_plane", "weight_base", "parameter_base"), 24)
            | dict.fromkeys(("in_zero", "pad_top", "pad_left", "kernel_h", "kernel_w", "stride_h",
                             "stride_w", "dilation_h", "dilation_w", "out_zero", "clamp_min",
                             "clamp_max"), 8)
            | {"last_groups": 8, "rule": 1},
            bounded=sizes,
            positive=(*sizes, "tile_pixels", "kernel_h", "kernel_w", "stride_h", "stride_w",
                      "dilation_h", "dilation_w", "last_groups"))
        m.d.comb += self.refused.eq(Error.NONE)
        with m.If(fields.beyond):
            m.d.comb += self.refused.eq(Error.ADDRESS)
        with m.If(fields.empty | fields.rule | (fields.last_groups > config.requant_groups)
                  | (fields.clamp_min > fields.clamp_max)):
            m.d.comb += self.refused.eq(Error.ARGUMENT)

        # The outer loops: column tiles and pixels. The fields of bases count on with them.
        tiles, weight_base       = fields.col_tiles, fields.weight_base
        out_base, parameter_base = fields.out_base, fields.parameter_base
        output = Signal(24, reset_less=True)
        pixels = Signal(size, reset_less=True)
        left   = Signal(size, reset_less=True)     # pixels of the output row
        row    = Signal(24, reset_less=True)  # first pixel of the row in the input
        pixel  = Signal(24, reset_less=True)
        y      = Signal(coordinate, reset_less=True)
        x      = Signal(coordinate, reset_less=True)
        group  = Signal(range(config.requant_groups), reset_less=True)
        weight = Signal(24, reset_less=True)
        entry  = Signal(24, reset_less=True)
        lane   = Signal(range(config.rows))

        m.submodules.taps = taps = TapWalker(
            fields, coordinate_width=coordinate.width)
        m.submodules.requantizer = requantizer = SerialRequantizer()
        m.d.comb += [taps.pixel.eq(pixel), taps.y.eq(y), taps.x.eq(x)]

        # The units, a cycle behind the addresses. Weight rows come from the last lane to the first.
        adding  = Signal()
        beyond  = Signal()  # an address was
        clear   = Signal()
        present = Signal(ceil_log2(config.rows))  # the lane that is there
        inside  = Signal()
        chosen  = Signal(signed(8))
        sums    = Array(Signal(signed(32), name=f"sum_{column}") for column in range(config.cols))
        m.d.sync += [adding.eq(self.weight_read), present.eq(lane)]
        with m.If(self.weight_read):
            m.d.sync += inside.eq(taps.inside)
        m.d.sync += beyond.eq(self.weight_read & (
            (taps.inside & (taps.address >= config.activation_depth))
            | (weight >= config.weight_depth)))
        m.d.comb += chosen.eq(Mux(
            inside, Value.cast(self.word).word_select(~present, 8), fields.in_zero))
        for column in range(config.cols):
            m.submodules[f"unit_{column}"] = unit = MultiplyAccumulate()
            m.d.comb += [
                unit.a.eq(chosen),
                unit.b.eq(self.weights[column]),
                unit.clear.eq(clear),
                unit.enable.eq(adding),
                sums[column].eq(unit.o),
            ]

        last_tile, last_pixel = tiles == 1, pixels == 1
        last_group = Mux(last_tile, group + 1 == fields.last_groups,
                         group == config.requant_groups - 1)
        m.d.comb += [
            self.weight_address.eq(weight),
            self.parameter_address.eq(entry),
            self.parameter_read.eq(requantizer.read),
            self.parameter_part.eq(requantizer.part),
            self.result.eq(requantizer.o),
            requantizer.acc.eq(sums[group]),
            requantizer.parameter.eq(self.parameter),
        ]
        for name in ("out_zero", "clamp_min", "clamp_max"):
            m.d.comb += getattr(requantizer, name).eq(getattr(fields, name))

        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start):
                    m.next = "TILE"

            with m.State("TILE"):
                m.d.sync += [
                    pixels.eq(fields.out_pixels),
                    left.eq(fields.out_w),
                    row.eq(fields.in_base),
                    pixel.eq(fields.in_base),
                    y.eq(-fields.pad_top),
                    x.eq(-fields.pad_left),
                    output.eq(out_base),
                ]
                m.next = "PIXEL"

            with m.State("PIXEL"):
                m.d.comb += [taps.start.eq(1), clear.eq(1)]
                m.d.sync += [weight.eq(weight_base), entry.eq(parameter_base), group.eq(0),
                             lane.eq(0)]
                m.next = "ADD"

            with m.State("ADD"):
                m.d.comb += [
                    self.address.eq(taps.address),
                    self.read.eq(lane == 0),
                    self.weight_read.eq(1),
                    taps.advance.eq(lane == config.rows - 1),
                ]
                m.d.sync += [weight.eq(weight + 1), lane.eq(lane + 1)]
                with m.If(taps.advance & taps.last):
                    m.next = "SETTLE"
                with m.If(beyond):
                    self._stop(m)

            with m.State("SETTLE"):
                m.next = "START"
                with m.If(beyond):
                    self._stop(m)

            with m.State("START"):
                m.d.comb += requantizer.start.eq(1)
                m.next = "REQUANTIZE"
                with m.If((entry >= config.parameter_depth)
                          | (output >= config.activation_depth)):
                    self._stop(m)

            with m.State("REQUANTIZE"):
                m.d.comb += self.address.eq(output)
                with m.If(requantizer.done):
                    m.d.comb += self.write.eq(1 << group)
                    m.d.sync += [group.eq(group + 1), entry.eq(entry + 1)]
                    m.next = "START"
                    with m.If(last_group):
                        m.next = "NEXT"

            with m.State("NEXT"):
                m.d.sync += [
                    output.eq(output + 1),
                    pixels.eq(pixels - 1),
                    left.eq(left - 1),
                    pixel.eq(pixel + fields.stride_w),
                    x.eq(x + fields.stride_w),
                ]
                m.next = "PIXEL"
                with m.If(left == 1):
                    m.d.sync += [
                        left.eq(fields.out_w),
                        row.eq(row + fields.pixel_row_step),
                        pixel.eq(row + fields.pixel_row_step),
                        x.eq(-fields.pad_left),
                        y.eq(y + fields.stride_h),
                    ]
                with m.If(last_pixel):
                    m.d.sync += [
                        tiles.eq(tiles - 1),
                        weight_base.eq(weight),
                        out_base.eq(out_base + fields.out_plane),
                        parameter_base.eq(entry),
                    ]
                    m.next = "TILE"
                    with m.If(last_tile):
                        m.d.comb += self.done.eq(1)
                        m.next = "IDLE"
        return m

    def _stop(self, m: Module) -> None:
        m.d.comb += [self.done.eq(1), self.error.eq(Error.ADDRESS)]
        m.next = "IDLE"
