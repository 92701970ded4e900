"""A serial port over full-speed USB: CDC-ACM, which every host knows, of LUNA's building blocks."""

from types import SimpleNamespace
from typing import Any

from amaranth import *
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from luna.gateware.usb.devices.acm import USBSerialDevice

from weft.boards.system.host import ANSWER

from .wires import UsbWires

__all__ = ["PACKET_BYTES", "PRODUCT_ID", "VENDOR_ID", "UsbSerial"]


VENDOR_ID  = 0x1209  # pid.codes, whose product 1 is for tests; a host chooses by the class
PRODUCT_ID = 0x0001

PACKET_BYTES = 64
"""Of a packet, at most; full speed allows no more."""

_QUEUE = 16
"""Bytes on their way between the clocks: for the delay of the crossing. LUNA has room for two
packets in each direction."""


class UsbSerial(wiring.Component):
    """Two streams of bytes in the domain ``sync`` at the other end of a USB cable.

    Bytes that the host may not have yet wait, and so does the host with those that are not taken.
    A packet to the host ends with the last byte of a frame, so that none waits for more to come.

    Members
    -------
    wires : :py:`Out(UsbWires())`
    i : :py:`In(stream.Signature(ANSWER))`
        To the host.
    o : :py:`Out(stream.Signature(8))`
        From the host.

    The domains are the parent's: ``usb_io`` of 48 MHz, ``usb`` of 12 MHz in step with it, and
    ``sync``, which may be any.
    """

    wires: Out(UsbWires())
    i:     In(stream.Signature(ANSWER))
    o:     Out(stream.Signature(8))

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        # As LUNA takes the pins of a platform.
        d_p, d_n = (SimpleNamespace(i=Signal(), o=Signal(), oe=Signal()) for _ in range(2))
        pullup = SimpleNamespace(o=Signal())
        # LUNA synchronizes what it receives, but not what it looks at for a reset. One register is
        # enough for that, and each takes of the time that a host waits for an answer.
        m.d.usb_io += [d_p.i.eq(self.wires.p_i), d_n.i.eq(self.wires.n_i)]
        m.d.comb += [
            self.wires.p_o.eq(d_p.o),
            self.wires.n_o.eq(d_n.o),
            self.wires.oe.eq(d_p.oe),
            self.wires.pullup.eq(pullup.o),
        ]

        m.submodules.device = device = USBSerialDevice(
            bus=SimpleNamespace(d_p=d_p, d_n=d_n, pullup=pullup),
            idVendor=VENDOR_ID, idProduct=PRODUCT_ID, manufacturer_string="Weft",
            product_string="Weft accelerator", max_packet_size=PACKET_BYTES)
        m.submodules.received = received = fifo.AsyncFIFO(
            width=8, depth=_QUEUE, w_domain="usb", r_domain="sync")
        m.submodules.answers = answers = fifo.AsyncFIFO(
            width=ANSWER.size, depth=_QUEUE, w_domain="sync", r_domain="usb")
        answer = data.View(ANSWER, answers.r_data)
        m.d.comb += [
            device.connect.eq(1),
            received.w_data.eq(device.rx.payload),
            received.w_en.eq(device.rx.valid),
            device.rx.ready.eq(received.w_rdy),
            self.o.payload.eq(received.r_data),
            self.o.valid.eq(received.r_rdy),
            received.r_en.eq(self.o.ready),
            answers.w_data.eq(self.i.payload),
            answers.w_en.eq(self.i.valid),
            self.i.ready.eq(answers.w_rdy),
            device.tx.payload.eq(answer.data),
            device.tx.last.eq(answer.last),
            device.tx.valid.eq(answers.r_rdy),
            answers.r_en.eq(device.tx.ready),
        ]
        return m
