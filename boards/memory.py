"""What stands behind the memory port of a board's accelerator."""

from dataclasses import dataclass
from typing import Any, Protocol

from weft.compiler.timing.memory import MemoryTiming
from weft.hw.isa.config import AcceleratorConfig, ConfigError

from .sdram.chip import SdramChip, SdramTiming

__all__ = ["BoardMemory", "OnChipMemory", "SdramChipMemory"]


class BoardMemory(Protocol):
    """A memory that a board may have: makes its component, and says how large it is."""

    @property
    def size(self) -> int:
        """Bytes, a power of 2 of at least 4096."""
        ...

    @property
    def chip(self) -> SdramChip | None:
        """The chip beside the FPGA that it lies in, if it does."""
        ...

    def startup_cycles(self, clock_mhz: float) -> int:
        """Cycles from a reset until it may be used, at most."""
        ...

    def timing(self, config: AcceleratorConfig, clock_mhz: float) -> MemoryTiming:
        """How fast it is, for compiler and estimate."""
        ...

    def make(self, config: AcceleratorConfig, *, clock_mhz: float) -> Any:
        """The memory's component for an accelerator: a member ``axi``, ``In(MemorySignature)`` of
        the configuration's widths, for the accelerator, and a member ``bytes``,
        :class:`~weft.boards.system.staging.ByteSignature` as its target, for the host. With a
        ``chip`` also a member of that name, ``Out(SdramSignature)``."""
        ...


@dataclass(frozen=True, kw_only=True)
class OnChipMemory:
    """Block memories of the FPGA: a :class:`~weft.boards.system.staging.StagingMemory`.

    Parameters
    ----------
    size : :class:`int`
        Bytes, a power of 2.
    single_port : :class:`bool`
        Of memories that can do but one thing at a time.

    Raises
    ------
    ConfigError
        If the size is out of its range.
    """

    size: int
    single_port: bool = False

    def __post_init__(self) -> None:
        if self.size < 4096 or self.size & (self.size - 1):
            raise ConfigError(f"Memory bytes must be a power of 2 of at least 4096, not "
                              f"{self.size!r}")

    @property
    def chip(self) -> SdramChip | None:
        return None

    def startup_cycles(self, clock_mhz: float) -> int:
        return 0

    def timing(self, config: AcceleratorConfig, clock_mhz: float) -> MemoryTiming:
        from .system.staging import StagingMemory

        return MemoryTiming(latency=StagingMemory.LATENCY, shared=self.single_port)

    def make(self, config: AcceleratorConfig, *, clock_mhz: float) -> Any:
        from weft.hw.bus.axi import memory_port

        from .system.staging import StagingMemory

        return StagingMemory(size=self.size, **memory_port(config), single_port=self.single_port)


@dataclass(frozen=True, kw_only=True)
class SdramChipMemory:
    """An SDRAM beside the FPGA: a :class:`~weft.boards.sdram.memory.SdramMemory`.

    Parameters
    ----------
    chip : :class:`~weft.boards.sdram.chip.SdramChip`
    """

    chip: SdramChip

    @property
    def size(self) -> int:
        return self.chip.size

    def startup_cycles(self, clock_mhz: float) -> int:
        timing = SdramTiming(self.chip, clock_mhz)
        return timing.startup + timing.rp + self.chip.startup_refreshes * timing.rfc + 8

    def timing(self, config: AcceleratorConfig, clock_mhz: float) -> MemoryTiming:
        from .sdram.memory import SdramMemory

        timing, width = SdramTiming(self.chip, clock_mhz), config.axi_data_width
        return MemoryTiming(latency=SdramMemory.latency(timing, width),
                            rate=SdramMemory.rate(timing, width), shared=True,
                            turnaround=SdramMemory.turnaround(timing))

    def make(self, config: AcceleratorConfig, *, clock_mhz: float) -> Any:
        from weft.hw.bus.axi import memory_port

        from .sdram.memory import SdramMemory

        width = self.chip.data_width
        if config.axi_data_width not in (2 * width, 4 * width, 8 * width):
            raise ConfigError(f"AXI data width must be {2 * width}, {4 * width} or {8 * width} for "
                              f"an SDRAM of {width} bits, not {config.axi_data_width}")
        if not self.chip.byte_masks and config.word_bytes < config.axi_bytes:
            raise ConfigError(f"AXI data width must be at most {8 * config.word_bytes} (a word of "
                              f"{config.rows} rows) for a memory without byte masks, not "
                              f"{config.axi_data_width}")
        return SdramMemory(SdramTiming(self.chip, clock_mhz), **memory_port(config))
