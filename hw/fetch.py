"""From a doorbell to a stream of commands: reads the command stream and cuts it into commands."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from weft.config import AcceleratorConfig
from weft.hw.burst import request_layout
from weft.hw.commands import COMMAND_BYTES, Engine, engines
from weft.hw.delay import unreset
from weft.hw.fault import Fault
from weft.hw.registers import Error

__all__ = ["CommandFetch", "FetchedCommand"]


class FetchedCommand(data.Struct):
    """A command on its way to the queue of its engine."""
    index:  unsigned(16)                 # position in the command stream
    engine: Engine
    raw:    unsigned(8 * COMMAND_BYTES)  # the descriptor; starts with a Header


class CommandFetch(wiring.Component):
    """Fetches a stream of 64-byte commands through a read engine.

    One request asks for the whole stream. Its beats are shifted into a 64-byte register; when a
    command is complete its opcode is checked and it is offered one cycle after its last beat. A
    command takes as many cycles as it has beats, one at 512 bits, while nothing stalls.

    The first fault ends the fetch until the component is reset: the command that failed is not
    offered, nor is any after it, and beats still under way are swallowed, so that the read engine
    can run dry. ``halt`` ends it in the same way, without a fault.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
        Gives the width of addresses and beats, and the opcodes that are legal.

    Members
    -------
    start : :py:`In(1)`
        Pulse; begins a fetch. Ignored while ``busy``, and after a fault.
    address : :py:`In(64)`
        Address of the stream in bytes, sampled with ``start``. A multiple of the beat; the stream
        must end inside ``axi_addr_width`` bits.
    count : :py:`In(32)`
        Commands in the stream, 1..65535, sampled with ``start``.
    requests : :py:`Out(stream)`
        One request for each fetch, to a read engine.
    beats : :py:`In(stream)`
        The beats of that request.
    error : :py:`In(1)`
        The beat at ``beats`` came with an error response.
    halt : :py:`In(1)`
        Stop; to be held until the reset.
    commands : :py:`Out(stream.Signature(FetchedCommand))`
        Commands in stream order.
    fault : :py:`Out(Fault)`
        ``code`` is not zero for one cycle. ``OPCODE`` names the command with an illegal opcode,
        ``READ`` the command that could not be read; ``ADDRESS`` and ``ARGUMENT`` refuse
        ``address`` and ``count`` and name command 0.
    busy : :py:`Out(1)`
        From ``start`` until the last command is taken. Not set after a fault.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "start":    In(1),
            "address":  In(64),
            "count":    In(32),
            "requests": Out(stream.Signature(request_layout(config.axi_addr_width))),
            "beats":    In(stream.Signature(config.axi_data_width)),
            "error":    In(1),
            "halt":     In(1),
            "commands": Out(stream.Signature(FetchedCommand)),
            "fault":    Out(Fault),
            "busy":     Out(1),
        })

    def elaborate(self, platform) -> Module:
        m = Module()

        width         = self._config.axi_data_width
        addr_width    = self._config.axi_addr_width
        command_beats = COMMAND_BYTES // self._config.axi_bytes

        # A stream that would run over the end of the address space would wrap around to its start.
        end     = Signal(66, reset_less=True)
        aligned = Signal()
        inside  = Signal()
        counted = Signal()
        miscounted = Signal()
        misplaced  = Signal()
        m.d.comb += inside.eq(end <= 1 << addr_width)
        m.d.sync += [
            end.eq(self.address + (self.count[:16] << exact_log2(COMMAND_BYTES))),
            aligned.eq(self.address[:exact_log2(self._config.axi_bytes)] == 0),
            counted.eq((self.count[:16] != 0) & (self.count[16:] == 0)),
        ]

        # Beats are put together in front of the command on offer, so that only the last one has to
        # wait for room; whether there is some is known from the cycle before, if there is one.
        earlier = Signal(8 * COMMAND_BYTES - width, reset_less=True)
        shifted = Cat(earlier, self.beats.payload)
        beat    = Signal(range(max(command_beats, 2)))
        last    = Signal()
        index   = Signal(16)  # of the command being put together
        left    = Signal(16)  # commands not yet complete
        more    = Signal()    # left != 0
        room    = Signal()
        command = unreset(m, self.commands.payload, "command")
        known   = Signal()    # the opcode of the command being put together
        its     = Signal(Engine)
        m.d.comb += [
            last.eq(beat == command_beats - 1),
        ]
        vacant = ~self.commands.valid | self.commands.ready
        # The opcode comes with the first beat.
        opcode_known  = Signal()
        opcode_engine = Signal(Engine)
        with m.Switch(self.beats.payload[:8]):
            for value, its_engine in engines(self._config).items():
                with m.Case(value):
                    m.d.comb += [opcode_known.eq(1), opcode_engine.eq(its_engine)]
        if command_beats > 1:
            m.d.sync += room.eq(vacant)
            with m.If(beat == 0):
                m.d.sync += [known.eq(opcode_known), its.eq(opcode_engine)]
        else:
            m.d.comb += [room.eq(vacant), known.eq(opcode_known), its.eq(opcode_engine)]

        m.d.sync += self.fault.code.eq(Error.NONE)
        with m.If(self.requests.ready):
            m.d.sync += self.requests.valid.eq(0)
        with m.If(self.commands.ready):
            m.d.sync += self.commands.valid.eq(0)

        with m.FSM():
            with m.State("idle"):
                with m.If(self.start):
                    m.d.sync += [
                        self.requests.p.address.eq(self.address),
                        self.requests.p.beats.eq(self.count[:16] * command_beats),
                        left.eq(self.count),
                        more.eq(1),
                        index.eq(0),
                        beat.eq(0),
                    ]
                    m.next = "check"

            with m.State("check"):
                m.d.comb += self.busy.eq(1)
                m.d.sync += [miscounted.eq(~counted), misplaced.eq(~aligned | ~inside)]
                m.next = "judge"

            with m.State("judge"):
                m.d.comb += self.busy.eq(1)
                with m.If(miscounted):
                    self._stop(m, Error.ARGUMENT, 0)
                with m.Elif(misplaced):
                    self._stop(m, Error.ADDRESS, 0)
                with m.Else():
                    m.d.sync += self.requests.valid.eq(1)
                    m.next = "fetch"

            with m.State("fetch"):
                m.d.comb += self.busy.eq(1)
                m.d.comb += self.beats.ready.eq(more & (room | ~last))
                with m.If(~more & vacant):
                    m.next = "idle"
                with m.If(self.halt):
                    m.next = "stopped"
                with m.If(self.beats.valid & self.beats.ready):
                    m.d.sync += earlier.eq(shifted[width:])
                    m.d.sync += beat.eq(Mux(last, 0, beat + 1))
                    with m.If(self.error):
                        self._stop(m, Error.READ, index)
                    with m.Elif(last):
                        m.d.sync += command.index.eq(index)
                        m.d.sync += index.eq(index + 1)
                        m.d.sync += left.eq(left - 1)
                        m.d.sync += more.eq(left != 1)
                        m.d.sync += command.raw.eq(shifted)
                        m.d.sync += command.engine.eq(its)
                        with m.If(known):
                            m.d.sync += self.commands.valid.eq(1)
                        with m.Else():
                            self._stop(m, Error.OPCODE, index)

            with m.State("stopped"):
                m.d.comb += self.beats.ready.eq(1)

        return m

    def _stop(self, m: Module, error: Error, index) -> None:
        m.d.sync += self.fault.code.eq(error)
        m.d.sync += self.fault.index.eq(index)
        m.next = "stopped"
