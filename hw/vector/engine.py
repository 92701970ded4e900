"""The vector engine: everything that is computed channel by channel."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.isa.commands import Engine, VectorCommand, VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import Fault
from weft.hw.isa.registers import Error
from weft.hw.lib.checks import require
from weft.hw.lib.cycle_accounting import activity_layout
from weft.hw.lib.delay import delay, register
from weft.hw.lib.half_slice import HalfSlice
from weft.hw.memory.activation import ActivationMemory
from weft.hw.memory.scratch import ScratchMemory, unit_write_layout
from weft.hw.memory.table import TableMemory

from .alu import VectorAlu
from .decode import VectorDecoder
from .drain import VectorDrain
from .issue import VectorIssue
from .output import OutputJob, VectorOutput
from .seconds import VectorSeconds
from .sequencer import VectorSequencer
from .tap import lookup_layout
from .window import VectorWindow
from .words import VectorWords

__all__ = ["VectorEngine"]


_SHARING = 4  # lanes that share a register for what controls them


class VectorEngine(wiring.Component):
    """Executes VECTOR commands.

    One word is read per cycle, and the words of a window that are still there from the position
    before, or with lines from the row before, are not read again. While the results of a command
    are on their way, the next one reads. So a command that reads what the one before it writes must
    wait for its token.

    From the cycle in which a command is accepted to ``done`` it takes a cycle for each word that it
    reads, with lines also for groups without a new word, and the latencies of all stages. If the
    command before it still reads, there are three cycles between the last one of its words and the
    first one of this; none if words had to wait for each other, for requantization or for the
    memory.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`

    Members
    -------
    commands : :py:`In(stream.Signature({"index": 16, "command": VectorCommand}))`
    done : :py:`Out(1)`
        A command has written its last word; once for each, in order.
    fault : :py:`Out(Fault)`
        Held until reset; all commands before are done. ``ARGUMENT``: a field is zero that must
        not be, contradicts the operation, or asks for more than there is. ``ADDRESS``: outside of
        a memory.
    busy : :py:`Out(1)`
        A command is executing.
    activity : :py:`Out(activity_layout(Engine.VECTOR))`
        What the engine does in this cycle.
    request : :py:`Out(stream.Signature(24))`
        Activation words to read; may be refused.
    word : :py:`In(data.ArrayLayout(8, rows))`
        The word, ``ActivationMemory.LATENCY`` cycles after its request was accepted.
    second_request, second_word
        The same, of second operands; with ``vector_pairs`` only.
    write : :py:`Out(stream.Signature(unit_write_layout(word_data_bytes)))`
        Activation words to write; may be refused.
    weight_write, parameter_write, table_write, lane_table_write : \
:py:`In(stream.Signature(..., always_ready=True))`
        From the load engine, of ``vector_entry_data_bytes``,
        ``parameter_entry_data_bytes``, 1 byte and ``word_data_bytes``.

    Attributes
    ----------
    CLAMP_LATENCY : :class:`int`
        Cycles from a maximum to the word of clamped ones.
    SCALED_LATENCY : :class:`int`
        Cycles from a word that has been requantized until :class:`VectorIssue` is told.
    """

    CLAMP_LATENCY  = 2
    SCALED_LATENCY = 1

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
            "word":            In(data.ArrayLayout(8, config.word_data_bytes)),
            **({
                "second_request": Out(stream.Signature(24)),
                "second_word":    In(data.ArrayLayout(8, config.word_data_bytes)),
            } if config.vector_pairs else {}),
            "write":           Out(stream.Signature(unit_write_layout(config.word_data_bytes))),
            "weight_write":    In(stream.Signature(
                unit_write_layout(config.vector_entry_data_bytes), always_ready=True)),
            "parameter_write": In(stream.Signature(
                unit_write_layout(config.parameter_entry_data_bytes), always_ready=True)),
            "table_write":     In(stream.Signature(unit_write_layout(1), always_ready=True)),
            "lane_table_write": In(stream.Signature(
                unit_write_layout(config.word_data_bytes), always_ready=True)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        config = self._config
        # Results under way: enough to hide the latency of the requantizer. One comes every second
        # cycle at most, but with lines in every cycle.
        pace    = max(config.vector_groups, 1 if config.vector_lines else 2)
        results = 64 if pace == 1 else 32 if pace == 2 else 16
        m.submodules.decoder    = decoder    = VectorDecoder(config)
        m.submodules.sequencer  = VectorSequencer(config)
        m.submodules.words      = words      = VectorWords(config)
        m.submodules.issue      = issue      = VectorIssue(config, credits=results)
        m.submodules.window     = VectorWindow(config)
        m.submodules.alu        = VectorAlu(config)
        m.submodules.table      = table      = TableMemory(
            config, lanes=config.word_lanes, by_lane=True)
        m.submodules.drain      = VectorDrain(config)
        m.submodules.jobs       = jobs       = HalfSlice(shape=OutputJob)
        m.submodules.output     = output     = VectorOutput(config, depth=results)
        m.submodules.weights    = weights    = ScratchMemory(
            depth=config.vector_entries, unit_bytes=config.vector_entry_data_bytes)
        m.submodules.parameters = parameters = ScratchMemory(
            depth=config.vector_parameter_depth, unit_bytes=config.parameter_entry_data_bytes)

        connect(m, flipped(self.commands), decoder.commands)
        connect(m, issue.request, flipped(self.request))
        connect(m, jobs.o, output.jobs)
        connect(m, output.write, flipped(self.write))
        connect(m, flipped(self.table_write), table.write)
        connect(m, flipped(self.lane_table_write), table.lane_write)
        connect(m, flipped(self.weight_write), weights.write)
        connect(m, flipped(self.parameter_write), parameters.write)

        self._elaborate_start(m)
        self._elaborate_reads(m)
        group, passes = self._elaborate_lanes(m)
        if config.vector_pairs:
            self._elaborate_seconds(m)
        self._elaborate_results(m, group, passes)
        self._elaborate_counts(m)

        m.d.comb += [
            self.done.eq(output.done),
            self.activity.busy.eq(issue.tap_valid | (self.write.valid & self.write.ready)),
            self.activity.activation.eq(self.request.valid | self.write.valid),
            self.activity.drain.eq(self.busy),
        ]
        for fault in (output.fault, words.fault, decoder.fault):
            with m.If(fault.code != Error.NONE):
                m.d.comb += self.fault.eq(fault)

        return m

    def _elaborate_start(self, m: Module) -> None:
        """The loops of reading and those of writing begin a command together."""
        decoded, sequencer, jobs = m.submodules.decoder.o, m.submodules.sequencer, m.submodules.jobs
        m.d.comb += [
            decoded.ready.eq(sequencer.commands.ready & jobs.i.ready),
            sequencer.commands.valid.eq(decoded.valid & jobs.i.ready),
            sequencer.commands.payload.eq(decoded.payload),
            jobs.i.valid.eq(decoded.valid & sequencer.commands.ready),
            jobs.i.p.index.eq(decoded.p.index),
            jobs.i.p.one_outer.eq(decoded.p.one_outer),
            jobs.i.p.one_inner.eq(decoded.p.one_inner),
        ]
        for name in ("blocks", "out_outer", "out_inner", "out_base", "out_block_step",
                     "out_outer_step", "out_inner_step"):
            m.d.comb += jobs.i.p[name].eq(decoded.p.command[name])

    def _elaborate_reads(self, m: Module) -> None:
        """From the loops to the requests of words, and the credits that hold these back."""
        sequencer, words, issue = m.submodules.sequencer, m.submodules.words, m.submodules.issue
        m.d.comb += [
            sequencer.room.eq(issue.room),
            issue.large.eq(sequencer.large),
            sequencer.last.eq(words.last),
            words.group.eq(sequencer.group),
            words.valid.eq(sequencer.valid),
            issue.credit.eq(m.submodules.output.credit),
        ]
        connect(m, words.o, issue.i)
        m.d.sync += issue.scaled.eq(m.submodules.drain.o_valid)

    def _elaborate_lanes(self, m: Module) -> tuple[Any, Value]:
        """From words to sums and maxima. Returns the tap at the inputs of the ALU, with the window
        of its group, and whether there is one."""
        issue, window, alu = m.submodules.issue, m.submodules.window, m.submodules.alu
        weights, drain     = m.submodules.weights, m.submodules.drain
        parameters         = m.submodules.parameters

        # A tap arrives with its word, and goes through the window with it.
        # Its weights are read a cycle ahead, as they come two cycles later.
        ahead  = delay(m, issue.tap_valid, ActivationMemory.LATENCY - 2, name="ahead")
        coming = delay(m, issue.tap, ActivationMemory.LATENCY - 2, name="coming", reset_less=True)
        valid  = delay(m, ahead, 1, name="valid")
        tap    = delay(m, coming, 1, name="tap", reset_less=True)
        passes = delay(m, valid, VectorWindow.LATENCY, name="group_valid")
        almost = delay(m, tap, VectorWindow.LATENCY - 1, name="almost", reset_less=True)
        group  = delay(m, almost, 1, name="group", reset_less=True)
        m.d.comb += [
            window.valid.eq(valid),
            window.tap.eq(tap),
            window.next_tap.eq(coming),
            window.word.eq(self.word),
            weights.read_address.eq(coming.weight),
            weights.read_enable.eq(ahead),
            alu.valid.eq(passes),
            alu.tap.eq(group),
            alu.next_op.eq(almost.operation.op),
            alu.next_valid.eq(valid),
            alu.window.eq(window.o),
            Value.cast(alu.weights).eq(Value.cast(weights.read_data)),
            drain.sums.eq(alu.sums),
            drain.sums_coming.eq(alu.sums_coming),
            drain.sums_result.eq(alu.sums_result),
            parameters.read_address.eq(drain.parameter_address),
            parameters.read_enable.eq(drain.parameter_enable),
            Value.cast(drain.parameters).eq(Value.cast(parameters.read_data)),
        ]
        return group, passes

    def _elaborate_seconds(self, m: Module) -> None:
        """Words of second operands, which meet those of the first behind the window."""
        issue, alu, window = m.submodules.issue, m.submodules.alu, m.submodules.window
        m.submodules.seconds = seconds = VectorSeconds(
            self._config, queue_depth=VectorIssue.QUEUE_DEPTH)
        connect(m, issue.second, seconds.address)
        connect(m, seconds.request, flipped(self.second_request))
        m.d.comb += [
            issue.second_ready.eq(seconds.ready),
            seconds.taken.eq(issue.second_taken),
            seconds.word.eq(self.second_word),
            seconds.pops.eq(window.valid & window.tap.pops),
            alu.second.eq(delay(m, seconds.o, VectorWindow.LATENCY, name="second",
                                reset_less=True)),
        ]

    def _elaborate_results(self, m: Module, group: Any, passes: Value) -> None:
        """Words from requantization, and maxima, which need none and are clamped here: they never
        come at the same time. Then, their table."""
        alu, drain    = m.submodules.alu, m.submodules.drain
        table, output = m.submodules.table, m.submodules.output.i

        plain  = (group.operation.op == VectorOp.MAX) | (group.operation.op == VectorOp.LOOKUP)
        ended  = delay(m, passes & group.end & plain, alu.max_latency + 1, name="ended")
        result = delay(m, group.result, alu.max_latency, name="result", reset_less=True)
        comes  = delay(m, ended, 1, name="plain_comes")
        lookup = Mux(comes, delay(m, result.lookup, self.CLAMP_LATENCY, name="lookup",
                                  reset_less=True).as_value(), drain.o_lookup.as_value())
        word   = Signal.like(drain.o)
        for lane in range(self._config.word_lanes):
            if lane % _SHARING == 0:
                plain_end = register(m, ended, f"plain_end_{lane}", keep=True)
                lowest    = register(m, result.clamp_min, f"lowest_{lane}", keep=True)
                highest   = register(m, result.clamp_max, f"highest_{lane}", keep=True)
            value   = register(m, alu.maxima[lane], f"value_{lane}")
            clamped = Signal(signed(8), name=f"clamped_{lane}", reset_less=True)
            m.d.sync += clamped.eq(value)
            with m.If(value < lowest):
                m.d.sync += clamped.eq(lowest)
            with m.Elif(value > highest):
                m.d.sync += clamped.eq(highest)
            m.d.comb += word[lane].eq(Mux(plain_end, clamped, drain.o[lane]))

        looked_up = data.View(lookup_layout(self._config), lookup)
        valid     = comes | drain.o_valid
        enable    = delay(m, looked_up.enable, TableMemory.LATENCY - 1, name="looks_up",
                          reset_less=True)
        passed    = delay(m, word, TableMemory.LATENCY, name="passed", reset_less=True)
        m.d.comb += [
            table.word.eq(word),
            table.table.eq(looked_up.table),
            table.enable.eq(valid & looked_up.enable),
            output.valid.eq(delay(m, valid, TableMemory.LATENCY, name="word_valid")),
        ]
        for lane in range(self._config.word_lanes):
            if lane % _SHARING == 0:
                chosen = register(m, enable, f"looks_up_{lane}", keep=True)
            m.d.comb += output.p[lane].eq(Mux(chosen, table.o[lane], passed[lane]))

    def _elaborate_counts(self, m: Module) -> None:
        """Commands under way, by which each stage knows when it may report a fault."""
        words = m.submodules.words

        accepted  = self.commands.valid & self.commands.ready
        executing = Signal(8)  # accepted, and not done
        reading   = Signal(8)  # all words requested, and not done
        m.d.sync += [
            executing.eq(executing + accepted - self.done),
            reading.eq(reading + words.passed - self.done),
        ]
        for name, count, up in (("accepted", executing, accepted), ("read", reading, words.passed)):
            require(m, ~count.all() | ~up | self.done, f"commands that are {name} can be counted")
            require(m, count.any() | up | ~self.done, f"a command that is done was {name}")
        m.d.comb += [
            self.busy.eq(executing != 0),
            m.submodules.decoder.earlier.eq(executing != 1),
            words.earlier.eq(reading != 0),
        ]
