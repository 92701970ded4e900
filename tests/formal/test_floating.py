"""Sums, quotients and roots of rows: no bit of what is on the way is lost."""

import pytest
from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from formal import free, inside, spoil

from weft.hw.floating import quotient
from weft.hw.floating.quotient import QuotientOrRoot
from weft.hw.floating.sum import FloatSum
from weft.hw.isa.limits import MOST_NORMALIZED
from weft.hw.lib.checks import checking
from weft.hw.lib.delay import delay
from weft.hw.normalize import sums
from weft.hw.normalize.sums import ExactSums
from weft.hw.rows.walk import ROWS
from weft.hw.softmax import arithmetic
from weft.hw.softmax.arithmetic import RowSum, RowSums, ShareDivider
from weft.hw.softmax.largest import LargestLane


def largest_spec(lanes, change=None):
    """None of the lanes that count is larger, and one of them is equal."""
    m = Module()
    dut = LargestLane(lanes)
    if change is not None:
        spoil(dut, lambda inner: change(inner, dut))
    m.submodules.dut = dut
    free(m, dut)
    latency = LargestLane.latency(lanes)
    values = [delay(m, dut.i[lane], latency, name=f"i_{lane}").as_signed() for lane in range(lanes)]
    count = delay(m, dut.count, latency, name="count")
    begun = delay(m, Const(1), latency, name="begun")
    m.d.comb += [
        Assume((dut.count >= 1) & (dut.count <= lanes)),
        Assert(~begun | Cat((count <= lane) | (dut.o >= value)
                            for lane, value in enumerate(values)).all()),
        Assert(~begun | Cat((count > lane) & (dut.o == value)
                            for lane, value in enumerate(values)).any()),
    ]
    return m


@pytest.mark.parametrize("lanes", [2, 3, 8])
def test_largest_lane_is_the_largest_of_those_that_count(prove, lanes):
    # What comes out depends on the last cycles alone.
    prove(largest_spec(lanes), depth=LargestLane.latency(lanes) + 2)


def test_largest_lane_of_too_many_is_found(refute):
    refute(largest_spec(4, lambda m, dut: m.d.comb.__iadd__(dut.o.eq(dut.i[3]))), depth=5)


def exact_spec():
    """Of each row as many values as it can have at most, of any size that they can have."""
    m = Module()
    dut = ExactSums()
    with checking():
        inner = inside(m, dut)
    free(m, dut)
    apart = Signal(signed(12))
    m.d.comb += [
        apart.eq(dut.value.exponent + 127 - dut.exponent),
        Assume(~dut.add | (apart >= 0) & (apart <= 8)),
    ]
    # Whatever was added is below 2**32 - 2**8 + 1, a whole significand at the largest exponent.
    one = (1 << 32) - (1 << 8)
    m.d.comb += [Assert(inner.fixed <= one), Assert(inner.fixed >= -one)]
    # Of one row; they are all alike.
    width = len(inner.sums) // ROWS
    total = inner.sums[:width].as_signed()
    adds  = delay(m, dut.add, 1, name="added") & (inner.row_held == 0)
    terms = Signal(range(MOST_NORMALIZED + 1))
    with m.If(adds):
        m.d.sync += terms.eq(Mux(inner.first_held, 1, terms + 1))
    bound = (terms << 32) - (terms << 8)
    wide  = Signal(signed(width + 1))
    m.d.comb += [
        Assume(~adds | inner.first_held | (terms != MOST_NORMALIZED)),
        wide.eq(Mux(inner.first_held, 0, total) + inner.fixed),
        Assert(~adds | (wide == wide[:width].as_signed())),
        # Of as many terms: the proof needs it.
        Assert(terms <= MOST_NORMALIZED),
        Assert((total <= bound) & (total >= -bound)),
    ]
    return m


def test_exact_sum_has_room_for_the_longest_row(prove):
    prove(exact_spec())


def test_exact_sum_with_room_for_a_single_value_is_found(refute, monkeypatch):
    monkeypatch.setattr(sums, "_LENGTH_BITS", 0)
    refute(exact_spec(), depth=6)


def digits_spec():
    """Operands as they are said to be; begun at any time."""
    m = Module()
    dut = QuotientOrRoot()
    with checking():
        inner = inside(m, dut)
    free(m, dut)
    m.d.comb += [
        Assume(dut.b.significand[-1]),
        # As many digits as there are steps.
        Assert((inner.made > quotient._DIGITS) | (inner.digits >> inner.made == 0)),
        Assert((inner.made > quotient._DIGITS) | inner.root | inner.divisor[-1]),
    ]
    return m


def test_quotient_and_root_keep_what_is_left_in_bounds(prove):
    prove(digits_spec())


def test_quotient_that_begins_with_too_much_is_found(refute, monkeypatch):
    monkeypatch.setattr(quotient, "SIGNIFICAND_BITS", 26)
    refute(digits_spec(), depth=4)


def sum_spec(apart, change=None, *, bits=8):
    """The sum of a number and one whose exponent is ``apart`` smaller is that of two integers,
    rounded by what is below its first 24 bits; of numbers with so many significant ``bits``."""
    m = Module()
    dut = FloatSum()
    if change is not None:
        spoil(dut, lambda inner: change(inner, dut))
    m.submodules.dut = dut
    free(m, dut, but=[dut.a.exponent, dut.b.exponent])
    m.d.comb += [
        dut.a.exponent.eq(apart),
        dut.b.exponent.eq(0),
        *(Assume(addend.significand[-2:].any() | (addend.significand == 0))
          for addend in (dut.a, dut.b)),
        *(Assume(addend.significand[:48 - bits] == 0) for addend in (dut.a, dut.b)),
    ]
    width = 48 + apart + 1
    a, b = (Mux(addend.negative, -addend.significand, addend.significand)
            for addend in (dut.a, dut.b))
    total = Signal(signed(width + 1))
    m.d.comb += total.eq((a << apart) + b)
    magnitude = Signal(width)
    m.d.comb += magnitude.eq(Mux(total < 0, -total, total))
    significand, exponent = Signal(25), Signal(signed(12))
    for place in range(width):  # of the first one: the last one counts
        drop = place - 23
        with m.If(magnitude[place]):
            if drop <= 0:
                m.d.comb += [significand.eq(magnitude << -drop), exponent.eq(place - 47)]
            else:
                below = magnitude[:drop - 1].any() if drop > 1 else Const(0)
                up = magnitude[drop - 1] & (below | magnitude[drop])
                m.d.comb += [significand.eq((magnitude >> drop) + up), exponent.eq(place - 47)]
    latency = FloatSum.LATENCY
    significand = delay(m, significand, latency, name="wanted")
    exponent = delay(m, exponent, latency, name="wanted_exponent").as_signed()
    negative = delay(m, total < 0, latency, name="wanted_negative")
    begun = delay(m, Const(1), latency, name="begun")
    over = significand[-1]
    m.d.comb += [
        Assert(~begun | (dut.o.significand == Mux(over, 1 << 23, significand[:24]))),
        Assert(~begun | (significand == 0) | ((dut.o.exponent == exponent + over)
                                              & (dut.o.negative == negative))),
    ]
    return m


@pytest.mark.parametrize("apart", [1, 20])
def test_sum_of_floats_of_a_few_bits_is_rounded_once(prove, apart):
    """So near that they may cancel, and so far that the smaller one is rounded away."""
    prove(sum_spec(apart), depth=FloatSum.LATENCY + 1)


def test_sum_of_floats_without_a_sign_is_found(refute):
    refute(sum_spec(1, lambda m, dut: m.d.comb.__iadd__(dut.o.negative.eq(0))),
           depth=FloatSum.LATENCY + 1)


def row_sums_spec():
    """Rows take turns, in any order that leaves three cycles between two terms of a row."""
    m = Module()
    dut = RowSums()
    with checking():
        inner = inside(m, dut)
    free(m, dut)
    row = dut.row
    for since in range(1, RowSums.ROWS):
        row = delay(m, row, 1, name=f"row_{since}")
        begun = delay(m, Const(1), since, name=f"begun_{since}")
        m.d.comb += Assume(~begun | (row != dut.row))
    # Far from the largest exponent, which as many terms as there can be never reach.
    m.d.comb += Assume(dut.term.exponent < 400)
    size = RowSum.as_shape().size
    for row in range(RowSums.ROWS):
        total = data.View(RowSum, inner.sums.word_select(row, size))
        m.d.comb += Assert(total.significand[-1] | (total.significand == 0))
    return m


def test_sum_of_a_row_keeps_its_first_bit(prove):
    prove(row_sums_spec(), depth=10)


def test_sum_of_a_row_whose_terms_lack_their_first_bit_is_found(refute, monkeypatch):
    monkeypatch.setattr(arithmetic, "_significand", lambda term: term.fraction)
    refute(row_sums_spec(), depth=10)


class AnyProduct(wiring.Component):
    """In the place of a multiplier: any product of two numbers that are not negative."""

    def __init__(self, *, a_width, b_width, latency):
        super().__init__({"a": In(signed(a_width)), "b": In(signed(b_width)),
                          "o": Out(signed(a_width + b_width))})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(AnySeq(len(self.o) - 2))
        return m


def divider_spec(*, first=True):
    """Terms and factors as they are said to be, and sums with their ``first`` bit."""
    m = Module()
    dut = ShareDivider()
    with checking():
        inside(m, dut)
    free(m, dut)
    m.d.comb += Assume(dut.factor[-1])
    if first:
        m.d.comb += Assume(dut.sum.significand[-1])
    return m


def test_share_keeps_what_is_left_below_the_divisor(prove, monkeypatch):
    monkeypatch.setattr(arithmetic, "Multiplier", AnyProduct)
    prove(divider_spec(), depth=ShareDivider.LATENCY + 2)


def test_share_of_a_sum_without_its_first_bit_is_found(refute, monkeypatch):
    monkeypatch.setattr(arithmetic, "Multiplier", AnyProduct)
    refute(divider_spec(first=False), depth=ShareDivider.LATENCY + 2)
