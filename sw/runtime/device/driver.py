"""The driver: runs command streams on any :class:`weft.runtime.device.base.Device`."""

from collections.abc import Sequence
from dataclasses import dataclass

from weft.hw.isa.commands import COMMAND_BYTES
from weft.hw.isa.encoding import disassemble
from weft.hw.isa.registers import (
    CONFIG_BASE,
    CONFIG_NAMES,
    COUNTER_BASE,
    DEVICE_ID,
    VERSION,
    Control,
    Counter,
    Error,
    Register,
    Status,
    config_words,
)

from .base import Device, DeviceError, DeviceStopped, DeviceTimeout, Event

__all__ = ["Driver", "RunResult", "WATCHDOG_CYCLES"]


WATCHDOG_CYCLES = 1_000_000
"""Cycles without progress after which a device stops itself, unless the driver is told others."""

_IDLE_READS = 3
_REGISTER_MAX = (1 << 32) - 1


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a finished run tells of itself.

    Attributes
    ----------
    cycles : :class:`int`
        Clock cycles from doorbell to interrupt.
    counters : :class:`dict`
        Value of every performance counter; 0 for one that the configuration does without.
    events : sequence of :class:`Event`
        Starts and ends of commands; empty where the device cannot tell.
    """

    cycles: int
    counters: dict[Counter, int]
    events: Sequence[Event]


class Driver:
    """Identifies a device, runs command streams on it and names what went wrong.

    Parameters
    ----------
    device : :class:`Device`
        Checked at construction against its own ``config``.
    watchdog_cycles : :class:`int`
        Cycles without progress after which the device stops itself; 0 turns that off.
    command_cycles : :class:`int`
        Cycles that the commands of a stream may take on average, waiting included, before the
        device stops itself; 0 turns that off. Of a stream as a whole at most ``2**32 - 1``. The
        default is far more than any command takes that writes each word once.
    status_reads : :class:`int`
        How often a reset reads the status until it gives up, at least 3.

    Raises
    ------
    DeviceError
        If it is not a Weft accelerator, of another version, or of another configuration.
    """

    def __init__(self, device: Device, *, watchdog_cycles: int = WATCHDOG_CYCLES,
                 command_cycles: int = 1 << 24, status_reads: int = 10_000):
        for name, value in (("Watchdog", watchdog_cycles), ("Command", command_cycles)):
            if not 0 <= value <= _REGISTER_MAX:
                raise ValueError(f"{name} cycles must be between 0 and {_REGISTER_MAX}, "
                                 f"not {value!r}")
        if status_reads < _IDLE_READS:
            raise ValueError(f"Status reads must be at least {_IDLE_READS}, not {status_reads!r}")
        self._device = device
        self._watchdog_cycles = watchdog_cycles
        self._command_cycles = command_cycles
        self._status_reads = status_reads
        self._identify()
        self.reset()

    @property
    def device(self) -> Device:
        """The device that is driven."""
        return self._device

    def _identify(self) -> None:
        read = self._device.read_register
        found = read(Register.ID)
        if found != DEVICE_ID:
            raise DeviceError(f"Device must identify itself as {DEVICE_ID:#010x}, not {found:#010x}"
                              f": it is not a Weft accelerator, or its clock does not run")
        found = read(Register.VERSION)
        if found != VERSION:
            raise DeviceError(f"Device must be of version {VERSION}, not {found}: build it again "
                              f"with this release of Weft")
        config = self._device.config
        words = config_words(config)
        # Those that the configuration has no word for as well: the device may have one.
        for index, name in enumerate(CONFIG_NAMES):
            wanted, found = words.get(name, 0), read(CONFIG_BASE + 4 * index)
            if found != wanted:
                raise DeviceError(f"Device must have {name} = {wanted} (configuration "
                                  f"{config.name!r}), not {found}: build it again from that "
                                  f"configuration, or choose the one it was built from")

    def reset(self) -> None:
        """Bring the device back to idle from any state: queues empty, semaphores zero.

        The device itself waits until its memory transactions have ended, for no bus survives a
        manager that forgets them.

        Raises
        ------
        DeviceTimeout
            If the memory never answers what is in flight.
        """
        device = self._device
        device.write_register(Register.CONTROL, Control.RESET)
        idle = 0
        for _ in range(self._status_reads):
            status = Status(device.read_register(Register.STATUS))
            # The reset comes a few cycles after the memory has gone quiet, and a doorbell before
            # that is lost: one idle status is not enough.
            idle = idle + 1 if status == Status.QUIET else 0
            if idle == _IDLE_READS:
                break
        else:
            raise DeviceTimeout(f"Device is not idle after a reset, its status is {_names(status)}"
                                f": the memory does not answer what is in flight; power-cycle or "
                                f"rebuild the device")
        device.write_register(Register.WATCHDOG, self._watchdog_cycles)
        device.write_register(Register.IRQ_ENABLE, 1)

    def run(self, address: int, count: int, *, commands: bytes | None = None,
            timeout_cycles: int | None = None) -> RunResult:
        """Run ``count`` commands that lie in external memory from ``address``.

        After a failure the device stays as it stopped until :meth:`reset`.

        Parameters
        ----------
        address : :class:`int`
            Byte address of the first command, a multiple of 64.
        count : :class:`int`
            Number of commands, at least 1.
        commands : :class:`bytes`
            The same commands, to name the one that fails; read back from the device if not given.
        timeout_cycles : :class:`int`
            Longest run, in clock cycles; if not given, the device's own limits are the only ones.

        Raises
        ------
        DeviceStopped
            If a command fails.
        DeviceTimeout
            If the interrupt does not come in time.
        """
        if address < 0 or address % COMMAND_BYTES:
            raise ValueError(f"Command address must be a multiple of {COMMAND_BYTES}, "
                             f"not {address!r}")
        if count < 1:
            raise ValueError(f"Command count must be at least 1, not {count!r}")
        if commands is not None and len(commands) != count * COMMAND_BYTES:
            raise ValueError(f"Commands must be {count * COMMAND_BYTES} bytes for {count} "
                             f"commands, not {len(commands)}")
        device = self._device
        status = Status(device.read_register(Register.STATUS))
        if status & (Status.BUSY | Status.ERROR):
            raise DeviceError(f"Device must be idle before a run, its status is {_names(status)}: "
                              f"reset it first")
        device.write_register(Register.COMMAND_ADDR, address & 0xffff_ffff)
        device.write_register(Register.COMMAND_ADDRH, address >> 32)
        device.write_register(Register.COMMAND_COUNT, count)
        limit = min(count * self._command_cycles, _REGISTER_MAX)
        device.write_register(Register.CYCLE_LIMIT, limit)
        device.write_register(Register.CONTROL, Control.START)
        device.wait(timeout_cycles)

        status = Status(device.read_register(Register.STATUS))
        if status & Status.ERROR:
            raise self._failure(address, count, commands, limit)
        if not status & Status.DONE:
            raise DeviceError(f"Device raised its interrupt without a result, its status is "
                              f"{_names(status)}")
        device.write_register(Register.IRQ_CLEAR, 1)
        counters = {counter: device.read_register(COUNTER_BASE + 4 * counter)
                    for counter in Counter}
        return RunResult(cycles=counters[Counter.CYCLES], counters=counters,
                         events=device.events())

    def _failure(self, address: int, count: int, commands: bytes | None,
                 limit: int) -> DeviceStopped:
        device = self._device
        code = device.read_register(Register.ERROR)
        index = device.read_register(Register.ERROR_INDEX)
        device.write_register(Register.IRQ_CLEAR, 1)
        try:
            error = Error(code)
        except ValueError:
            raise DeviceError(f"Device stopped with the unknown error code {code} in command "
                              f"{index}") from None
        return DeviceStopped(error, index, self._describe(address, count, commands, index),
                             limit=limit if error is Error.CYCLE_LIMIT else None)

    def _describe(self, address: int, count: int, commands: bytes | None,
                  index: int) -> str | None:
        if index >= count:
            return None
        offset = index * COMMAND_BYTES
        if commands is not None:
            raw = commands[offset:offset + COMMAND_BYTES]
        elif address + offset + COMMAND_BYTES <= self._device.memory_bytes:
            raw = self._device.read_memory(address + offset, COMMAND_BYTES)
        else:
            return None
        try:
            return disassemble(raw)
        except ValueError as error:
            return str(error)


def _names(status: Status) -> str:
    return "+".join(bit.name or "" for bit in status) or "0"
