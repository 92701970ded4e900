"""Commands with as few fields as matter for their timing, and streams of them."""

from typing import Any

from weft.hw.isa.commands import Engine, Memory, Opcode, Rounding, VectorOp
from weft.hw.isa.encoding import decode, encode

__all__ = ["MASKS", "load", "lookup", "matrix", "store", "vector", "window"]


MASKS = {engine: 1 << engine.value for engine in Engine}
"""The bit of each engine in ``wait`` and ``post``."""


def load(units: int = 8, lines: int = 1, memory: Memory = Memory.WEIGHT, **masks: int) -> bytes:
    return encode(Opcode.LOAD, memory=memory, lines=lines, address=0, stride=4096, units=units,
                  local_address=0, local_stride=units, **masks)


def store(units: int = 8, lines: int = 1, **masks: int) -> bytes:
    return encode(Opcode.STORE, lines=lines, address=0, stride=4096, units=units, local_address=0,
                  local_stride=units, **masks)


def matrix(pixels: int = 64, tile: int = 64, kernel: int = 1, blocks: int = 1, columns: int = 1,
           groups: int = 2, table: int = 0, **masks: int) -> bytes:
    fields = _fields(Opcode.MATRIX, 1) | {
        "kernel_h": kernel, "kernel_w": 1, "channel_blocks": blocks, "tile_pixels": tile,
        "out_pixels": pixels, "col_tiles": columns, "last_groups": groups, "rule": Rounding.FLOAT32,
        "accumulate": 0, "keep": 0, "out_slot": 0, "table": table}
    return encode(Opcode.MATRIX, **masks, **fields)


def vector(op: VectorOp, positions: int = 64, taps: int = 1, table: int = 0,
           **masks: int) -> bytes:
    """An operation on ``taps`` words for each position of a row."""
    fields = _fields(Opcode.VECTOR, 0) | {
        "kernel_outer": 1, "kernel_inner": taps, "kernel_inner_step": 1, "dilation_inner": 1,
        "blocks": 1, "out_outer": 1, "in_outer": 1, "out_inner": positions,
        "in_inner": positions + taps - 1, "in_inner_step": 1, "stride_inner": 1,
        "out_inner_step": 1, "op": op, "table": table}
    return encode(Opcode.VECTOR, **masks, **fields)


def window(op: VectorOp, size: int, strides: tuple[int, int], pad: int, *,
           positions: tuple[int, int] = (4, 6), blocks: int = 2) -> bytes:
    """A window of ``size`` x ``size`` whose rows are kept."""
    height, width = (stride * (out - 1) + size - pad
                     for stride, out in zip(strides, positions, strict=True))
    fields = _fields(Opcode.VECTOR, 0) | {
        "op": op, "slide": 1, "lines": 1, "kernel_outer": size, "kernel_inner": size,
        "kernel_outer_step": width, "kernel_inner_step": 1, "dilation_outer": 1,
        "dilation_inner": 1, "stride_outer": strides[0], "stride_inner": strides[1],
        "pad_outer": pad, "pad_inner": pad, "in_outer": height, "in_inner": width,
        "in_base": -pad * (width + 1) % (1 << 24), "in_block_step": height * width,
        "in_outer_step": strides[0] * width, "in_inner_step": strides[1], "blocks": blocks,
        "out_outer": positions[0], "out_inner": positions[1], "out_outer_step": positions[1],
        "out_inner_step": 1, "out_block_step": positions[0] * positions[1], "out_base": 1024}
    return encode(Opcode.VECTOR, **fields)


def lookup(positions: int = 64, **masks: int) -> bytes:
    return vector(VectorOp.LOOKUP, positions, table=1, **masks)


def _fields(opcode: Opcode, value: int) -> dict[str, Any]:
    """All fields of a command, with one value."""
    return dict.fromkeys((name for name in decode(bytes([opcode.value]) + bytes(63))[1]
                          if name not in ("wait", "post")), value)
