"""A board at the end of a serial cable."""

import time
from collections.abc import Sequence
from contextlib import suppress

import serial

from weft.boards.system.protocol import PROTOCOL_VERSION, Answer, Identity, Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.registers import COUNTER_BASE, Counter

from .base import DeviceError, DeviceTimeout, Event, check_room
from .link import PATIENCE, Link, Port, Request

__all__ = ["DEFAULT_BAUD", "SerialDevice", "open_port"]


DEFAULT_BAUD = 3_000_000

_REGISTER_BYTES = 4
_DIGEST_BYTES = 32


def _label(digest: bytes) -> bytes:
    """What the label says of a digest; a reset leaves zero there."""
    return bytes([digest[0] | 1]) + digest[1:_REGISTER_BYTES]


def open_port(path: str, baud: int) -> Port:
    """A serial port of the host.

    Raises
    ------
    DeviceError
        If it cannot be opened.
    """
    try:
        port = serial.Serial(path, baud, exclusive=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DeviceError(f"Serial port {path} cannot be opened at {baud} baud: {reason}") \
            from None
    # Turns off the USB adapter's latency timer of up to 16 ms, where it can be turned off.
    with suppress(OSError, ValueError, AttributeError, NotImplementedError):
        port.set_low_latency_mode(True)
    return port


class SerialDevice:
    """A :class:`weft.runtime.device.base.Device` behind a serial line.

    Damaged and lost bytes cost time only; a line that stays silent is an error.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
        What the board is meant to hold; the driver checks it.
    memory_bytes : :class:`int`
        Memory that is needed, at least.
    port : :class:`str` or :class:`~weft.runtime.device.link.Port`
        Path of a serial port, or an object like ``serial.Serial``.
    baud : :class:`int`
        Bits per second, as the board was built for.
    patience : :class:`float`
        Seconds of silence, beyond what the line takes, after which something is taken as lost.

    Raises
    ------
    DeviceError
        If the port cannot be opened, nothing answers, what answers speaks another version of the
        protocol, or it has too little memory.
    """

    def __init__(self, config: AcceleratorConfig, *, memory_bytes: int, port: str | Port,
                 baud: int = DEFAULT_BAUD, patience: float = PATIENCE):
        self._config = config
        name = port if isinstance(port, str) else getattr(port, "name", "port")
        self._port = open_port(port, baud) if isinstance(port, str) else port
        try:
            self._link = Link(self._port, name=name, baud=baud, patience=patience)
            self._identity = self._identify(name, memory_bytes)
        except BaseException:
            self._port.close()
            raise

    def _identify(self, name: str, memory_bytes: int) -> Identity:
        self._link.drain()
        identity = Identity.unpack(self._link.ask(Request(Opcode.IDENTIFY, length=Identity.size())))
        if identity.version != PROTOCOL_VERSION:
            raise DeviceError(f"Device at {name} must speak version {PROTOCOL_VERSION} of the "
                              f"serial protocol, not {identity.version}: build its bitstream "
                              f"again with this release of Weft")
        check_room(memory_bytes, 1 << identity.memory_bits, f"the device at {name}")
        return identity

    @property
    def config(self) -> AcceleratorConfig:
        """The configuration that the board is meant to have."""
        return self._config

    @property
    def memory_bytes(self) -> int:
        """Size of the board's memory."""
        return 1 << self._identity.memory_bits

    @property
    def clock_mhz(self) -> float:
        """Clock of the accelerator."""
        return self._identity.clock / 100

    @property
    def design(self) -> int:
        """The hash of what the board was built from, see
        :func:`~weft.boards.system.design_hash.design_hash`."""
        return self._identity.design

    @property
    def link(self) -> Link:
        """The line itself, for counting what went wrong on it."""
        return self._link

    def pause(self, seconds: float) -> None:
        """Let so much time pass, and say nothing to the board."""
        time.sleep(seconds)

    def _check_range(self, address: int, count: int) -> None:
        if address < 0 or count < 0 or address + count > self.memory_bytes:
            raise DeviceError(f"Memory access must lie within the {self.memory_bytes} bytes of "
                              f"memory, not {count} bytes at {address:#x}")

    def write_memory(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy ``data`` to memory."""
        raw = bytes(data)
        self._check_range(address, len(raw))
        self._link.write(address, raw)

    def read_memory(self, address: int, count: int) -> bytes:
        """``count`` bytes of memory."""
        self._check_range(address, count)
        return self._link.read(address, count)

    def holds(self, digest: bytes, end: int) -> bool:
        """Whether memory up to ``end`` holds what has this digest, see
        :class:`weft.runtime.loading.Keeper`.

        The digest lies at the end of memory. That it was not left there by chance, as after a short
        loss of power, the label says, a register that a reset clears.
        """
        return (self._keeps(end)
                and self._link.ask(Request(Opcode.READ_LABEL, length=_REGISTER_BYTES))
                == _label(digest)
                and self.read_memory(self.memory_bytes - len(digest), len(digest)) == digest)

    def remember(self, digest: bytes | None, end: int = 0) -> None:
        """Note what memory up to ``end`` holds, or with :py:`None` that this is not known."""
        label = bytes(_REGISTER_BYTES)
        if digest is not None and self._keeps(end):
            self.write_memory(self.memory_bytes - len(digest), digest)
            label = _label(digest)
        self._link.ask(Request(Opcode.WRITE_LABEL, payload=label))

    def _keeps(self, end: int) -> bool:
        return end <= self.memory_bytes - _DIGEST_BYTES

    def write_register(self, register: int, value: int) -> None:
        """Write a register."""
        raw = (value & 0xffff_ffff).to_bytes(_REGISTER_BYTES, "little")
        self._link.ask(Request(Opcode.WRITE_REGISTER, register, raw))

    def read_register(self, register: int) -> int:
        """Read a register."""
        return int.from_bytes(self._link.ask(Request(
            Opcode.READ_REGISTER, register, length=_REGISTER_BYTES)), "little")

    def wait(self, timeout_cycles: int | None = None) -> None:
        """Ask again and again, until the interrupt is up.

        Raises
        ------
        DeviceTimeout
            If it is not after ``timeout_cycles``.
        DeviceError
            If the line fails, or the device is reset meanwhile.
        """
        while True:
            cycles = self.read_register(COUNTER_BASE + 4 * Counter.CYCLES)
            if self._link.flags & Answer.IRQ:
                return
            if timeout_cycles is not None and cycles >= timeout_cycles:
                raise DeviceTimeout(f"Device did not raise its interrupt within {timeout_cycles} "
                                    f"cycles")

    def events(self) -> Sequence[Event]:
        """None: a board does not record them."""
        return []

    def close(self) -> None:
        """Close the port."""
        self._port.close()
