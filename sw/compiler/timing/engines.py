"""How long a command takes: one model for each engine, from the latencies of the hardware.

Time is in clock cycles. A model takes the commands of its engine in order, each with the cycle in
which the engine accepts it, and tells when the engine can accept the next one and when the command
is done. :mod:`weft.compiler.timing.player` plays whole command streams with them; here is what a
command takes alone, and what one costs before it is known.
"""

from dataclasses import dataclass

from weft.compiler.ops import FieldValues
from weft.hw.isa.commands import Opcode
from weft.hw.isa.config import AcceleratorConfig

from .banks import Spans, Stream, stall_rate
from .matrix import MatrixTiming, step_cycles
from .memory import MEMORY, MemoryTiming, ReadPort, bursts
from .transfer import (
    LoadTiming,
    StoreTiming,
    load_overhead,
    row_cycles,
    store_overhead,
    transfer_size,
    turn_cycles,
    turn_overhead,
)
from .vector import (
    VectorTiming,
    element_steps,
    scales,
    sweep_cycles,
    vector_overhead,
    vector_steps,
    window_steps,
)

__all__ = ["COMMAND_OVERHEAD", "COMMAND_WORTH", "MEMORY", "Cost", "LoadTiming", "MatrixTiming",
           "MemoryTiming", "ReadPort", "Spans", "StoreTiming", "Stream", "VectorTiming", "bursts",
           "command_cost", "element_steps", "stall_rate", "step_cycles", "sweep_cycles",
           "transfer_size", "turn_cycles", "vector_overhead", "vector_steps", "window_steps"]


COMMAND_OVERHEAD = 32
"""What a command takes beside its work, where it is not known yet which one it will be: cycles of
its fetch, tokens and latencies that nothing hides."""

COMMAND_WORTH = 8
"""Cycles that one command more has to save, as loads lose some to its fetch."""


# All LOADs, and all STOREs, are reckoned to take as long as one of these beside their own lines: an
# order that is chosen by what each of them takes is no better.
_TYPICAL_LINES = 16
_TYPICAL_MOVES = 8


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a command takes of its engine if it need not wait for anything.

    Attributes
    ----------
    busy : :class:`int`
        Cycles until the engine can take up the next command at full speed.
    latency : :class:`int`
        Cycles from its start until it is done.
    """

    busy: int
    latency: int


def command_cost(config: AcceleratorConfig, opcode: Opcode, fields: FieldValues,
                 memory: MemoryTiming = MEMORY) -> Cost:
    """What a command takes alone, on an engine at rest.

    Parameters
    ----------
    fields : :class:`dict`
        Of the command; no addresses, nor differences of them, are looked at.
    """
    match opcode:
        case Opcode.MATRIX:
            matrix = MatrixTiming(config)
            _, done, (begin, end) = matrix.run(0, fields)
            return Cost(busy=end - begin, latency=done)
        case Opcode.VECTOR:
            scaled = scales(fields)
            cycles = sweep_cycles(
                config, fields["blocks"], (fields["out_outer"], fields["out_inner"]),
                vector_steps(config, fields), scaled=scaled)
            return Cost(busy=cycles, latency=cycles + vector_overhead(config, scaled=scaled))
        case Opcode.SOFTMAX | Opcode.NORMALIZE:
            cycles = row_cycles(config, opcode, fields["pixels"], fields["blocks"])
            return Cost(busy=cycles, latency=cycles)
        case Opcode.TURN:
            cycles = turn_cycles(config, fields) + turn_overhead(config)
            return Cost(busy=cycles, latency=cycles)
    lines, beats, moves = transfer_size(config, opcode, fields)
    cycles = lines * max(memory.cycles(beats + 1), moves)
    overhead = (load_overhead(config, _TYPICAL_LINES) if opcode is Opcode.LOAD
                else store_overhead(config, _TYPICAL_LINES, _TYPICAL_MOVES))
    # The first line waits for the memory, the others follow without a gap.
    return Cost(busy=cycles, latency=cycles + memory.latency + overhead)
