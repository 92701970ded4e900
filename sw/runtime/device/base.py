"""What every device back-end offers, and the ways in which a device can fail."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from weft.errors import WeftError
from weft.hw.isa.commands import Engine
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.registers import Error

__all__ = ["Device", "Event", "EventKind", "DeviceError", "DeviceStopped", "DeviceTimeout",
           "check_room"]


class DeviceError(WeftError):
    """A device that is not what was expected, does not answer, or stopped."""


class DeviceStopped(DeviceError):
    """The device stopped in its error state.

    Attributes
    ----------
    error : :class:`weft.hw.isa.registers.Error`
        Why.
    index : :class:`int`
        Index in the command stream of the command that failed.
    command : :class:`str` or :py:`None`
        Its disassembly, where the command stream is known.
    limit : :class:`int` or :py:`None`
        Cycles that the stream was not done within, if that is why.
    """

    def __init__(self, error: Error, index: int, command: str | None = None, *,
                 limit: int | None = None):
        self.error = error
        self.index = index
        self.command = command
        self.limit = limit
        where = f" ({command})" if command else ""
        why = "" if limit is None else f", which takes more than the {limit} cycles of its stream"
        super().__init__(f"Device stopped: {error.name} error in command {index}{where}{why}")


class DeviceTimeout(DeviceError):
    """The device did not raise its interrupt in time."""


def check_room(needed: int, there: int, owner: str) -> None:
    """Checks that a model's external memory is there.

    Parameters
    ----------
    needed, there : :class:`int`
        Bytes.
    owner : :class:`str`
        Whose memory it is, for the message.

    Raises
    ------
    DeviceError
        If the model needs more.
    """
    if needed > there:
        raise DeviceError(f"Model needs {needed} bytes of memory beside the accelerator, "
                          f"{owner} has {there}")


class EventKind(StrEnum):
    """What happened to a command."""
    START = "start"  #: its engine took it up
    DONE  = "done"   #: its engine finished it


class Event(NamedTuple):
    """The start or end of one command in one engine.

    ``index`` is the command's index in the stream, ``cycle`` counts clock cycles from the last
    doorbell.
    """
    engine: Engine
    kind: EventKind
    index: int  # type: ignore[assignment]  # hides a method of tuples that nobody needs here
    cycle: int


class Device(Protocol):
    """An accelerator and the external memory it works on, wherever they are.

    Memory is addressed in bytes from 0 to ``memory_bytes``, with no alignment rule. Registers are
    those of :class:`weft.hw.isa.registers.Register`, also the counters and the configuration ROM at
    their addresses.
    """

    @property
    def config(self) -> AcceleratorConfig:
        """The configuration that the device is meant to have."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Size of the external memory."""
        ...

    def write_memory(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy ``data`` to external memory."""
        ...

    def read_memory(self, address: int, count: int) -> bytes:
        """``count`` bytes of external memory."""
        ...

    def write_register(self, register: int, value: int) -> None:
        """Write 32 bits to the register at byte address ``register``."""
        ...

    def read_register(self, register: int) -> int:
        """The 32 bits of the register at byte address ``register``."""
        ...

    def wait(self, timeout_cycles: int | None = None) -> None:
        """Let the device run until it raises its interrupt; return at once if it has.

        Without a timeout the device's own limits, WATCHDOG and CYCLE_LIMIT, bound the wait.

        Raises
        ------
        DeviceTimeout
            If it has not after ``timeout_cycles`` clock cycles.
        """
        ...

    def events(self) -> Sequence[Event]:
        """Starts and ends of commands since the last doorbell; empty where unknown."""
        ...

    def close(self) -> None:
        """Close the device; it must not be used afterwards."""
        ...
