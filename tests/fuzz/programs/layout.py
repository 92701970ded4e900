"""Where random command streams work: windows of the memories on chip, and external memory."""

import random
from dataclasses import dataclass

from fuzz.programs.order import Command
from weft.hw.isa.commands import Memory, Opcode, VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.memories import geometry
from weft.hw.isa.vector_rules import window_groups

__all__ = ["KIB", "Layout", "allowed_places", "entries_fit"]


KIB = 1024


@dataclass(frozen=True)
class Layout:
    """Where everything lies: the windows on chip that streams use, and external memory.

    Attributes
    ----------
    words, weight_rows : :class:`range`
        Of the activation and the weight memory.
    """

    config: AcceleratorConfig
    words: range
    weight_rows: range

    MEMORY_BYTES = 144 * KIB
    COMMANDS     = range(16 * KIB)
    PARAMETERS   = range(16 * KIB, 24 * KIB)  # never written
    ENTRIES      = range(24 * KIB, 40 * KIB)  # of the vector engine; never written
    DATA         = range(40 * KIB, 96 * KIB)
    DUMP         = range(96 * KIB, 128 * KIB)
    CONSTANTS    = range(128 * KIB, 144 * KIB)  # of NORMALIZE; never written

    @classmethod
    def draw(cls, rng: random.Random, config: AcceleratorConfig) -> "Layout":
        def window(depth: int, size: int) -> range:
            size = min(depth, size)
            start = rng.choice((0, depth - size, rng.randint(0, depth - size)))
            return range(start, start + size)
        return cls(config, window(config.activation_depth, 2 * config.accumulator_pixels + 200),
                   window(config.weight_depth, 400))

    def units(self, memory: Memory) -> tuple[range, int]:
        """The window of a memory, and the bytes of a unit outside."""
        config = self.config
        return {
            Memory.ACTIVATION: (self.words, config.word_bytes),
            Memory.WEIGHT: (self.weight_rows, config.weight_row_bytes),
            Memory.PARAMETER: (range(config.parameter_depth), config.parameter_entry_bytes),
            Memory.VECTOR_WEIGHT: (range(config.vector_entries), config.vector_entry_bytes),
            Memory.VECTOR_PARAMETER: (range(config.vector_parameter_depth),
                                      config.parameter_entry_bytes),
            Memory.TABLE: (range(config.vector_table_bytes), 1),
            Memory.LANE_TABLE: (range(config.vector_table_bytes), config.word_bytes),
            Memory.ROW_CONSTANT: (range(geometry(memory, config).depth), 4),
        }[memory]


def allowed_places(config: AcceleratorConfig, fields: dict[str, int]) -> list[int]:
    """Of each weight entry that a VECTOR reads, a mask of the places that need not be zero."""
    op, taps = VectorOp(fields["op"]), config.vector_taps
    every = (1 << taps) - 1
    blocks = 1 if fields["shared"] else fields["blocks"]
    if op is VectorOp.CONV:
        groups = window_groups(config, (fields["kernel_outer"], fields["kernel_inner"]),
                               lines=bool(fields["lines"]))
        return [every & -(1 << taps - len(group)) for group in groups] * blocks
    if op is VectorOp.ADD:
        if config.vector_lines:     # both multipliers in one entry
            return [(1 << 6) - 1] * blocks
        passes = -(-3 // taps)
        return ([every] * (passes - 1) + [(1 << 3 - (passes - 1) * taps) - 1]) * 2 * blocks
    return []


def entries_fit(config: AcceleratorConfig, command: Command, places: list[int]) -> bool:
    """Whether a VECTOR finds its weights in the form that it needs. Keeps ``places`` up to date, of
    each entry a mask of those that are not zero."""
    fields = command.fields
    if command.places:
        start = fields["local_address"]
        places[start:start + len(command.places)] = command.places
    if command.opcode is not Opcode.VECTOR:
        return True
    allowed = allowed_places(config, fields)
    have = places[fields["weight_base"]:fields["weight_base"] + len(allowed)]
    return all(some & ~may == 0 for some, may in zip(have, allowed, strict=True))
