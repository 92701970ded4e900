"""harness: every input from a shift register, every output into one."""
from amaranth import *
from amaranth.lib import wiring

class Harness(Elaboratable):
    def __init__(self, dut):
        self.dut = dut
        self.i = Signal(); self.o = Signal()
    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = self.dut
        ins, outs = [], []
        for path, member, value in dut.signature.flatten(dut):
            (ins if member.flow == wiring.In else outs).append(Value.cast(value))
        n = sum(map(len, ins))
        r = Signal(n, reset_less=True)
        m.d.sync += r.eq(Cat(self.i, r))
        k = 0
        for v in ins:
            m.d.comb += v.eq(r[k:k+len(v)]); k += len(v)
        cap = Signal(sum(map(len, outs)), reset_less=True)
        m.d.sync += cap.eq(Cat(*outs))
        x = Signal((len(cap) + 3)//4, reset_less=True)
        m.d.sync += x.eq(Cat(cap[i:i+4].xor() for i in range(0, len(cap), 4)))
        y = Signal((len(x) + 3)//4, reset_less=True)
        m.d.sync += y.eq(Cat(x[i:i+4].xor() for i in range(0, len(x), 4)))
        z = Signal((len(y) + 3)//4, reset_less=True)
        m.d.sync += z.eq(Cat(y[i:i+4].xor() for i in range(0, len(y), 4)))
        m.d.sync += self.o.eq(z.xor())
        return m

