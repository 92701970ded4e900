"""Frames on a line of bytes: flags, escapes and CRC, in both directions."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .crc import Crc32
from .protocol import CRC_BYTES, ESCAPE, ESCAPE_XOR, FLAG

__all__ = ["FrameReceiver", "FrameTransmitter"]


class FrameReceiver(wiring.Component):
    """Takes frames apart. A flag leads to the first state from anywhere; latency is one cycle.

    Members
    -------
    i_data : :py:`In(8)`
    i_valid, i_error : :py:`In(1)`
        Pulses of a UART, at least 9 cycles apart: a byte, or one that was lost.
    o_data : :py:`Out(8)`
    o_valid : :py:`Out(1)`
        Pulse: a byte of the frame. All bytes come, those of CRCs too, and whether they are intact
        or not.
    o_flag : :py:`Out(1)`
        Pulse: a flag, which ends a frame and begins the next.
    o_intact : :py:`Out(1)`
        All bytes before the one (or the flag) that comes now were received, and ended in a CRC.
    """
    i_data:   In(8)
    i_valid:  In(1)
    i_error:  In(1)
    o_data:   Out(8)
    o_valid:  Out(1)
    o_flag:   Out(1)
    o_intact: Out(1)

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.crc = crc = Crc32()
        escaped = Signal()
        broken  = Signal()  # a byte is missing, whatever the CRC says
        is_escape = self.i_data == ESCAPE
        is_flag = self.i_valid & (self.i_data == FLAG)
        is_byte = self.i_valid & ~is_flag & ~is_escape
        byte = self.i_data ^ Mux(escaped, ESCAPE_XOR, 0)
        m.d.comb += [
            crc.clear.eq(is_flag),
            crc.valid.eq(is_byte),
            crc.data.eq(byte),
        ]
        m.d.sync += [
            self.o_flag.eq(is_flag),
            self.o_valid.eq(is_byte),
            self.o_data.eq(byte),
            self.o_intact.eq(crc.intact & ~broken & ~(is_flag & escaped)),
        ]
        with m.If(self.i_valid):
            m.d.sync += escaped.eq(is_escape)
        with m.If(is_flag):
            m.d.sync += broken.eq(0)
        with m.Elif(self.i_error):
            m.d.sync += broken.eq(1)

        return m


class FrameTransmitter(wiring.Component):
    """Puts bytes into frames: a flag, the bytes, their CRC, a flag.

    Members
    -------
    i : :py:`In(stream.Signature(8))`
        Bytes of a frame. What comes first after the end of a frame begins the next.
    i_last : :py:`In(1)`
        With the byte on ``i``: it is the last.
    o : :py:`Out(stream.Signature(8))`
        To the host.
    o_last : :py:`Out(1)`
        With the byte on ``o``: it is the flag that ends a frame.
    """
    i:      In(stream.Signature(8))
    i_last: In(1)
    o:      Out(stream.Signature(8))
    o_last: Out(1)

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.crc = crc = Crc32()
        trailer = Signal()  # sending the CRC
        escaped = Signal()
        left    = Signal(range(CRC_BYTES))
        byte    = Signal(8)
        special = Signal()
        settled = Signal()  # `byte` and `special` are those of what comes next
        taken   = Signal()  # a byte of the frame goes out, in its final form
        coming = Mux(trailer, ~crc.register[:8], self.i.payload)
        m.d.sync += [
            byte.eq(coming),
            special.eq((coming == FLAG) | (coming == ESCAPE)),
            settled.eq((trailer | self.i.valid) & ~crc.busy & ~(self.o.valid & self.o.ready)),
        ]
        m.d.comb += [
            crc.valid.eq(taken),
            crc.data.eq(Mux(trailer, crc.register[:8], self.i.payload)),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.o.payload.eq(FLAG)
                m.d.comb += self.o.valid.eq(self.i.valid)
                m.d.comb += crc.clear.eq(1)
                with m.If(self.o.valid & self.o.ready):
                    m.next = "FRAME"
            with m.State("FRAME"):
                m.d.comb += self.o.valid.eq(settled)
                m.d.comb += self.o.payload.eq(
                    Mux(escaped, byte ^ ESCAPE_XOR, Mux(special, ESCAPE, byte)))
                with m.If(self.o.valid & self.o.ready):
                    m.d.sync += escaped.eq(special & ~escaped)
                    m.d.comb += taken.eq(escaped | ~special)
                m.d.comb += self.i.ready.eq(taken & ~trailer)
                with m.If(taken):
                    with m.If(~trailer):
                        m.d.sync += trailer.eq(self.i_last)
                    with m.Else():
                        m.d.sync += left.eq(left + 1)
                        with m.If(left == CRC_BYTES - 1):
                            m.d.sync += trailer.eq(0)
                            m.next = "END"
            with m.State("END"):
                m.d.comb += self.o.payload.eq(FLAG)
                m.d.comb += self.o.valid.eq(1)
                m.d.comb += self.o_last.eq(1)
                with m.If(self.o.ready):
                    m.next = "IDLE"

        return m
