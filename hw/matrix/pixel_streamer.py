"""The inner loop of the matrix engine: the activation address of every pixel of a step."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import Fault
from weft.hw.isa.registers import Error
from weft.hw.lib.checks import require
from weft.hw.lib.delay import delay, register
from weft.hw.lib.fanout import copies
from weft.hw.memory.activation import ActivationMemory

from .accumulators import AccumulatorColumn, accumulate_layout
from .step import DrainJob, Step

__all__ = ["PixelStreamer"]


class PixelStreamer(wiring.Component):
    """Streams the pixels of each step from activation memory into the array, one per cycle.

    A tap outside the input yields the input zero point instead of a word. The next step follows
    without a bubble if it is there by the last pixel. A step that starts new sums waits until one
    of the two accumulator halves is free.

    Members
    -------
    steps : :py:`In(stream.Signature(Step))`
        Steps whose weights are in the shadow registers. The payload must be there, and stay, from
        the cycle before ``valid``.
    request : :py:`Out(stream.Signature(24, always_ready=True))`
        Word addresses.
    word : :py:`In(data.ArrayLayout(8, rows))`
        Data, ``ActivationMemory.LATENCY`` cycles after its request.
    o : :py:`Out({"data": ..., "switch": 1})`
        To the array; ``switch`` marks the first pixel of a step.
    control : :py:`Out(accumulate_layout(accumulator_pixels))`
        Where the pixel on ``o`` is accumulated.
    job : :py:`Out(stream.Signature(DrainJob, always_ready=True))`
        The last pixel of these sums has left the address generator. It reaches ``o``
        :attr:`LATENCY` cycles later.
    release : :py:`In(1)`
        An accumulator half has been drained.
    accepting : :py:`Out(1)`
        A pixel is being streamed.
    full : :py:`Out(1)`
        A step waits for an accumulator half.
    fault : :py:`Out(Fault)`
        Held until reset.

    Attributes
    ----------
    LATENCY : :class:`int`
        Cycles from the address generator's pixel to ``o``.
    ACCEPT_TO_SWITCH : :class:`int`
        Cycles from the transfer of a step to its first pixel on ``o``.
    """

    LATENCY = 2 + ActivationMemory.LATENCY
    ACCEPT_TO_SWITCH = 1 + LATENCY

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "steps":     In(stream.Signature(Step)),
            "request":   Out(stream.Signature(24, always_ready=True)),
            "word":      In(data.ArrayLayout(8, config.word_lanes)),
            "o":         Out(data.StructLayout({
                "data":   data.ArrayLayout(signed(config.activation_width), config.rows),
                "switch": 1,
            })),
            "control":   Out(accumulate_layout(config.accumulator_pixels)),
            "job":       Out(stream.Signature(DrainJob, always_ready=True)),
            "release":   In(1),
            "accepting": Out(1),
            "full":      Out(1),
            "fault":     Out(Fault),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        layout = data.StructLayout({
            "y":           18,  # of the pixel in the input, before the tap is added
            "x":           18,
            "row_address": 24,  # of the first pixel of this row
            "address":     24,
            "row_rest":    17,  # pixels left in the output row, less 3
        })
        active = Signal()
        step   = Signal(Step, reset_less=True)
        here   = Signal(layout, reset_less=True)
        origin = Signal(layout, reset_less=True)  # where the pixel tile starts
        after  = Signal(layout)
        half   = Signal()
        pixel  = Signal(range(self._config.accumulator_pixels), reset_less=True)
        bits   = self._config.accumulator_pixels.bit_length()
        rest   = Signal(signed(bits + 1), reset_less=True)  # pixels left of the step, less 3

        # What there is to know of the pixel at hand, without the comparisons.
        free = Signal(init=1)  # it is the last one of its step, or there is none
        ends = Signal()        # it is the last one of its sums
        near = rest[-1]        # it is the last but one, if it is not the last one
        next_free = Signal()
        next_ends = Signal()

        # Two halves; and the same accumulator not again before it has been written.
        open_tiles = Signal(range(3))
        opened     = Signal()
        recent     = Signal(AccumulatorColumn.REUSE - 1)  # a step was accepted so many cycles ago
        may_accept = Signal()
        accept     = Signal()
        m.d.comb += [
            self.full.eq(self.steps.valid & self.steps.p.first_tap & open_tiles[1]),
            self.steps.ready.eq(may_accept & ~(self.steps.p.first_tap & open_tiles[1])),
            accept.eq(self.steps.valid & self.steps.ready),
            self.accepting.eq(active),
        ]
        m.d.sync += [
            recent.eq(Cat(accept, recent)),
            may_accept.eq(~Cat(accept, recent[:-1]).any() & (free | near)),
            # A cycle late, which is soon enough for the next step.
            opened.eq(accept & self.steps.p.first_tap),
            open_tiles.eq(open_tiles + opened - self.release),
        ]
        require(m, (open_tiles != 2) | ~opened | self.release, "at most two tiles are open")
        require(m, (open_tiles != 0) | opened | ~self.release, "a tile that is released is open")

        single = register(m, self.steps.p.pixels[:bits] == 1, "single")
        m.d.comb += [
            next_free.eq(Mux(free, ~accept | single, near)),
            next_ends.eq(Mux(free, accept & single & self.steps.p.last_tap,
                             near & step.last_tap)),
        ]
        m.d.sync += [
            free.eq(next_free),
            ends.eq(next_ends),
            half.eq(half ^ ends),
            pixel.eq(pixel + 1),
            rest.eq(rest - 1),
        ]
        # Without a step these are not looked at, so they need not know whether one comes.
        step_single = Signal(reset_less=True)
        with m.If(free):
            m.d.sync += [
                active.eq(accept),
                pixel.eq(0),
                rest.eq(self.steps.p.pixels[:bits] - 3),
                step_single.eq(single),
            ]
        incoming, held = Value.cast(self.steps.payload), Value.cast(step)
        for part, enable in copies(m, next_free, "free", bits=len(held)):
            with m.If(enable):
                m.d.sync += held[part].eq(incoming[part])

        # The pixel after this one. That this one is the last one of its row is known twice: for the
        # positions, and for the addresses.
        next_at_end   = Signal()
        at_end, turns = (register(m, next_at_end, name, keep=True) for name in ("at_end", "turns"))
        after_at_end  = Mux(at_end, step.narrow, here.row_rest[-1])
        origin_at_end = Signal(reset_less=True)
        m.d.comb += [
            after.row_rest.eq(Mux(at_end, step.row_rest, here.row_rest - 1)),
            after.y.eq(Mux(at_end, here.y + step.stride_h, here.y)),
            after.x.eq(Mux(at_end, 0, here.x + step.stride_w)),
            after.row_address.eq(Mux(turns, here.row_address + step.pixel_row_step,
                                     here.row_address)),
            after.address.eq(Mux(turns, here.row_address + step.pixel_row_step,
                                 here.address + step.stride_w)),
        ]

        # One of three comes next: the pixel after this one, the tile's first one again, or the
        # plane's first one. Decided a cycle before, and for few bits each. After a single pixel
        # there is no other step so soon, so it does not matter then.
        plane   = self.steps.p.first_pixels
        goes_on = Mux(free, accept, ~near | (step.last_tap & ~plane))
        repeats = Mux(free, ~accept, near & ~step.last_tap) & ~plane
        starts  = register(m, Mux(free, ~accept, near) & plane, "starts")
        first   = Signal(layout)
        m.d.comb += first.row_rest.eq(Mux(starts, self.steps.p.row_rest, 0))
        choices = [copies(m, value, name, bits=len(Value.cast(here))) for value, name in (
            (goes_on, "goes_on"), (repeats, "repeats"), (next_ends, "ends"))]
        for (part, on), (_, again), (_, done) in zip(*choices, strict=True):
            following, source = Value.cast(after)[part], Value.cast(origin)[part]
            m.d.sync += Value.cast(here)[part].eq(
                Mux(on, following, 0) | Mux(again, source, 0) | Value.cast(first)[part])
            with m.If(done):
                m.d.sync += source.eq(following)
        m.d.comb += next_at_end.eq(
            (register(m, goes_on, "goes_on") & after_at_end)
            | (register(m, repeats, "repeats") & origin_at_end)
            | (starts & self.steps.p.narrow))
        with m.If(ends):
            m.d.sync += origin_at_end.eq(after_at_end)

        m.d.comb += [
            self.job.valid.eq(ends),
            self.job.p.half.eq(half),
            self.job.p.pixels.eq(step.pixels),
            self.job.p.single.eq(step_single),
        ]
        for name in ("index", "last_pixels", "first_columns", "last_columns", "out_base",
                     "out_plane", "out_zero", "clamp_min", "clamp_max", "parameter_base",
                     "last_groups", "rule"):
            m.d.comb += self.job.p[name].eq(step[name])

        # Stage 1: add the tap. Stage 2: is it inside? Then the memory.
        y       = Signal(signed(19), reset_less=True)
        x       = Signal(signed(19), reset_less=True)
        height  = Signal(16, reset_less=True)
        width   = Signal(16, reset_less=True)
        address = Signal(24, reset_less=True)
        index   = Signal(16, reset_less=True)
        inside  = Signal()
        legal   = Signal()
        valid   = Signal()
        m.d.sync += [
            valid.eq(active),
            y.eq(here.y + step.y),
            x.eq(here.x + step.x),
            height.eq(step.in_h),
            width.eq(step.in_w),
            address.eq(here.address + step.address),
            index.eq(step.index),
        ]
        m.d.comb += [
            # Below zero is far above the size.
            inside.eq((y.as_unsigned() < height) & (x.as_unsigned() < width)),
            legal.eq(address < self._config.activation_depth),
        ]
        m.d.sync += [
            self.request.valid.eq(valid & inside & legal),
            # Only legal ones are asked for.
            self.request.payload.eq(address[:ceil_log2(self._config.activation_depth)]),
        ]
        trespass = Signal()
        culprit  = register(m, index, "culprit")
        m.d.sync += trespass.eq(valid & inside & ~legal)
        with m.If(trespass & (self.fault.code == Error.NONE)):
            m.d.sync += [self.fault.code.eq(Error.ADDRESS), self.fault.index.eq(culprit)]

        # What goes along with the pixel. Only two bits tell that there is anything.
        travelling = data.StructLayout({
            "half":  1,
            "pixel": self.control.pixel.shape(),
            "first": 1,
            "zero":  signed(self._config.activation_width),
        })
        stage: Any = Signal(travelling)
        m.d.comb += [
            stage.half.eq(half),
            stage.pixel.eq(pixel),
            stage.first.eq(step.first_tap),
            stage.zero.eq(step.in_zero),
        ]
        stage = delay(m, stage, self.LATENCY, name="stage", reset_less=True)
        m.d.comb += [
            self.control.valid.eq(delay(m, active, self.LATENCY, name="valid")),
            self.control.half.eq(stage.half),
            self.control.pixel.eq(stage.pixel),
            self.control.first.eq(stage.first),
            self.o.switch.eq(delay(m, recent[0], self.LATENCY, name="switch")),
        ]

        outside = delay(m, ~inside, ActivationMemory.LATENCY, name="outside", reset_less=True)
        words, zeros = Signal.like(self.word), Signal.like(self.word)
        m.d.comb += [
            words.eq(self.word),
            *(zeros[lane].eq(stage.zero) for lane in range(self._config.rows)),
        ]
        chosen = Cat(Mux(choice, Value.cast(zeros)[part], Value.cast(words)[part])
                     for part, choice in copies(m, outside, "outside", bits=len(Value.cast(words))))
        for lane in range(self._config.rows):
            m.d.comb += self.o.data[lane].eq(chosen[8 * lane:][:8].as_signed())

        return m
