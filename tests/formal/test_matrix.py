"""The matrix engine: each pixel tile is drained once, in order, and when its sums are complete.

Pixel streamer, job queue and drain are the engine's own; what feeds them makes any steps that make
up pixel tiles, at any time. Data plays no part in it.
"""

from types import SimpleNamespace

from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume, Cat, Fragment, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import connect
from formal import checked, free, in_order, inside, keeps

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.lib.half_slice import HalfSlice
from weft.hw.lib.register_slice import RegisterSlice
from weft.hw.matrix import engine, job_queue
from weft.hw.matrix.engine import MatrixEngine
from weft.hw.matrix.pixel_streamer import PixelStreamer
from weft.hw.matrix.sequencer import StepSequencer
from weft.hw.matrix.step import DrainJob
from weft.hw.matrix.weight_feeder import WeightFeeder

PIXELS = 16


def any_steps(m, port, groups):
    """Drives a stream of steps: any that make up pixel tiles, of any number of pixels and taps."""
    step  = port.p
    bits  = step.as_value()
    taken = port.valid & port.ready
    # All steps of a tile have as many pixels.
    within = Signal()
    pixels = Signal.like(step.pixels)
    with m.If(taken):
        m.d.sync += [within.eq(~step.last_tap), pixels.eq(step.pixels)]
    m.d.comb += [
        port.valid.eq(AnySeq(1)),
        bits.eq(AnySeq(len(bits))),
        Assume(keeps(m, port.valid, port.ready, bits)),
        Assume(step.legal),
        Assume(step.first_tap == ~within),
        Assume((step.pixels != 0) & (step.pixels <= PIXELS)),
        Assume((step.last_groups != 0) & (step.last_groups <= groups)),
        Assume(~within | (step.pixels == pixels)),
    ]


def comes_well(m, port):
    """Whether a step is there for a cycle before it is offered, as the pixel streamer wants it."""
    bits   = port.p.as_value()
    before = Signal.like(bits)
    offered, taken = Signal(), Signal()
    m.d.sync += [before.eq(bits), offered.eq(port.valid), taken.eq(port.valid & port.ready)]
    return ~port.valid | (~taken & (bits == before))


class AnySteps(wiring.Component):
    """In the place of the weight feeder, for whom ``comes_well`` is proved below."""

    def __init__(self, config, **timing):
        super().__init__(WeightFeeder(config, **timing).signature)
        self._groups = config.requant_groups

    def elaborate(self, platform):
        m = Module()
        any_steps(m, self.loaded, self._groups)
        m.d.comb += [self.steps.ready.eq(0), Assume(comes_well(m, self.loaded))]
        return m


class AnyCommands(wiring.Component):
    """In the place of the sequencer: a step every third cycle at most."""

    def __init__(self, config):
        super().__init__(StepSequencer(config).signature)
        self._groups = config.requant_groups

    def elaborate(self, platform):
        m = Module()
        any_steps(m, self.steps, self._groups)
        recent = Signal(2)
        m.d.sync += recent.eq(Cat(self.steps.valid & self.steps.ready, recent[0]))
        m.d.comb += [self.commands.ready.eq(0), Assume(~(self.steps.valid & recent.any()))]
        return m


def collect(monkeypatch, name, make):
    """Has the engine use ``make`` for a part of it; what was made is in the list afterwards."""
    made = []

    def collecting(*args, **parameters):
        made.append(make(*args, **parameters))
        return made[-1]

    monkeypatch.setattr(engine, name, collecting)
    return made


def config(**changes):
    return AcceleratorConfig(**({
        "rows": 2, "cols": 2, "fip": False, "requant_lanes": 2, "activation_bytes": 1024,
        "activation_banks": 1, "weight_bytes": 4096, "accumulator_pixels": PIXELS,
        "parameter_channels": 4, "axi_data_width": 32, "vector_taps": 0} | changes))


def jobs_spec(config, monkeypatch, announced=RegisterSlice):
    feeders = collect(monkeypatch, "WeightFeeder", AnySteps)
    monkeypatch.setattr(job_queue, "RegisterSlice", checked(announced))
    m = Module()
    dut   = MatrixEngine(config)
    inner = inside(m, dut)
    free(m, dut)

    streamer, drain, jobs = inner.streamer, inner.drain, inner.jobs
    job, taken = DrainJob(streamer.job__payload), DrainJob(jobs.o__payload)
    waiting = in_order(m, SimpleNamespace(valid=streamer.job__valid, ready=1,
                                          payload=Cat(job.bank, job.pixels)),
                       SimpleNamespace(valid=jobs.o__valid, ready=drain.jobs__ready,
                                       payload=Cat(taken.bank, taken.pixels)), 2)

    # A bank is given back once, by the job that drains it, and in time.
    active, finishing = drain.job.o__valid, drain.finishing
    building, released = Signal(), Signal()
    opens = streamer.accept & feeders[0].loaded.p.first_tap
    m.d.sync += [
        building.eq((building & ~streamer.job__valid) | opens),
        released.eq((released | drain.release) & ~finishing),
    ]
    complete = [signal for name, signal in vars(jobs).items() if name.startswith("complete_")]
    m.d.comb += [
        Assert(jobs.ready <= 2),
        Assert(streamer.open_tiles <= 2),
        Assert(~(drain.release & (released | ~active))),
        Assert(~finishing | released | drain.release),
        # Each job that waits is complete, or will be.
        Assert(waiting == jobs.ready + sum(complete)),
        Assert(streamer.open_tiles + streamer.opened
               == building + waiting + (active & ~released)),
    ]
    return m


def test_every_job_is_drained_once(prove, monkeypatch):
    prove(jobs_spec(config(), monkeypatch), depth=30)


class TwoHalfSlices(wiring.Component):
    """Two places, but the second of two in a row finds the first one full."""

    def __init__(self, *, shape):
        super().__init__(RegisterSlice(shape=shape).signature)

    def elaborate(self, platform):
        m = Module()
        shape = self.i.payload.shape()
        m.submodules.first  = first  = HalfSlice(shape=shape)
        m.submodules.second = second = HalfSlice(shape=shape)
        connect(m, wiring.flipped(self.i), first.i)
        connect(m, first.o, second.i)
        connect(m, second.o, wiring.flipped(self.o))
        return m


def test_lost_job_is_found(refute, monkeypatch):
    refute(jobs_spec(config(), monkeypatch, announced=TwoHalfSlices), depth=40)


def weights_spec(config, monkeypatch, *, early=0):
    """The array's contract: a pixel switches to a tile of which all rows were shifted in before,
    and none of the next tile."""
    collect(monkeypatch, "StepSequencer", AnyCommands)
    feeders   = collect(monkeypatch, "WeightFeeder", WeightFeeder)
    streamers = collect(monkeypatch, "PixelStreamer", PixelStreamer)
    engine.PixelStreamer.ACCEPT_TO_SWITCH = PixelStreamer.ACCEPT_TO_SWITCH
    engine.PixelStreamer.LATENCY = PixelStreamer.LATENCY
    m = Module()
    dut = MatrixEngine(config)
    engine.PixelStreamer.ACCEPT_TO_SWITCH += early
    m.submodules.dut = Fragment.get(dut, None)
    free(m, dut)
    feeder,   = feeders
    streamer, = streamers
    rows, shifted = config.pe_rows, Signal(range(config.pe_rows + 2))
    switch, load  = streamer.o.switch, feeder.shift.load
    m.d.sync += shifted.eq(Mux(switch, 0, shifted) + load)
    m.d.comb += [
        Assert(~switch | (shifted == rows)),
        Assert(shifted <= rows),
        Assert(comes_well(m, feeder.loaded)),
    ]
    return m


def test_weights_are_there_for_their_pixels(prove, monkeypatch):
    prove(weights_spec(config(), monkeypatch), depth=30)


def test_weights_that_are_shifted_too_soon_are_found(refute, monkeypatch):
    """The feeder believes that a pixel takes three cycles less to the array."""
    refute(weights_spec(config(), monkeypatch, early=-3), depth=30)
