"""From a doorbell to a stream of commands: reads the command stream and cuts it into commands."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from weft.hw.bus.burst import request_layout
from weft.hw.isa.commands import COMMAND_BYTES, Engine
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import Fault
from weft.hw.isa.registers import Error
from weft.hw.isa.subset import engines
from weft.hw.lib.delay import unreset
from weft.hw.lib.fanout import SINKS

__all__ = ["CommandFetch", "FetchedCommand"]


class FetchedCommand(data.Struct):
    """A command on its way to the queue of its engine."""
    index:  unsigned(16)                 # position in the command stream
    engine: Engine
    raw:    unsigned(8 * COMMAND_BYTES)  # the descriptor; starts with a Header


class CommandFetch(wiring.Component):
    """Fetches a stream of 64-byte commands through a read engine.

    One request asks for the whole stream. Its beats are put together in a 64-byte register; when a
    command is complete its opcode is checked and it is offered :attr:`OFFER_LATENCY` cycles after
    its last beat. A command takes one cycle more than it has beats while nothing stalls: the next
    one begins when it was taken.

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
        From ``start`` until the cycle after the one in which the last command is taken. Not set
        after a fault.

    Attributes
    ----------
    OUTSTANDING : :class:`int`
        Bursts in flight at a time that its read engine is to have: commands fetched ahead.
    REQUEST_LATENCY : :class:`int`
        Cycles from ``start`` to the request.
    OFFER_LATENCY : :class:`int`
        Cycles from the last beat of a command to its offer.
    """

    OUTSTANDING     = 2
    REQUEST_LATENCY = 3
    OFFER_LATENCY   = 1

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

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        command = unreset(m, self.commands.payload, "command")
        enables = self._assemble(m, command)
        last    = enables[-1]  # the last beat is the next one
        known   = self._decode(m, command, first=enables[0])
        miscounted = Signal()
        misplaced  = Signal()
        bad_count, bad_address = self._check(m)

        idle  = Signal(init=1)
        opens = Signal()  # begins to take beats
        moves, ended = self._move(m, command, enables, idle=idle, opens=opens)

        # A beat is checked a cycle later, in which no other is taken.
        unreadable = Signal()
        illegal    = Signal()
        halt       = Signal()
        m.d.sync += [
            unreadable.eq(moves & self.error),
            illegal.eq(moves & last & ~known),
            halt.eq(self.halt),
        ]

        # All faults are of the command that is put together.
        m.d.sync += [self.fault.code.eq(Error.NONE), self.fault.index.eq(command.index)]
        with m.If(self.requests.ready):
            m.d.sync += self.requests.valid.eq(0)

        with m.FSM():
            with m.State("idle"):
                with m.If(self.start):
                    m.d.sync += idle.eq(0)
                    m.next = "check"

            with m.State("check"):
                m.d.comb += self.busy.eq(1)
                m.d.sync += [miscounted.eq(bad_count), misplaced.eq(bad_address)]
                m.next = "decide"

            with m.State("decide"):
                m.d.comb += self.busy.eq(1)
                with m.If(miscounted):
                    self._stop(m, Error.ARGUMENT)
                with m.Elif(misplaced):
                    self._stop(m, Error.ADDRESS)
                with m.Else():
                    m.d.sync += self.requests.valid.eq(1)
                    m.d.comb += opens.eq(1)
                    m.next = "fetch"

            with m.State("fetch"):
                m.d.comb += self.busy.eq(1)
                with m.If(ended):
                    m.d.sync += idle.eq(1)
                    m.next = "idle"
                with m.If(moves & (last | self.error)):
                    m.d.sync += self.commands.valid.eq(known & ~self.error)
                with m.If(unreadable):
                    self._stop(m, Error.READ)
                with m.Elif(illegal):
                    self._stop(m, Error.OPCODE)
                with m.If(halt):
                    m.next = "stopped"

            with m.State("stopped"):
                m.d.comb += opens.eq(1)  # beats that are under way are swallowed

        return m

    def _move(self, m: Module, command: FetchedCommand, enables: list[Signal], *, idle: Signal,
              opens: Signal) -> tuple[Signal, Signal]:
        """Takes beats and gives commands. Returns whether it takes a beat, and, a cycle late,
        whether the last command is taken."""
        command_beats = COMMAND_BYTES // self._config.axi_bytes
        parts  = len(enables) // command_beats  # of a beat
        taking = Signal()  # beats
        moves  = Signal()  # one of them
        taken  = Signal()  # the command on offer
        left   = Signal(16, reset_less=True)  # commands, with the one that is put together
        final  = Signal()                     # it is the last one
        ended  = Signal()                     # and was taken
        m.d.comb += [
            self.beats.ready.eq(taking),
            moves.eq(self.beats.valid & taking),
            taken.eq(self.commands.valid & self.commands.ready),
        ]
        # `commands.ready` comes late: an enable would take another level of logic.
        m.d.sync += taking.eq(opens | (taken & ~final) |
                              (taking & ~(self.beats.valid & (enables[-1] | self.error))))
        m.d.sync += [final.eq(left == 1), ended.eq(taken & final)]
        with m.If(moves):
            m.d.sync += Cat(enables).eq(Cat(enables) << parts)
        with m.If(taken):
            m.d.sync += self.commands.valid.eq(0)
            m.d.sync += [enable.eq(1) for enable in enables[:parts]]
            m.d.sync += [command.index.eq(command.index + 1), left.eq(left - 1)]

        # What is asked for is sampled in every cycle until `start`, which only ends that.
        with m.If(idle):
            m.d.sync += [
                self.requests.p.address.eq(self.address),
                self.requests.p.beats.eq(self.count[:16] * command_beats),
                left.eq(self.count),
                command.index.eq(0),
            ]
        return moves, ended

    def _check(self, m: Module) -> tuple[Value, Value]:
        """Returns, a cycle late, whether ``count`` and ``address`` are illegal."""
        # A stream must not wrap around at the end of the address space.
        end     = Signal(66, reset_less=True)
        aligned = Signal()
        inside  = Signal()
        counted = Signal()
        m.d.comb += inside.eq(end <= 1 << self._config.axi_addr_width)
        m.d.sync += [
            end.eq(self.address + (self.count[:16] << exact_log2(COMMAND_BYTES))),
            aligned.eq(self.address[:exact_log2(self._config.axi_bytes)] == 0),
            counted.eq((self.count[:16] != 0) & (self.count[16:] == 0)),
        ]
        return ~counted, ~aligned | ~inside

    def _assemble(self, m: Module, command: FetchedCommand) -> list[Signal]:
        """Puts the beats of a command together. Each part of the command has its own enable, which
        is set while its beat is the next one: the part loads what is at ``beats`` in every cycle,
        valid or not. Returns the enables; none is set while a command is on offer."""
        width      = self._config.axi_data_width
        part_width = min(width, SINKS)
        enables = [Signal(init=first < width, name=f"enable_{first}", attrs={"keep": 1})
                   for first in range(0, 8 * COMMAND_BYTES, part_width)]
        for number, enable in enumerate(enables):
            first = number * part_width
            with m.If(enable):
                m.d.sync += command.raw[first:first + part_width].eq(
                    self.beats.payload[first % width:first % width + part_width])
        return enables

    def _decode(self, m: Module, command: FetchedCommand, *, first: Signal) -> Signal:
        """Finds the engine of a command by its opcode, which comes with the first beat. Returns
        whether there is one, with the last beat."""
        known  = Signal()
        engine = Signal(Engine)
        with m.Switch(self.beats.payload[:8]):
            for opcode, its_engine in engines(self._config).items():
                with m.Case(opcode):
                    m.d.comb += [known.eq(1), engine.eq(its_engine)]
        with m.If(first):
            m.d.sync += command.engine.eq(engine)
        if self._config.axi_bytes < COMMAND_BYTES:
            first_known = Signal()
            with m.If(first):
                m.d.sync += first_known.eq(known)
            known = first_known
        return known

    def _stop(self, m: Module, error: Error) -> None:
        m.d.sync += self.fault.code.eq(error)
        m.next = "stopped"
