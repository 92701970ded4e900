"""What a command touches, worked out from its fields alone, for the check of finished streams.

It shares no code with lowering, whose mistakes would go unseen.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from weft.hw.isa.commands import ROW_OPCODES, Memory, Opcode, VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.vector_rules import add_entries

__all__ = ["MEMORIES", "SPACES", "Access", "accesses", "in_place"]


@dataclass(frozen=True)
class Access:
    """Units, or bytes of external memory, from ``start`` up to ``stop``."""
    write: bool
    space: str
    start: int
    stop: int


class _Memory(NamedTuple):
    """An on-chip memory: units that it has, and their bytes in external memory."""
    depth: Callable[[AcceleratorConfig], int]
    unit_bytes: Callable[[AcceleratorConfig], int]


# Not that of weft.hw.isa.memories, whose mistakes would go unseen.
MEMORIES = {
    Memory.ACTIVATION: _Memory(lambda c: c.activation_depth, lambda c: c.word_bytes),
    Memory.WEIGHT: _Memory(lambda c: c.weight_depth, lambda c: c.weight_row_bytes),
    Memory.PARAMETER: _Memory(lambda c: c.parameter_depth, lambda c: c.parameter_entry_bytes),
    Memory.VECTOR_WEIGHT: _Memory(lambda c: c.vector_entries, lambda c: c.vector_entry_bytes),
    Memory.VECTOR_PARAMETER: _Memory(lambda c: c.vector_parameter_depth,
                                     lambda c: c.parameter_entry_bytes),
    Memory.TABLE: _Memory(lambda c: c.vector_table_bytes, lambda c: 1),
    Memory.LANE_TABLE: _Memory(lambda c: c.vector_table_bytes, lambda c: c.word_bytes),
    Memory.ROW_CONSTANT: _Memory(
        lambda c: 512 + 2 * c.normalize_channels if c.normalize_channels else 256, lambda c: 4),
}
SPACES = {memory: memory.name.lower() for memory in Memory} | {Memory.LANE_TABLE: "table"}
_LOCAL = 1 << 24  # addresses on chip are modulo this


def accesses(config: AcceleratorConfig, opcode: Opcode,
             fields: dict[str, int]) -> Iterator[Access]:
    """All that a command touches, from its fields; reads come first."""
    if opcode is Opcode.MATRIX:
        yield from _matrix_accesses(config, fields)
        return
    if opcode is Opcode.VECTOR:
        yield from _vector_accesses(config, fields)
        return
    if opcode is Opcode.TURN:
        yield from _turn_accesses(config, fields)
        return
    if opcode in ROW_OPCODES:
        yield from _row_accesses(config, opcode, fields)
        return
    memory = Memory(fields["memory"]) if opcode is Opcode.LOAD else Memory.ACTIVATION
    unit_bytes = MEMORIES[memory].unit_bytes(config)
    outside, inside = [], []
    for line in range(fields["lines"]):
        address = fields["address"] + line * fields["stride"]
        local = fields["local_address"] + line * fields["local_stride"]
        outside.append(("external", address, address + fields["units"] * unit_bytes))
        inside.append((SPACES[memory], local, local + fields["units"]))
    reads, writes = (outside, inside) if opcode is Opcode.LOAD else (inside, outside)
    for span in reads:
        yield Access(False, *span)
    for span in writes:
        yield Access(True, *span)


def _runs(addresses: np.ndarray) -> Iterator[tuple[int, int]]:
    """Sorted addresses as ranges."""
    if not addresses.size:
        return
    ends = np.flatnonzero(np.diff(addresses) != 1)
    starts = np.concatenate([[0], ends + 1])
    stops = np.concatenate([ends, [addresses.size - 1]])
    for start, stop in zip(starts, stops, strict=True):
        yield int(addresses[start]), int(addresses[stop]) + 1


class _Axis(NamedTuple):
    """Words along one axis of a VECTOR: those of all taps of all positions that lie inside of its
    input of ``size``."""
    positions: int
    step: int
    taps: int = 1
    tap_step: int = 0
    stride: int = 0
    dilation: int = 0
    pad: int = 0
    size: int = 1

    @classmethod
    def read(cls, fields: dict[str, int], axis: str, taps: int) -> "_Axis":
        """The outer or the inner one of what a command reads."""
        return cls(fields[f"out_{axis}"], fields[f"in_{axis}_step"], taps,
                   fields[f"kernel_{axis}_step"], fields[f"stride_{axis}"],
                   fields[f"dilation_{axis}"], fields[f"pad_{axis}"], fields[f"in_{axis}"])

    def offsets(self) -> np.ndarray:
        """From the first word."""
        position, tap = np.arange(self.positions)[:, None], np.arange(self.taps)[None]
        at = position * self.stride + tap * self.dilation - self.pad
        offset = position * self.step + tap * self.tap_step
        inside = (at >= 0) & (at < self.size)
        return np.unique(np.broadcast_to(offset, at.shape)[inside])


@lru_cache(maxsize=1024)    # commands of a layer differ in where they begin
def _pattern(*axes: _Axis) -> tuple[tuple[int, int], ...]:
    """Ranges of words, from the first one, along all axes."""
    total = np.zeros(1, np.int64)
    for axis in axes:
        total = np.unique(np.add.outer(total, axis.offsets()))
    return tuple(_runs(total))


def _words(base: int, *axes: _Axis) -> Iterator[tuple[int, int]]:
    """The same from a first word on, round the end of the addresses."""
    for start, stop in _pattern(*axes):
        first = (base + start) % _LOCAL
        last = first + stop - start
        yield first, min(last, _LOCAL)
        if last > _LOCAL:
            yield 0, last - _LOCAL


def _vector_accesses(config: AcceleratorConfig, fields: dict[str, int]) -> Iterator[Access]:
    op, blocks = VectorOp(fields["op"]), fields["blocks"]
    pair = op in (VectorOp.ADD, VectorOp.MULTIPLY)
    axes = (_Axis(blocks, fields["in_block_step"]),
            _Axis.read(fields, "outer", 1 if pair else fields["kernel_outer"]),
            _Axis.read(fields, "inner", 1 if pair else fields["kernel_inner"]))
    reads = list(_words(fields["in_base"], *axes))
    second = fields["in_base"] + fields["kernel_outer_step"]
    if pair and fields["broadcast"]:
        reads += _words(second, _Axis(blocks, fields["kernel_inner_step"]))
    elif pair:
        reads += _words(second, *axes)
    for start, stop in reads:
        yield Access(False, "activation", start, stop)

    used = 1 if fields["shared"] else fields["blocks"]
    if op in (VectorOp.CONV, VectorOp.ADD):
        if pair:
            entries = used * add_entries(config)
        elif fields["lines"]:
            size = fields["kernel_outer"]
            entries = used * -(-size // min(size, config.vector_taps // size))
        else:
            groups = -(-fields["kernel_inner"] // config.vector_taps)
            entries = used * fields["kernel_outer"] * groups
        yield Access(False, "vector_weight", fields["weight_base"],
                     fields["weight_base"] + entries)
    if op in (VectorOp.CONV, VectorOp.ADD, VectorOp.MULTIPLY):
        yield Access(False, "vector_parameter", fields["parameter_base"],
                     fields["parameter_base"] + used * config.vector_groups)
    if fields["table"]:
        count = fields["blocks"] if fields["table_step"] else 1
        yield Access(False, "table", 256 * (fields["table"] - 1),
                     256 * (fields["table"] - 1 + count))

    for start, stop in _words(fields["out_base"], _Axis(blocks, fields["out_block_step"]),
                              _Axis(fields["out_outer"], fields["out_outer_step"]),
                              _Axis(fields["out_inner"], fields["out_inner_step"])):
        yield Access(True, "activation", start, stop)


def _turn_accesses(config: AcceleratorConfig, fields: dict[str, int]) -> Iterator[Access]:
    for block in range(fields["blocks"]):
        start = (fields["in_base"] + block * fields["in_plane"]) % _LOCAL
        yield Access(False, "activation", start, start + fields["pixels"])
    across = -(-fields["pixels"] // config.cols)
    tiles = across if fields["turned"] else fields["blocks"]
    yield Access(True, "weight", fields["weight_base"],
                 fields["weight_base"] + across * fields["blocks"] * config.weight_tile_rows)
    yield Access(True, "parameter", fields["parameter_base"],
                 fields["parameter_base"] + tiles * config.requant_groups)


def in_place(opcode: Opcode, fields: dict[str, int]) -> bool:
    """Whether a command puts its results where it reads what they are made of, word by word."""
    return opcode in ROW_OPCODES and fields["in_base"] == fields["out_base"] \
        and (fields["in_plane"] == fields["out_plane"] or fields["blocks"] == 1)


def _row_accesses(config: AcceleratorConfig, opcode: Opcode,
                  fields: dict[str, int]) -> Iterator[Access]:
    channels = (fields["blocks"] - 1) * config.rows + fields["lanes"]
    yield Access(False, "row_constant", 0, 256 if opcode is Opcode.SOFTMAX else 512 + 2 * channels)
    for side, write in (("in", False), ("out", True)):
        for block in range(fields["blocks"]):
            start = (fields[f"{side}_base"] + block * fields[f"{side}_plane"]) % _LOCAL
            yield Access(write, "activation", start, start + fields["pixels"])


def _matrix_accesses(config: AcceleratorConfig, fields: dict[str, int]) -> Iterator[Access]:
    padding = fields["pad_top"] * fields["in_w"] + fields["pad_left"]
    first = (fields["in_base"] + padding) % _LOCAL
    height, width = fields["in_h"], fields["in_w"]
    # The columns that windows reach; behind them there may be something else.
    used = ((fields["out_w"] - 1) * fields["stride_w"] - fields["pad_left"]
            + fields["dilation_w"] * (fields["kernel_w"] - 1) + 1)
    lines = [(0, height * width)]
    if 0 < used < width:
        lines = [(row * width, row * width + used) for row in range(height)]
    for block in range(fields["channel_blocks"]):
        start = first + block * fields["in_plane"]
        for begin, end in lines:
            yield Access(False, "activation", start + begin, start + end)
    rows = (fields["col_tiles"] * fields["kernel_h"] * fields["kernel_w"]
            * fields["channel_blocks"] * config.weight_tile_rows)
    yield Access(False, "weight", fields["weight_base"], fields["weight_base"] + rows)
    if fields["keep"]:
        return
    groups = (fields["col_tiles"] - 1) * config.requant_groups + fields["last_groups"]
    yield Access(False, "parameter", fields["parameter_base"], fields["parameter_base"] + groups)
    if fields["table"]:
        yield Access(False, "table", 256 * (fields["table"] - 1), 256 * fields["table"])
    lanes = (fields["out_slot"] + groups) * config.requant_lanes
    for block in range(-(-lanes // config.word_lanes)):
        start = fields["out_base"] + block * fields["out_plane"]
        yield Access(True, "activation", start, start + fields["out_pixels"])
