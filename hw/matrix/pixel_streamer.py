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


_POSITION = data.StructLayout({
    "y":           18,  # of the pixel in the input, before the tap is added
    "x":           18,
    "row_address": 24,  # of the first pixel of this row
    "address":     24,
    "row_rest":    17,  # pixels left in the output row, less 3
})


class _Loop:
    """Registers of the loop over the pixels of a step, and their next state."""

    def __init__(self, config: AcceleratorConfig):
        bits = config.accumulator_pixels.bit_length()
        self.active = Signal()  # there is a pixel
        self.step   = Signal(Step, reset_less=True)
        self.pixel  = Signal(range(config.accumulator_pixels), reset_less=True)
        self.rest   = Signal(signed(bits + 1), reset_less=True)  # pixels left of the step, less 3
        self.single = Signal(name="step_single", reset_less=True)  # the step has a single pixel
        # The loop ends in registers, so that no comparison lies behind the counter.
        self.free = Signal(init=1)   # the pixel is the last one of its step, or there is none
        self.ends = Signal()         # it is the last one of its sums
        self.near = self.rest[-1]    # it is the last but one, if it is not the last one
        self.next_free = Signal()
        self.next_ends = Signal()
        self.accept    = Signal()    # a step is accepted


class PixelStreamer(wiring.Component):
    """Streams the pixels of each step from activation memory into the array, one per cycle.

    A tap outside the input yields the input zero point instead of a word. The next step follows
    without a bubble if it is there by the last pixel. A step that starts new sums waits until one
    of the two accumulator banks is free; one that goes on with sums that were kept likewise, though
    it has its bank, so that no more than two jobs are under way.

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
        Comes with the last pixel of a tile, as that leaves the address generator;
        :attr:`LATENCY` cycles before it is on ``o``.
    release : :py:`In(1)`
        An accumulator bank has been drained.
    accepting : :py:`Out(1)`
        A pixel is being streamed.
    full : :py:`Out(1)`
        A step waits for an accumulator bank.
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
            "word":      In(data.ArrayLayout(8, config.word_data_bytes)),
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

        loop = _Loop(self._config)
        here = Signal(_POSITION, reset_less=True)
        bank = Signal()
        m.d.sync += bank.eq(bank ^ (loop.ends & ~loop.step.keep))

        starts = self._elaborate_accept(m, loop)
        self._elaborate_loop(m, loop)
        self._elaborate_positions(m, loop, here)
        self._elaborate_job(m, loop, bank)
        inside = self._elaborate_request(m, loop, here)
        zero   = self._elaborate_control(m, loop, bank, starts)
        self._elaborate_data(m, inside, zero)

        return m

    def _elaborate_accept(self, m: Module, loop: _Loop) -> Value:
        """When a step may be accepted. Returns whether this is the first pixel of one."""
        # At most two tiles are open, one in each bank; and no step comes so soon that it reads an
        # accumulator that has not been written yet.
        open_tiles = Signal(range(3))
        opened     = Signal()
        recent     = Signal(AccumulatorColumn.REUSE - 1)  # a step was accepted so many cycles ago
        may_accept = Signal()
        m.d.comb += [
            self.full.eq(self.steps.valid & self.steps.p.first_tap & open_tiles[1]),
            self.steps.ready.eq(may_accept & ~(self.steps.p.first_tap & open_tiles[1])),
            loop.accept.eq(self.steps.valid & self.steps.ready),
            self.accepting.eq(loop.active),
        ]
        m.d.sync += [
            recent.eq(Cat(loop.accept, recent)),
            may_accept.eq(~Cat(loop.accept, recent[:-1]).any() & (loop.free | loop.near)),
            # Counted a cycle later, which is still before the next step.
            opened.eq(loop.accept & self.steps.p.first_tap),
            open_tiles.eq(open_tiles + opened - self.release),
        ]
        require(m, (open_tiles != 2) | ~opened | self.release, "at most two tiles are open")
        require(m, (open_tiles != 0) | opened | ~self.release, "a tile that is released is open")
        return recent[0]

    def _elaborate_loop(self, m: Module, loop: _Loop) -> None:
        """Counts the pixels of a step."""
        bits   = self._config.accumulator_pixels.bit_length()
        free   = loop.free
        single = register(m, self.steps.p.pixels[:bits] == 1, "single")
        m.d.comb += [
            loop.next_free.eq(Mux(free, ~loop.accept | single, loop.near)),
            loop.next_ends.eq(Mux(free, loop.accept & single & self.steps.p.last_tap,
                                  loop.near & loop.step.last_tap)),
        ]
        m.d.sync += [
            free.eq(loop.next_free),
            loop.ends.eq(loop.next_ends),
            loop.pixel.eq(loop.pixel + 1),
            loop.rest.eq(loop.rest - 1),
        ]
        # Loaded whether or not a step comes: without one they do not matter.
        with m.If(free):
            m.d.sync += [
                loop.active.eq(loop.accept),
                loop.pixel.eq(0),
                loop.rest.eq(self.steps.p.pixels[:bits] - 3),
                loop.single.eq(single),
            ]
        incoming, held = Value.cast(self.steps.payload), Value.cast(loop.step)
        for part, enable in copies(m, loop.next_free, "free", bits=len(held)):
            with m.If(enable):
                m.d.sync += held[part].eq(incoming[part])

    def _elaborate_positions(self, m: Module, loop: _Loop, here: Any) -> None:
        """Moves ``here`` from pixel to pixel, and for each tap back to the first one."""
        step, free, near = loop.step, loop.free, loop.near
        origin = Signal(_POSITION, reset_less=True)  # where the pixel tile starts
        after  = Signal(_POSITION)                   # the pixel after this one

        # Whether this pixel is the last one of its row, in two equal registers: for the positions,
        # and for the addresses.
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
        # plane's first one. Decided a cycle before, and in several registers, to limit fan-out. A
        # step of a single pixel has no other step so soon behind it, so the choice does not matter
        # then.
        plane   = self.steps.p.first_pixels
        goes_on = Mux(free, loop.accept, ~near | (step.last_tap & ~plane))
        repeats = Mux(free, ~loop.accept, near & ~step.last_tap) & ~plane
        starts  = register(m, Mux(free, ~loop.accept, near) & plane, "starts")
        first   = Signal(_POSITION)
        m.d.comb += first.row_rest.eq(Mux(starts, self.steps.p.row_rest, 0))
        choices = [copies(m, value, name, bits=len(Value.cast(here))) for value, name in (
            (goes_on, "goes_on"), (repeats, "repeats"), (loop.next_ends, "ends"))]
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
        with m.If(loop.ends):
            m.d.sync += origin_at_end.eq(after_at_end)

    def _elaborate_job(self, m: Module, loop: _Loop, bank: Value) -> None:
        """Announces the sums that end with this pixel."""
        m.d.comb += [
            self.job.valid.eq(loop.ends),
            self.job.p.bank.eq(bank),
            self.job.p.pixels.eq(loop.step.pixels),
            self.job.p.single.eq(loop.single),
            self.job.p.keep.eq(loop.step.keep),
        ]
        for name in ("index", "last_pixels", "first_columns", "last_columns", "out_base",
                     "out_plane", "out_zero", "clamp_min", "clamp_max", "parameter_base",
                     "last_groups", "rule", "out_slot", "table"):
            m.d.comb += self.job.p[name].eq(loop.step[name])

    def _elaborate_request(self, m: Module, loop: _Loop, here: Any) -> Value:
        """Asks for the word of each pixel in two stages: first the tap is added, then the bounds
        are compared. Returns whether the pixel of the cycle before lies inside of the input."""
        step    = loop.step
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
            valid.eq(loop.active),
            y.eq(here.y + step.y),
            x.eq(here.x + step.x),
            height.eq(step.in_h),
            width.eq(step.in_w),
            address.eq(here.address + step.address),
            index.eq(step.index),
        ]
        m.d.comb += [
            # A negative coordinate, taken as unsigned, is beyond any size.
            inside.eq((y.as_unsigned() < height) & (x.as_unsigned() < width)),
            legal.eq(address < self._config.activation_depth),
        ]
        m.d.sync += [
            self.request.valid.eq(valid & inside & legal),
            # Only legal ones are asked for.
            self.request.payload.eq(address[:ceil_log2(self._config.activation_depth)]),
        ]
        address_fault = Signal()
        fault_index   = register(m, index, "fault_index")
        m.d.sync += address_fault.eq(valid & inside & ~legal)
        with m.If(address_fault & (self.fault.code == Error.NONE)):
            m.d.sync += [self.fault.code.eq(Error.ADDRESS), self.fault.index.eq(fault_index)]
        return inside

    def _elaborate_control(self, m: Module, loop: _Loop, bank: Value, starts: Value) -> Value:
        """The control of a pixel, delayed to arrive with its word. Returns the input's zero point,
        likewise delayed."""
        # The flags that mark it as valid reset, the others need not.
        sideband = Signal(data.StructLayout({
            "bank":  1,
            "pixel": self.control.pixel.shape(),
            "first": 1,
            "zero":  signed(self._config.activation_width),
        }), name="sideband")
        m.d.comb += [
            sideband.bank.eq(bank),
            sideband.pixel.eq(loop.pixel),
            sideband.first.eq(loop.step.first_tap & ~loop.step.accumulate),
            sideband.zero.eq(loop.step.in_zero),
        ]
        delayed: Any = delay(m, sideband, self.LATENCY, name="sideband", reset_less=True)
        m.d.comb += [
            self.control.valid.eq(delay(m, loop.active, self.LATENCY, name="valid")),
            self.control.bank.eq(delayed.bank),
            self.control.pixel.eq(delayed.pixel),
            self.control.first.eq(delayed.first),
            self.o.switch.eq(delay(m, starts, self.LATENCY, name="switch")),
        ]
        return delayed.zero

    def _elaborate_data(self, m: Module, inside: Value, zero: Value) -> None:
        """The word of a pixel, or the zero point where the tap lies outside of the input."""
        outside = delay(m, ~inside, ActivationMemory.LATENCY, name="outside", reset_less=True)
        words, zeros = Signal.like(self.word), Signal.like(self.word)
        m.d.comb += [
            words.eq(self.word),
            *(zeros[lane].eq(zero) for lane in range(self._config.rows)),
        ]
        chosen = Cat(Mux(choice, Value.cast(zeros)[part], Value.cast(words)[part])
                     for part, choice in copies(m, outside, "outside", bits=len(Value.cast(words))))
        for lane in range(self._config.rows):
            m.d.comb += self.o.data[lane].eq(chosen[8 * lane:][:8].as_signed())
