"""Loads and stores: external memory to and from the memories on the chip, a beat at a time."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from weft.hw.isa.commands import LoadCommand, Memory
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.memories import memories
from weft.hw.isa.registers import Error

from .beats import BeatSignature
from .fields import Fields, fetched_beat_layout

__all__ = ["CopyEngine"]


class CopyEngine(wiring.Component):
    """Executes LOAD and STORE commands, whose fields are the same.

    A word, a weight row and half a parameter entry are a beat each. Ranges are checked as they are
    reached, so a command that fails may have done a part of its work. External addresses are
    taken modulo ``2 ** axi_addr_width``.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
        With ``sequential``.

    Members
    -------
    fetched : :py:`In(fetched_beat_layout(axi_data_width))`
        The beats of all commands.
    refused : :py:`Out(Error)`
        Why the last command that was fetched cannot be executed, if it is a LOAD or STORE.
    start : :py:`In(1)`
        Pulse: execute it.
    store : :py:`In(1)`
        It is a STORE; until ``done``.
    done : :py:`Out(1)`
        Pulse.
    error : :py:`Out(Error)`
        With ``done``: why it was not finished.
    beat : :py:`Out(BeatSignature(...))`
    memories : :py:`Out(3)`
        The beat that is read from external memory is to be written to the activation, weight or
        parameter memory.
    address : :py:`Out(...)`
        Of the activation word to read or write, or of the unit of another memory.
    part : :py:`Out(1)`
        Half of the parameter entry.
    read : :py:`Out(1)`
        Read an activation word.
    word : :py:`In(axi_data_width)`
        The word, a cycle later and until the next.

    Attributes
    ----------
    LINE_CYCLES : :class:`int`
        Of a line.
    BEAT_CYCLES : :class:`int`
        Of a beat, beside those of :class:`~weft.hw.sequential.beats.BeatMaster`.
    """

    LINE_CYCLES = 1
    BEAT_CYCLES = 1

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._depths = {memory: its.depth for memory, its in memories(config).items()}
        super().__init__({
            "fetched":  In(fetched_beat_layout(config.axi_data_width)),
            "refused":  Out(Error),
            "start":    In(1),
            "store":    In(1),
            "done":     Out(1),
            "error":    Out(Error),
            "beat":     Out(BeatSignature(data_width=config.axi_data_width,
                                          addr_width=config.axi_addr_width)),
            "memories": Out(len(self._depths)),
            "address":  Out(ceil_log2(max(self._depths.values()))),
            "part":     Out(1),
            "read":     Out(1),
            "word":     In(config.axi_data_width),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config

        fields, memory = self._fields(m)
        # The fields with addresses and lines count on while the command is executed.
        lines, line, local_line = fields.lines, fields.address, fields.local_address
        misaligned = Cat(value[:ceil_log2(config.axi_bytes)] for value in
                         (fields.address, fields.stride)).any()

        address = Signal(config.axi_addr_width, reset_less=True)
        unit    = Signal.like(fields.local_address, name="unit", reset_less=True)
        left    = Signal.like(fields.units, name="left", reset_less=True)
        part    = Signal()
        legal   = Signal()
        with m.Switch(memory):
            for number, depth in self._depths.items():
                with m.Case(number):
                    m.d.comb += legal.eq(unit < depth)

        m.d.comb += [
            self.address.eq(unit),
            self.part.eq(part),
            self.beat.address.eq(address),
            self.beat.write.eq(self.store),
            self.beat.write_data.eq(self.word),
        ]
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start):
                    m.next = "LINE"

            with m.State("LINE"):
                m.d.sync += [
                    address.eq(line),
                    unit.eq(local_line),
                    left.eq(fields.units),
                    lines.eq(lines - 1),
                    line.eq(line + fields.stride),
                    local_line.eq(local_line + fields.local_stride),
                ]
                m.next = "READ"

            with m.State("READ"):
                m.d.comb += self.read.eq(self.store)
                m.next = "BEAT"
                with m.If(~legal | misaligned):
                    m.d.comb += [self.done.eq(1), self.error.eq(Error.ADDRESS)]
                    m.next = "IDLE"

            with m.State("BEAT"):
                m.d.comb += self.beat.valid.eq(1)
                with m.If(self.beat.done):
                    m.d.comb += self.memories.eq(Mux(self.store, 0, 1 << memory[:2]))
                    m.d.sync += [
                        address.eq(address + config.axi_bytes),
                        part.eq((memory == Memory.PARAMETER) & ~part),
                    ]
                    m.next = "READ"
                    with m.If((memory != Memory.PARAMETER) | part):
                        m.d.sync += [unit.eq(unit + 1), left.eq(left - 1)]
                        with m.If(left == 1):
                            m.next = "LINE"
                            with m.If(lines == 0):
                                m.d.comb += self.done.eq(1)
                                m.next = "IDLE"
                    with m.If(self.beat.error):
                        m.d.comb += self.done.eq(1)
                        m.d.comb += self.error.eq(Mux(self.store, Error.WRITE, Error.READ))
                        m.next = "IDLE"
        return m

    def _fields(self, m: Module) -> tuple[Fields, Signal]:
        """The fields of the command and its memory. Refuses a command with illegal ones."""
        config = self._config
        local = len(self.address) + 1  # an address, or a number of units
        fields = Fields(
            m, self.fetched, LoadCommand,
            {"memory": 3, "lines": 16, "units": local, "address": config.axi_addr_width,
             "stride": config.axi_addr_width, "local_address": local, "local_stride": local},
            bounded=("units", "address", "local_address"), positive=("lines", "units"))
        memory = Signal(3)  # bits that in the layout of a STORE are no field
        m.d.comb += memory.eq(Mux(self.store, Memory.ACTIVATION.value, fields.memory))
        m.d.comb += self.refused.eq(Error.NONE)
        with m.If(fields.beyond):
            m.d.comb += self.refused.eq(Error.ADDRESS)
        with m.If(fields.wrong | (memory > Memory.PARAMETER)):
            m.d.comb += self.refused.eq(Error.ARGUMENT)
        return fields, memory
