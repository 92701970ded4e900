"""What Weft knows of a board: its device, its accelerator, and how the host talks to it."""

from dataclasses import dataclass

from weft.compiler.timing.memory import MemoryTiming
from weft.hw.isa.config import AcceleratorConfig, ConfigError

from .family import Capacity, Device, Family
from .memory import BoardMemory

__all__ = ["Board"]


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board and the accelerator that is built for it by default.

    Parameters
    ----------
    name : :class:`str`
        As the command line knows it.
    title : :class:`str`
        As its maker calls it.
    family : :class:`~weft.boards.family.Family`
    device : :class:`str`
        The FPGA, as its maker calls it; one of the family's ``devices`` if it is to be built for.
    config : :class:`AcceleratorConfig`
        The accelerator.
    clock_mhz : :class:`float`
        Clock of the accelerator that is asked for.
    memory : :class:`~weft.boards.memory.BoardMemory`
        The accelerator's external memory: commands, constants and tensors on their way.
    baud : :class:`int`
        Bits per second of the serial port.
    loader : :class:`str`
        What openFPGALoader calls the board.
    usb : :class:`bool`
        The host is at a full-speed USB port of the FPGA's own, and not at the serial port.

    Raises
    ------
    ConfigError
        If a value is out of its range.
    """

    name: str
    title: str
    family: Family
    device: str
    config: AcceleratorConfig
    clock_mhz: float
    memory: BoardMemory
    baud: int
    loader: str = ""
    usb: bool = False

    def __post_init__(self) -> None:
        if not self.clock_mhz > 0:
            raise ConfigError(f"Clock must be more than 0 MHz, not {self.clock_mhz!r}")
        if not 0 < self.baud <= self.clock_mhz * 1e6 / 4:
            raise ConfigError(f"Baud must be 1 to a quarter of the clock "
                              f"({self.clock_mhz * 1e6 / 4:.0f}), not {self.baud!r}")

    @property
    def fpga(self) -> Device:
        """The FPGA, as its family knows it."""
        return self.family.devices[self.device]

    @property
    def capacity(self) -> Capacity:
        """What the FPGA has."""
        return self.fpga.capacity

    @property
    def memory_bytes(self) -> int:
        """Size of the memory."""
        return self.memory.size

    def memory_timing(self, config: AcceleratorConfig) -> MemoryTiming:
        """How fast the memory is, behind the port of an accelerator of ``config``."""
        return self.memory.timing(config, self.clock_mhz)
