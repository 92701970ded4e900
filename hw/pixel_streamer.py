"""The inner loop of the matrix engine: the activation address of every pixel of a step."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from weft.config import AcceleratorConfig

from .accumulators import AccumulatorColumn, accumulate_layout
from .activation_memory import ActivationMemory
from .delay import delay
from .fault import Fault
from .registers import Error
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
        Steps whose weights are in the shadow registers.
    request : :py:`Out(stream.Signature(24))`
        Word addresses; must always be ready.
    word : :py:`In(data.ArrayLayout(8, rows))`
        Data, ``ActivationMemory.LATENCY`` cycles after its request.
    o : :py:`Out({"data": ..., "switch": 1})`
        To the array; ``switch`` marks the first pixel of a step.
    control : :py:`Out(accumulate_layout(accumulator_pixels))`
        Where the pixel on ``o`` is accumulated.
    job : :py:`Out(DrainJob)`
        Valid while ``job_valid``: the last pixel of these sums has left the address generator.
        It reaches ``o`` :attr:`LATENCY` cycles later.
    job_valid : :py:`Out(1)`
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
            "request":   Out(stream.Signature(24)),
            "word":      In(data.ArrayLayout(8, config.word_lanes)),
            "o":         Out(data.StructLayout({
                "data":   data.ArrayLayout(signed(config.activation_width), config.rows),
                "switch": 1,
            })),
            "control":   Out(accumulate_layout(config.accumulator_pixels)),
            "job":       Out(DrainJob),
            "job_valid": Out(1),
            "release":   In(1),
            "accepting": Out(1),
            "full":      Out(1),
            "fault":     Out(Fault),
        })

    def elaborate(self, platform):
        m = Module()

        layout = data.StructLayout({
            "y":           18,  # of the pixel in the input, before the tap is added
            "x":           18,
            "row_address": 24,  # of the first pixel of this row
            "address":     24,
            "row_left":    16,  # pixels of the output row, this one included
        })
        active  = Signal()
        step    = Signal(Step, reset_less=True)
        here    = Signal(layout, reset_less=True)
        origin  = Signal(layout, reset_less=True)  # where the pixel tile starts
        after   = Signal(layout)
        start   = Signal(layout)                   # of the plane
        half    = Signal()
        pixel   = Signal(range(self._config.accumulator_pixels), reset_less=True)
        left    = Signal(16, reset_less=True)

        m.d.comb += [after.eq(here), start.row_left.eq(self.steps.p.out_w)]
        with m.If(here.row_left == 1):
            m.d.comb += [
                after.row_left.eq(step.out_w),
                after.y.eq(here.y + step.stride_h),
                after.x.eq(0),
                after.row_address.eq(here.row_address + step.pixel_row_step),
                after.address.eq(here.row_address + step.pixel_row_step),
            ]
        with m.Else():
            m.d.comb += [
                after.row_left.eq(here.row_left - 1),
                after.x.eq(here.x + step.stride_w),
                after.address.eq(here.address + step.stride_w),
            ]

        # Two halves; and the same accumulator not again before it has been written.
        open_tiles = Signal(range(3))
        age        = Signal(range(AccumulatorColumn.REUSE + 1), init=AccumulatorColumn.REUSE)
        last       = Signal(reset_less=True)  # left == 1, without the comparison
        accept     = Signal()
        opens      = Signal()
        m.d.comb += [
            self.full.eq(self.steps.valid & self.steps.p.first_tap & (open_tiles == 2)),
            self.steps.ready.eq((~active | last) & (age >= AccumulatorColumn.REUSE - 1)
                                & ~self.full),
            accept.eq(self.steps.valid & self.steps.ready),
            opens.eq(accept & self.steps.p.first_tap),
            self.accepting.eq(active),
        ]
        m.d.sync += open_tiles.eq(open_tiles + opens - self.release)

        with m.If(age != AccumulatorColumn.REUSE):
            m.d.sync += age.eq(age + 1)
        with m.If(active):
            m.d.sync += [here.eq(after), pixel.eq(pixel + 1), left.eq(left - 1),
                         last.eq(left == 2)]
            with m.If(last):
                m.d.sync += active.eq(0)
                with m.If(step.last_tap):
                    m.d.sync += [half.eq(~half), origin.eq(after)]
        # Without a step these are not looked at, so they need not know whether one comes.
        with m.If(~active | last):
            m.d.sync += [
                step.eq(self.steps.payload),
                pixel.eq(0),
                left.eq(self.steps.p.pixels),
                last.eq(self.steps.p.pixels == 1),
                here.eq(Mux(active & step.last_tap, after, origin)),
            ]
            with m.If(self.steps.p.first_pixels):
                m.d.sync += here.eq(start)
        with m.If(accept):
            m.d.sync += [active.eq(1), age.eq(0)]
            with m.If(self.steps.p.first_pixels):
                m.d.sync += origin.eq(start)

        m.d.comb += [
            self.job_valid.eq(active & last & step.last_tap),
            self.job.half.eq(half),
            self.job.pixels.eq(step.pixels),
        ]
        for name in ("index", "first_pixels", "last_pixels", "first_columns", "last_columns",
                     "out_base", "out_plane", "out_zero", "clamp_min", "clamp_max",
                     "parameter_base", "last_groups", "rule"):
            m.d.comb += self.job[name].eq(step[name])

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
            inside.eq((y >= 0) & (x >= 0) & (y < height) & (x < width)),
            legal.eq(address < self._config.activation_depth),
        ]
        m.d.sync += [
            self.request.valid.eq(valid & inside & legal),
            # Only legal ones are asked for.
            self.request.payload.eq(address[:ceil_log2(self._config.activation_depth)]),
        ]
        with m.If(valid & inside & ~legal & (self.fault.code == Error.NONE)):
            m.d.sync += [self.fault.code.eq(Error.ADDRESS), self.fault.index.eq(index)]

        travelling = data.StructLayout({
            "control": self.control.shape(),
            "switch":  1,
            "zero":    signed(self._config.activation_width),
        })
        stage = Signal(travelling)
        m.d.comb += [
            stage.control.valid.eq(active),
            stage.control.half.eq(half),
            stage.control.pixel.eq(pixel),
            stage.control.first.eq(step.first_tap),
            stage.switch.eq(active & (pixel == 0)),
            stage.zero.eq(step.in_zero),
        ]
        stage = delay(m, stage, self.LATENCY, name="stage")

        outside = Signal(ActivationMemory.LATENCY + 1)
        m.d.sync += outside.eq(Cat(~inside, outside))
        m.d.comb += [self.control.eq(stage.control), self.o.switch.eq(stage.switch)]
        for lane in range(self._config.rows):
            m.d.comb += self.o.data[lane].eq(
                Mux(outside[-1], stage.zero, self.word[lane].as_signed()))

        return m
