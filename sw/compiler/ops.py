"""Commands while their addresses are still unknown: what the passes of the compiler work on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from weft.hw.isa.commands import ENGINES, Engine, Memory, Opcode, Rounding, VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.memories import geometry

__all__ = ["Space", "Buffer", "Address", "Quotient", "Difference", "Region", "Fields",
           "FieldValues", "Op", "Lowered"]


class Space(Enum):
    """Where a buffer lives. All but the last are on chip and count units; that counts bytes. Lines
    hold what a VECTOR keeps for the next one: of all that use the same, each comes after those
    before it, as commands of one engine do."""
    ACTIVATION       = "activation"
    WEIGHT           = "weight"
    PARAMETER        = "parameter"
    VECTOR_WEIGHT    = "vector_weight"
    VECTOR_PARAMETER = "vector_parameter"
    TABLE            = "table"
    LINES            = "lines"
    ROW_CONSTANT     = "row_constant"
    EXTERNAL         = "external"

    __hash__ = object.__hash__  # of the member, not of its name: quicker

    @property
    def memory(self) -> Memory:
        """The memory that a LOAD fills."""
        return Memory[self.name]

    @property
    def ring(self) -> bool:
        """Whether it holds constants, one behind the other, round and round."""
        return self not in (Space.ACTIVATION, Space.LINES, Space.EXTERNAL)

    @property
    def single(self) -> bool:
        """Whether constants begin at the first unit, so that one layer has all of it."""
        return self is Space.ROW_CONSTANT

    def depth(self, config: AcceleratorConfig) -> int:
        """Units that there are of it."""
        if self is Space.EXTERNAL:
            return 1 << config.axi_addr_width
        return geometry(self.memory, config).depth

    def unit_data_bytes(self, config: AcceleratorConfig) -> int:
        """Bytes that one unit takes where it lives."""
        return 1 if self is Space.EXTERNAL else geometry(self.memory, config).unit_data_bytes

    def unit_bytes(self, config: AcceleratorConfig) -> int:
        """Bytes that one unit takes in external memory."""
        return 1 if self is Space.EXTERNAL else geometry(self.memory, config).unit_bytes


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
        Name of the layer that an error names if it does not fit.
    data : :class:`bytes` or :py:`None`
        Contents of a constant in external memory.
    """

    name: str
    space: Space
    size: int
    layer: str
    data: bytes | None = field(default=None, repr=False)


# Addresses, regions and ops are not frozen: there are so many that it takes its time.

@dataclass(eq=False, slots=True)
class Address:
    """A place relative to a buffer; it may lie outside it. It never changes."""
    buffer: Buffer
    offset: int = 0


@dataclass(frozen=True, eq=False)
class Quotient:
    """An address divided, for fields that count larger units: the number of a table."""
    address: Address
    divisor: int


@dataclass(frozen=True, eq=False)
class Difference:
    """How far ``after`` lies behind ``before``, modulo 2**24: from one operand to the other."""
    after: Address
    before: Address


@dataclass(eq=False, slots=True)
class Region:
    """Units ``start`` up to, not including, ``stop`` of a buffer; and as many in ``count`` places,
    ``step`` units from one to the next. It never changes."""
    buffer: Buffer
    start: int
    stop: int
    count: int = 1
    step: int = 0

    @classmethod
    def whole(cls, buffer: Buffer) -> "Region":
        """All of ``buffer``."""
        return cls(buffer, 0, buffer.size)

    def starts(self, base: int) -> Sequence[int]:
        """The first unit of each place, of a buffer at ``base``."""
        first = base + self.start
        return (first,) if self.count == 1 else range(first, first + self.count * self.step,
                                                      self.step)


Fields = dict[str, int | Memory | Rounding | VectorOp | Address | Quotient | Difference]
"""All fields of a command by name."""

FieldValues = Mapping[str, Any]
"""Fields of a command by name, as numbers; those that are not needed may be missing or symbolic."""


@dataclass(eq=False, kw_only=True, slots=True)
class Op:
    """One command, with addresses relative to buffers. Once it is emitted it never changes.

    Parameters
    ----------
    opcode : :class:`weft.hw.isa.commands.Opcode`
    layer : :class:`int` or :py:`None`
        Index of the layer it works for; :py:`None` for loads and stores of the graph's inputs.
    text : :class:`str`
        What it does, for dumps and reports.
    fields : :class:`dict`
        All fields of the command; addresses as :class:`Address`.
    reads, writes : :class:`tuple` of :class:`Region`
        All that it touches.

    Attributes
    ----------
    engine : :class:`weft.hw.isa.commands.Engine`
        The one that executes it.
    """

    opcode: Opcode
    layer: int | None
    text: str
    fields: Fields
    reads: tuple[Region, ...]
    writes: tuple[Region, ...]
    engine: Engine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = ENGINES[self.opcode]


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
        Bytes of external memory of every tensor that is loaded or stored, by tensor name.
    placed : :class:`dict`
        Addresses on chip: of activations, which were planned before there were commands; of
        constants once they are placed.
    settled : :class:`bool`
        No constant overwrites another: all are still on chip at the end. Known with their places.
    """

    ops: tuple[Op, ...]
    external: tuple[Buffer, ...]
    slots: dict[str, Region]
    placed: dict[Buffer, int]
    settled: bool = False
