"""Rows of words: each word of a command once in each pass, none outside of it, none lost while
somebody is in the way."""

import pytest
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Assume, Const, Module, Mux, Signal
from formal import free, inside, keeps, spoil

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.lib.checks import checking
from weft.hw.rows.reader import GROUPS, RowReader
from weft.hw.rows.walk import ROWS, BatchWalk
from weft.hw.rows.writer import RowWriter

CONFIG = AcceleratorConfig(
    rows=2, cols=2, fip=False, requant_lanes=2, activation_bytes=1024, activation_banks=1,
    weight_bytes=4096, accumulator_pixels=16, parameter_channels=4, axi_data_width=32,
    products=True, softmax=True)

MOST_PIXELS = 11
MOST_BLOCKS = 3

PLANE = 3
BASES = (5, CONFIG.activation_depth - 5)    # the end of a command is beyond the memory

DEPTH = 18


class Command:
    """Places of a command, which stay until its end, and how far a walk over it has come: an own
    account of it, in numbers of pixels and blocks."""

    def __init__(self, m, dut, *, steps, again, ends, base=None):
        """``steps``: a word is gone over; ``again``: its batch is to be gone over again; ``ends``:
        nothing of the command is left. With ``base`` the command is there, and its blocks are
        ``PLANE`` apart: that addresses are right anywhere is proved of the walk."""
        self.active = Signal()
        self.pixels, self.blocks = AnyConst(16), AnyConst(16)
        self.base, self.plane = (AnyConst(24), AnyConst(24)) if base is None else (
            Const(base, 24), Const(PLANE, 24))
        self.first, self.row, self.block = Signal(5), Signal(range(ROWS)), Signal(2)
        m.d.comb += [
            Assume((self.pixels != 0) & (self.pixels <= MOST_PIXELS)),
            Assume((self.blocks != 0) & (self.blocks <= MOST_BLOCKS)),
            dut.pixels.eq(self.pixels), dut.blocks.eq(self.blocks),
            dut.base.eq(self.base), dut.plane.eq(self.plane),
            Assume(~(dut.start & self.active)),
        ]
        self.left = Signal(5)
        m.d.comb += self.left.eq(self.pixels[:5] - self.first)
        self.last_row   = (self.row == ROWS - 1) | (self.row + 1 == self.left)
        self.last_block = self.block + 1 == self.blocks
        self.last_batch = self.left <= ROWS
        with m.If(steps):
            m.d.sync += self.row.eq(self.row + 1)
            with m.If(self.last_row):
                m.d.sync += [self.row.eq(0), self.block.eq(self.block + 1)]
                with m.If(self.last_block):
                    m.d.sync += self.block.eq(0)
                    with m.If(~again):
                        m.d.sync += self.first.eq(self.first + ROWS)
        with m.If(ends):
            m.d.sync += self.active.eq(0)
        with m.If(dut.start):
            m.d.sync += [self.active.eq(1), self.first.eq(0), self.row.eq(0), self.block.eq(0)]
        m.d.comb += Assert(~self.active | (self.first < self.pixels))
        m.d.comb += Assert(~self.active | (self.row < self.left))
        m.d.comb += Assert(~self.active | (self.block < self.blocks))

    def group(self):
        """Where the words of this block of this batch begin."""
        offset = Mux(self.block == 2, self.plane << 1, Mux(self.block == 1, self.plane, 0))
        return (self.base + self.first + offset)[:24]

    def address(self):
        """Of the word that is next."""
        return (self.group() + self.row)[:24]


def walk_spec(change=None):
    """Words are gone over at any time, batches as often as anybody likes."""
    m = Module()
    dut = BatchWalk(ROWS)
    if change is not None:
        spoil(dut, lambda inner: change(inner, dut))
    inner = inside(m, dut)
    steps = AnySeq(1)
    free(m, dut, but=[dut.step, dut.again, dut.pixels, dut.blocks, dut.base, dut.plane])
    again = AnySeq(1)
    m.d.comb += dut.again.eq(again)
    command = Command(m, dut, steps=dut.step, again=again,
                      ends=dut.step & dut.ends & dut.tail & dut.final & ~again)
    m.d.comb += [
        dut.step.eq(steps & command.active),
        Assert(~command.active | (dut.address == command.address())),
        Assert(~command.active | (dut.row == command.row)),
        Assert(~command.active | (dut.ends == command.last_row)),
        Assert(~command.active | (dut.tail == command.last_block)),
        Assert(~command.active | (dut.final == command.last_batch)),
        # What its registers have to do with each other: the proof needs it.
        Assert(~command.active | (inner.left == command.left)),
        Assert(~command.active | (inner.blocks == command.blocks - command.block)),
        Assert(~command.active | (inner.block == command.group())),
        Assert(~command.active | (inner.batch == (command.base + command.first)[:24])),
    ]
    return m


def test_walk_takes_each_word_of_a_command(prove):
    prove(walk_spec())


def test_walk_that_never_reaches_the_last_batch_is_found(refute):
    refute(walk_spec(lambda m, dut: m.d.comb.__iadd__(dut.final.eq(0))), depth=10)


def reader_spec(base=BASES[0], *, change=None, passes=2):
    """Groups are used at any time after all of their words were asked for, and words are refused at
    will."""
    m = Module()
    dut = RowReader(CONFIG, passes=passes, ahead=False)
    if change is not None:
        spoil(dut, lambda inner: change(inner, dut))
    with checking():
        inside(m, dut)
    free(m, dut, but=[dut.pixels, dut.blocks, dut.base, dut.plane, dut.start, dut.group_ends,
                      dut.batch_ends])
    taken = dut.request.valid & dut.request.ready
    number = Signal(range(passes))      # of the pass of the words that are asked for
    group_over, batch_over, over = Signal(), Signal(), Signal()
    running, used, whole = Signal(), Signal(range(GROUPS + 1)), Signal()
    m.d.comb += dut.start.eq(AnySeq(1) & ~running)
    command = Command(m, dut, steps=taken, again=number != passes - 1, ends=over,
                      base=base)
    last = Signal()     # the batch that is whole was the last one
    m.d.comb += [
        group_over.eq(taken & command.last_row),
        batch_over.eq(group_over & command.last_block & (number == passes - 1)),
        over.eq(batch_over & command.last_batch),
    ]
    # Groups of which all words were asked for, and that are not used yet; and whether there will
    # be no more of them in this batch.
    m.d.sync += used.eq(used + group_over - dut.group_ends)
    with m.If(group_over & command.last_block):
        m.d.sync += number.eq(Mux(number == passes - 1, 0, number + 1))
    with m.If(batch_over):
        m.d.sync += [whole.eq(1), last.eq(command.last_batch)]
    with m.If(dut.batch_ends):
        m.d.sync += whole.eq(0)
        with m.If(last):
            m.d.sync += running.eq(0)
    with m.If(dut.start):
        m.d.sync += running.eq(1)
    m.d.comb += [
        dut.group_ends.eq(AnySeq(1) & (used != 0)),
        dut.batch_ends.eq(dut.group_ends & (used == 1) & whole),
        Assert(used <= GROUPS),
        Assert(~dut.request.valid | (running & ~whole)),
        Assert(~dut.request.valid | (dut.request.payload == command.address())),
        Assert(~dut.request.valid | (dut.request.payload < CONFIG.activation_depth)),
        Assert(keeps(m, dut.request.valid, dut.request.ready, dut.request.payload)),
    ]
    return m


@pytest.mark.parametrize("base", BASES)
def test_reader_asks_for_each_word_in_each_pass(prove, base):
    prove(reader_spec(base), depth=12)


def test_reader_that_leaves_out_a_pass_is_found(refute):
    refute(reader_spec(change=lambda m, dut: m.d.comb.__iadd__(m.submodules.walk.again.eq(0))),
           depth=DEPTH)


def writer_spec(base=BASES[0], *, change=None, groups=4):
    """Values of groups that were begun come in order, with pauses; words are refused at will. A
    lane picked at will is followed from its value to its word."""
    m = Module()
    dut = RowWriter(CONFIG, groups=groups)
    if change is not None:
        spoil(dut, lambda inner: change(inner, dut))
    with checking():
        inside(m, dut)
    free(m, dut, but=[dut.pixels, dut.blocks, dut.base, dut.plane, dut.start, dut.begins,
                      dut.row, dut.lane, dut.valid, dut.whole])
    taken = dut.write.valid & dut.write.ready
    over, running = Signal(), Signal()
    m.d.comb += dut.start.eq(AnySeq(1) & ~running)
    command = Command(m, dut, steps=taken, again=Const(0), ends=over, base=base)
    m.d.comb += over.eq(taken & command.last_row & command.last_block & command.last_batch)

    # Groups that are begun, whose values have come, and that are written.
    begun, whole, written = (Signal(4, name=name) for name in ("begun", "whole", "written"))
    row, lane = Signal(range(ROWS)), Signal(range(CONFIG.word_lanes))
    batches = (command.pixels[:4] + ROWS - 1) >> 2
    values = AnySeq(1) & (whole != begun)
    m.d.comb += [
        dut.begins.eq(AnySeq(1) & running & ~dut.full
                      & (begun != (batches * command.blocks[:2])[:4])),
        dut.valid.eq(values), dut.row.eq(row), dut.lane.eq(lane),
        dut.whole.eq(values & (row == ROWS - 1) & (lane == CONFIG.word_lanes - 1)),
    ]
    with m.If(values):
        m.d.sync += row.eq(row + 1)
        with m.If(row == ROWS - 1):
            m.d.sync += lane.eq(lane + 1)
    m.d.sync += [begun.eq(begun + dut.begins), whole.eq(whole + dut.whole),
                 written.eq(written + (taken & command.last_row))]
    with m.If(over):
        m.d.sync += running.eq(0)
    with m.If(dut.start):
        m.d.sync += [running.eq(1), begun.eq(0), whole.eq(0), written.eq(0)]

    chosen = AnyConst(4), AnyConst(range(ROWS)), AnyConst(range(CONFIG.word_lanes))
    value, come = Signal(8), Signal()
    with m.If(values & (whole == chosen[0]) & (row == chosen[1]) & (lane == chosen[2])):
        m.d.sync += [value.eq(dut.value[0]), come.eq(1)]
    with m.If(dut.start):
        m.d.sync += come.eq(0)
    is_it = dut.write.valid & (written == chosen[0]) & (command.row == chosen[1])
    done = Signal()
    m.d.sync += done.eq(over)
    m.d.comb += [
        Assert(~is_it | (come & (dut.write.p.data.as_value().word_select(chosen[2], 8) == value))),
        Assert(~dut.write.valid | (running & (written < whole))),
        Assert(~dut.write.valid | (dut.write.p.address == command.address())),
        Assert(~dut.write.valid | (dut.write.p.address < CONFIG.activation_depth)),
        Assert(~dut.write.valid | dut.write.p.mask.all()),
        Assert(dut.done == done),
        Assert(keeps(m, dut.write.valid, dut.write.ready, dut.write.p.address, dut.write.p.data)),
    ]
    return m


@pytest.mark.parametrize("base", BASES)
def test_writer_puts_each_value_in_its_place(prove, base):
    prove(writer_spec(base), depth=DEPTH)


def test_writer_that_mixes_up_groups_is_found(refute):
    """The memory of the words has a place too few."""
    refute(writer_spec(change=lambda m, dut: m.d.comb.__iadd__(dut.full.eq(0)), groups=2),
           depth=DEPTH)
