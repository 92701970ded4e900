"""A core that executes one command after the other, in the order of the stream."""

from typing import Any

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import connect, flipped
from amaranth.utils import exact_log2

from weft.hw.core import core_members
from weft.hw.isa.commands import COMMAND_BYTES, Engine, Memory, engines
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.registers import Error
from weft.hw.memory.single_port import SinglePortMemory

from .beats import BeatMaster
from .convolve import ConvolutionEngine
from .copy import CopyEngine

__all__ = ["SequentialCore"]


class SequentialCore(wiring.Component):
    """Fetches a command, executes it, and goes on to the next.

    Every command thus sees all effects of those before it, so tokens are not needed: ``wait`` and
    ``post`` are ignored. The first fault ends the stream until a reset.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
        With ``sequential``.

    Members
    -------
    As of :class:`~weft.hw.core.Core`, with a single source of faults.

    Attributes
    ----------
    START_LATENCY : :class:`int`
        Cycles from ``start`` until the first beat is asked for.
    LAUNCH_CYCLES : :class:`int`
        From the last beat of a command to its start.
    """

    FAULTS        = 1
    START_LATENCY = 1
    LAUNCH_CYCLES = 1

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(core_members(config, faults=self.FAULTS))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        beats  = COMMAND_BYTES // config.axi_bytes

        m.submodules.master   = master   = BeatMaster(data_width=config.axi_data_width,
                                                      addr_width=config.axi_addr_width)
        m.submodules.copy     = copy     = CopyEngine(config)
        m.submodules.convolve = convolve = ConvolutionEngine(config)
        connect(m, master.axi, flipped(self.m_axi))
        self._memories(m, copy, convolve)

        address = Signal(config.axi_addr_width, reset_less=True)  # of the next beat of the stream
        beat    = Signal(range(beats))
        left    = Signal(16, reset_less=True)
        index   = Signal(16)
        engine  = Signal(Engine)
        known   = Signal()
        refused = Signal(Error)
        done    = Signal()
        error   = Signal(Error)

        # The beat that is asked for: of the stream, or of a load or store.
        fetching = Signal()
        fetched  = fetching & master.beat.done
        for name in ("valid", "write", "address", "write_data"):
            m.d.comb += getattr(master.beat, name).eq(getattr(copy.beat, name))
        with m.If(fetching):
            m.d.comb += [
                master.beat.valid.eq(1),
                master.beat.write.eq(0),
                master.beat.address.eq(address),
            ]
        m.d.comb += [
            copy.beat.done.eq(master.beat.done & ~fetching),
            copy.beat.error.eq(master.beat.error),
            copy.beat.read_data.eq(master.beat.read_data),
            copy.store.eq(engine == Engine.STORE),
            copy.word.eq(convolve.word),
        ]
        for port in (copy.fetched, convolve.fetched):
            m.d.comb += [
                port.valid.eq(fetched),
                port.number.eq(beat),
                port.data.eq(master.beat.read_data),
            ]
        with m.If(fetched & (beat == 0)):
            m.d.sync += known.eq(0)
            with m.Switch(master.beat.read_data[:8]):
                for opcode, its in engines(config).items():
                    with m.Case(opcode):
                        m.d.sync += [known.eq(1), engine.eq(its)]
        m.d.comb += [
            refused.eq(Mux(~known, Error.OPCODE, Mux(engine == Engine.MATRIX, convolve.refused,
                                                     copy.refused))),
            done.eq(copy.done | convolve.done),
            error.eq(Mux(engine == Engine.MATRIX, convolve.error, copy.error)),
        ]

        # A cycle late, when the core has stopped and the index stays.
        fault = Signal(Error)
        m.d.sync += self.faults[0].code.eq(fault)
        m.d.comb += self.faults[0].index.eq(index)
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.sync += [address.eq(self.address), left.eq(self.count), index.eq(0),
                             beat.eq(0)]
                with m.If(self.start):
                    m.d.sync += self.completed.eq(0)
                    m.next = "FETCH"
                    with m.If((self.address[config.axi_addr_width:] != 0)
                              | (self.address[:exact_log2(config.axi_bytes)] != 0)):
                        m.d.comb += fault.eq(Error.ADDRESS)
                        m.next = "STOPPED"
                    with m.If((self.count[:16] == 0) | (self.count[16:] != 0)):
                        m.d.comb += fault.eq(Error.ARGUMENT)
                        m.next = "STOPPED"

            with m.State("FETCH"):
                m.d.comb += fetching.eq(1)
                with m.If(fetched):
                    m.d.sync += [address.eq(address + config.axi_bytes), beat.eq(beat + 1)]
                    with m.If(beat == beats - 1):
                        m.next = "LAUNCH"
                    with m.If(master.beat.error):
                        m.d.comb += fault.eq(Error.READ)
                        m.next = "STOPPED"

            with m.State("LAUNCH"):
                m.next = "EXECUTE"
                with m.If(refused != Error.NONE):
                    m.d.comb += fault.eq(refused)
                    m.next = "STOPPED"
                with m.Elif(self.halt):
                    m.next = "STOPPED"
                with m.Else():
                    m.d.comb += [
                        copy.start.eq(engine != Engine.MATRIX),
                        convolve.start.eq(engine == Engine.MATRIX),
                        self.event_start.eq(1 << engine.as_value()),
                    ]

            with m.State("EXECUTE"):
                with m.If(done):
                    with m.If(error != Error.NONE):
                        m.d.comb += fault.eq(error)
                        m.next = "STOPPED"
                    with m.Else():
                        m.d.comb += self.event_done.eq(1 << engine.as_value())
                        m.d.sync += [
                            self.completed.eq(index + 1),
                            index.eq(index + 1),
                            left.eq(left - 1),
                        ]
                        m.next = "FETCH"
                        with m.If(left == 1):
                            m.next = "IDLE"

            # Only a reset leaves this state.
            with m.State("STOPPED"):
                pass

        m.d.comb += [
            master.halt.eq(self.halt),
            self.idle.eq(fsm.ongoing("IDLE")),
            self.quiet.eq(master.idle),
            self.oldest.eq(index),
            # A convolution always comes to its end.
            self.progress.eq(master.beat.done | (fsm.ongoing("EXECUTE")
                                                 & (engine == Engine.MATRIX))),
        ]
        for number in range(len(Engine)):
            m.d.comb += [self.event_start_index[number].eq(index),
                         self.event_done_index[number].eq(index)]
        return ResetInserter(self.reset)(m)

    def _memories(self, m: Module, copy: CopyEngine, convolve: ConvolutionEngine) -> None:
        """The memories on the chip. Only one of the two engines is ever active."""
        config = self._config
        loaded = copy.beat.read_data

        m.submodules.activation = activation = SinglePortMemory(
            depth=config.activation_depth, lanes=config.rows)
        load = copy.memories[Memory.ACTIVATION.value]
        copying = load | copy.read
        m.d.comb += [
            activation.enable.eq(copying | convolve.read | convolve.write.any()),
            activation.address.eq(Mux(copying, copy.address, convolve.address)),
            activation.write.eq(Mux(load, C(0, config.rows) - 1, convolve.write)),
            activation.write_data.eq(
                Mux(load, loaded, convolve.result.replicate(config.rows))),
            Value.cast(convolve.word).eq(activation.read_data),
        ]

        m.submodules.weight = weight = memory.Memory(
            shape=8 * config.weight_row_lanes, depth=config.weight_depth, init=[])
        weight_write, weight_read = weight.write_port(), weight.read_port()
        m.submodules.parameter = parameter = memory.Memory(
            shape=32, depth=2 * config.parameter_depth, init=[])
        parameter_write, parameter_read = parameter.write_port(), parameter.read_port()
        m.d.comb += [
            weight_write.en.eq(copy.memories[Memory.WEIGHT.value]),
            weight_write.addr.eq(copy.address),
            weight_write.data.eq(loaded),
            weight_read.en.eq(convolve.weight_read),
            weight_read.addr.eq(convolve.weight_address),
            Value.cast(convolve.weights).eq(weight_read.data),

            parameter_write.en.eq(copy.memories[Memory.PARAMETER.value]),
            parameter_write.addr.eq(Cat(copy.part, copy.address)),
            parameter_write.data.eq(loaded),
            parameter_read.en.eq(convolve.parameter_read),
            parameter_read.addr.eq(Cat(convolve.parameter_part, convolve.parameter_address)),
            convolve.parameter.eq(parameter_read.data),
        ]
