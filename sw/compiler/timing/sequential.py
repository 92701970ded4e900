"""How long a sequential accelerator takes: one command after the other, and each beat by itself.

Requantization normalizes and aligns a bit per cycle, so what it takes depends on the values; a
mean is assumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from weft.hw.isa.commands import COMMAND_BYTES, Memory, Opcode
from weft.hw.isa.config import AcceleratorConfig

from .memory import MemoryTiming

__all__ = ["SequentialRun", "run_sequential"]


# Cycles from the doorbell to the first fetch. The interrupt comes a cycle after the last command's
# end; the cycle of the doorbell itself is not counted.
_DOORBELL = 4

_FETCH = 2      # cycles of a beat of a command, beside the latency of the memory
_BEAT = 3       # of one that is copied
_WRITE = 4      # of one that is written, which takes a cycle on the bus before its response
_LAUNCH = 1     # from the last beat of a command to its start
_LINE = 1
_TILE = 1
_PIXEL = 3      # beside its words and values
_VALUE = 36     # to requantize one, beside shifting
_SHIFTS = 9     # on average


@dataclass(frozen=True)
class SequentialRun:
    """A command stream on a sequential accelerator.

    Attributes
    ----------
    spans : list of (:class:`int`, :class:`int`)
        For each command, cycles from the doorbell until it starts, and is done.
    cycles : :class:`int`
        From doorbell to interrupt.
    read_beats, write_beats : :class:`int`
        Traffic of the memory port, commands included.
    """

    spans: list[tuple[int, int]]
    cycles: int
    read_beats: int
    write_beats: int


def run_sequential(commands: Sequence[tuple[Opcode, dict[str, Any]]], config: AcceleratorConfig,
                   memory: MemoryTiming) -> SequentialRun:
    """Executes commands, given by opcode and fields, in virtual time."""
    beats = COMMAND_BYTES // config.axi_bytes
    spans = []
    read = write = 0
    cycle = _DOORBELL
    for opcode, fields in commands:
        start = cycle + beats * (memory.latency + _FETCH) - 1 + _LAUNCH
        read += beats
        if opcode is Opcode.MATRIX:
            cycles = _matrix(fields, config)
        else:
            unit = 2 if fields.get("memory", Memory.ACTIVATION) == Memory.PARAMETER.value else 1
            moved = fields["lines"] * fields["units"] * unit
            store = opcode is Opcode.STORE
            cycles = fields["lines"] * _LINE + moved * (
                memory.latency + (_WRITE if store else _BEAT))
            read, write = (read, write + moved) if store else (read + moved, write)
        spans.append((start, start + cycles))
        cycle = start + cycles + 1
    return SequentialRun(spans=spans, cycles=cycle - 1, read_beats=read, write_beats=write)


def _matrix(fields: dict[str, Any], config: AcceleratorConfig) -> int:
    words = fields["channel_blocks"] * fields["kernel_h"] * fields["kernel_w"]
    tiles, pixels = fields["col_tiles"], fields["out_pixels"]
    groups = (tiles - 1) * config.requant_groups + fields["last_groups"]
    return int(tiles * (_TILE + pixels * (_PIXEL + words * config.rows))
               + pixels * groups * (_VALUE + _SHIFTS))
