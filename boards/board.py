"""What Weft knows of a board: its device, its accelerator, and how the host talks to it."""

from dataclasses import dataclass
from enum import StrEnum

from weft.hw.isa.config import AcceleratorConfig, ConfigError

__all__ = ["Board", "Family"]


class Family(StrEnum):
    """FPGA families, each with its own tools and primitives."""
    ECP5  = "ecp5"
    ICE40 = "ice40"


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board and the accelerator that is built for it by default.

    Parameters
    ----------
    name : :class:`str`
        As the command line knows it.
    title : :class:`str`
        As its maker calls it.
    family : :class:`Family`
    device : :class:`str`
        The FPGA, as its tools call it.
    config : :class:`AcceleratorConfig`
        The accelerator.
    clock_mhz : :class:`float`
        Clock of the accelerator that is asked for.
    memory_bytes : :class:`int`
        On-chip memory that stands in for external memory: commands, constants and tensors on
        their way. A power of 2.
    baud : :class:`int`
        Bits per second of the serial port.
    loader : :class:`str`
        What openFPGALoader calls the board.

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
    memory_bytes: int
    baud: int
    loader: str = ""

    def __post_init__(self) -> None:
        if self.memory_bytes < 4096 or self.memory_bytes & (self.memory_bytes - 1):
            raise ConfigError(f"Memory bytes must be a power of 2 of at least 4096, not "
                              f"{self.memory_bytes!r}")
        if not self.clock_mhz > 0:
            raise ConfigError(f"Clock must be more than 0 MHz, not {self.clock_mhz!r}")
        if not 0 < self.baud <= self.clock_mhz * 1e6 / 4:
            raise ConfigError(f"Baud must be 1 to a quarter of the clock "
                              f"({self.clock_mhz * 1e6 / 4:.0f}), not {self.baud!r}")
