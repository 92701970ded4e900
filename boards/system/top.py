"""What a board's bitstream holds: a system, with clock and pins around it."""

from dataclasses import replace
from typing import Any

from amaranth import *
from amaranth.build import ResourceError
from amaranth.lib import io
from amaranth.lib.wiring import connect

from weft.boards.board import Board
from weft.boards.registry import make_platform
from weft.boards.sdram.pins import SdramPins, clock_degrees
from weft.boards.usb.pins import UsbPins
from weft.errors import ToolError
from weft.errors.distribution import install_command
from weft.hw.isa.config import ConfigError

from .chip import System
from .design_hash import design_hash

__all__ = ["Top"]


class Top(Elaboratable):
    """The design of ``board``.

    The host is at the resource ``uart`` of the platform or, if ``board.usb``, at ``usb``.

    LED 0 is on once the clock runs, LED 1 while the accelerator reads or writes memory, LED 2
    once it is done or has stopped; a board with fewer shows the first ones. A platform may name
    resources in ``high_pins``, which are driven high.

    Parameters
    ----------
    board : :class:`Board`
        Its ``clock_mhz`` is what is asked for.

    Attributes
    ----------
    clock_mhz : :class:`float`
        What the board's oscillator is turned into: as near to that as it goes.

    Raises
    ------
    ConfigError
        If it does not go near enough, the system cannot be made, or there is no such USB port.
    ToolError
        If the package is missing that the USB device is made of.
    """

    def __init__(self, board: Board):
        oscillator_mhz = make_platform(board).default_clk_frequency / 1e6
        self._clock = board.family.clock(oscillator_mhz, board.clock_mhz)
        self._chip = board.memory.chip
        if self._chip is not None:
            self._clock.shift("chip", clock_degrees(self.clock_mhz))
        self._usb = _usb_device(board) if board.usb else None
        if board.usb:
            self._clock.add_usb()
        self._system = System(replace(board, clock_mhz=self.clock_mhz), design=design_hash(board))

    @property
    def clock_mhz(self) -> float:
        return self._clock.output_mhz

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        m.domains.sync = ClockDomain("sync", reset_less=self._clock.reset_less)
        m.submodules.clock = self._clock
        m.submodules.system = system = self._system

        if self._usb is not None:
            self._connect_usb(m, platform)
        else:
            uart = platform.request("uart", dir="-")
            m.submodules.rx = rx = io.Buffer("i", uart.rx)
            m.submodules.tx = tx = io.Buffer("o", uart.tx)
            m.d.comb += [
                system.rx.eq(rx.i),
                tx.o.eq(system.tx),
            ]

        if self._chip is not None:
            m.domains.chip = ClockDomain("chip", reset_less=True)
            m.submodules.pins = pins = SdramPins(platform.request("sdram", dir="-"), self._chip)
            connect(m, system.sdram, pins.signals)

        for index, state in enumerate((self._clock.running, system.active, system.irq)):
            try:
                port = platform.request("led", index, dir="-")
            except ResourceError:
                break
            m.submodules[f"led_{index}"] = led = io.Buffer("o", port)
            m.d.comb += led.o.eq(state)

        for name in getattr(platform, "high_pins", ()):
            m.submodules[name] = pin = io.Buffer("o", platform.request(name, 0, dir="-"))
            m.d.comb += pin.o.eq(1)

        return m

    def _connect_usb(self, m: Module, platform: Any) -> None:
        m.domains.usb_io = ClockDomain("usb_io")
        m.domains.usb = ClockDomain("usb")
        m.submodules.usb = usb = self._usb
        m.submodules.usb_pins = pins = UsbPins(platform.request("usb", dir="-"))
        connect(m, usb.o, self._system.i)
        connect(m, self._system.o, usb.i)
        connect(m, usb.wires, pins.wires)


def _usb_device(board: Board) -> Any:
    """The device at the board's USB port, of a package that other boards do without."""
    port = next((resource for (name, _), resource in make_platform(board).resources.items()
                 if name == "usb"), None)
    pullups = () if port is None else [subsignal.ios[0].names for subsignal in port.ios
                                       if getattr(subsignal, "name", None) == "pullup"]
    if [len(names) for names in pullups] != [1]:
        raise ConfigError(f"Board must have a USB port at pins of its FPGA, with one pull-up, "
                          f"which {board.name} has not")
    try:
        from weft.boards.usb.device import UsbSerial
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("luna", "usb_protocol"):
            raise
        raise ToolError(f"Package luna-usb, of which a board's USB device is made, is not "
                        f"installed: run {install_command('usb')}") from None
    return UsbSerial()
