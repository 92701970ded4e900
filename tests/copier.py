"""A stand-in for the accelerator with the same ports: it copies two bursts through AXI4.

Small enough to build in seconds, and able to misbehave on request.
"""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import enum, memory, wiring
from amaranth.lib.wiring import In, Out

from weft.hw.bus.axi import BURST_INCR, LiteSignature, MemorySignature
from weft.hw.isa.config import AcceleratorConfig

__all__ = ["Copier", "COPIER_ID", "CONTROL", "STATUS", "SOURCE", "TARGET", "LAST_BEAT", "STROBE",
           "MISCHIEF", "SECOND_ID", "Mischief"]


COPIER_ID = 0xC0FFEE01
CONTROL, STATUS, SOURCE, TARGET, LAST_BEAT, STROBE, MISCHIEF, SECOND_ID = range(0x08, 0x28, 4)


class Mischief(enum.Enum, shape=4):
    """Rules of AXI to break."""
    NONE     = 0
    LAST     = 1  # WLAST one beat early
    CHANGE   = 2  # ARADDR changes before it is accepted
    WITHDRAW = 3  # AWVALID falls before AWREADY
    TYPE     = 4  # a WRAP burst
    SIZE     = 5  # beats of one byte
    DATA     = 6  # WDATA changes before it is accepted
    MUTE     = 7  # writes of registers are not answered


class Copier(wiring.Component):
    """Reads two bursts of ``LAST_BEAT + 1`` beats that lie one behind the other at ``SOURCE``,
    with identifiers 0 and ``SECOND_ID``; then writes both to ``TARGET``, then raises ``irq``.

    ``STATUS`` has bit 0 set when done, the responses of all reads or'ed in bits 4 and 5, and
    those of the writes in bits 6 and 7. Writing address 0 is answered with SLVERR.
    """

    def __init__(self, config: AcceleratorConfig):
        self._bytes = config.axi_bytes
        sizes = {"data_width": config.axi_data_width, "addr_width": config.axi_addr_width}
        super().__init__({
            "s_axi": In(LiteSignature()),
            "m_axi": Out(MemorySignature(**sizes)),
            "irq": Out(1),
            "event_start": Out(4),
            "event_done": Out(4),
            "event_start_index": Out(64),
            "event_done_index": Out(64),
        })

    def elaborate(self, platform):
        m = Module()
        s, a = self.s_axi, self.m_axi
        shift = self._bytes.bit_length() - 1

        registers = {address: Signal(32, name=f"register_{address:02x}") for address in
                     (SOURCE, TARGET, LAST_BEAT, STROBE, MISCHIEF, SECOND_ID)}
        source, target, last_beat, strobe, mischief, second_id = registers.values()
        status = Signal(32)

        # Ready hangs on valid: the harness must let it settle.
        write = Signal()
        m.d.comb += [
            write.eq(s.awvalid & s.wvalid & ~s.bvalid & (mischief != Mischief.MUTE)),
            s.awready.eq(write),
            s.wready.eq(write),
            s.arready.eq(s.arvalid & ~s.rvalid),
        ]
        with m.If(s.bready):
            m.d.sync += s.bvalid.eq(0)
        with m.If(write):
            m.d.sync += s.bvalid.eq(1)
            m.d.sync += s.bresp.eq(Mux(s.awaddr == 0, 2, 0))
            for address, register in registers.items():
                with m.If(s.awaddr == address):
                    m.d.sync += register.eq(s.wdata)
        with m.If(s.rready):
            m.d.sync += s.rvalid.eq(0)
        with m.If(s.arvalid & s.arready):
            m.d.sync += s.rvalid.eq(1)
            m.d.sync += s.rdata.eq(0)
            for address, value in {0: COPIER_ID, STATUS: status, **registers}.items():
                with m.If(s.araddr == address):
                    m.d.sync += s.rdata.eq(value)

        m.submodules.buffer = buffer = memory.Memory(shape=self._bytes * 8, depth=512, init=[])
        put, get = buffer.write_port(), buffer.read_port(domain="comb")
        issued, received, answered = (Signal(2, name=name) for name in
                                      ("issued", "received", "answered"))
        filled = [Signal(8, name=f"filled_{half}") for half in range(2)]
        half = Signal()
        beat = Signal(8)
        toggle = Signal()
        m.d.sync += toggle.eq(~toggle)
        half_bytes = (last_beat[:8] + 1) << shift
        size = Mux(mischief == Mischief.SIZE, 0, shift)
        burst = Mux(mischief == Mischief.TYPE, 2, BURST_INCR)
        m.d.comb += [
            half.eq(Mux(second_id[0], a.rid, received[0])),
            put.addr.eq(Cat(Mux(half, filled[1], filled[0]), half)),
            put.data.eq(a.rdata),
            put.en.eq(a.rvalid & a.rready),
            get.addr.eq(Cat(beat, answered[0])),
            a.arid.eq(issued[0] & second_id[0]),
            a.araddr.eq(source + Mux(issued[0], half_bytes, 0)
                        + Mux((mischief == Mischief.CHANGE) & toggle, 4096, 0)),
            a.arlen.eq(last_beat),
            a.arsize.eq(size),
            a.arburst.eq(burst),
            a.awaddr.eq(target + Mux(answered[0], half_bytes, 0)),
            a.awlen.eq(last_beat),
            a.awsize.eq(size),
            a.awburst.eq(burst),
            a.wdata.eq(get.data ^ ((mischief == Mischief.DATA) & toggle)),
            a.wstrb.eq(strobe),
            a.wlast.eq(beat == last_beat[:8] - (mischief == Mischief.LAST)),
        ]

        with m.FSM():
            with m.State("IDLE"):
                with m.If(write & (s.awaddr == CONTROL)):
                    m.d.sync += [register.eq(0) for register in
                                 (issued, received, answered, status, self.irq, *filled)]
                    m.d.comb += self.event_start.eq(0b0001)
                    m.d.comb += self.event_start_index.eq(7)
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += a.arvalid.eq(issued != 2)
                m.d.comb += a.rready.eq(1)
                with m.If(a.arvalid & a.arready):
                    m.d.sync += issued.eq(issued + 1)
                with m.If(a.rvalid):
                    m.d.sync += status[4:6].eq(status[4:6] | a.rresp.as_value())
                    for index in range(2):
                        with m.If(half == index):
                            m.d.sync += filled[index].eq(filled[index] + 1)
                    with m.If(a.rlast):
                        m.d.sync += received.eq(received + 1)
                with m.If(received == 2):
                    m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.d.comb += a.awvalid.eq((mischief != Mischief.WITHDRAW) | toggle)
                with m.If(a.awvalid & a.awready):
                    m.d.sync += beat.eq(0)
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += a.wvalid.eq(1)
                with m.If(a.wready):
                    m.d.sync += beat.eq(beat + 1)
                    with m.If(beat == last_beat[:8]):
                        m.next = "RESPONSE"
            with m.State("RESPONSE"):
                m.d.comb += a.bready.eq(1)
                with m.If(a.bvalid):
                    m.d.sync += status[6:8].eq(status[6:8] | a.bresp.as_value())
                    m.d.sync += answered.eq(answered + 1)
                    m.next = "ADDRESS"
                    with m.If(answered == 1):
                        m.d.sync += status[0].eq(1)
                        m.d.sync += self.irq.eq(1)
                        m.d.comb += self.event_done.eq(0b1001)
                        m.d.comb += self.event_done_index.eq(7 | 9 << 48)
                        m.next = "IDLE"
        return m
