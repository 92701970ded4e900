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
from .pixels import PixelLoop
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
        size   = len(self.address) + 1
        fields = self._fields(m, size=size)
        pixels = PixelLoop(m, fields, size=size, coordinate_width=size + 1)
        group  = Signal(range(config.requant_groups), reset_less=True)
        weight = Signal(24, reset_less=True)
        entry  = Signal(24, reset_less=True)
        lane   = Signal(range(config.rows))

        m.submodules.taps = taps = TapWalker(fields, coordinate_width=size + 1)
        m.d.comb += [taps.pixel.eq(pixels.pixel), taps.y.eq(pixels.y), taps.x.eq(pixels.x)]
        clear = Signal()
        sums, beyond = self._accumulate(m, fields, taps, weight=weight, lane=lane, clear=clear)
        requantizer  = self._requantize(m, fields, sums[group])
        m.d.comb += [self.weight_address.eq(weight), self.parameter_address.eq(entry)]
        last_group = Mux(pixels.last_tile, group + 1 == fields.last_groups,
                         group == config.requant_groups - 1)

        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start):
                    m.next = "TILE"

            with m.State("TILE"):
                pixels.start_tile()
                m.next = "PIXEL"

            with m.State("PIXEL"):
                m.d.comb += [taps.start.eq(1), clear.eq(1)]
                m.d.sync += [weight.eq(fields.weight_base), entry.eq(fields.parameter_base),
                             group.eq(0), lane.eq(0)]
                m.next = "ADD"

            with m.State("ADD"):
                m.d.comb += [self.address.eq(taps.address), self.read.eq(lane == 0),
                             self.weight_read.eq(1), taps.advance.eq(lane == config.rows - 1)]
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
                          | (pixels.output >= config.activation_depth)):
                    self._stop(m)

            with m.State("REQUANTIZE"):
                m.d.comb += self.address.eq(pixels.output)
                with m.If(requantizer.done):
                    m.d.comb += self.write.eq(1 << group)
                    m.d.sync += [group.eq(group + 1), entry.eq(entry + 1)]
                    m.next = "START"
                    with m.If(last_group):
                        m.next = "NEXT"

            with m.State("NEXT"):
                pixels.next_pixel()
                m.next = "PIXEL"
                with m.If(pixels.last_pixel):
                    pixels.next_tile(weight=weight, entry=entry)
                    m.next = "TILE"
                    with m.If(pixels.last_tile):
                        m.d.comb += self.done.eq(1)
                        m.next = "IDLE"
        return m

    def _fields(self, m: Module, *, size: int) -> Fields:
        """The fields of the command; sizes of planes have ``size`` bits. Refuses a command with
        illegal ones."""
        sizes = ("in_h", "in_w", "channel_blocks", "out_w", "out_pixels", "col_tiles")
        fields = Fields(
            m, self.fetched, MatrixCommand,
            dict.fromkeys(sizes, size)
            | dict.fromkeys(("in_base", "in_plane", "pixel_row_step", "kernel_row_step",
                             "out_base", "out_plane", "weight_base", "parameter_base"), 24)
            | dict.fromkeys(("in_zero", "pad_top", "pad_left", "kernel_h", "kernel_w", "stride_h",
                             "stride_w", "dilation_h", "dilation_w", "out_zero", "clamp_min",
                             "clamp_max"), 8)
            | {"last_groups": 8},
            bounded=sizes,
            positive=(*sizes, "tile_pixels", "kernel_h", "kernel_w", "stride_h", "stride_w",
                      "dilation_h", "dilation_w", "last_groups"),
            # Sums do not outlive their command.
            zero=("rule", "table", "accumulate", "keep", "out_slot"))
        m.d.comb += self.refused.eq(Error.NONE)
        with m.If(fields.beyond):
            m.d.comb += self.refused.eq(Error.ADDRESS)
        with m.If(fields.wrong | (fields.last_groups > self._config.requant_groups)
                  | (fields.clamp_min > fields.clamp_max)):
            m.d.comb += self.refused.eq(Error.ARGUMENT)
        return fields

    def _accumulate(self, m: Module, fields: Fields, taps: TapWalker, *, weight: Signal,
                    lane: Signal, clear: Signal) -> tuple[Any, Signal]:
        """The multiply-accumulate units, a cycle behind the addresses. Weight rows come from the
        last lane to the first. Returns the sums, and whether an address was outside its memory."""
        config  = self._config
        adding  = Signal()
        beyond  = Signal()
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
        return sums, beyond

    def _requantize(self, m: Module, fields: Fields, acc: Value) -> SerialRequantizer:
        m.submodules.requantizer = requantizer = SerialRequantizer()
        m.d.comb += [
            self.parameter_read.eq(requantizer.read),
            self.parameter_part.eq(requantizer.part),
            self.result.eq(requantizer.o),
            requantizer.acc.eq(acc),
            requantizer.parameter.eq(self.parameter),
        ]
        for name in ("out_zero", "clamp_min", "clamp_max"):
            m.d.comb += getattr(requantizer, name).eq(getattr(fields, name))
        return requantizer

    def _stop(self, m: Module) -> None:
        m.d.comb += [self.done.eq(1), self.error.eq(Error.ADDRESS)]
        m.next = "IDLE"
