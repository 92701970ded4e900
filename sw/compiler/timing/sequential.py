"""How long a sequential accelerator takes: one command after the other, and each beat by itself.

Requantization normalizes and aligns a bit per cycle, so what it takes depends on the values; a
mean is assumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from weft.hw.control.port import ControlPort
from weft.hw.isa.commands import COMMAND_BYTES, Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.memories import geometry, moved_memory
from weft.hw.sequential.beats import BeatMaster
from weft.hw.sequential.convolve import ConvolutionEngine
from weft.hw.sequential.copy import CopyEngine
from weft.hw.sequential.core import SequentialCore
from weft.hw.sequential.requantize import SerialRequantizer

from .memory import MemoryTiming

__all__ = ["SequentialRun", "run_sequential"]


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
    cycle = (ControlPort.DOORBELL_LATENCY + ControlPort.START_LATENCY
             + SequentialCore.START_LATENCY)
    for opcode, fields in commands:
        start = (cycle + beats * (memory.latency + BeatMaster.CYCLES) - 1
                 + SequentialCore.LAUNCH_CYCLES)
        read += beats
        if opcode is Opcode.MATRIX:
            cycles = _matrix(fields, config)
        else:
            # No more than a beat of a unit moves at a time.
            unit = geometry(moved_memory(opcode, fields), config).unit_bytes
            moved = fields["lines"] * fields["units"] * (unit // config.axi_bytes)
            store = opcode is Opcode.STORE
            beat = memory.latency + BeatMaster.CYCLES + CopyEngine.BEAT_CYCLES
            if store:
                beat += BeatMaster.WRITE_CYCLES
            cycles = fields["lines"] * CopyEngine.LINE_CYCLES + moved * beat
            read, write = (read, write + moved) if store else (read + moved, write)
        spans.append((start, start + cycles))
        cycle = start + cycles + 1
    # The interrupt comes a cycle after the last command's end; that of the doorbell is not counted.
    return SequentialRun(spans=spans, cycles=cycle - 1, read_beats=read, write_beats=write)


def _matrix(fields: dict[str, Any], config: AcceleratorConfig) -> int:
    words = fields["channel_blocks"] * fields["kernel_h"] * fields["kernel_w"]
    tiles, pixels = fields["col_tiles"], fields["out_pixels"]
    groups = (tiles - 1) * config.requant_groups + fields["last_groups"]
    value = SerialRequantizer.CYCLES + SerialRequantizer.MEAN_SHIFTS
    return int(tiles * (ConvolutionEngine.TILE_CYCLES
                        + pixels * (ConvolutionEngine.PIXEL_CYCLES + words * config.rows))
               + pixels * groups * value)
