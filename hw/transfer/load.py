"""The load engine: external memory to the on-chip memories."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from weft.hw.bus.burst import request_layout
from weft.hw.isa.commands import Engine, LoadCommand, Memory
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import Fault
from weft.hw.isa.memories import memories
from weft.hw.isa.registers import Error
from weft.hw.lib.cycle_accounting import activity_layout
from weft.hw.lib.delay import register
from weft.hw.lib.fanout import alike, assign
from weft.hw.lib.queue import Queue
from weft.hw.lib.register_slice import RegisterSlice
from weft.hw.memory.scratch import unit_write_layout

from .front import TransferFront, indexed_layout, transfer_layout

__all__ = ["LoadEngine"]


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
    activation, weight, parameter : :py:`Out(stream.Signature(unit_write_layout(lanes)))`
        Writes to the on-chip memories, of ``word_lanes``, ``weight_row_lanes`` and
        ``parameter_entry_lanes`` lanes. A unit of several beats is written in as many parts. Only
        ``activation`` may refuse a write: the others, and those below, are ``always_ready``.
    vector_weight, vector_parameter, table : :py:`Out(stream.Signature(unit_write_layout(lanes)))`
        Writes to the memories of the vector engine, of ``vector_entry_lanes``,
        ``parameter_entry_lanes`` lanes and 1 lane; only if the configuration has one.

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
            "activation":  Out(stream.Signature(unit_write_layout(config.word_lanes))),
            "weight":      Out(stream.Signature(
                unit_write_layout(config.weight_row_lanes), always_ready=True)),
            "parameter":   Out(stream.Signature(
                unit_write_layout(config.parameter_entry_lanes), always_ready=True)),
            **({
                "vector_weight":    Out(stream.Signature(
                    unit_write_layout(config.vector_entry_lanes), always_ready=True)),
                "vector_parameter": Out(stream.Signature(
                    unit_write_layout(config.parameter_entry_lanes), always_ready=True)),
                "table":            Out(stream.Signature(
                    unit_write_layout(1), always_ready=True)),
            } if config.vector else {}),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.front = front = TransferFront(config=self._config, command=LoadCommand)
        m.submodules.transfers = transfers = Queue(
            shape=transfer_layout(self._config), depth=self.QUEUE_DEPTH)
        connect(m, flipped(self.commands), front.commands)
        connect(m, front.transfers, transfers.i)
        connect(m, front.requests, flipped(self.requests))

        config     = self._config
        beat_bytes = config.axi_bytes
        ports      = {memory: (getattr(self, memory.name.lower()), its.unit_bytes, its.unit_lanes)
                      for memory, its in memories(config).items()}
        largest    = max(unit_bytes for _, unit_bytes, _ in ports.values())
        smallest   = min(unit_bytes for _, unit_bytes, _ in ports.values())

        # The transfer at hand, and where it is: `part` counts the beats of a unit, `slot` the
        # units of a beat. One of the two stays zero. While there is none, which `vacant` says, what
        # comes is loaded in every cycle; it is there three times, so that none has many sinks.
        vacant   = alike("vacant", 3, init=1)
        active   = Signal()
        transfer = Signal(transfer_layout(config), reset_less=True)
        left     = Signal.like(transfer.units, reset_less=True)          # units of this line
        address  = Signal.like(transfer.local_address, reset_less=True)  # of this unit
        part     = Signal(range(max(2, largest // beat_bytes)), reset_less=True)
        slot     = Signal(range(max(2, beat_bytes // smallest)), reset_less=True)
        # What comparisons would tell: each is decided a step earlier.
        last_left = Signal(reset_less=True)  # left == 1
        last_line = Signal(reset_less=True)  # of the transfer
        last_part = Signal(reset_less=True)
        last_slot = Signal(reset_less=True)

        # Writes, on their way to the memory.
        m.submodules.writes = writes = RegisterSlice(shape=data.StructLayout({
            "ports":   len(ports),  # bit for the one that it is for; none if all is padding
            "address": address.shape(),
            "part":    part.shape(),
            "slot":    slot.shape(),
            "data":    8 * beat_bytes,
            "last":    1,  # of its command
        }))

        parts = {number: max(1, unit_bytes // beat_bytes)
                 for number, (_, unit_bytes, _) in ports.items()}
        slots = {number: max(1, beat_bytes // unit_bytes)
                 for number, (_, unit_bytes, _) in ports.items()}
        next_part, next_slot = Signal(), Signal()  # the next one is the last
        with m.Switch(transfer.memory):
            for number in ports:
                with m.Case(number):
                    m.d.comb += [
                        next_part.eq(part == parts[number] - 2 if parts[number] > 1 else 1),
                        next_slot.eq(slot == slots[number] - 2 if slots[number] > 1 else 1),
                    ]

        def only(memory: Any, counts: dict[Memory, int]) -> Value:
            """Whether there is but one of what ``counts`` tells for a memory."""
            return Cat(memory == number for number, count in counts.items() if count == 1).any()

        step      = Signal()
        last_unit = Signal()
        m.d.comb += [
            last_unit.eq(last_part & last_left),
            step.eq(active & self.beats.valid & writes.i.ready),
            self.beats.ready.eq(step & (last_slot | last_unit)),
            writes.i.valid.eq(active & self.beats.valid & ~self.beats_error),
            writes.i.p.address.eq(address),
            writes.i.p.part.eq(part),
            writes.i.p.slot.eq(slot),
            writes.i.p.data.eq(self.beats.payload),
            writes.i.p.last.eq(last_unit & last_line),
        ]

        coming = transfers.o.p
        m.d.comb += transfers.o.ready.eq(vacant[0])
        with m.If(vacant[0]):
            m.d.sync += assign(vacant, ~transfers.o.valid)
            m.d.sync += active.eq(transfers.o.valid & coming.legal)
        with m.If(vacant[1]):
            m.d.sync += [
                *(transfer[name].eq(coming[name]) for name in ("code", "lines", "local_address")),
                address.eq(coming.local_address),
                left.eq(coming.units),
                last_left.eq(coming.one_unit),
                last_line.eq(coming.one_line),
                part.eq(0),
                slot.eq(0),
                last_part.eq(only(coming.memory, parts)),
                last_slot.eq(only(coming.memory, slots)),
            ]
        with m.If(vacant[2]):
            m.d.sync += [transfer[name].eq(coming[name]) for name in (
                "index", "memory", "units", "local_stride", "one_line", "one_unit")]
        next_line = transfer.local_address + transfer.local_stride
        with m.If(step):
            m.d.sync += [part.eq(part + 1), last_part.eq(next_part)]
            with m.If(last_part):
                m.d.sync += [
                    part.eq(0),
                    last_part.eq(only(transfer.memory, parts)),
                    slot.eq(slot + 1),
                    last_slot.eq(next_slot),
                    left.eq(left - 1),
                    last_left.eq(left == 2),
                    address.eq(address + 1),
                ]
                with m.If(last_slot | last_left):
                    m.d.sync += [slot.eq(0), last_slot.eq(only(transfer.memory, slots))]
            with m.If(last_unit):
                m.d.sync += [
                    transfer.lines.eq(transfer.lines - 1),
                    last_line.eq(transfer.lines == 2),
                    transfer.local_address.eq(next_line),
                    address.eq(next_line),
                    left.eq(transfer.units),
                    last_left.eq(transfer.one_unit),
                    active.eq(~last_line),
                    *assign(vacant, last_line),
                ]
            with m.If(self.beats_error):
                m.d.sync += [
                    active.eq(0),
                    *assign(vacant, 0),
                    transfer.code.eq(Error.READ),
                ]

        # A transfer that is there but not active has failed. It says so only when all before it is
        # written.
        m.d.comb += self.fault.index.eq(transfer.index)
        with m.If(~vacant[0] & ~active & ~writes.o.valid):
            m.d.sync += self.fault.code.eq(transfer.code)

        # Only the activation memory refuses. What is for the others is registered first, as they
        # lie far from here.
        refused = Signal()
        taken   = register(m, writes.o.payload, "taken")
        # A bit for each part of a unit.
        place   = Cat(writes.o.p.part == number for number in range(max(parts.values())))
        taken_place = register(m, place, "taken_place")
        m.d.comb += writes.o.ready.eq(~refused)

        # A beat is as wide as several lanes of a unit, or the other way round: repeat it over the
        # lanes and let the mask choose. Parts that are all padding are no writes.
        for bit, (number, (port, unit_bytes, lanes)) in enumerate(ports.items()):
            wanted = writes.o.valid & writes.o.p.ports[bit]
            if number == Memory.ACTIVATION:
                write, valid, chosen = writes.o.p, wanted, place
                m.d.comb += refused.eq(wanted & ~port.ready)
            else:
                write, valid, chosen = taken, Signal(name=f"taken_{bit}"), taken_place
                m.d.sync += valid.eq(wanted)
            piece_bytes = min(beat_bytes, unit_bytes)
            piece = write.data.word_select(write.slot[:ceil_log2(slots[number])], 8 * piece_bytes)
            source = [piece[8 * (lane % piece_bytes):][:8] for lane in range(lanes)]
            used = -(-lanes // piece_bytes)  # parts that are not all padding
            m.d.comb += [
                writes.i.p.ports[bit].eq((transfer.memory == number) & (part < used)),
                port.p.address.eq(write.address),
                Cat(port.p.data).eq(Cat(source)),
                port.p.mask.eq(Cat(chosen[lane // piece_bytes] for lane in range(lanes))),
                port.valid.eq(valid),
            ]

        m.d.sync += self.done.eq(writes.o.valid & writes.o.ready & writes.o.p.last)

        m.d.comb += [
            self.busy.eq(front.busy | transfers.o.valid | ~vacant[0] | writes.o.valid),
            self.activity.busy.eq(step),
            self.activity.activation.eq(writes.o.valid & ~writes.o.ready),
            self.activity.memory.eq(active),
            self.activity.setup.eq(self.busy),
        ]

        return m
