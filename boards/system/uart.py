"""UART: bytes to and from two wires, eight data bits, no parity, one stop bit."""

from typing import Any

from amaranth import *
from amaranth.lib import cdc, stream, wiring
from amaranth.lib.wiring import In, Out

from weft.hw.isa.config import ConfigError

__all__ = ["BYTE_CYCLES", "UartReceiver", "UartTransmitter", "uart_divisor"]


_MIN_DIVISOR = 4

BYTE_CYCLES = 10 * _MIN_DIVISOR
"""Cycles from a byte to the next, at least."""

_MAX_ERROR = 0.02


def uart_divisor(*, clock_hz: float, baud: int) -> int:
    """Clock cycles of a bit, the nearest whole number.

    Raises
    ------
    ConfigError
        If there are fewer than 4, or the baud rate is missed by more than 2 %.
    """
    divisor = max(1, round(clock_hz / baud))
    if divisor < _MIN_DIVISOR:
        raise ConfigError(f"Baud must be at most {clock_hz / _MIN_DIVISOR:.0f}, a quarter of the "
                          f"clock, not {baud}")
    error = clock_hz / divisor / baud - 1
    if abs(error) > _MAX_ERROR:
        raise ConfigError(f"Baud must be within 2 % of the clock over a whole number, not {baud}: "
                          f"{clock_hz:.0f} Hz / {divisor} is {clock_hz / divisor:.0f}")
    return divisor


class UartReceiver(wiring.Component):
    """Bytes from a wire.

    A bit is taken near its middle, counted from the falling edge of its start bit; the other side
    may be up to 2 % faster or slower. ``o_valid`` comes half a stop bit before the byte is over.

    Parameters
    ----------
    divisor : :class:`int`
        Clock cycles of a bit, at least 4.

    Members
    -------
    rx : :py:`In(1, init=1)`
        The wire, asynchronous; there is a synchronizer behind it.
    o_data : :py:`Out(8)`
    o_valid : :py:`Out(1)`
        Pulse; nothing can hold a byte back.
    o_error : :py:`Out(1)`
        Pulse instead of ``o_valid``: the stop bit was low. The next byte begins only after the
        wire has been high again.
    """

    def __init__(self, *, divisor: int):
        if divisor < _MIN_DIVISOR:
            raise ValueError(f"Divisor must be at least {_MIN_DIVISOR}, not {divisor!r}")
        self._divisor = divisor
        super().__init__({
            "rx":      In(1, init=1),
            "o_data":  Out(8),
            "o_valid": Out(1),
            "o_error": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        rx = Signal(init=1)
        m.submodules.synchronizer = cdc.FFSynchronizer(self.rx, rx, init=1)

        timer = Signal(range(self._divisor))
        bits  = Signal(range(10))
        m.d.sync += self.o_valid.eq(0)
        m.d.sync += self.o_error.eq(0)
        m.d.sync += timer.eq(Mux(timer == 0, self._divisor - 1, timer - 1))

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += bits.eq(9)
                # Half a bit from here, less the part of a cycle by which the edge was seen late.
                m.d.sync += timer.eq((self._divisor - 1) // 2 - 1)
                with m.If(~rx):
                    m.next = "BITS"
            with m.State("BITS"):
                with m.If(timer == 0):
                    m.d.sync += bits.eq(bits - 1)
                    m.d.sync += self.o_data.eq(Cat(self.o_data[1:], rx))
                    with m.If((bits == 9) & rx):  # too short for a start bit
                        m.next = "IDLE"
                    with m.If(bits == 1):
                        m.next = "STOP"
            with m.State("STOP"):
                with m.If(timer == 0):
                    m.d.sync += self.o_valid.eq(rx)
                    m.d.sync += self.o_error.eq(~rx)
                    m.next = "HIGH"
            with m.State("HIGH"):
                with m.If(rx):
                    m.next = "IDLE"

        return m


class UartTransmitter(wiring.Component):
    """Bytes to a wire, one after the other without a gap.

    Parameters
    ----------
    divisor : :class:`int`
        Clock cycles of a bit, at least 4.

    Members
    -------
    i : :py:`In(stream.Signature(8))`
        Bytes; one is taken every ``10 * divisor`` cycles.
    tx : :py:`Out(1, init=1)`
        The wire.
    """

    def __init__(self, *, divisor: int):
        if divisor < _MIN_DIVISOR:
            raise ValueError(f"Divisor must be at least {_MIN_DIVISOR}, not {divisor!r}")
        self._divisor = divisor
        super().__init__({
            "i":  In(stream.Signature(8)),
            "tx": Out(1, init=1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        timer = Signal(range(self._divisor))
        bits  = Signal(range(10))
        shift = Signal(9, init=0x1FF)
        m.d.comb += self.tx.eq(shift[0])
        m.d.comb += self.i.ready.eq((bits == 0) & (timer == 0))
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Elif(bits != 0):
            m.d.sync += timer.eq(self._divisor - 1)
            m.d.sync += bits.eq(bits - 1)
            m.d.sync += shift.eq(Cat(shift[1:], 1))
        with m.Elif(self.i.valid):
            m.d.sync += timer.eq(self._divisor - 1)
            m.d.sync += bits.eq(9)
            m.d.sync += shift.eq(Cat(0, self.i.payload))

        return m
