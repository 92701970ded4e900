"""The matrix engine: convolutions on the systolic array."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.isa.commands import Engine, MatrixCommand
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import Fault
from weft.hw.isa.registers import Error
from weft.hw.lib.checks import require
from weft.hw.lib.cycle_accounting import activity_layout
from weft.hw.lib.delay import delay
from weft.hw.memory.scratch import ScratchMemory, unit_write_layout

from .accumulators import Accumulators
from .drain import Drain
from .job_queue import JobQueue
from .pixel_streamer import PixelStreamer
from .sequencer import StepSequencer
from .systolic_array import SystolicArray
from .weight_feeder import WeightFeeder

__all__ = ["MatrixEngine"]


class MatrixEngine(wiring.Component):
    """Sequencer, weight feeder, pixel streamer, array, accumulators and drain in a row.

    A command is accepted while the one before it is still being drained: a command that reads
    what the one before it writes must wait for its token.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`

    Members
    -------
    commands : :py:`In(stream.Signature({"index": 16, "command": MatrixCommand}))`
    done : :py:`Out(1)`
        A command has written its last word; once for each, in order.
    fault : :py:`Out(Fault)`
        Held until reset.
    busy : :py:`Out(1)`
        A command is executing.
    request : :py:`Out(stream.Signature(24, always_ready=True))`
        Activation words to read.
    word : :py:`In(data.ArrayLayout(8, rows))`
        The word, ``ActivationMemory.LATENCY`` cycles later.
    write : :py:`Out(stream.Signature(unit_write_layout(word_data_bytes), always_ready=True))`
        Activation words to write.
    weight_write, parameter_write : :py:`In(stream.Signature(..., always_ready=True))`
        From the load engine.
    table_write : :py:`In(stream.Signature(unit_write_layout(1), always_ready=True))`
        From the load engine; with ``drain_lookup`` only.
    lane_table_write : \
:py:`In(stream.Signature(unit_write_layout(requant_lanes), always_ready=True))`
        From the load engine; with ``drain_lane_tables`` only.
    activity : :py:`Out(activity_layout(Engine.MATRIX))`
        What the engine does in this cycle.
    draining : :py:`Out(1)`
        The drain reads an accumulator this cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "commands":          In(stream.Signature(data.StructLayout({
                "index": 16, "command": MatrixCommand}))),
            "done":              Out(1),
            "fault":             Out(Fault),
            "busy":              Out(1),
            "request":           Out(stream.Signature(24, always_ready=True)),
            "word":              In(data.ArrayLayout(8, config.word_data_bytes)),
            "write":             Out(stream.Signature(
                unit_write_layout(config.word_data_bytes), always_ready=True)),
            "weight_write":      In(stream.Signature(
                unit_write_layout(config.weight_row_data_bytes), always_ready=True)),
            "parameter_write":   In(stream.Signature(
                unit_write_layout(config.parameter_entry_data_bytes), always_ready=True)),
            **({"table_write":    In(stream.Signature(unit_write_layout(1), always_ready=True))}
               if config.drain_lookup else {}),
            **({"lane_table_write": In(stream.Signature(
                unit_write_layout(config.requant_lanes), always_ready=True))}
               if config.drain_lane_tables else {}),
            "activity":          Out(activity_layout(Engine.MATRIX)),
            "draining":          Out(1),
        })

    @staticmethod
    def job_latency(config: AcceleratorConfig) -> int:
        """Cycles from the last pixel of a tile until the drain may have its job."""
        return (PixelStreamer.LATENCY + SystolicArray.latency_of(config.array)
                + Accumulators.latency_of(config))

    @staticmethod
    def release_to_write(config: AcceleratorConfig) -> int:
        """Fewest cycles from the release of an accumulator bank to the first new sum in it."""
        return PixelStreamer.ACCEPT_TO_SWITCH + SystolicArray.latency_of(config.array) + 1

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        config = self._config
        m.submodules.sequencer    = sequencer    = StepSequencer(config)
        m.submodules.streamer     = streamer     = PixelStreamer(config)
        m.submodules.array        = array        = SystolicArray(config.array)
        m.submodules.accumulators = accumulators = Accumulators(config)
        m.submodules.drain        = drain        = Drain(
            config, release_to_write=self.release_to_write(config))
        m.submodules.feeder       = feeder       = WeightFeeder(
            config, accept_to_switch=PixelStreamer.ACCEPT_TO_SWITCH,
            shift_to_switch=array.shift_to_switch, switch_to_shift=array.switch_to_shift)
        m.submodules.weights      = weights      = ScratchMemory(
            depth=config.weight_depth, unit_bytes=config.weight_row_data_bytes, role="weights")
        m.submodules.parameters   = parameters   = ScratchMemory(
            depth=config.parameter_depth, unit_bytes=config.parameter_entry_data_bytes)
        m.submodules.jobs         = jobs         = JobQueue(
            latency=self.job_latency(config))

        connect(m, flipped(self.commands), sequencer.commands)
        connect(m, sequencer.steps, feeder.steps)
        connect(m, feeder.loaded, streamer.steps)
        connect(m, streamer.request, flipped(self.request))
        connect(m, streamer.job, jobs.i)
        connect(m, jobs.o, drain.jobs)
        if config.drain_lookup:
            connect(m, flipped(self.table_write), drain.table_write)
        if config.drain_lane_tables:
            connect(m, flipped(self.lane_table_write), drain.lane_table_write)
        connect(m, drain.write, flipped(self.write))
        connect(m, flipped(self.weight_write), weights.write)
        connect(m, flipped(self.parameter_write), parameters.write)

        m.d.comb += [
            weights.read_address.eq(feeder.read_address),
            weights.read_enable.eq(feeder.read_enable),
            Value.cast(feeder.read_data).eq(Value.cast(weights.read_data)),
            array.weights.eq(feeder.shift),
            streamer.word.eq(self.word),
            array.i.eq(streamer.o),
            accumulators.psums.eq(array.o),
            accumulators.i.eq(delay(m, streamer.control, array.latency, name="control",
                                    reset_less=True)),
            accumulators.i.valid.eq(delay(m, streamer.control.valid, array.latency,
                                          name="control_valid")),
            accumulators.drain_bank.eq(drain.bank),
            accumulators.drain_pixel.eq(drain.pixel),
            accumulators.drain_enable.eq(drain.enable),
            drain.sums.eq(accumulators.drain),
            parameters.read_address.eq(drain.parameter_address),
            parameters.read_enable.eq(drain.parameter_enable),
            Value.cast(drain.parameters).eq(Value.cast(parameters.read_data)),
            streamer.release.eq(drain.release),
            self.done.eq(drain.done),
        ]

        self._elaborate_status(m)
        return m

    def _elaborate_status(self, m: Module) -> None:
        """Whether commands are executing, which stages work, and their faults."""
        sequencer, feeder = m.submodules.sequencer, m.submodules.feeder
        streamer, drain   = m.submodules.streamer, m.submodules.drain

        executing = Signal(8)
        accepted  = self.commands.valid & self.commands.ready
        m.d.sync += executing.eq(executing + accepted - self.done)
        require(m, ~executing.all() | ~accepted | self.done,
                "commands that are accepted can be counted")
        require(m, executing.any() | accepted | ~self.done, "a command that is done was accepted")
        m.d.comb += [
            self.busy.eq(executing != 0),
            self.draining.eq(drain.enable),
            self.activity.busy.eq(streamer.accepting),
            self.activity.accumulator.eq(streamer.full),
            self.activity.weights.eq(sequencer.steps.valid | feeder.loaded.valid | feeder.waiting),
            self.activity.drain.eq(self.busy),
        ]
        fault = Signal(Fault)
        m.d.sync += self.fault.eq(fault)
        for source in (drain.fault, streamer.fault, feeder.fault, sequencer.fault):
            with m.If(source.code != Error.NONE):
                m.d.comb += fault.eq(source)
