"""Front half of the load and store engines: checks a command and asks for its lines."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from weft.hw.bus.burst import request_layout
from weft.hw.isa.commands import LoadCommand, StoreCommand
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import CODE_WIDTH, INDEX_WIDTH, indexed_layout
from weft.hw.isa.memories import memories
from weft.hw.isa.registers import Error
from weft.hw.lib.delay import delay
from weft.hw.lib.fanout import alike, assign
from weft.hw.lib.multiplier import multiple

__all__ = ["TransferFront", "transfer_layout"]


_AT_ONCE = 16
"""Bits that are compared with zero in a cycle: two levels of LUTs."""


def transfer_layout(config: AcceleratorConfig) -> data.StructLayout:
    """The on-chip side of a load or store: ``lines`` runs of ``units`` units; ``one_line`` and
    ``one_unit`` tell whether these are 1.

    If it is not ``legal`` the command is not to be executed, and ``code`` tells why. Otherwise it
    lies inside its memory, so the fields for units are as wide as the largest memory needs.
    """
    width = max(memory.depth for memory in memories(config).values()).bit_length()
    return data.StructLayout({
        "index":         INDEX_WIDTH,
        "code":          CODE_WIDTH,
        "legal":         1,
        "memory":        3,
        "lines":         16,
        "units":         width,
        "local_address": width,
        "local_stride":  width,
        "one_line":      1,
        "one_unit":      1,
    })


def _above(value: Value, target: Signal) -> Value:
    """Bits of ``value`` that ``target`` has no room for."""
    return value[len(target):]


def _any_of(*values: Value) -> Value:
    """A bit for some bits of ``values`` at a time: whether any of them is set."""
    bits = Cat(*values)
    return Cat(bits[low:low + _AT_ONCE].any() for low in range(0, len(bits), _AT_ONCE))


class _Command:
    """Registers for the command at hand. Its fields are kept as wide as legal values are; of the
    strides, which matter only if there is a second line, ``wide`` and ``local_wide`` stand for the
    bits above."""

    def __init__(self, config: AcceleratorConfig, command: type[data.Struct]):
        addr_width = config.axi_addr_width
        units      = transfer_layout(config)["units"].shape
        self.index   = Signal(INDEX_WIDTH, reset_less=True)
        self.lines   = Signal(16, reset_less=True)
        self.address = Signal(addr_width, reset_less=True)
        self.stride  = Signal(addr_width, reset_less=True)
        self.units   = Signal(units, reset_less=True)
        self.local_address = Signal(units, reset_less=True)
        self.local_stride  = Signal(units, reset_less=True)
        self.memory        = Signal(3, reset_less=command is LoadCommand)
        above = data.Layout.cast(command)["stride"].width - addr_width
        self.wide       = Signal(max(1, -(-above // _AT_ONCE)), reset_less=True)
        self.local_wide = Signal(reset_less=True)


class TransferFront(wiring.Component):
    """Splits commands into the requests for external memory and the on-chip side.

    Every field is checked before anything is asked for. The two ends of the command's ranges,
    ``address + (lines - 1) * stride + bytes`` outside and ``local_address + (lines - 1) *
    local_stride + units`` on chip, are formed by shifting and adding, so a command takes
    :meth:`latency` cycles until its transfer is offered. Then comes one request per cycle. Commands
    follow each other without waiting for data, so this time is hidden behind the data of the
    command before. After a command with an error no other is taken.

    Parameters
    ----------
    config : :class:`~weft.hw.isa.config.AcceleratorConfig`
    command : :class:`LoadCommand` or :class:`StoreCommand`
        Layout of the commands.

    Members
    -------
    commands : :py:`In(stream.Signature(indexed_layout(command)))`
        Commands.
    transfers : :py:`Out(stream.Signature(transfer_layout(config)))`
        One for each command, ahead of its requests.
    requests : :py:`Out(stream.Signature(request_layout(config.axi_addr_width)))`
        One for each line.
    busy : :py:`Out(1)`
        A command is being checked or asked for.

    Attributes
    ----------
    SETTLING : :class:`int`
        Cycles that the last sums have to be compared, at least 1.
    """

    SETTLING = 1

    def __init__(self, *, config: AcceleratorConfig,
                 command: type[LoadCommand] | type[StoreCommand]):
        self._config  = config
        self._command = command
        super().__init__({
            "commands":  In(stream.Signature(indexed_layout(command))),
            "transfers": Out(stream.Signature(transfer_layout(config))),
            "requests":  Out(stream.Signature(request_layout(config.axi_addr_width))),
            "busy":      Out(1),
        })

    @classmethod
    def latency(cls, lines: int) -> int:
        """Cycles from a command of ``lines`` lines that is accepted to its transfer."""
        return 4 + cls.SETTLING + (lines - 1).bit_length()

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        transfer = self.transfers.p
        at       = _Command(self._config, self._command)
        beats, depth, unknown = self._look_up(m, at)
        line_beats = Signal.like(beats, reset_less=True)
        last_line  = Signal(reset_less=True)
        m.d.comb += [
            transfer.index.eq(at.index),
            transfer.memory.eq(at.memory),
            transfer.lines.eq(at.lines),
            transfer.units.eq(at.units),
            transfer.local_address.eq(at.local_address),
            transfer.local_stride.eq(at.local_stride),
            self.requests.p.address.eq(at.address),
            self.requests.p.beats.eq(line_beats),
        ]

        # All equal; set while no command is at hand, which is when what comes is loaded in every
        # cycle. One for each part of it, so that none has many sinks.
        vacant = alike("vacant", 3, init=1)
        m.d.comb += [self.commands.ready.eq(vacant[0]), self.busy.eq(~vacant[0])]
        empty, illegal = self._take(m, at, vacant)

        # A bit for each thing to do, of which at most one is set: each is an enable of its own.
        measure  = Signal()
        prepare  = Signal()
        multiply = Signal()
        check    = Signal()  # gives `beyond` and `outside` the time to settle
        decide   = Signal()
        with m.If(self.commands.valid & self.commands.ready):
            m.d.sync += assign(vacant, 0)
        with m.If(measure):
            m.d.sync += [line_beats.eq(beats), last_line.eq(transfer.one_line)]
        more, carried, outside = self._find_ends(
            m, at, line_beats=line_beats, depth=depth, measure=measure, prepare=prepare,
            multiply=multiply)
        m.d.sync += [
            measure.eq(self.commands.valid & self.commands.ready),
            prepare.eq(measure),
            multiply.eq((prepare & ~last_line) | (multiply & more)),
            check.eq((prepare & last_line) | (multiply & ~more)),
            decide.eq(delay(m, check, self.SETTLING - 1, name="settled")),
        ]

        # Nothing is ever subtracted, so what was beyond stays so: after the first command that is,
        # there is no other.
        beyond = Signal()
        with m.If(~vacant[0]):
            m.d.sync += beyond.eq(beyond | illegal.any() | carried.any())
        with m.If(decide):
            m.d.sync += [self.transfers.valid.eq(1), transfer.legal.eq(0)]
            with m.If(empty.any() | unknown):
                m.d.sync += transfer.code.eq(Error.ARGUMENT)
            with m.Elif(beyond | outside.any()):
                m.d.sync += transfer.code.eq(Error.ADDRESS)
            with m.Else():
                m.d.sync += [transfer.code.eq(Error.NONE), transfer.legal.eq(1)]

        # Nothing follows a transfer with an error, until a reset.
        with m.If(self.transfers.valid & self.transfers.ready):
            m.d.sync += [
                self.transfers.valid.eq(0),
                self.requests.valid.eq(transfer.legal),
            ]
        with m.If(self.requests.valid & self.requests.ready):
            m.d.sync += [
                at.address.eq(at.address + at.stride),
                at.lines.eq(at.lines - 1),
                last_line.eq(at.lines == 2),
            ]
            with m.If(last_line):
                m.d.sync += [self.requests.valid.eq(0), *assign(vacant, 1)]

        return m

    def _look_up(self, m: Module, at: _Command) -> tuple[Signal, Signal, Signal]:
        """Returns the beats of a line, the units that the memory holds, and whether there is no
        such memory."""
        beat_bytes = self._config.axi_bytes
        beats   = Signal(32)
        depth   = Signal(25)
        unknown = Signal()
        with m.Switch(at.memory):
            for number, its in memories(self._config).items():
                with m.Case(number):
                    m.d.comb += depth.eq(its.depth)
                    if its.unit_bytes >= beat_bytes:
                        m.d.comb += beats.eq(multiple(at.units, its.unit_bytes // beat_bytes))
                    else:
                        shift = exact_log2(beat_bytes // its.unit_bytes)
                        m.d.comb += beats.eq((at.units + ((1 << shift) - 1)) >> shift)
            with m.Default():
                m.d.comb += unknown.eq(1)
        return beats, depth, unknown

    def _take(self, m: Module, at: _Command, vacant: list[Signal]) -> tuple[Signal, Signal]:
        """Loads a command. Returns whether there are no lines or units, and whether an address or
        a size is not a multiple of a beat or cannot be legal."""
        offered    = self.commands.p.command
        transfer   = self.transfers.p
        beat_shift = exact_log2(self._config.axi_bytes)
        wrong = _any_of(offered.address[:beat_shift], offered.stride[:beat_shift],
                        _above(offered.address, at.address), _above(offered.units, at.units),
                        _above(offered.local_address, at.local_address))
        empty   = Signal(2, reset_less=True)
        illegal = Signal.like(wrong, name="illegal", reset_less=True)
        with m.If(vacant[0]):
            m.d.sync += [
                at.index.eq(self.commands.p.index),
                at.lines.eq(offered.lines),
                transfer.one_line.eq(offered.lines == 1),
                transfer.one_unit.eq(offered.units[:len(at.units)] == 1),
                empty.eq(Cat(offered.lines == 0, offered.units == 0)),
                illegal.eq(wrong),
            ]
        with m.If(vacant[1]):
            m.d.sync += [at.address.eq(offered.address), at.units.eq(offered.units)]
        with m.If(vacant[2]):
            m.d.sync += [
                at.stride.eq(offered.stride),
                at.local_address.eq(offered.local_address),
                at.local_stride.eq(offered.local_stride),
                at.wide.eq(_any_of(_above(offered.stride, at.stride))),
                at.local_wide.eq(_above(offered.local_stride, at.local_stride).any()),
            ]
            if self._command is LoadCommand:
                m.d.sync += at.memory.eq(offered.memory)
        return empty, illegal

    def _find_ends(self, m: Module, at: _Command, *, line_beats: Signal, depth: Signal,
                   measure: Signal, prepare: Signal,
                   multiply: Signal) -> tuple[Value, Signal, Signal]:
        """Finds the ends of the ranges outside and on chip: multiplies strides with the number of
        lines, a bit in each cycle. Returns whether there are more bits, what was carried out of a
        sum, and whether an end is outside its memory, a cycle late."""
        addr_width = self._config.axi_addr_width
        beat_shift = exact_log2(self._config.axi_bytes)
        factor     = Signal(16, reset_less=True)
        end        = Signal(addr_width + 1, reset_less=True)
        step       = Signal(addr_width, reset_less=True)
        local_end  = Signal(len(at.units) + 1, reset_less=True)
        local_step = Signal.like(at.units, reset_less=True)
        carried    = Signal(5)
        outside    = Signal(2, reset_less=True)
        more       = Signal()
        m.d.comb += more.eq(factor[1:].any())
        m.d.sync += outside.eq(Cat(end[-1] & end[beat_shift:-1].any(), local_end > depth))
        with m.If(measure):
            m.d.sync += [
                factor.eq(at.lines - 1),
                step.eq(at.stride),
                local_step.eq(at.local_stride),
                local_end.eq(at.local_address + at.units),
            ]
        with m.If(prepare):
            first_end = at.address + (line_beats << beat_shift)
            m.d.sync += [end.eq(first_end), carried[0].eq(_above(first_end, end).any())]
        with m.If(multiply):
            next_end, next_local = end + step, local_end + local_step
            m.d.sync += [
                factor.eq(factor >> 1),
                step.eq(step << 1),
                at.wide.eq(at.wide | step[-1]),
                local_step.eq(local_step << 1),
                at.local_wide.eq(at.local_wide | local_step[-1]),
            ]
            with m.If(factor[0]):
                m.d.sync += [
                    end.eq(next_end),
                    local_end.eq(next_local),
                    carried[1:].eq(Cat(at.wide.any(), at.local_wide, _above(next_end, end).any(),
                                       _above(next_local, local_end).any()) | carried[1:]),
                ]
        return more, carried, outside
