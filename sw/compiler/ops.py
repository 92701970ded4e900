"""Commands while their addresses are still unknown: what the passes of the compiler work on."""

from dataclasses import dataclass, field
from enum import Enum

from weft.config import AcceleratorConfig
from weft.hw.commands import ENGINES, Engine, Memory, Opcode

__all__ = ["Space", "Buffer", "Address", "Region", "Op", "Lowered"]


class Space(Enum):
    """Where a buffer lives. The first three are on chip and count units, the last counts bytes."""
    ACTIVATION = "activation"
    WEIGHT     = "weight"
    PARAMETER  = "parameter"
    EXTERNAL   = "external"

    def depth(self, config: AcceleratorConfig) -> int:
        """Units that there are of it."""
        return {Space.ACTIVATION: config.activation_depth, Space.WEIGHT: config.weight_depth,
                Space.PARAMETER: config.parameter_depth,
                Space.EXTERNAL: 1 << config.axi_addr_width}[self]

    def unit_lanes(self, config: AcceleratorConfig) -> int:
        """Bytes that one unit takes where it lives."""
        return {Space.ACTIVATION: config.word_lanes, Space.WEIGHT: config.weight_row_lanes,
                Space.PARAMETER: config.parameter_entry_lanes, Space.EXTERNAL: 1}[self]


@dataclass(frozen=True, eq=False, kw_only=True)
class Buffer:
    """A run of units that will lie at one address.

    Parameters
    ----------
    name : :class:`str`
        For the memory map.
    space : :class:`Space`
    size : :class:`int`
        Units; bytes in external memory.
    layer : :class:`str`
        Name of the layer that is to blame if it does not fit.
    data : :class:`bytes` or :py:`None`
        Contents of a constant in external memory.
    """

    name: str
    space: Space
    size: int
    layer: str
    data: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Address:
    """A place relative to a buffer; it may lie outside it."""
    buffer: Buffer
    offset: int = 0


@dataclass(frozen=True, eq=False)
class Region:
    """Units ``start`` up to, not including, ``stop`` of a buffer."""
    buffer: Buffer
    start: int
    stop: int

    @classmethod
    def whole(cls, buffer: Buffer) -> "Region":
        """All of ``buffer``."""
        return cls(buffer, 0, buffer.size)


@dataclass(frozen=True, eq=False, kw_only=True)
class Op:
    """One command, with addresses relative to buffers.

    Parameters
    ----------
    opcode : :class:`weft.hw.commands.Opcode`
    layer : :class:`int` or :py:`None`
        Index of the layer it works for; :py:`None` for loads and stores of the graph's inputs.
    text : :class:`str`
        What it does, for people.
    fields : :class:`dict`
        All fields of the command; addresses as :class:`Address`.
    reads, writes : :class:`tuple` of :class:`Region`
        All that it touches.
    """

    opcode: Opcode
    layer: int | None
    text: str
    fields: dict[str, int | Memory | Address]
    reads: tuple[Region, ...]
    writes: tuple[Region, ...]

    @property
    def engine(self) -> Engine:
        """The engine that executes it."""
        return ENGINES[self.opcode]


@dataclass(frozen=True, eq=False, kw_only=True)
class Lowered:
    """A graph as symbolic commands.

    Attributes
    ----------
    ops : :class:`tuple` of :class:`Op`
        In stream order: executed one after another they compute the graph.
    external : :class:`tuple` of :class:`Buffer`
        Sections of external memory, in order.
    slots : :class:`dict`
        External buffer of every tensor that is loaded or stored, by tensor name.
    """

    ops: tuple[Op, ...]
    external: tuple[Buffer, ...]
    slots: dict[str, Buffer]
