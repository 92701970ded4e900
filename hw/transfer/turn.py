"""The turn engine: words of the activation memory become weights and their parameters."""

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from weft.hw.isa.commands import TurnCommand
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.fault import Fault, indexed_layout
from weft.hw.isa.registers import Error
from weft.hw.lib.delay import delay, register
from weft.hw.memory.activation import ActivationMemory
from weft.hw.memory.scratch import unit_write_layout
from weft.hw.rows.accept import accept

from .corner_turn import CornerTurn
from .product_bias import ProductBias

__all__ = ["TurnEngine"]


class _Step(data.Struct):
    """A word, and what leaves the corner turn with it: a vector of the weights of one ``k``."""
    read:   unsigned(1)   # there is such a word, in the memory
    beyond: unsigned(1)   # there is such a word, but no such address
    inside: unsigned(1)   # of the tensor
    tail:   unsigned(1)   # of its last channel block
    ends:   unsigned(1)   # last word of its block
    second: unsigned(1)   # completes a weight row
    emits:  unsigned(1)   # there is a vector; the others below are of its weight row
    first:  unsigned(1)   # the first one of a column tile
    last:   unsigned(1)   # the last one of a column tile
    final:  unsigned(1)   # and this of the command


@dataclass(frozen=True, eq=False)
class _Command:
    """What a command says, from when it is taken until it is done."""
    index:      Signal
    zero:       Signal
    input_zero: Signal
    plane:      Signal
    pixels:     Signal
    blocks:     Signal
    lanes:      Signal
    turned:     Signal
    bias:       Signal
    scale:      Signal


class TurnEngine(wiring.Component):
    """Executes TURN commands, one after the other.

    A word in each cycle in which the activation memory grants one, the words of a block from the
    last one to the first: weights of a tile are written from its last row to the first. If they
    are ``turned`` they go through a :class:`CornerTurn`; two vectors make a weight row with the
    fast inner product, one without.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
        With ``products``.

    Members
    -------
    commands : :py:`In(stream.Signature(indexed_layout(TurnCommand)))`
    done : :py:`Out(1)`
        All of a command is written.
    fault : :py:`Out(Fault)`
        Held until reset. ``ARGUMENT``: no pixels or blocks, or an impossible number of lanes.
        ``ADDRESS``: a word, weight row or entry outside its memory.
    busy : :py:`Out(1)`
        A command is executing.
    moves : :py:`Out(1)`
        A step is taken in this cycle.
    refused : :py:`Out(1)`
        The activation memory refuses a word.
    request : :py:`Out(stream.Signature(24))`
        Words to read.
    word : :py:`In(data.ArrayLayout(8, rows))`
        The word, ``ActivationMemory.LATENCY`` cycles after its request was accepted.
    weight, parameter : :py:`Out(stream.Signature(unit_write_layout(...), always_ready=True))`
        Writes.

    Attributes
    ----------
    START : :class:`int`
        Cycles from a command that is accepted to its first step, if nobody is in the way.
    DRAIN : :class:`int`
        Cycles from its last step to its last weight row; its entries and ``done`` follow.
    """

    START = 3
    DRAIN = ActivationMemory.LATENCY + 2

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "commands":  In(stream.Signature(indexed_layout(TurnCommand))),
            "done":      Out(1),
            "fault":     Out(Fault),
            "busy":      Out(1),
            "moves":     Out(1),
            "refused":   Out(1),
            "request":   Out(stream.Signature(24)),
            "word":      In(data.ArrayLayout(8, config.word_data_bytes)),
            "weight":    Out(stream.Signature(
                unit_write_layout(config.weight_row_data_bytes), always_ready=True)),
            "parameter": Out(stream.Signature(
                unit_write_layout(config.parameter_entry_data_bytes), always_ready=True)),
        })

    @classmethod
    def latency(cls, config: AcceleratorConfig) -> int:
        """Cycles from a command that is accepted to ``done``, beside one for each step, if it is
        never refused a word."""
        return cls.START - 1 + cls.DRAIN + ProductBias.LATENCY + config.requant_groups

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        command, start, entry, first_row = self._take(m)
        step: Any = Signal(_Step)
        offered, taken = self._offer(m, command, step, start)
        m.d.comb += [
            self.moves.eq(taken),
            self.refused.eq(self.request.valid & ~self.request.ready),
        ]
        late: Any = Signal(_Step)
        m.d.comb += late.eq(delay(m, Mux(taken, Value.cast(offered), 0), ActivationMemory.LATENCY,
                                  name="late"))
        here = delay(m, taken, ActivationMemory.LATENCY, name="here")
        rows = self._turn(m, command, late, here)
        outside = self._write(m, rows, start, first_row)

        m.submodules.bias = bias = ProductBias(self._config)
        m.d.comb += [
            bias.rows.eq(rows),
            bias.begin.eq(start),
            bias.entry.eq(entry),
            bias.input_zero.eq(command.input_zero),
            bias.bias.eq(command.bias),
            bias.scale.eq(command.scale),
            self.done.eq(bias.done & (self.fault.code == Error.NONE)),
        ]
        connect(m, bias.write, flipped(self.parameter))
        with m.If((taken & offered.beyond) | outside | bias.beyond):
            m.d.sync += [self.fault.code.eq(Error.ADDRESS), self.fault.index.eq(command.index)]
        with m.If(self.done):
            m.d.sync += self.busy.eq(0)
        return m

    def _take(self, m: Module) -> tuple[_Command, Signal, Signal, Signal]:
        """Takes a command while there is none, and checks it. Returns it, a pulse for its start,
        and the parameter entry and the weight row to begin with."""
        coming  = self.commands.p.command
        command = _Command(
            index=Signal(16, reset_less=True), zero=Signal(8, reset_less=True),
            input_zero=Signal(signed(8), reset_less=True), plane=Signal(24, reset_less=True),
            pixels=Signal(16, reset_less=True), blocks=Signal(16, reset_less=True),
            lanes=Signal(8, reset_less=True), turned=Signal(reset_less=True),
            bias=Signal(32, reset_less=True), scale=Signal(32, reset_less=True))
        entry, first_row = Signal(24, reset_less=True), Signal(24, reset_less=True)
        with m.If(~self.busy):
            m.d.sync += [
                target.eq(coming[name]) for name, target in (
                    ("zero", command.zero), ("input_zero", command.input_zero),
                    ("in_plane", command.plane), ("pixels", command.pixels),
                    ("blocks", command.blocks), ("lanes", command.lanes),
                    ("turned", command.turned), ("bias", command.bias),
                    ("scale", command.scale), ("parameter_base", entry),
                    ("weight_base", first_row))
            ]
        return command, accept(m, self, command, self._config), entry, first_row

    def _offer(self, m: Module, command: _Command, step: Any, start: Signal) -> tuple[Any, Signal]:
        """Walks the words, and offers each to the memory. Returns the step on offer, and whether
        it is taken in this cycle."""
        offered: Any = Signal(_Step, reset_less=True)
        valid, taken = Signal(), Signal()
        more, goes = Signal(), Signal()
        address = self._walk(m, command, step, start, goes)
        wanted = register(m, Mux(goes, address, self.request.payload), "wanted")
        m.d.comb += [
            self.request.payload.eq(wanted),
            self.request.valid.eq(valid & offered.read),
            taken.eq(valid & (~offered.read | self.request.ready)),
            goes.eq(more & (~valid | taken)),
        ]
        m.d.sync += valid.eq(goes | (valid & ~taken))
        with m.If(goes):
            m.d.sync += offered.eq(step)
        with m.If(goes & step.final & step.ends):
            m.d.sync += more.eq(0)
        with m.If(start):
            m.d.sync += more.eq(1)
        return offered, taken

    def _walk(self, m: Module, command: _Command, step: Any, start: Signal,
              goes: Signal) -> Signal:
        """Fills ``step``, and goes on to the next one with ``goes``. Returns the word's address."""
        config = self._config
        size   = config.word_lanes
        first_word = Signal(24)     # of the command: the last one of its first block
        left    = Signal(17, reset_less=True)    # pixels, from the first one of this block on
        blocks  = Signal(16, reset_less=True)    # channel blocks, with this one
        place   = Signal(range(size), reset_less=True)   # pixels of this block in front of this one
        address = Signal(24, reset_less=True)
        block   = Signal(24, reset_less=True)    # address of the last word of this block
        outer   = Signal(24, reset_less=True)    # of the first block of this column tile
        first   = Signal(reset_less=True)        # this is the first block of a column tile
        flushes = Signal(reset_less=True)        # no words any more
        # Of the block before, whose vectors leave the corner turn with the words of this one.
        before  = Signal(data.StructLayout({"is": 1, "first": 1, "last": 1, "final": 1}),
                         reset_less=True)

        turned = command.turned
        last_pixels, last_blocks = left <= size, blocks == 1
        last  = Mux(turned, last_blocks, last_pixels)   # the last block of its column tile
        final = last_pixels & last_blocks
        legal = address < config.activation_depth
        inside = (place < left) & ~flushes
        ends   = place == 0
        m.d.comb += [
            step.read.eq(inside & legal),
            step.beyond.eq(inside & ~legal),
            step.inside.eq(inside),
            step.tail.eq(last_blocks),
            step.ends.eq(ends),
            step.second.eq((place % config.pe_weights) == 0),
            step.emits.eq(~turned | before["is"]),
            step.first.eq(Mux(turned, before.first, first) & (size - config.pe_weights <= place)),
            step.last.eq(Mux(turned, before.last, last) & (place < config.pe_weights)),
            step.final.eq(Mux(turned, before.final, final)),
        ]

        along  = Mux(turned, command.plane, size)       # to the next block of this column tile
        across = Mux(turned, size, command.plane)       # to the next column tile
        next_block = Mux(last, outer + across, block + along)[:24]
        with m.If(goes):
            m.d.sync += [place.eq(place - 1), address.eq(address - 1)]
            with m.If(ends):
                m.d.sync += [
                    place.eq(size - 1),
                    address.eq(next_block),
                    block.eq(next_block),
                    first.eq(last),
                    before["is"].eq(1),
                    before.first.eq(first),
                    before.last.eq(last),
                    before.final.eq(final),
                    flushes.eq(final),
                ]
                with m.If(last):
                    m.d.sync += outer.eq(next_block)
                with m.If(~turned | last):
                    m.d.sync += left.eq(Mux(~turned & last, command.pixels, left - size))
                with m.If(turned | last):
                    m.d.sync += blocks.eq(Mux(turned & last, command.blocks, blocks - 1))
        m.d.comb += first_word.eq(self.commands.p.command.in_base + size - 1)
        with m.If(~self.busy):
            m.d.sync += [address.eq(first_word), block.eq(first_word), outer.eq(first_word)]
        with m.If(start):
            m.d.sync += [
                place.eq(size - 1), left.eq(command.pixels), blocks.eq(command.blocks),
                first.eq(1), flushes.eq(0), before["is"].eq(0), before.final.eq(0),
            ]
        return address

    def _turn(self, m: Module, command: _Command, step: Any, here: Value) -> Any:
        """Weight rows of the words that come from the memory."""
        config = self._config
        size, each = config.word_lanes, config.pe_weights
        filled = Signal(data.ArrayLayout(8, size), reset_less=True)
        for lane in range(size):
            missing = ~step.inside | (step.tail & (command.lanes <= lane))
            m.d.sync += filled[lane].eq(Mux(missing, command.zero, self.word[lane]))
        step = register(m, step, "filled_step")
        here = delay(m, here, 1, name="filled")

        m.submodules.corner = corner = CornerTurn(size)
        m.d.comb += [
            corner.i.eq(filled),
            corner.step.eq(here & command.turned),
            corner.last.eq(step.ends),
        ]
        vector: Any = Signal(data.ArrayLayout(8, size))
        m.d.comb += vector.eq(Mux(command.turned, Value.cast(corner.o), Value.cast(filled)))
        # Vectors come in falling order: the one before is that of the second weight of a PE.
        before: Any = Signal(data.ArrayLayout(8, size), reset_less=True)
        with m.If(here):
            m.d.sync += before.eq(vector)
        vectors = [vector, before][:each]
        rows: Any = Signal(data.StructLayout({
            "data": data.ArrayLayout(config.weight_type.shape, config.weight_row_lanes),
            "valid": 1, "first": 1, "last": 1, "final": 1}), reset_less=True)
        m.d.sync += [
            Value.cast(rows.data).eq(Cat(vectors[number][column] for column in range(size)
                                         for number in range(each))),
            rows.first.eq(step.first),
            rows.last.eq(step.last),
            rows.final.eq(step.final),
        ]
        valid = Signal()
        m.d.sync += valid.eq(here & step.emits & step.second)
        found: Any = Signal(rows.shape())
        m.d.comb += [found.eq(rows), found.valid.eq(valid)]
        return found

    def _write(self, m: Module, rows: Any, start: Signal, first_row: Signal) -> Signal:
        """Writes weight rows, one behind the other. Returns whether one lies outside the memory."""
        row, outside = Signal(25, reset_less=True), Signal()    # it does not wrap
        with m.If(rows.valid):
            m.d.sync += row.eq(row + 1)
        with m.If(start):
            m.d.sync += row.eq(first_row)
        inside = row < self._config.weight_depth
        m.d.comb += [
            outside.eq(rows.valid & ~inside),
            self.weight.valid.eq(rows.valid & inside),
            self.weight.p.address.eq(row),
            Value.cast(self.weight.p.data).eq(Value.cast(rows.data)),
            self.weight.p.mask.eq(~0),
        ]
        return outside
