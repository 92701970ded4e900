"""All that is on the chip of a board, but for clock and pins."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect
from amaranth.utils import exact_log2

from weft.boards.board import Board
from weft.boards.sdram.signals import SdramSignature
from weft.hw.accelerator import Accelerator
from weft.hw.bus.axi import memory_port
from weft.hw.bus.axi_slice import AxiSlice
from weft.hw.isa.config import ConfigError

from .host import ANSWER, SerialBridge, StreamBridge
from .protocol import PROTOCOL_VERSION, Identity
from .uart import uart_divisor

__all__ = ["System"]


class System(wiring.Component):
    """The accelerator of a board, its memory, and the way to the host.

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
    i : :py:`In(stream.Signature(8))`
        In place of ``rx`` if ``board.usb``: bytes from the host.
    o : :py:`Out(stream.Signature(ANSWER))`
        In place of ``tx``: bytes to the host.
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
        chip = board.memory.chip
        if board.usb:
            host = {"i": In(stream.Signature(8)), "o": Out(stream.Signature(ANSWER))}
        else:
            self._divisor = uart_divisor(clock_hz=board.clock_mhz * 1e6, baud=board.baud)
            host = {"rx": In(1, init=1), "tx": Out(1, init=1)}
        super().__init__({
            **host,
            "irq":    Out(1),
            "active": Out(1),
            **({} if chip is None else {"sdram": Out(SdramSignature(chip))}),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        board, config = self._board, self._board.config

        m.submodules.accelerator = accelerator = Accelerator(config)
        m.submodules.memory = memory = board.memory.make(config, clock_mhz=board.clock_mhz)
        identity = Identity(
            version=PROTOCOL_VERSION, memory_bits=exact_log2(board.memory_bytes),
            clock=round(board.clock_mhz * 100), design=self._design)
        m.submodules.host = host = StreamBridge(identity=identity) if board.usb \
            else SerialBridge(divisor=self._divisor, identity=identity)

        if config.sequential:
            connect(m, accelerator.m_axi, memory.axi)
        else:
            # The memory spreads over the device.
            m.submodules.memory_slice = memory_slice = AxiSlice(**memory_port(config))
            connect(m, accelerator.m_axi, memory_slice.i)
            connect(m, memory_slice.o, memory.axi)
        connect(m, host.control, accelerator.s_axi)
        connect(m, host.memory, memory.bytes)
        listening: Value = Const(1)
        if board.memory.chip is not None:
            # What comes for the chip must wait until it has started.
            listening = memory.ready
            connect(m, memory.chip, wiring.flipped(self.sdram))
        if board.usb:
            connect(m, host.o, wiring.flipped(self.o))
            m.d.comb += [
                host.i.payload.eq(self.i.payload),
                host.i.valid.eq(self.i.valid & listening),
                self.i.ready.eq(host.i.ready & listening),
            ]
        else:
            # Nothing can wait on a line: it seems idle.
            m.d.comb += [
                host.rx.eq(self.rx | ~listening),
                self.tx.eq(host.tx),
            ]
        m.d.comb += [
            host.irq.eq(accelerator.irq),
            self.irq.eq(accelerator.irq),
            self.active.eq(memory.axi.rvalid | memory.axi.wvalid),
        ]
        return m
