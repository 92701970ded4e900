"""Checks of the hardware on itself: there in simulations, and only there."""

import pytest
from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import ConnectionError, In, Out, connect
from amaranth.sim import Simulator
from stream_bench import make_simulator, stream_source

from weft.hw.lib.checks import are_on, checking, require, watched
from weft.hw.lib.half_slice import HalfSlice
from weft.hw.lib.promise import Promise
from weft.hw.lib.queue import Queue
from weft.hw.verilog import broken_rule, to_verilog


class Countdown(wiring.Component):
    """Offers its input in each cycle, changed or not: breaks the stream rules on purpose."""
    i: In(8)
    offer: In(1)
    o: Out(stream.Signature(8))

    def elaborate(self, platform):
        m = Module()
        left = Signal(8, init=3)
        m.d.sync += left.eq(left - 1)
        require(m, left != 0, "the countdown does not end")
        m.d.comb += [self.o.valid.eq(self.offer), self.o.payload.eq(self.i)]
        return m


def simulate(dut, values):
    """Drives ``i`` and ``offer`` with pairs of values, one for each cycle."""
    async def testbench(ctx):
        for value, offer in values:
            ctx.set(dut.i, value)
            ctx.set(dut.offer, offer)
            await ctx.tick()

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize("values, rule", [
    ([(1, 1), (2, 1), (2, 1)], "o.payload stays until the transfer"),
    ([(1, 1), (1, 0), (1, 0)], "o.valid stays until the transfer"),
    ([(1, 1)] * 5, "the countdown does not end"),
])
def test_a_broken_rule_ends_the_simulation(values, rule):
    with pytest.raises(AssertionError, match=f"^Assertion violated: {rule}$"):
        simulate(Countdown(), values)


def test_a_payload_that_nobody_offers_may_change():
    simulate(Countdown(), [(1, 0), (2, 0), (3, 1)])


def test_inputs_of_slices_and_queues_inside_are_watched():
    class Feeder(wiring.Component):
        def __init__(self, store):
            self.store = store
            super().__init__({"i": In(8), "offer": In(1)})

        def elaborate(self, platform):
            m = Module()
            m.submodules.store = self.store
            m.d.comb += [self.store.i.valid.eq(self.offer), self.store.i.payload.eq(self.i)]
            return m

    for store in (HalfSlice(shape=8), Queue(shape=8, depth=2)):
        with pytest.raises(AssertionError, match=r"i\.payload stays until the transfer"):
            simulate(Feeder(store), [(1, 1), (2, 1), (3, 1), (4, 1)])


def test_checks_are_reset_with_their_component():
    reset = Signal()
    dut = Countdown()

    async def testbench(ctx):
        ctx.set(dut.offer, 1)
        await ctx.tick()
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        ctx.set(dut.offer, 0)
        await ctx.tick().repeat(2)

    with checking():
        sim = Simulator(ResetInserter(reset)(watched(dut)))
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()


def test_there_are_no_checks_unless_asked_for():
    assert not are_on()
    dut = Countdown()
    assert watched(dut) is dut
    text = to_verilog(dut, name="countdown")
    assert "$stop" not in text and "assert" not in text and "rule" not in text


def test_verilog_for_simulation_stops_and_tells_the_rule():
    lines = to_verilog(Countdown(), name="countdown", checks=True).splitlines()
    stops = [number for number, line in enumerate(lines, 1) if "$stop" in line]
    text = "\n".join(lines)
    assert "assert" not in text
    assert {broken_rule(text, number) for number in stops} == {
        "the countdown does not end (countdown)",
        "o.valid stays until the transfer (countdown.rules_of_o)",
        "o.payload stays until the transfer (countdown.rules_of_o)"}


def test_a_producer_that_cannot_wait_is_not_joined_to_a_consumer_that_may_refuse():
    sure = stream.Signature(8, always_ready=True)
    m = Module()
    with pytest.raises(ConnectionError):
        connect(m, sure.create(), HalfSlice(shape=8).i)
    connect(m, sure.create(), Promise(shape=8, because="of this test").i)


@pytest.mark.parametrize("refusals", [(), (3,)])
def test_a_promise_is_checked(refusals):
    dut = Promise(shape=8, because="the other side is fast")

    async def consumer(ctx):
        for number in range(20):
            ctx.set(dut.o.ready, number not in refusals)
            await ctx.tick()

    sim = make_simulator(dut)
    sim.add_testbench(stream_source(dut.i, range(20)))
    sim.add_testbench(consumer)
    if refusals:
        with pytest.raises(AssertionError, match=(
                r"^Assertion violated: always accepted: the other side is fast$")):
            sim.run()
    else:
        sim.run()
