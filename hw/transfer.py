"""Front half of the load and store engines: checks a command and asks for its lines."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from weft.config import AcceleratorConfig
from weft.hw.burst import request_layout
from weft.hw.commands import LoadCommand, Memory, StoreCommand
from weft.hw.fault import CODE_WIDTH, INDEX_WIDTH
from weft.hw.registers import Error

__all__ = ["Transfer", "TransferFront", "indexed_layout"]


def indexed_layout(command: type[data.Struct]) -> data.StructLayout:
    """A command with its index in the command stream."""
    return data.StructLayout({"index": INDEX_WIDTH, "command": command})


class Transfer(data.Struct):
    """The on-chip side of a load or store: ``lines`` runs of ``units`` units.

    If ``code`` is not ``Error.NONE`` the command is not to be executed.
    """
    index:         unsigned(INDEX_WIDTH)
    code:          unsigned(CODE_WIDTH)
    memory:        unsigned(3)
    lines:         unsigned(16)
    units:         unsigned(24)
    local_address: unsigned(24)
    local_stride:  unsigned(24)


class TransferFront(wiring.Component):
    """Splits commands into the requests for external memory and the on-chip side.

    Every field is checked before anything is asked for. The two ends of the command's ranges,
    ``address + (lines - 1) * stride + bytes`` outside and ``local_address + (lines - 1) *
    local_stride + units`` on chip, are formed by shifting and adding, so a command takes
    ``3 + bit_length(lines - 1)`` cycles until its :class:`Transfer` is offered. Then comes one
    request per cycle. Commands follow each other without waiting for data, so this time is hidden
    behind the data of the command before. After a command with an error no other is taken.

    Parameters
    ----------
    config : :class:`~weft.config.AcceleratorConfig`
    command : :class:`LoadCommand` or :class:`StoreCommand`
        Layout of the commands.

    Members
    -------
    commands : :py:`In(stream.Signature(indexed_layout(command)))`
        Commands.
    transfers : :py:`Out(stream.Signature(Transfer))`
        One for each command, ahead of its requests.
    requests : :py:`Out(stream.Signature(request_layout(config.axi_addr_width)))`
        One for each line.
    busy : :py:`Out(1)`
        A command is being checked or asked for.
    """

    def __init__(self, *, config: AcceleratorConfig,
                 command: type[LoadCommand] | type[StoreCommand]):
        self._config  = config
        self._command = command
        super().__init__({
            "commands":  In(stream.Signature(indexed_layout(command))),
            "transfers": Out(stream.Signature(Transfer)),
            "requests":  Out(stream.Signature(request_layout(config.axi_addr_width))),
            "busy":      Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        config     = self._config
        addr_width = config.axi_addr_width
        beat_shift = exact_log2(config.axi_bytes)
        # Of each memory: log2 of the bytes of a unit outside, and the units it holds.
        memories   = {
            Memory.ACTIVATION: (exact_log2(config.word_bytes), config.activation_depth),
            Memory.WEIGHT:     (exact_log2(config.weight_row_bytes), config.weight_depth),
            Memory.PARAMETER:  (exact_log2(config.parameter_entry_bytes), config.parameter_depth),
            Memory.VECTOR_WEIGHT: (exact_log2(config.vector_entry_bytes), config.vector_entries),
            Memory.VECTOR_PARAMETER: (exact_log2(config.parameter_entry_bytes),
                                      config.vector_parameter_depth),
            Memory.TABLE: (0, config.vector_table_bytes),
        }

        index   = Signal(INDEX_WIDTH, reset_less=True)
        command = Signal(self._command, reset_less=True)
        if self._command is StoreCommand:
            memory  = Signal(3)  # stays Memory.ACTIVATION
        else:
            memory  = command.memory.as_value()

        # Of the memory at hand.
        beats   = Signal(32)
        depth   = Signal(25)
        unknown = Signal()
        with m.Switch(memory):
            for number, (unit_shift, units) in memories.items():
                with m.Case(number):
                    m.d.comb += depth.eq(units)
                    if unit_shift >= beat_shift:
                        m.d.comb += beats.eq(command.units << (unit_shift - beat_shift))
                    else:
                        shift = beat_shift - unit_shift
                        m.d.comb += beats.eq((command.units + ((1 << shift) - 1)) >> shift)
            with m.Default():
                m.d.comb += unknown.eq(1)

        line_beats = Signal(32, reset_less=True)
        factor     = Signal(16, reset_less=True)
        # Wide enough that no sum of legal and illegal fields wraps.
        end        = Signal(max(addr_width, 48) + 2, reset_less=True)
        step       = Signal(48, reset_less=True)
        local_end  = Signal(24 + 16 + 2, reset_less=True)
        local_step = Signal(24 + 16, reset_less=True)
        last_line  = Signal()
        m.d.comb += last_line.eq(command.lines == 1)

        m.d.comb += [
            self.transfers.p.index.eq(index),
            self.transfers.p.memory.eq(memory),
            self.transfers.p.lines.eq(command.lines),
            self.transfers.p.units.eq(command.units),
            self.transfers.p.local_address.eq(command.local_address),
            self.transfers.p.local_stride.eq(command.local_stride),
            self.requests.p.address.eq(command.address),
            self.requests.p.beats.eq(line_beats),
        ]

        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.commands.ready.eq(1)
                m.d.sync += index.eq(self.commands.p.index)
                m.d.sync += command.eq(self.commands.p.command)
                with m.If(self.commands.valid):
                    m.next = "PREPARE"

            with m.State("PREPARE"):
                m.d.sync += [
                    line_beats.eq(beats),
                    factor.eq(command.lines - 1),
                    step.eq(command.stride),
                    end.eq(command.address[:addr_width] + (beats << beat_shift)),
                    local_step.eq(command.local_stride),
                    local_end.eq(command.local_address + command.units),
                ]
                m.next = "MULTIPLY"

            with m.State("MULTIPLY"):
                m.d.sync += [
                    factor.eq(factor >> 1),
                    step.eq(step << 1),
                    local_step.eq(local_step << 1),
                ]
                with m.If(factor[0]):
                    m.d.sync += end.eq(end + step)
                    m.d.sync += local_end.eq(local_end + local_step)
                with m.If(factor == 0):
                    m.d.sync += self.transfers.valid.eq(1)
                    with m.If((command.lines == 0) | (command.units == 0) | unknown):
                        m.d.sync += self.transfers.p.code.eq(Error.ARGUMENT)
                    with m.Elif(Cat(command.address[:beat_shift], command.stride[:beat_shift],
                                    command.address[addr_width:]).any()
                                | (end > 1 << addr_width) | (local_end > depth)):
                        m.d.sync += self.transfers.p.code.eq(Error.ADDRESS)
                    with m.Else():
                        m.d.sync += self.transfers.p.code.eq(Error.NONE)
                    m.next = "OFFER"

            with m.State("OFFER"):
                with m.If(self.transfers.ready):
                    m.d.sync += self.transfers.valid.eq(0)
                    with m.If(self.transfers.p.code == Error.NONE):
                        m.d.sync += self.requests.valid.eq(1)
                        m.next = "REQUEST"
                    with m.Else():
                        m.next = "STOPPED"

            with m.State("REQUEST"):
                with m.If(self.requests.ready):
                    m.d.sync += [
                        command.address.eq(command.address[:addr_width] + command.stride),
                        command.lines.eq(command.lines - 1),
                    ]
                    with m.If(last_line):
                        m.d.sync += self.requests.valid.eq(0)
                        m.next = "IDLE"

            # Only a reset leaves this state.
            with m.State("STOPPED"):
                pass

        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))

        return m
