"""Executes the requests of a host: accesses to the staging memory and to the control port."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from weft.hw.bus.axi import LiteSignature
from weft.hw.lib.delay import register

from .protocol import CRC_BYTES, HEADER_BYTES, Identity
from .staging import ByteSignature

__all__ = ["Bridge"]


_LITE_BITS = 12
_REGISTER_BYTES = 4

# Positions of reception after the bytes of the header and its CRC.
_CHECK   = HEADER_BYTES + CRC_BYTES  # the header is over
_PAYLOAD = _CHECK + 1                # and was intact
_REFUSED = _CHECK + 2                # or was not


class Bridge(wiring.Component):
    """Takes requests out of frames and gives answers to them.

    Bytes written to memory go there as they arrive: the header, with a CRC of its own, has said
    where. A register is written once all of the frame is intact, and not again by a repetition.
    While an answer is on its way the next request is received; one more can wait. A request that
    comes on top of that takes the place of the one that waits, which is lost without harm: the
    host repeats what is not answered.

    Addresses are taken modulo the size of memory or registers.

    Parameters
    ----------
    identity : :class:`~weft.boards.system.protocol.Identity`
        ``2 ** memory_bits`` bytes of memory.

    Members
    -------
    i_data, i_valid, i_flag, i_intact
        From a :class:`~weft.boards.system.frame.FrameReceiver`; bytes at least 16 cycles apart.
    o, o_last
        To a :class:`~weft.boards.system.frame.FrameTransmitter`.
    memory : :py:`Out(ByteSignature(addr_width=identity.memory_bits))`
    control : :py:`Out(LiteSignature())`
        The accelerator's control port.
    irq : :py:`In(1)`
        The accelerator's interrupt, for the flags of an answer.
    """

    def __init__(self, *, identity: Identity):
        self._identity = identity
        super().__init__({
            "i_data":   In(8),
            "i_valid":  In(1),
            "i_flag":   In(1),
            "i_intact": In(1),
            "o":        Out(stream.Signature(8)),
            "o_last":   Out(1),
            "memory":   Out(ByteSignature(addr_width=identity.memory_bits)),
            "control":  Out(LiteSignature(addr_width=_LITE_BITS)),
            "irq":      In(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        memory, control = self.memory, self.control
        address_bits = max(self._identity.memory_bits, _LITE_BITS)

        # Reception: header, and payload of a write.
        opcode   = Signal(3)
        tag      = Signal(8)
        count    = Signal(16)   # of a write: bytes that are still to come
        address  = Signal(address_bits)
        value    = Signal(8 * _REGISTER_BYTES)  # the payload, where it is a register's
        position = Signal(range(_REFUSED + 1))
        pending  = Signal()     # a whole request waits
        taken    = Signal()
        is_write, is_register, is_identify = opcode[0], opcode[1], opcode[2]

        # What is compared comes a cycle later; bytes are further apart than that.
        store    = Signal()     # a byte of payload
        some     = register(m, count != 0, "some")
        checking = register(m, position == _CHECK, "checking")
        paying   = register(m, position == _PAYLOAD, "paying")
        wanted = is_write & some
        sound = paying | (checking & self.i_intact)
        m.d.comb += [
            store.eq(self.i_valid & sound & wanted),
        ]
        # Registers, and so is `memory.read`: they decide what the bus of the memory can do.
        m.d.sync += [
            memory.write.eq(store & ~is_register),
            memory.write_address.eq(address),
            memory.write_data.eq(self.i_data),
        ]
        with m.If(taken):
            m.d.sync += pending.eq(0)
        with m.If(self.i_flag):
            m.d.sync += position.eq(0)
            with m.If(sound & self.i_intact & ~wanted):
                m.d.sync += pending.eq(1)
        with m.Elif(self.i_valid):
            m.d.sync += pending.eq(0)
            with m.Switch(position):
                with m.Case(_CHECK):
                    m.d.sync += position.eq(Mux(self.i_intact, _PAYLOAD, _REFUSED))
                with m.Case(_PAYLOAD, _REFUSED):
                    pass
                with m.Default():
                    m.d.sync += position.eq(position + 1)
            # The header, by its layout.
            with m.Switch(position):
                for number, target in enumerate([opcode, tag, count[:8], count[8:], *(
                        address[low:low + 8] for low in range(0, address_bits, 8))]):
                    with m.Case(number):
                        m.d.sync += target.eq(self.i_data)
        with m.If(store):
            m.d.sync += count.eq(count - 1)
            with m.If(~is_register):
                m.d.sync += address.eq(address + 1)
            m.d.sync += value.eq(Cat(value[8:], self.i_data))

        # Execution and answer.
        last_tag = Signal(8)
        fresh    = Signal(init=1)
        failed   = Signal()
        to_address  = Signal(address_bits)
        to_count    = Signal(16)
        to_register = Signal()
        to_identify = Signal()
        to_last     = Signal()  # to_count == 1
        has_data    = Signal()
        has_address = Signal()  # the control port took it
        has_value   = Signal()
        byte = Signal(8)
        word = Mux(to_identify, int.from_bytes(self._identity.pack(), "little"), control.rdata)
        m.d.comb += [
            control.awaddr.eq(to_address),
            control.araddr.eq(to_address),
            control.wdata.eq(value),
            control.wstrb.eq(-1),
            control.bready.eq(1),
            memory.read_address.eq(to_address),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += taken.eq(pending)
                m.d.comb += control.rready.eq(1)
                m.d.sync += [
                    has_address.eq(0),
                    has_value.eq(0),
                    failed.eq(0),
                    to_address.eq(address),
                    to_count.eq(count),
                    to_register.eq(is_register),
                    to_identify.eq(is_identify),
                    to_last.eq(count == 1),
                    has_data.eq(~is_write & some),
                ]
                with m.If(pending):
                    m.d.sync += last_tag.eq(tag)
                    with m.If(is_identify):
                        m.d.sync += fresh.eq(0)
                    m.next = "TAG"
                    with m.If(~is_identify & is_register):
                        with m.If(~is_write):
                            m.next = "READ"
                        with m.Elif(tag != last_tag):
                            m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += control.awvalid.eq(~has_address)
                m.d.comb += control.wvalid.eq(~has_value)
                with m.If(control.awready):
                    m.d.sync += has_address.eq(1)
                with m.If(control.wready):
                    m.d.sync += has_value.eq(1)
                with m.If(control.bvalid):
                    m.d.sync += failed.eq(Value.cast(control.bresp)[1])
                    m.next = "TAG"
            with m.State("READ"):
                # The data stays on the bus until its last byte is sent.
                m.d.comb += control.arvalid.eq(~has_address)
                with m.If(control.arready):
                    m.d.sync += has_address.eq(1)
                with m.If(control.rvalid):
                    m.d.sync += failed.eq(Value.cast(control.rresp)[1])
                    m.next = "TAG"
            with m.State("TAG"):
                m.d.comb += self.o.valid.eq(1)
                m.d.comb += self.o.payload.eq(last_tag)
                with m.If(self.o.ready):
                    m.next = "FLAGS"
            with m.State("FLAGS"):
                m.d.comb += self.o.valid.eq(1)
                m.d.comb += self.o.payload.eq(Cat(self.irq, fresh, failed))
                m.d.comb += self.o_last.eq(~has_data)
                with m.If(self.o.ready):
                    m.next = "FETCH"
                    with m.If(~has_data):
                        m.next = "IDLE"
            with m.State("FETCH"):
                m.next = "LATCH"
                with m.If(~to_register & ~to_identify):
                    m.d.sync += memory.read.eq(1)
                    m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(memory.read_ready):
                    m.d.sync += memory.read.eq(0)
                    m.next = "PASS"
            # The byte is on its way.
            with m.State("PASS"):
                m.next = "REACH"
            with m.State("REACH"):
                m.next = "CHOOSE"
            with m.State("CHOOSE"):
                m.next = "LATCH"
            with m.State("LATCH"):
                m.d.sync += byte.eq(memory.read_data)
                with m.If(to_register | to_identify):
                    m.d.sync += byte.eq(word.word_select(to_address[:2], 8))
                m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += self.o.valid.eq(1)
                m.d.comb += self.o.payload.eq(byte)
                m.d.comb += self.o_last.eq(to_last)
                with m.If(self.o.ready):
                    m.next = "STEP"
                    with m.If(to_last):
                        m.next = "IDLE"
            with m.State("STEP"):
                m.d.sync += [
                    to_address.eq(to_address + 1),
                    to_count.eq(to_count - 1),
                    to_last.eq(to_count == 2),
                ]
                m.next = "FETCH"

        return m
