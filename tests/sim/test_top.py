from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from stream_bench import make_simulator

from weft.sim.top import SimulationTop


class Counting(wiring.Component):
    count: Out(8)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.count.eq(self.count + 1)
        return m


def test_reset_comes_one_cycle_late_and_goes_one_cycle_late():
    top = SimulationTop(Counting())
    reset = Signal()
    m = Module()
    m.domains.sync = sync = ClockDomain()
    m.d.comb += sync.rst.eq(reset)
    m.submodules.top = top
    counts = []

    async def testbench(ctx):
        for level in (0, 0, 0, 1, 1, 0, 0, 0):
            ctx.set(reset, level)
            counts.append(ctx.get(top.count))
            await ctx.tick()

    sim = make_simulator(m)
    sim.add_testbench(testbench)
    sim.run()
    assert counts == [0, 1, 2, 3, 4, 0, 0, 1]
