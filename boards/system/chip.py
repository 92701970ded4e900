"""All that is on the chip of a board, but for clock and pins."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect
from amaranth.utils import exact_log2

from weft.boards.board import Board
from weft.boards.sdram.signals import SdramSignature
from weft.hw.accelerator import Accelerator
from weft.hw.bus.axi import memory_port
from weft.hw.bus.axi_slice import AxiSlice
from weft.hw.isa.config import ConfigError
from weft.hw.lib.register_slice import RegisterSlice

from .bridge import Bridge
from .frame import FrameReceiver, FrameTransmitter
from .protocol import PROTOCOL_VERSION, Identity
from .uart import UartReceiver, UartTransmitter, uart_divisor

__all__ = ["SerialBridge", "System"]


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
        self._bridge = Bridge(identity=identity)
        members = self._bridge.signature.members
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
        m.submodules.unframe = unframe = FrameReceiver()
        m.submodules.bridge = bridge = self._bridge
        m.submodules.frame = frame = FrameTransmitter()
        m.submodules.transmitter = transmitter = UartTransmitter(divisor=self._divisor)

        # From the bridge to the line nothing passes in the same cycle.
        m.submodules.answer = answer = RegisterSlice(
            shape=data.StructLayout({"data": 8, "last": 1}))
        m.submodules.line = line = RegisterSlice(shape=8)
        connect(m, frame.o, line.i)
        connect(m, line.o, transmitter.i)
        connect(m, wiring.flipped(self.memory), bridge.memory)
        connect(m, wiring.flipped(self.control), bridge.control)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            unframe.i_data.eq(receiver.o_data),
            unframe.i_valid.eq(receiver.o_valid),
            unframe.i_error.eq(receiver.o_error),
            bridge.i_data.eq(unframe.o_data),
            bridge.i_valid.eq(unframe.o_valid),
            bridge.i_flag.eq(unframe.o_flag),
            bridge.i_intact.eq(unframe.o_intact),
            bridge.irq.eq(self.irq),
            answer.i.valid.eq(bridge.o.valid),
            answer.i.p.data.eq(bridge.o.payload),
            answer.i.p.last.eq(bridge.o_last),
            bridge.o.ready.eq(answer.i.ready),
            frame.i.valid.eq(answer.o.valid),
            frame.i.payload.eq(answer.o.p.data),
            frame.i_last.eq(answer.o.p.last),
            answer.o.ready.eq(frame.i.ready),
        ]
        return m


class System(wiring.Component):
    """The accelerator of a board, its memory, and the serial line to the host.

    What is left to a board's own top level: a clock of ``board.clock_mhz``, a reset, and pins.

    Parameters
    ----------
    board : :class:`~weft.boards.board.Board`
        Its ``memory`` makes what the accelerator and the host share.
    design : :class:`int`
        What it says to be the hash of its design, see
        :func:`~weft.boards.system.design_hash.design_hash`.

    Members
    -------
    rx : :py:`In(1, init=1)`
        Serial line from the host; asynchronous, there is a synchronizer inside.
    tx : :py:`Out(1, init=1)`
        Serial line to the host.
    irq : :py:`Out(1)`
        The accelerator's interrupt: it is done, or it stopped.
    active : :py:`Out(1)`
        It reads or writes memory.
    sdram : :py:`Out(SdramSignature(...))`
        Only if the memory lies in a chip: what goes to its pins.

    Raises
    ------
    ConfigError
        If the clock cannot be divided down to the baud rate, or the accelerator has not enough
        address bits for the memory.
    """

    def __init__(self, board: Board, *, design: int = 0):
        config = board.config
        if board.memory_bytes > 1 << config.axi_addr_width:
            raise ConfigError(f"AXI address width must be at least "
                              f"{exact_log2(board.memory_bytes)} for {board.memory_bytes} bytes "
                              f"of memory, not {config.axi_addr_width}")
        self._board = board
        self._design = design
        self._divisor = uart_divisor(clock_hz=board.clock_mhz * 1e6, baud=board.baud)
        chip = board.memory.chip
        super().__init__({
            "rx":     In(1, init=1),
            "tx":     Out(1, init=1),
            "irq":    Out(1),
            "active": Out(1),
            **({} if chip is None else {"sdram": Out(SdramSignature(chip))}),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        board, config = self._board, self._board.config

        m.submodules.accelerator = accelerator = Accelerator(config)
        m.submodules.memory = memory = board.memory.make(config, clock_mhz=board.clock_mhz)
        m.submodules.serial = serial = SerialBridge(divisor=self._divisor, identity=Identity(
            version=PROTOCOL_VERSION, memory_bits=exact_log2(board.memory_bytes),
            clock=round(board.clock_mhz * 100), design=self._design))

        if config.sequential:
            connect(m, accelerator.m_axi, memory.axi)
        else:
            # The memory spreads over the device.
            m.submodules.memory_slice = memory_slice = AxiSlice(**memory_port(config))
            connect(m, accelerator.m_axi, memory_slice.i)
            connect(m, memory_slice.o, memory.axi)
        connect(m, serial.control, accelerator.s_axi)
        connect(m, serial.memory, memory.bytes)
        listening: Value = Const(1)
        if board.memory.chip is not None:
            # The line is idle until the chip has started: what comes for it could not wait.
            listening = memory.ready
            connect(m, memory.chip, wiring.flipped(self.sdram))
        m.d.comb += [
            serial.rx.eq(self.rx | ~listening),
            self.tx.eq(serial.tx),
            serial.irq.eq(accelerator.irq),
            self.irq.eq(accelerator.irq),
            self.active.eq(memory.axi.rvalid | memory.axi.wvalid),
        ]
        return m
