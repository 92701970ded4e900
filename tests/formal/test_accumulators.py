"""What is drained is the sum of what was accumulated since the first partial sum."""

from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Assume, Module, Signal, signed
from formal import free

from weft.hw.lib.delay import delay
from weft.hw.matrix.accumulators import AccumulatorColumn


def accumulator_spec():
    """An accumulator picked at will is followed. No pixel comes again too soon, and a bank is
    drained that was left alone long enough."""
    m = Module()
    dut = AccumulatorColumn(psum_width=2, width=3, pixels=2)
    m.submodules.dut = dut
    free(m, dut)
    i = dut.i
    bank, pixel = AnyConst(1), AnyConst(1)
    sum_  = Signal(signed(3))
    begun = Signal()  # a first partial sum has come
    ours  = i.valid & (i.bank == bank) & (i.pixel == pixel)
    with m.If(ours):
        m.d.sync += sum_.eq(dut.psum)
        with m.If(~i.first):
            m.d.sync += sum_.eq(sum_ + dut.psum)
        m.d.sync += begun.eq(begun | i.first)

    drains = dut.drain_enable & (dut.drain_bank == bank) & (dut.drain_pixel == pixel)
    for cycles in range(1, dut.REUSE):
        m.d.comb += Assume(~(ours & delay(m, ours, cycles, name=f"again_{cycles}")))
    into = i.valid & (i.bank == dut.drain_bank)
    m.d.comb += Assume(~(dut.drain_enable & into))
    for cycles in range(1, dut.ACCUMULATE_LATENCY):
        recent = delay(m, ours, cycles, name=f"recent_{cycles}")
        m.d.comb += Assume(~(drains & recent))
    due  = delay(m, drains & begun, dut.DRAIN_LATENCY, name="due")
    then = delay(m, sum_, dut.DRAIN_LATENCY, name="then")
    m.d.comb += Assert(~due | (dut.drain == then))
    return m


def test_sums_are_complete(prove):
    prove(accumulator_spec(), depth=12)


def test_pixels_that_come_again_too_soon_are_found(refute, monkeypatch):
    monkeypatch.setattr(AccumulatorColumn, "REUSE", 3)
    refute(accumulator_spec(), depth=20)


def test_sums_that_are_drained_too_soon_are_found(refute, monkeypatch):
    monkeypatch.setattr(AccumulatorColumn, "ACCUMULATE_LATENCY", 3)
    refute(accumulator_spec(), depth=20)
