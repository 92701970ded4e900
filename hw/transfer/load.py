"""The load engine: external memory to the on-chip memories."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from weft.hw.bus.burst import request_layout
from weft.hw.isa.commands import Engine, LoadCommand, Memory
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import Fault, indexed_layout
from weft.hw.isa.memories import memories
from weft.hw.isa.registers import Error
from weft.hw.lib.cycle_accounting import activity_layout
from weft.hw.lib.delay import register
from weft.hw.lib.fanout import alike, assign
from weft.hw.lib.queue import Queue
from weft.hw.lib.register_slice import RegisterSlice
from weft.hw.memory.scratch import unit_write_layout

from .front import TransferFront, transfer_layout

__all__ = ["LoadEngine"]


class _Port:
    """The writes to one of the memories.

    Attributes
    ----------
    stream : :py:`Out(stream.Signature(unit_write_layout(lanes)))`
    lanes : :class:`int`
        Bytes of a unit on chip.
    parts, slots : :class:`int`
        Beats of a unit, and units of a beat; at least one of them is 1.
    part_bytes : :class:`int`
        Bytes that are written at a time.
    used : :class:`int`
        Parts that are not all padding.
    """

    def __init__(self, stream: Any, unit_bytes: int, lanes: int, *, beat_bytes: int):
        self.stream     = stream
        self.lanes      = lanes
        self.parts      = max(1, unit_bytes // beat_bytes)
        self.slots      = max(1, beat_bytes // unit_bytes)
        self.part_bytes = min(beat_bytes, unit_bytes)
        self.used       = -(-lanes // self.part_bytes)


class _Transfer:
    """Registers for the transfer at hand, and where it is: ``part`` counts the beats of a unit,
    ``slot`` the units of a beat. One of the two stays zero."""

    def __init__(self, config: AcceleratorConfig, ports: dict[Memory, _Port]):
        # Set while there is no transfer, which is when what comes is loaded in every cycle; three
        # times, so that none has many sinks.
        self.vacant   = alike("vacant", 3, init=1)
        self.active   = Signal()
        self.transfer = Signal(transfer_layout(config), reset_less=True)
        # Units of this line, and the address of this unit.
        self.left     = Signal.like(self.transfer.units, name="left", reset_less=True)
        self.address  = Signal.like(self.transfer.local_address, name="address", reset_less=True)
        self.part     = Signal(range(max(2, *(port.parts for port in ports.values()))),
                               reset_less=True)
        self.slot     = Signal(range(max(2, *(port.slots for port in ports.values()))),
                               reset_less=True)
        # What comparisons would tell: each is decided a step earlier.
        self.last_left = Signal(reset_less=True)  # left == 1
        self.last_line = Signal(reset_less=True)  # of the transfer
        self.last_part = Signal(reset_less=True)
        self.last_slot = Signal(reset_less=True)


def _single_part(memory: Value, ports: dict[Memory, _Port]) -> Value:
    """Whether a unit of the memory is but one beat, or less."""
    return Cat(memory == number for number, port in ports.items() if port.parts == 1).any()


def _single_slot(memory: Value, ports: dict[Memory, _Port]) -> Value:
    """Whether a beat is but one unit of the memory, or less."""
    return Cat(memory == number for number, port in ports.items() if port.slots == 1).any()


class LoadEngine(wiring.Component):
    """Executes LOAD commands.

    Each cycle moves one unit or one beat, whichever is smaller, into one of the on-chip memories.
    Bytes that pad a unit are dropped. A line starts on a new beat. The lines of a command, and
    the next commands, are asked for while earlier data still streams in; data is written in order
    all the same, and ``done`` comes after the last write of its command was accepted.

    Parameters
    ----------
    config : :class:`~weft.hw.isa.config.AcceleratorConfig`

    Members
    -------
    commands : :py:`In(stream.Signature(indexed_layout(LoadCommand)))`
        Commands with their indices. Up to six are taken ahead of ``done``.
    done : :py:`Out(1)`
        Pulses for each command, in order.
    fault : :py:`Out(Fault)`
        Held until reset. ``ARGUMENT``: no lines, no units, or no such memory. ``ADDRESS``: address
        or stride are not multiples of a beat, or a range ends beyond its memory. ``READ``: error
        response. In the first two cases the command has done nothing.
    busy : :py:`Out(1)`
        A command is executing.
    activity : :py:`Out(activity_layout(Engine.LOAD))`
        What the engine does in this cycle.
    requests : :py:`Out(stream.Signature(request_layout(config.axi_addr_width)))`
        Lines, to a read engine.
    beats : :py:`In(stream.Signature(config.axi_data_width))`
        Their beats.
    beats_error : :py:`In(1)`
        Part of the payload of ``beats``: there was an error response.
    activation, weight, parameter : :py:`Out(stream.Signature(unit_write_layout(unit_bytes)))`
        Writes to the on-chip memories, of ``word_data_bytes``, ``weight_row_data_bytes`` and
        ``parameter_entry_data_bytes``. A unit of several beats is written in as many parts. Only
        ``activation`` may refuse a write: the others, and those below, are ``always_ready``.
    vector_weight, vector_parameter, table, lane_table : \
:py:`Out(stream.Signature(unit_write_layout(unit_bytes)))`
        Writes to the memories of the vector engine and to the tables, of
        ``vector_entry_data_bytes``, ``parameter_entry_data_bytes``, 1 byte and
        ``word_data_bytes``; only those that the configuration has.
    row_constant : :py:`Out(stream.Signature(unit_write_layout(4), always_ready=True))`
        Writes to the table of SOFTMAX, if there is one.

    Attributes
    ----------
    QUEUE_DEPTH : :class:`int`
        Commands that are checked, and wait for the data of those before.
    DONE_LATENCY : :class:`int`
        Cycles from the last unit or beat that is moved to ``done``, if no write is refused.
    """

    QUEUE_DEPTH  = 4
    DONE_LATENCY = 2

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "commands":    In(stream.Signature(indexed_layout(LoadCommand))),
            "done":        Out(1),
            "fault":       Out(Fault),
            "busy":        Out(1),
            "activity":    Out(activity_layout(Engine.LOAD)),
            "requests":    Out(stream.Signature(request_layout(config.axi_addr_width))),
            "beats":       In(stream.Signature(config.axi_data_width)),
            "beats_error": In(1),
            "activation":  Out(stream.Signature(unit_write_layout(config.word_data_bytes))),
            "weight":      Out(stream.Signature(
                unit_write_layout(config.weight_row_data_bytes), always_ready=True)),
            "parameter":   Out(stream.Signature(
                unit_write_layout(config.parameter_entry_data_bytes), always_ready=True)),
            **({
                "vector_weight":    Out(stream.Signature(
                    unit_write_layout(config.vector_entry_data_bytes), always_ready=True)),
                "vector_parameter": Out(stream.Signature(
                    unit_write_layout(config.parameter_entry_data_bytes), always_ready=True)),
            } if config.vector else {}),
            **({
                "table":            Out(stream.Signature(
                    unit_write_layout(1), always_ready=True)),
            } if Memory.TABLE in memories(config) else {}),
            **({
                "lane_table":       Out(stream.Signature(
                    unit_write_layout(config.word_data_bytes), always_ready=True)),
            } if Memory.LANE_TABLE in memories(config) else {}),
            **({
                "row_constant":         Out(stream.Signature(
                    unit_write_layout(4), always_ready=True)),
            } if Memory.ROW_CONSTANT in memories(config) else {}),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.front = front = TransferFront(config=self._config, command=LoadCommand)
        m.submodules.transfers = transfers = Queue(
            shape=transfer_layout(self._config), depth=self.QUEUE_DEPTH)
        connect(m, flipped(self.commands), front.commands)
        connect(m, front.transfers, transfers.i)
        connect(m, front.requests, flipped(self.requests))

        ports = self._ports()
        at    = _Transfer(self._config, ports)
        step, last_unit = Signal(), Signal()
        self._take(m, at, transfers.o, ports)
        self._step(m, at, ports, step=step, last_unit=last_unit)

        # Writes, on their way to the memory.
        m.submodules.writes = writes = RegisterSlice(shape=data.StructLayout({
            "ports":   len(ports),  # bit for the one that it is for; none if all is padding
            "address": at.address.shape(),
            "part":    at.part.shape(),
            "slot":    at.slot.shape(),
            "data":    self._config.axi_data_width,
            "last":    1,  # of its command
        }))
        m.d.comb += [
            last_unit.eq(at.last_part & at.last_left),
            step.eq(at.active & self.beats.valid & writes.i.ready),
            self.beats.ready.eq(step & (at.last_slot | last_unit)),
            writes.i.valid.eq(at.active & self.beats.valid & ~self.beats_error),
            *(writes.i.p.ports[bit].eq((at.transfer.memory == memory) & (at.part < port.used))
              for bit, (memory, port) in enumerate(ports.items())),
            writes.i.p.address.eq(at.address),
            writes.i.p.part.eq(at.part),
            writes.i.p.slot.eq(at.slot),
            writes.i.p.data.eq(self.beats.payload),
            writes.i.p.last.eq(last_unit & at.last_line),
        ]
        self._write(m, writes.o, ports)

        # A transfer that is there but not active has failed. It says so only when all before it is
        # written.
        m.d.comb += self.fault.index.eq(at.transfer.index)
        with m.If(~at.vacant[0] & ~at.active & ~writes.o.valid):
            m.d.sync += self.fault.code.eq(at.transfer.code)
        m.d.sync += self.done.eq(writes.o.valid & writes.o.ready & writes.o.p.last)

        m.d.comb += [
            self.busy.eq(front.busy | transfers.o.valid | ~at.vacant[0] | writes.o.valid),
            self.activity.busy.eq(step),
            self.activity.activation.eq(writes.o.valid & ~writes.o.ready),
            self.activity.memory.eq(at.active),
            self.activity.setup.eq(self.busy),
        ]

        return m

    def _ports(self) -> dict[Memory, _Port]:
        config = self._config
        entry  = (config.parameter_entry_bytes, config.parameter_entry_data_bytes)
        units  = {
            Memory.ACTIVATION:       (config.word_bytes, config.word_data_bytes),
            Memory.WEIGHT:           (config.weight_row_bytes, config.weight_row_data_bytes),
            Memory.PARAMETER:        entry,
            Memory.VECTOR_WEIGHT:    (config.vector_entry_bytes, config.vector_entry_data_bytes),
            Memory.VECTOR_PARAMETER: entry,
            Memory.TABLE:            (1, 1),
            Memory.LANE_TABLE:       (config.word_bytes, config.word_data_bytes),
            Memory.ROW_CONSTANT:      (4, 4),
        }
        return {memory: _Port(getattr(self, memory.name.lower()), *units[memory],
                              beat_bytes=config.axi_bytes)
                for memory in memories(config)}

    def _take(self, m: Module, at: _Transfer, transfers: Any, ports: dict[Memory, _Port]) -> None:
        """Loads a transfer, while there is none at hand."""
        coming = transfers.p
        m.d.comb += transfers.ready.eq(at.vacant[0])
        with m.If(at.vacant[0]):
            m.d.sync += assign(at.vacant, ~transfers.valid)
            m.d.sync += at.active.eq(transfers.valid & coming.legal)
        with m.If(at.vacant[1]):
            m.d.sync += [
                *(at.transfer[name].eq(coming[name])
                  for name in ("code", "lines", "local_address")),
                at.address.eq(coming.local_address),
                at.left.eq(coming.units),
                at.last_left.eq(coming.one_unit),
                at.last_line.eq(coming.one_line),
                at.part.eq(0),
                at.slot.eq(0),
                at.last_part.eq(_single_part(coming.memory, ports)),
                at.last_slot.eq(_single_slot(coming.memory, ports)),
            ]
        with m.If(at.vacant[2]):
            m.d.sync += [at.transfer[name].eq(coming[name]) for name in (
                "index", "memory", "units", "local_stride", "one_line", "one_unit")]

    def _step(self, m: Module, at: _Transfer, ports: dict[Memory, _Port], *, step: Signal,
              last_unit: Signal) -> None:
        """Goes on behind a write: to the next part, slot, unit, line or transfer."""
        transfer = at.transfer
        next_part, next_slot = Signal(), Signal()  # the next one is the last
        with m.Switch(transfer.memory):
            for memory, port in ports.items():
                with m.Case(memory):
                    m.d.comb += [
                        next_part.eq(at.part == port.parts - 2 if port.parts > 1 else 1),
                        next_slot.eq(at.slot == port.slots - 2 if port.slots > 1 else 1),
                    ]
        next_line = transfer.local_address + transfer.local_stride
        with m.If(step):
            m.d.sync += [at.part.eq(at.part + 1), at.last_part.eq(next_part)]
            with m.If(at.last_part):
                m.d.sync += [
                    at.part.eq(0),
                    at.last_part.eq(_single_part(transfer.memory, ports)),
                    at.slot.eq(at.slot + 1),
                    at.last_slot.eq(next_slot),
                    at.left.eq(at.left - 1),
                    at.last_left.eq(at.left == 2),
                    at.address.eq(at.address + 1),
                ]
                with m.If(at.last_slot | at.last_left):
                    m.d.sync += [at.slot.eq(0),
                                 at.last_slot.eq(_single_slot(transfer.memory, ports))]
            with m.If(last_unit):
                m.d.sync += [
                    transfer.lines.eq(transfer.lines - 1),
                    at.last_line.eq(transfer.lines == 2),
                    transfer.local_address.eq(next_line),
                    at.address.eq(next_line),
                    at.left.eq(transfer.units),
                    at.last_left.eq(transfer.one_unit),
                    at.active.eq(~at.last_line),
                    *assign(at.vacant, at.last_line),
                ]
            with m.If(self.beats_error):
                m.d.sync += [
                    at.active.eq(0),
                    *assign(at.vacant, 0),
                    transfer.code.eq(Error.READ),
                ]

    def _write(self, m: Module, writes: Any, ports: dict[Memory, _Port]) -> None:
        # Only the activation memory refuses. What is for the others is registered first, as they
        # lie far from here.
        refused = Signal()
        taken   = register(m, writes.payload, "taken")
        # A bit for each part of a unit.
        parts   = max(port.parts for port in ports.values())
        place   = Cat(writes.p.part == number for number in range(parts))
        taken_place = register(m, place, "taken_place")
        m.d.comb += writes.ready.eq(~refused)

        # A beat is as wide as several lanes of a unit, or the other way round: repeat it over the
        # lanes and let the mask choose. Parts that are all padding are no writes.
        for bit, (memory, port) in enumerate(ports.items()):
            wanted = writes.valid & writes.p.ports[bit]
            if memory == Memory.ACTIVATION:
                write, valid, chosen = writes.p, wanted, place
                m.d.comb += refused.eq(wanted & ~port.stream.ready)
            else:
                write, valid, chosen = taken, Signal(name=f"taken_{bit}"), taken_place
                m.d.sync += valid.eq(wanted)
            piece_bytes = port.part_bytes
            piece = write.data.word_select(write.slot[:ceil_log2(port.slots)], 8 * piece_bytes)
            lanes = range(port.lanes)
            source = [piece[8 * (lane % piece_bytes):][:8] for lane in lanes]
            m.d.comb += [
                port.stream.p.address.eq(write.address),
                Cat(port.stream.p.data).eq(Cat(source)),
                port.stream.p.mask.eq(Cat(chosen[lane // piece_bytes] for lane in lanes)),
                port.stream.valid.eq(valid),
            ]
