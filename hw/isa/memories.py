"""The on-chip memories: what their units are, and how many each holds.

The check of command streams, :mod:`weft.compiler.assembly.check`, has a table of its own: it is to
find the mistakes of whoever uses this one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from .commands import Memory, Opcode
from .config import AcceleratorConfig
from .constants import RowConstant

__all__ = ["MemoryGeometry", "geometry", "memories", "moved_memory"]


@dataclass(frozen=True)
class MemoryGeometry:
    """Size of an on-chip memory.

    Attributes
    ----------
    depth : :class:`int`
        Units.
    unit_data_bytes : :class:`int`
        Bytes of a unit on chip.
    unit_bytes : :class:`int`
        Bytes that a unit takes in external memory.
    """

    depth: int
    unit_data_bytes: int
    unit_bytes: int


@cache
def geometry(memory: Memory, config: AcceleratorConfig) -> MemoryGeometry:
    """The size of a memory, if there is one."""
    match memory:
        case Memory.ACTIVATION:
            return MemoryGeometry(config.activation_depth, config.word_data_bytes,
                                  config.word_bytes)
        case Memory.WEIGHT:
            return MemoryGeometry(config.weight_depth, config.weight_row_data_bytes,
                                  config.weight_row_bytes)
        case Memory.PARAMETER:
            return MemoryGeometry(config.parameter_depth, config.parameter_entry_data_bytes,
                                  config.parameter_entry_bytes)
        case Memory.VECTOR_WEIGHT:
            return MemoryGeometry(config.vector_entries, config.vector_entry_data_bytes,
                                  config.vector_entry_bytes)
        case Memory.VECTOR_PARAMETER:
            return MemoryGeometry(config.vector_parameter_depth, config.parameter_entry_data_bytes,
                                  config.parameter_entry_bytes)
        case Memory.TABLE:
            return MemoryGeometry(config.vector_table_bytes, 1, 1)
        case Memory.LANE_TABLE:
            return MemoryGeometry(config.vector_table_bytes, config.word_data_bytes,
                                  config.word_bytes)
        case Memory.ROW_CONSTANT:
            return MemoryGeometry(RowConstant.CHANNELS + 2 * config.normalize_channels
                                  if config.normalize_channels else RowConstant.THRESHOLDS, 4, 4)
    raise ValueError(f"Memory must be one of Memory, not {memory!r}")


def memories(config: AcceleratorConfig) -> dict[Memory, MemoryGeometry]:
    """The memories that an accelerator has."""
    needed = {Memory.VECTOR_WEIGHT: config.vector, Memory.VECTOR_PARAMETER: config.vector,
              Memory.LANE_TABLE: config.vector, Memory.TABLE: config.vector or config.drain_lookup,
              Memory.ROW_CONSTANT: config.softmax or config.normalize_channels > 0}
    return {memory: geometry(memory, config) for memory in Memory if needed.get(memory, True)}


def moved_memory(opcode: Opcode, fields: Mapping[str, Any]) -> Memory:
    """The memory that a LOAD fills, or a STORE reads."""
    return Memory.ACTIVATION if opcode is Opcode.STORE else Memory(fields["memory"])
