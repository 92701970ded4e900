"""The host's end of a board: from a serial line, or from two streams of bytes, to memory and
registers."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from weft.hw.lib.register_slice import RegisterSlice

from .bridge import Bridge
from .frame import FrameReceiver, FrameTransmitter
from .protocol import Identity
from .uart import BYTE_CYCLES, UartReceiver, UartTransmitter

__all__ = ["ANSWER", "FramedBridge", "SerialBridge", "StreamBridge"]


ANSWER = data.StructLayout({"data": 8, "last": 1})
"""A byte to the host; the last of a frame is marked."""


class FramedBridge(wiring.Component):
    """Frames, and the bridge behind them.

    Parameters
    ----------
    identity : :class:`~weft.boards.system.protocol.Identity`
        What the device says of itself.

    Members
    -------
    i_data, i_valid, i_error
        Bytes, see :class:`~weft.boards.system.frame.FrameReceiver`; at least
        :data:`~weft.boards.system.uart.BYTE_CYCLES` apart, for which memories are made.
    o_waiting : :py:`Out(1)`
        Of the bridge.
    o : :py:`Out(stream.Signature(ANSWER))`
    memory, control, irq
        Of the bridge.
    """

    def __init__(self, *, identity: Identity):
        self._bridge = Bridge(identity=identity)
        members = self._bridge.signature.members
        super().__init__({
            "i_data":    In(8),
            "i_valid":   In(1),
            "i_error":   In(1),
            "o_waiting": Out(1),
            "o":         Out(stream.Signature(ANSWER)),
            "memory":    members["memory"],
            "control":   members["control"],
            "irq":       In(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.unframe = unframe = FrameReceiver()
        m.submodules.bridge = bridge = self._bridge
        m.submodules.frame = frame = FrameTransmitter()

        # From the bridge to the line nothing passes in the same cycle.
        m.submodules.answer = answer = RegisterSlice(shape=ANSWER)
        m.submodules.line = line = RegisterSlice(shape=ANSWER)
        connect(m, line.o, wiring.flipped(self.o))
        connect(m, wiring.flipped(self.memory), bridge.memory)
        connect(m, wiring.flipped(self.control), bridge.control)
        m.d.comb += [
            unframe.i_data.eq(self.i_data),
            unframe.i_valid.eq(self.i_valid),
            unframe.i_error.eq(self.i_error),
            bridge.i_data.eq(unframe.o_data),
            bridge.i_valid.eq(unframe.o_valid),
            bridge.i_flag.eq(unframe.o_flag),
            bridge.i_intact.eq(unframe.o_intact),
            bridge.irq.eq(self.irq),
            self.o_waiting.eq(bridge.o_waiting),
            answer.i.valid.eq(bridge.o.valid),
            answer.i.p.data.eq(bridge.o.payload),
            answer.i.p.last.eq(bridge.o_last),
            bridge.o.ready.eq(answer.i.ready),
            frame.i.valid.eq(answer.o.valid),
            frame.i.payload.eq(answer.o.p.data),
            frame.i_last.eq(answer.o.p.last),
            answer.o.ready.eq(frame.i.ready),
            line.i.valid.eq(frame.o.valid),
            line.i.p.data.eq(frame.o.payload),
            line.i.p.last.eq(frame.o_last),
            frame.o.ready.eq(line.i.ready),
        ]
        return m


class SerialBridge(wiring.Component):
    """From a serial line to memory and registers: UART, frames and the bridge behind them.

    Parameters
    ----------
    divisor : :class:`int`
        Clock cycles of a bit, at least 4.
    identity : :class:`~weft.boards.system.protocol.Identity`
        What the device says of itself.

    Members
    -------
    rx, tx
        The line, see :class:`~weft.boards.system.uart.UartReceiver`.
    memory, control, irq
        See :class:`~weft.boards.system.bridge.Bridge`.
    """

    def __init__(self, *, divisor: int, identity: Identity):
        self._divisor = divisor
        self._framed = FramedBridge(identity=identity)
        members = self._framed.signature.members
        super().__init__({
            "rx":      In(1, init=1),
            "tx":      Out(1, init=1),
            "memory":  members["memory"],
            "control": members["control"],
            "irq":     In(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.receiver = receiver = UartReceiver(divisor=self._divisor)
        m.submodules.framed = framed = self._framed
        m.submodules.transmitter = transmitter = UartTransmitter(divisor=self._divisor)
        connect(m, wiring.flipped(self.memory), framed.memory)
        connect(m, wiring.flipped(self.control), framed.control)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            framed.i_data.eq(receiver.o_data),
            framed.i_valid.eq(receiver.o_valid),
            framed.i_error.eq(receiver.o_error),
            framed.irq.eq(self.irq),
            transmitter.i.valid.eq(framed.o.valid),
            transmitter.i.payload.eq(framed.o.p.data),
            framed.o.ready.eq(transmitter.i.ready),
        ]
        return m


class StreamBridge(wiring.Component):
    """From two streams of bytes, which lose none, to memory and registers: frames and the bridge
    behind them. Bytes are held back while a request waits for the answer to the one before.

    Parameters
    ----------
    identity : :class:`~weft.boards.system.protocol.Identity`
        What the device says of itself.

    Members
    -------
    i : :py:`In(stream.Signature(8))`
        From the host.
    o : :py:`Out(stream.Signature(ANSWER))`
        To the host.
    memory, control, irq
        See :class:`~weft.boards.system.bridge.Bridge`.
    """

    def __init__(self, *, identity: Identity):
        self._framed = FramedBridge(identity=identity)
        members = self._framed.signature.members
        super().__init__({
            "i":       In(stream.Signature(8)),
            "o":       members["o"],
            "memory":  members["memory"],
            "control": members["control"],
            "irq":     In(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.submodules.framed = framed = self._framed
        connect(m, wiring.flipped(self.o), framed.o)
        connect(m, wiring.flipped(self.memory), framed.memory)
        connect(m, wiring.flipped(self.control), framed.control)

        # No faster than from a serial line. That a byte has made a request wait is known long
        # before the next.
        pause = Signal(range(BYTE_CYCLES))
        ready = Signal()
        taken = self.i.valid & self.i.ready
        m.d.comb += self.i.ready.eq(ready)
        m.d.sync += [
            pause.eq(Mux(taken, BYTE_CYCLES - 1, pause - (pause != 0))),
            ready.eq((pause == 0) & ~taken & ~framed.o_waiting),
            framed.i_valid.eq(taken),
            framed.i_data.eq(self.i.payload),
        ]
        m.d.comb += framed.irq.eq(self.irq)
        return m
