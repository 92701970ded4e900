"""A core that executes one command after the other, in the order of the stream."""

from typing import Any

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from weft.hw.bus.axi import MemorySignature, memory_port
from weft.hw.control.core_control import CommandEvents, CoreControl
from weft.hw.isa.commands import COMMAND_BYTES, Engine, Memory
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.registers import Error
from weft.hw.isa.subset import engines
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
    m_axi : :py:`Out(MemorySignature(...))`
        Memory.
    control : :py:`In(CoreControl(faults=FAULTS))`
        The control port.
    event : :py:`Out(CommandEvents())`
        When each command starts and ends.

    Attributes
    ----------
    FAULTS : :class:`int`
        Sources of faults.
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
        super().__init__({
            "m_axi":   Out(MemorySignature(**memory_port(config))),
            "control": In(CoreControl(faults=self.FAULTS)),
            "event":   Out(CommandEvents()),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config

        m.submodules.master   = master   = BeatMaster(**memory_port(config))
        m.submodules.copy     = copy     = CopyEngine(config)
        m.submodules.convolve = convolve = ConvolutionEngine(config)
        connect(m, master.axi, flipped(self.m_axi))
        self._connect_memories(m, copy, convolve)

        address  = Signal(config.axi_addr_width, reset_less=True)  # of the next beat of the stream
        beat     = Signal(range(COMMAND_BYTES // config.axi_bytes))
        index    = Signal(16)
        fetching = Signal()
        fetched  = fetching & master.beat.done
        self._connect_beats(m, master.beat, copy.beat, address=address, fetching=fetching)
        for port in (copy.fetched, convolve.fetched):
            m.d.comb += [
                port.valid.eq(fetched),
                port.number.eq(beat),
                port.data.eq(master.beat.read_data),
            ]
        engine, known = self._decode(m, fetched & (beat == 0), master.beat.read_data[:8])
        m.d.comb += [
            copy.store.eq(engine == Engine.STORE),
            copy.word.eq(convolve.word),
        ]

        executing = self._sequence(m, master.beat, copy, convolve, address=address, beat=beat,
                                   index=index, fetching=fetching, fetched=fetched, engine=engine,
                                   known=known)

        m.d.comb += [
            master.halt.eq(self.control.halt),
            self.control.quiet.eq(master.idle),
            self.control.oldest.eq(index),
            # A convolution always comes to its end.
            self.control.progress.eq(master.beat.done | (executing & (engine == Engine.MATRIX))),
        ]
        for number in range(len(Engine)):
            m.d.comb += [self.event.start_index[number].eq(index),
                         self.event.done_index[number].eq(index)]
        return ResetInserter(self.control.reset)(m)

    def _connect_beats(self, m: Module, master: Any, copy: Any, *, address: Signal,
                       fetching: Signal) -> None:
        """Asks for beats of the command stream while fetching, and for those of a load or store
        otherwise."""
        for name in ("valid", "write", "address", "write_data"):
            m.d.comb += getattr(master, name).eq(getattr(copy, name))
        with m.If(fetching):
            m.d.comb += [
                master.valid.eq(1),
                master.write.eq(0),
                master.address.eq(address),
            ]
        m.d.comb += [
            copy.done.eq(master.done & ~fetching),
            copy.error.eq(master.error),
            copy.read_data.eq(master.read_data),
        ]

    def _decode(self, m: Module, first: Value, opcode: Value) -> tuple[Signal, Signal]:
        """Returns the engine of the last command that was fetched, and whether it has one;
        ``first`` says that the beat with the opcode is there."""
        engine = Signal(Engine)
        known  = Signal()
        with m.If(first):
            m.d.sync += known.eq(0)
            with m.Switch(opcode):
                for number, its in engines(self._config).items():
                    with m.Case(number):
                        m.d.sync += [known.eq(1), engine.eq(its)]
        return engine, known

    def _sequence(self, m: Module, master: Any, copy: CopyEngine, convolve: ConvolutionEngine, *,
                  address: Signal, beat: Signal, index: Signal, fetching: Signal, fetched: Value,
                  engine: Signal, known: Signal) -> Value:
        """Fetches and executes one command after the other. Returns whether one is executing."""
        config   = self._config
        control  = self.control
        left     = Signal(16, reset_less=True)  # commands
        refused  = Signal(Error)
        done     = Signal()
        error    = Signal(Error)
        m.d.comb += [
            refused.eq(Mux(~known, Error.OPCODE, Mux(engine == Engine.MATRIX, convolve.refused,
                                                     copy.refused))),
            done.eq(copy.done | convolve.done),
            error.eq(Mux(engine == Engine.MATRIX, convolve.error, copy.error)),
        ]

        # A cycle late, when the core has stopped and the index stays.
        fault = Signal(Error)
        m.d.sync += control.faults[0].code.eq(fault)
        m.d.comb += control.faults[0].index.eq(index)

        def stop(error: Any) -> None:
            m.d.comb += fault.eq(error)
            m.next = "STOPPED"

        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.sync += [address.eq(control.address), left.eq(control.count), index.eq(0),
                             beat.eq(0)]
                with m.If(control.start):
                    m.d.sync += control.completed.eq(0)
                    m.next = "FETCH"
                    with m.If((control.address[config.axi_addr_width:] != 0)
                              | (control.address[:exact_log2(config.axi_bytes)] != 0)):
                        stop(Error.ADDRESS)
                    with m.If((control.count[:16] == 0) | (control.count[16:] != 0)):
                        stop(Error.ARGUMENT)

            with m.State("FETCH"):
                m.d.comb += fetching.eq(1)
                with m.If(fetched):
                    m.d.sync += [address.eq(address + config.axi_bytes), beat.eq(beat + 1)]
                    with m.If(beat == COMMAND_BYTES // config.axi_bytes - 1):
                        m.next = "LAUNCH"
                    with m.If(master.error):
                        stop(Error.READ)

            with m.State("LAUNCH"):
                m.next = "EXECUTE"
                with m.If(refused != Error.NONE):
                    stop(refused)
                with m.Elif(control.halt):
                    m.next = "STOPPED"
                with m.Else():
                    m.d.comb += [
                        copy.start.eq(engine != Engine.MATRIX),
                        convolve.start.eq(engine == Engine.MATRIX),
                        self.event.start.eq(1 << engine.as_value()),
                    ]

            with m.State("EXECUTE"):
                with m.If(done):
                    with m.If(error != Error.NONE):
                        stop(error)
                    with m.Else():
                        m.d.comb += self.event.done.eq(1 << engine.as_value())
                        m.d.sync += [control.completed.eq(index + 1), index.eq(index + 1),
                                     left.eq(left - 1)]
                        m.next = "FETCH"
                        with m.If(left == 1):
                            m.next = "IDLE"

            # Only a reset leaves this state.
            with m.State("STOPPED"):
                pass

        m.d.comb += control.idle.eq(fsm.ongoing("IDLE"))
        return fsm.ongoing("EXECUTE")

    def _connect_memories(self, m: Module, copy: CopyEngine,
                          convolve: ConvolutionEngine) -> None:
        """The memories on the chip. Only one of the two engines is ever active."""
        config = self._config
        loaded = copy.beat.read_data

        m.submodules.activation = activation = SinglePortMemory(
            depth=config.activation_depth, word_bytes=config.word_data_bytes)
        load = copy.memories[Memory.ACTIVATION.value]
        copying = load | copy.read
        m.d.comb += [
            activation.enable.eq(copying | convolve.read | convolve.write.any()),
            activation.address.eq(Mux(copying, copy.address, convolve.address)),
            activation.write.eq(Mux(load, C(0, config.word_data_bytes) - 1, convolve.write)),
            activation.write_data.eq(
                Mux(load, loaded, convolve.result.replicate(config.rows))),
            Value.cast(convolve.word).eq(activation.read_data),
        ]

        m.submodules.weight = weight = memory.Memory(
            shape=8 * config.weight_row_data_bytes, depth=config.weight_depth, init=[])
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
