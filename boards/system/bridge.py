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
    o_waiting : :py:`Out(1)`
        A request is whole and waits for the answer to the one before; another would take its place.
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
            "i_data":    In(8),
            "i_valid":   In(1),
            "i_flag":    In(1),
            "i_intact":  In(1),
            "o_waiting": Out(1),
            "o":         Out(stream.Signature(8)),
            "o_last":    Out(1),
            "memory":    Out(ByteSignature(addr_width=identity.memory_bits)),
            "control":   Out(LiteSignature(addr_width=_LITE_BITS)),
            "irq":       In(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        address_bits = max(self._identity.memory_bits, _LITE_BITS)
        request, answer = _Request(address_bits), _Answer(address_bits)
        self._receive(m, request)
        self._execute(m, request, answer)
        return m

    def _receive(self, m: Module, request: "_Request") -> None:
        """Takes the header of a request from a frame, and the payload of a write."""
        memory = self.memory
        position = Signal(range(_REFUSED + 1))

        # What is compared comes a cycle later; bytes are further apart than that.
        store    = Signal()     # a byte of payload
        some     = register(m, request.count != 0, "some")
        checking = register(m, position == _CHECK, "checking")
        paying   = register(m, position == _PAYLOAD, "paying")
        wanted = request.is_write & some
        sound = paying | (checking & self.i_intact)
        m.d.comb += [
            request.some.eq(some),
            self.o_waiting.eq(request.pending),
            store.eq(self.i_valid & sound & wanted),
        ]
        # Registers, and so is `memory.read`: they decide what the bus of the memory can do.
        m.d.sync += [
            memory.write.eq(store & ~request.is_register),
            memory.write_address.eq(request.address),
            memory.write_data.eq(self.i_data),
        ]
        with m.If(request.taken):
            m.d.sync += request.pending.eq(0)
        with m.If(self.i_flag):
            m.d.sync += position.eq(0)
            with m.If(sound & self.i_intact & ~wanted):
                m.d.sync += request.pending.eq(1)
        with m.Elif(self.i_valid):
            m.d.sync += request.pending.eq(0)
            with m.Switch(position):
                with m.Case(_CHECK):
                    m.d.sync += position.eq(Mux(self.i_intact, _PAYLOAD, _REFUSED))
                with m.Case(_PAYLOAD, _REFUSED):
                    pass
                with m.Default():
                    m.d.sync += position.eq(position + 1)
            # The header, by its layout.
            address = request.address
            with m.Switch(position):
                for number, target in enumerate([
                        request.opcode, request.tag, request.count[:8], request.count[8:],
                        *(address[low:low + 8] for low in range(0, len(address), 8))]):
                    with m.Case(number):
                        m.d.sync += target.eq(self.i_data)
        with m.If(store):
            m.d.sync += request.count.eq(request.count - 1)
            with m.If(~request.is_register):
                m.d.sync += request.address.eq(request.address + 1)
            m.d.sync += request.value.eq(Cat(request.value[8:], self.i_data))

    def _execute(self, m: Module, request: "_Request", answer: "_Answer") -> None:
        """Executes a request and answers it: tag, flags, and the bytes that were read."""
        control = self.control
        m.d.comb += [
            control.awaddr.eq(answer.address),
            control.araddr.eq(answer.address),
            control.wdata.eq(request.value),
            control.wstrb.eq(-1),
            control.bready.eq(1),
            self.memory.read_address.eq(answer.address),
        ]
        with m.FSM():
            with m.State("IDLE"):
                self._begin(m, request, answer)
            self._access_register(m, answer)
            self._send_head(m, answer)
            self._fetch_byte(m, answer)
            self._send_byte(m, answer)

    def _begin(self, m: Module, request: "_Request", answer: "_Answer") -> None:
        is_identify, is_register = request.is_identify, request.is_register
        m.d.comb += request.taken.eq(request.pending)
        m.d.comb += self.control.rready.eq(1)
        m.d.sync += [
            answer.has_address.eq(0),
            answer.has_value.eq(0),
            answer.failed.eq(0),
            answer.address.eq(request.address),
            answer.count.eq(request.count),
            answer.register.eq(is_register),
            answer.identify.eq(is_identify),
            answer.last.eq(request.count == 1),
            answer.has_data.eq(~request.is_write & request.some),
        ]
        with m.If(request.pending):
            m.d.sync += answer.tag.eq(request.tag)
            with m.If(is_identify & ~is_register):
                m.d.sync += answer.fresh.eq(0)
            with m.If(is_identify & is_register & request.is_write):
                m.d.sync += answer.label.eq(request.value)
            m.next = "TAG"
            with m.If(~is_identify & is_register):
                with m.If(~request.is_write):
                    m.next = "READ"
                with m.Elif(request.tag != answer.tag):
                    m.next = "WRITE"

    def _access_register(self, m: Module, answer: "_Answer") -> None:
        control = self.control
        with m.State("WRITE"):
            m.d.comb += control.awvalid.eq(~answer.has_address)
            m.d.comb += control.wvalid.eq(~answer.has_value)
            with m.If(control.awready):
                m.d.sync += answer.has_address.eq(1)
            with m.If(control.wready):
                m.d.sync += answer.has_value.eq(1)
            with m.If(control.bvalid):
                m.d.sync += answer.failed.eq(Value.cast(control.bresp)[1])
                m.next = "TAG"
        with m.State("READ"):
            # The data stays on the bus until its last byte is sent.
            m.d.comb += control.arvalid.eq(~answer.has_address)
            with m.If(control.arready):
                m.d.sync += answer.has_address.eq(1)
            with m.If(control.rvalid):
                m.d.sync += answer.failed.eq(Value.cast(control.rresp)[1])
                m.next = "TAG"

    def _send_head(self, m: Module, answer: "_Answer") -> None:
        with m.State("TAG"):
            m.d.comb += self.o.valid.eq(1)
            m.d.comb += self.o.payload.eq(answer.tag)
            with m.If(self.o.ready):
                m.next = "FLAGS"
        with m.State("FLAGS"):
            m.d.comb += self.o.valid.eq(1)
            m.d.comb += self.o.payload.eq(Cat(self.irq, answer.fresh, answer.failed))
            m.d.comb += self.o_last.eq(~answer.has_data)
            with m.If(self.o.ready):
                m.next = "FETCH"
                with m.If(~answer.has_data):
                    m.next = "IDLE"

    def _fetch_byte(self, m: Module, answer: "_Answer") -> None:
        memory = self.memory
        on_chip = ~answer.register & ~answer.identify
        identity = Const(int.from_bytes(self._identity.pack(), "little"), 8 * Identity.size())
        word = Mux(answer.identify, answer.label, self.control.rdata)
        with m.State("FETCH"):
            m.next = "LATCH"
            with m.If(on_chip):
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
            m.d.sync += answer.byte.eq(memory.read_data)
            with m.If(answer.register):
                m.d.sync += answer.byte.eq(word.word_select(answer.address[:2], 8))
            with m.Elif(answer.identify):
                m.d.sync += answer.byte.eq(identity.word_select(answer.address[:3], 8))
            m.next = "DATA"

    def _send_byte(self, m: Module, answer: "_Answer") -> None:
        with m.State("DATA"):
            m.d.comb += self.o.valid.eq(1)
            m.d.comb += self.o.payload.eq(answer.byte)
            m.d.comb += self.o_last.eq(answer.last)
            with m.If(self.o.ready):
                m.next = "STEP"
                with m.If(answer.last):
                    m.next = "IDLE"
        with m.State("STEP"):
            m.d.sync += [
                answer.address.eq(answer.address + 1),
                answer.count.eq(answer.count - 1),
                answer.last.eq(answer.count == 2),
            ]
            m.next = "FETCH"


class _Request:
    """The request that is received."""

    def __init__(self, address_bits: int):
        self.opcode  = Signal(3)
        self.tag     = Signal(8)
        self.count   = Signal(16)   # of a write: bytes that are still to come
        self.some    = Signal()     # count != 0, a cycle later
        self.address = Signal(address_bits)
        self.value   = Signal(8 * _REGISTER_BYTES)  # the payload, where it is a register's
        self.pending = Signal()     # it is whole, and waits
        self.taken   = Signal()
        self.is_write    = self.opcode[0]
        self.is_register = self.opcode[1]
        self.is_identify = self.opcode[2]


class _Answer:
    """The answer to the request before, while it is executed."""

    def __init__(self, address_bits: int):
        self.tag      = Signal(8)
        self.fresh    = Signal(init=1)  # since the reset nobody has asked for the identity
        self.failed   = Signal()
        self.label    = Signal(8 * _REGISTER_BYTES)     # the host's own
        self.address  = Signal(address_bits)
        self.count    = Signal(16)
        self.last     = Signal()    # count == 1
        self.register = Signal()    # of the control port, not of the memory
        self.identify = Signal()    # or of the bridge itself
        self.has_data = Signal()
        self.has_address = Signal()     # the control port took it
        self.has_value   = Signal()
        self.byte = Signal(8)
