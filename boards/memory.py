"""What stands behind the memory port of a board's accelerator."""

from dataclasses import dataclass
from typing import Any, Protocol

from weft.hw.isa.config import AcceleratorConfig, ConfigError

__all__ = ["BoardMemory", "OnChipMemory"]


class BoardMemory(Protocol):
    """A memory that a board may have: makes its component, and says how large it is."""

    @property
    def size(self) -> int:
        """Bytes, a power of 2 of at least 4096."""
        ...

    def make(self, config: AcceleratorConfig) -> Any:
        """The memory's component for an accelerator: a member ``axi``, ``In(MemorySignature)`` of
        the configuration's widths, for the accelerator, and a member ``bytes``,
        :class:`~weft.boards.system.staging.ByteSignature` as its target, for the host."""
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

    def make(self, config: AcceleratorConfig) -> Any:
        from weft.hw.bus.axi import memory_port

        from .system.staging import StagingMemory

        return StagingMemory(size=self.size, **memory_port(config), single_port=self.single_port)
