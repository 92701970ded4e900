"""What commands do, counted: words that memories read and write, products, beats of the port.

The counts follow from the fields of a command, as its time does, and neither data nor stalls change
them. They are what energy is reckoned from; see :mod:`weft.runtime.energy`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from math import prod

from weft.hw.isa.commands import COMMAND_BYTES, Memory, Opcode, VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import decode
from weft.hw.isa.memories import moved_memory
from weft.hw.isa.vector_rules import (
    PAIRS,
    REQUANTIZED,
    WEIGHTED,
    WINDOWS,
    line_columns,
    window_groups,
)

from .ops import FieldValues, Op
from .timing.transfer import transfer_size
from .timing.vector import sweep_cycles, vector_steps

__all__ = ["Activity", "command_activity", "ops_activity", "stream_activity"]


@dataclass(frozen=True, kw_only=True)
class Activity:
    """How often things happen. A memory's unit is that of its addresses: a word of ``rows``
    elements, a weight row, a parameter entry, a vector entry, a byte of a table.

    Attributes
    ----------
    read_beats, write_beats : :class:`int`
        Beats of the memory port; those of the command fetch belong to no command.
    activation_reads, activation_writes : :class:`int`
    weight_reads, weight_writes : :class:`int`
    parameter_reads, parameter_writes : :class:`int`
        Of both engines.
    vector_weight_reads, vector_weight_writes : :class:`int`
    table_reads, table_writes : :class:`int`
    accumulator_reads, accumulator_writes : :class:`int`
        Of the sum of one column.
    products : :class:`int`
        Of the array: a pixel in a PE, alpha column included.
    vector_products : :class:`int`
        Of an operand of 8 bits, in a lane of the vector engine.
    requantized : :class:`int`
        Values that are scaled to int8.
    """

    read_beats: int = 0
    write_beats: int = 0
    activation_reads: int = 0
    activation_writes: int = 0
    weight_reads: int = 0
    weight_writes: int = 0
    parameter_reads: int = 0
    parameter_writes: int = 0
    vector_weight_reads: int = 0
    vector_weight_writes: int = 0
    table_reads: int = 0
    table_writes: int = 0
    accumulator_reads: int = 0
    accumulator_writes: int = 0
    products: int = 0
    vector_products: int = 0
    requantized: int = 0

    @staticmethod
    def sum(parts: "Iterable[Activity]") -> "Activity":
        """All of ``parts`` together."""
        totals = dict.fromkeys(EVENTS, 0)
        for part in parts:
            for name in EVENTS:
                totals[name] += getattr(part, name)
        return Activity(**totals)


EVENTS = tuple(each.name for each in fields(Activity))
"""The names of what is counted."""


def ops_activity(config: AcceleratorConfig, ops: Iterable[Op]) -> Activity:
    """What symbolic commands do, their fetch included."""
    found = list(ops)
    return Activity.sum([*(command_activity(config, op.opcode, op.fields) for op in found),
                         Activity(read_beats=len(found) * COMMAND_BYTES // config.axi_bytes)])


def stream_activity(config: AcceleratorConfig, commands: bytes) -> list[Activity]:
    """What each command of a stream does, its own fetch included."""
    fetch = Activity(read_beats=COMMAND_BYTES // config.axi_bytes)
    raw = (commands[at:at + COMMAND_BYTES] for at in range(0, len(commands), COMMAND_BYTES))
    return [Activity.sum([fetch, command_activity(config, *decode(each))]) for each in raw]


_WRITES = {Memory.ACTIVATION: "activation_writes", Memory.WEIGHT: "weight_writes",
           Memory.PARAMETER: "parameter_writes", Memory.VECTOR_PARAMETER: "parameter_writes",
           Memory.VECTOR_WEIGHT: "vector_weight_writes", Memory.TABLE: "table_writes",
           Memory.LANE_TABLE: "table_writes", Memory.ROW_CONSTANT: "table_writes"}


def command_activity(config: AcceleratorConfig, opcode: Opcode, fields: FieldValues) -> Activity:
    """What one command does. No addresses are looked at."""
    match opcode:
        case Opcode.MATRIX:
            return _matrix(config, fields)
        case Opcode.VECTOR:
            return _vector(config, fields)
        case Opcode.TURN:
            return _turn(config, fields)
        case Opcode.SOFTMAX:
            return _rows(config, fields, looked_up=2)
        case Opcode.NORMALIZE:  # three times the value, once a scale, a shift and a threshold
            return _rows(config, fields, looked_up=6)
    lines, beats, _ = transfer_size(config, opcode, fields)
    units = lines * fields["units"]
    if opcode is Opcode.STORE:
        return Activity(write_beats=lines * beats, activation_reads=units)
    return Activity(read_beats=lines * beats, **{_WRITES[moved_memory(opcode, fields)]: units})


def _turn(config: AcceleratorConfig, fields: FieldValues) -> Activity:
    across, blocks = -(-fields["pixels"] // config.rows), fields["blocks"]
    rows = across * blocks * config.weight_tile_rows
    tiles = across if fields["turned"] else blocks
    return Activity(activation_reads=fields["pixels"] * blocks, weight_writes=rows,
                    parameter_writes=tiles * config.requant_groups, products=rows * config.cols)


def _rows(config: AcceleratorConfig, fields: FieldValues, *, looked_up: int) -> Activity:
    words = fields["pixels"] * fields["blocks"]
    return Activity(activation_reads=3 * words, activation_writes=words,
                    table_reads=looked_up * words * config.word_lanes,
                    requantized=words * config.word_lanes)


def _inside(size: int, positions: int, kernel: int, stride: int, dilation: int, pad: int) -> int:
    """Pairs of a position and a tap that lie inside the input, along an axis."""
    found = 0
    for tap in range(kernel):
        offset = tap * dilation - pad       # inside: 0 <= position * stride + offset < size
        first = max(0, -(offset // stride)) if offset < 0 else 0
        last = min(positions - 1, (size - 1 - offset) // stride)
        found += max(0, last - first + 1)
    return found


def _matrix(config: AcceleratorConfig, fields: FieldValues) -> Activity:
    pixels, columns = fields["out_pixels"], fields["col_tiles"]
    taps = fields["kernel_h"] * fields["kernel_w"]
    steps = taps * fields["channel_blocks"]
    groups = (columns - 1) * config.requant_groups + fields["last_groups"]
    height, rest = divmod(pixels, fields["out_w"])
    across = [fields["kernel_w"], fields["stride_w"], fields["dilation_w"], fields["pad_left"]]
    down = [fields["kernel_h"], fields["stride_h"], fields["dilation_h"], fields["pad_top"]]
    rows = _inside(fields["in_h"], height, *down)
    words = rows * _inside(fields["in_w"], fields["out_w"], *across)
    if rest:
        words += ((_inside(fields["in_h"], height + 1, *down) - rows)
                  * _inside(fields["in_w"], rest, *across))
    tiles = 1 if config.sequential else -(-pixels // fields["tile_pixels"])
    results = 0 if fields["keep"] else pixels       # of each column
    used = groups * config.requant_lanes
    if config.sequential:   # it has no accumulators to read and write
        added = begun = drained = 0
        products = columns * steps * pixels * config.rows * config.cols
    else:
        added = columns * steps * pixels * config.cols
        # The first step of a tile writes, the others add to what is there.
        begun = 0 if fields["accumulate"] else columns * pixels * config.cols
        drained = results * used
        products = columns * steps * pixels * config.multipliers
    return Activity(
        activation_reads=columns * fields["channel_blocks"] * words,
        activation_writes=results * -(-used // config.word_lanes),
        weight_reads=columns * steps * (pixels if config.sequential else tiles)
        * config.weight_tile_rows,
        table_reads=results * used if fields["table"] else 0,
        parameter_reads=results * groups, products=products, requantized=results * used,
        accumulator_writes=added, accumulator_reads=added - begun + drained)


def _vector(config: AcceleratorConfig, fields: FieldValues) -> Activity:
    op = VectorOp(fields["op"])
    positions = fields["out_outer"], fields["out_inner"]
    results = fields["blocks"] * prod(positions)
    kernel = fields["kernel_outer"], fields["kernel_inner"]
    groups = (len(window_groups(config, kernel, lines=bool(fields["lines"]))) if op in WINDOWS
              else prod(kernel))
    reads = sweep_cycles(config, fields["blocks"], positions, vector_steps(config, fields),
                         scaled=False)
    if op in PAIRS and config.vector_pairs:
        groups, reads = 1, results + (fields["blocks"] if fields["broadcast"] else results)
    products = results
    if fields["lines"]:  # each word is read once, and each column is multiplied
        columns = fields["blocks"] * line_columns(
            positions[1], kernel=kernel[1], stride=fields["stride_inner"], pad=fields["pad_inner"])
        reads = columns * line_columns(positions[0], kernel=kernel[0], pad=fields["pad_outer"],
                                       stride=min(fields["stride_outer"], kernel[0]))
        products = columns * positions[0]
    entries = products * groups if op in WEIGHTED else 0
    scaled = results if op in REQUANTIZED else 0
    lanes = config.word_lanes
    return Activity(
        activation_reads=reads, activation_writes=results,
        vector_weight_reads=entries,
        vector_products=lanes * (entries * config.vector_taps
                                 or (results if op is VectorOp.MULTIPLY else 0)),
        table_reads=results * lanes if fields["table"] else 0,
        parameter_reads=scaled * config.vector_groups, requantized=scaled * lanes)
