"""The matrix engine: each pixel tile is drained once, in order, and when its sums are complete.

Pixel streamer, job queue and drain are the engine's own; what feeds them makes any steps that make
up pixel tiles, at any time. Data plays no part in it.
"""

from types import SimpleNamespace

from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume, Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import connect
from formal import checked, free, in_order, inside, keeps

from weft.config import AcceleratorConfig
from weft.hw import matrix
from weft.hw.half_slice import HalfSlice
from weft.hw.matrix import MatrixEngine
from weft.hw.register_slice import RegisterSlice
from weft.hw.step import DrainJob
from weft.hw.weight_feeder import WeightFeeder

PIXELS = 16


class AnySteps(wiring.Component):
    """In the place of the weight feeder: steps of any number of pixels and taps. The payload is
    there a cycle before ``valid``."""

    def __init__(self, config, **timing):
        super().__init__(WeightFeeder(config, **timing).signature)
        self._groups = config.requant_groups

    def elaborate(self, platform):
        m = Module()
        step   = self.loaded.p
        bits   = step.as_value()
        before = Signal.like(bits)
        taken  = Signal(init=1)
        m.d.sync += [before.eq(bits), taken.eq(self.loaded.valid & self.loaded.ready)]
        # All steps of a tile have as many pixels.
        inside_tile = Signal()
        pixels = Signal.like(step.pixels)
        with m.If(self.loaded.valid & self.loaded.ready):
            m.d.sync += [inside_tile.eq(~step.last_tap), pixels.eq(step.pixels)]
        m.d.comb += [
            self.steps.ready.eq(0),
            self.loaded.valid.eq(AnySeq(1)),
            bits.eq(AnySeq(len(bits))),
            Assume(keeps(m, self.loaded.valid, self.loaded.ready, bits)),
            Assume(~self.loaded.valid | (~taken & (bits == before))),
            Assume(step.first_tap == ~inside_tile),
            Assume((step.pixels != 0) & (step.pixels <= PIXELS)),
            Assume((step.last_groups != 0) & (step.last_groups <= self._groups)),
            Assume(~inside_tile | (step.pixels == pixels)),
        ]
        return m


def config(**changes):
    return AcceleratorConfig(**({
        "rows": 2, "cols": 2, "fip": False, "requant_lanes": 2, "activation_bytes": 64,
        "activation_banks": 1, "weight_bytes": 64, "accumulator_pixels": PIXELS,
        "parameter_channels": 4, "axi_data_width": 32, "vector_taps": 0} | changes))


def jobs_spec(config, monkeypatch, announced=RegisterSlice):
    feeders = []

    def make_feeder(config, **timing):
        feeders.append(AnySteps(config, **timing))
        return feeders[-1]

    monkeypatch.setattr(matrix, "WeightFeeder", make_feeder)
    monkeypatch.setattr(matrix, "RegisterSlice", checked(announced))
    m = Module()
    dut   = MatrixEngine(config)
    inner = inside(m, dut)
    free(m, dut)

    streamer, drain = inner.streamer, inner.drain
    job, taken = DrainJob(streamer.job), DrainJob(inner.jobs__payload)
    starts  = inner.jobs__valid & drain.jobs__ready
    waiting = in_order(m, SimpleNamespace(valid=streamer.job_valid, ready=1,
                                          payload=Cat(job.half, job.pixels)),
                       SimpleNamespace(valid=inner.jobs__valid, ready=drain.jobs__ready,
                                       payload=Cat(taken.half, taken.pixels)), 2)

    # A half is given back once, by the job that drains it, and in time.
    active, finishing = drain.enable, drain.finishing
    building, released = Signal(), Signal()
    opens = streamer.accept & feeders[0].loaded.p.first_tap
    m.d.sync += [
        building.eq((building & ~streamer.job_valid) | opens),
        released.eq((released | drain.release) & ~finishing),
    ]
    complete = [signal for name, signal in vars(inner).items() if name.startswith("complete_")]
    m.d.comb += [
        Assert(inner.ready_jobs <= 2),
        Assert(streamer.open_tiles <= 2),
        Assert(~(drain.release & (released | ~active))),
        Assert(~finishing | released | drain.release),
        # Each job that waits is complete, or will be.
        Assert(waiting == inner.ready_jobs + sum(complete)),
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
