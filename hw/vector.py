"""The vector engine: everything that is computed channel by channel."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.config import AcceleratorConfig

from .activation_memory import ActivationMemory
from .commands import Engine, VectorCommand, VectorOp
from .cycle_accounting import activity_layout
from .delay import delay
from .fault import Fault
from .registers import Error
from .scratch_memory import ScratchMemory, unit_write_layout
from .vector_alu import VectorAlu
from .vector_drain import VectorDrain
from .vector_issue import VectorIssue
from .vector_output import VectorOutput
from .vector_sequencer import VectorSequencer
from .vector_table import VectorTable
from .vector_window import VectorWindow

__all__ = ["VectorEngine"]


_WORDS = 16  # results under way: enough to hide the latency of the requantizer


class VectorEngine(wiring.Component):
    """Executes VECTOR commands, one at a time.

    One word is read per cycle, and the words of a window that are still there from the position
    before are not read again. What a command costs beside its words is about 10 cycles to begin,
    and the latency of the last word, up to 30 cycles.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`

    Members
    -------
    commands : :py:`In(stream.Signature({"index": 16, "command": VectorCommand}))`
    done : :py:`Out(1)`
        A command has written its last word; once for each, in order.
    fault : :py:`Out(Fault)`
        Held until reset. ``ARGUMENT``: a field is zero that must not be, contradicts the
        operation, or asks for more than there is. ``ADDRESS``: outside of a memory.
    busy : :py:`Out(1)`
        A command is executing.
    activity : :py:`Out(activity_layout(Engine.VECTOR))`
        What the engine does in this cycle.
    request : :py:`Out(stream.Signature(24))`
        Activation words to read; may be refused.
    word : :py:`In(data.ArrayLayout(8, rows))`
        The word, ``ActivationMemory.LATENCY`` cycles after its request was accepted.
    write : :py:`Out(stream.Signature(unit_write_layout(rows)))`
        Activation words to write; may be refused.
    weight_write, parameter_write, table_write : :py:`In(stream.Signature(unit_write_layout(...)))`
        From the load engine, of ``vector_entry_lanes``, ``parameter_entry_lanes`` and 1 lane.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "commands":        In(stream.Signature(data.StructLayout({
                "index": 16, "command": VectorCommand}))),
            "done":            Out(1),
            "fault":           Out(Fault),
            "busy":            Out(1),
            "activity":        Out(activity_layout(Engine.VECTOR)),
            "request":         Out(stream.Signature(24)),
            "word":            In(data.ArrayLayout(8, config.word_lanes)),
            "write":           Out(stream.Signature(unit_write_layout(config.word_lanes))),
            "weight_write":    In(stream.Signature(unit_write_layout(config.vector_entry_lanes))),
            "parameter_write": In(stream.Signature(
                unit_write_layout(config.parameter_entry_lanes))),
            "table_write":     In(stream.Signature(unit_write_layout(1))),
        })

    def elaborate(self, platform):
        m = Module()

        config = self._config
        m.submodules.sequencer  = sequencer  = VectorSequencer(config)
        m.submodules.issue      = issue      = VectorIssue(config, credits=_WORDS)
        m.submodules.window     = window     = VectorWindow(config)
        m.submodules.alu        = alu        = VectorAlu(config)
        m.submodules.table      = table      = VectorTable(config)
        m.submodules.drain      = drain      = VectorDrain(config)
        m.submodules.output     = output     = VectorOutput(config, depth=_WORDS)
        m.submodules.weights    = weights    = ScratchMemory(
            depth=config.vector_entries, lanes=config.vector_entry_lanes)
        m.submodules.parameters = parameters = ScratchMemory(
            depth=config.vector_parameter_depth, lanes=config.parameter_entry_lanes)

        connect(m, flipped(self.commands), sequencer.commands)
        connect(m, sequencer.taps, issue.taps)
        connect(m, issue.request, flipped(self.request))
        connect(m, output.write, flipped(self.write))
        connect(m, flipped(self.weight_write), weights.write)
        connect(m, flipped(self.parameter_write), parameters.write)
        connect(m, flipped(self.table_write), table.write)
        command = sequencer.command
        for part in (issue, window, alu, drain, output):
            m.d.comb += part.command.eq(command)
        for part in (issue, drain, output):
            m.d.comb += part.index.eq(sequencer.index)
        for part in (drain, output):
            m.d.comb += part.start.eq(sequencer.start)

        # A tap arrives with its word. Its weights are read a cycle ahead.
        ahead = delay(m, issue.tap_valid, ActivationMemory.LATENCY - 1, name="valid")
        valid = delay(m, ahead, 1, name="valid_last")
        tap_ahead = delay(m, issue.tap, ActivationMemory.LATENCY - 1, name="tap")
        tap       = delay(m, tap_ahead, 1, name="tap_last")
        m.d.comb += [
            weights.read_address.eq(tap_ahead.weight),
            weights.read_enable.eq(ahead),
            window.valid.eq(valid),
            window.tap.eq(tap),
            window.word.eq(self.word),
            alu.valid.eq(valid),
            alu.tap.eq(tap),
            alu.window.eq(window.o),
            Value.cast(alu.weights).eq(Value.cast(weights.read_data)),
            table.table.eq(command.table),
            table.word.eq(window.o[config.vector_taps - 1]),
            table.enable.eq(valid & (command.op == VectorOp.LOOKUP)),
            drain.sums.eq(alu.sums),
            drain.sums_valid.eq(alu.sums_valid),
            drain.sums_block_end.eq(alu.sums_block_end),
            parameters.read_address.eq(drain.parameter_address),
            parameters.read_enable.eq(drain.parameter_enable),
            Value.cast(drain.parameters).eq(Value.cast(parameters.read_data)),
        ]

        # Maxima and table entries need no requantization.
        looking_up = command.op == VectorOp.LOOKUP
        plain      = (command.op == VectorOp.MAX) | looking_up
        plain_end  = delay(m, valid & tap.end & plain, VectorAlu.MAX_LATENCY + 1, name="plain_end")
        entries    = delay(m, table.o, VectorAlu.MAX_LATENCY - 1, name="entries")
        clamped    = Signal(data.ArrayLayout(signed(8), config.word_lanes), reset_less=True)
        for lane in range(config.word_lanes):
            value = Mux(looking_up, entries[lane], alu.maxima[lane])
            with m.If(value < command.clamp_min):
                m.d.sync += clamped[lane].eq(command.clamp_min)
            with m.Elif(value > command.clamp_max):
                m.d.sync += clamped[lane].eq(command.clamp_max)
            with m.Else():
                m.d.sync += clamped[lane].eq(value)
        m.d.comb += [
            output.i.eq(Mux(plain, Value.cast(clamped), Value.cast(drain.o))),
            output.i_valid.eq(plain_end | drain.o_valid),
            issue.credit.eq(output.credit),
            sequencer.finished.eq(output.finished),
            self.busy.eq(sequencer.busy),
            self.activity.busy.eq(issue.tap_valid | (self.write.valid & self.write.ready)),
            self.activity.activation.eq(self.request.valid | self.write.valid),
            self.activity.drain.eq(self.busy),
        ]
        # A command with a fault is never done, even if the fault is in its last word.
        finished = delay(m, output.finished, 1, name="finished")
        m.d.comb += self.done.eq(finished & (self.fault.code == Error.NONE))

        for source in (output, drain, issue, sequencer):
            with m.If(source.fault.code != Error.NONE):
                m.d.comb += self.fault.eq(source.fault)

        return m
