"""MATRIX: convolutions and products, and the drain that requantizes their sums."""

import math
from collections.abc import Callable

import numpy as np
from amaranth.utils import ceil_log2

from weft import reference
from weft.hw.isa.commands import Engine, Memory, Rounding
from weft.hw.isa.limits import LOCAL_ADDRESSES
from weft.hw.isa.registers import Error
from weft.ir import layout

from .core import Command, Core, rules, wrap

__all__ = ["matrix"]


_TAPS_EXACT_IN_FLOAT32 = (1 << 24) // (128 * 128)
# Fields of a MATRIX of which the sequential core keeps no more bits than its memories call for.
_SEQUENTIAL_SIZES = ("in_h", "in_w", "channel_blocks", "out_w", "out_pixels", "col_tiles")


def matrix(core: Core, command: Command) -> Callable[[], None]:
    config, fields = core.config, command.fields
    positive = ("in_h", "in_w", "channel_blocks", "kernel_h", "kernel_w", "stride_h",
                "stride_w", "dilation_h", "dilation_w", "out_w", "tile_pixels", "out_pixels",
                "col_tiles", "last_groups")
    if not all(fields[name] for name in positive) \
            or (fields["tile_pixels"] > config.accumulator_pixels and not config.sequential) \
            or fields["last_groups"] > config.requant_groups \
            or _partial_wrong(core, fields) \
            or fields["rule"] not in rules(config, Engine.MATRIX) \
            or fields["clamp_min"] > fields["clamp_max"] \
            or fields["table"] > config.drain_tables:
        raise command.fault(Error.ARGUMENT)
    if config.sequential and any(fields[name] >= 2 << ceil_log2(config.activation_depth)
                                 for name in _SEQUENTIAL_SIZES):
        raise command.fault(Error.ADDRESS)
    steps = math.prod(fields[name] for name in (
        "out_pixels", "kernel_h", "kernel_w", "channel_blocks", "col_tiles"))
    core.spend(command, steps, steps)
    sums = _accumulate(core, command)
    if fields["accumulate"]:
        sums = wrap(sums + core.kept, config.accumulator_width)
    core.kept = sums if fields["keep"] else None
    return (lambda: None) if fields["keep"] else lambda: _drain(core, command, sums)


def _partial_wrong(core: Core, fields: dict[str, int]) -> bool:
    """Whether a MATRIX uses the accumulators in a way that it must not."""
    accumulate, keep = fields["accumulate"], fields["keep"]
    if core.config.sequential:
        return bool(accumulate or keep or fields["out_slot"])
    kept = None if core.kept is None else core.kept.shape[1]
    single = fields["col_tiles"] == 1 and fields["out_pixels"] <= fields["tile_pixels"]
    return (fields["out_slot"] >= core.config.word_slots
            or bool(accumulate) != (kept is not None)
            or bool(accumulate and fields["out_pixels"] != kept)
            or bool((accumulate or keep) and not single))


def _tile_weights(core: Core, command: Command) -> np.ndarray:
    """int8 [kernel_h, kernel_w, channels, columns] of all column tiles."""
    config, fields = core.config, command.fields
    tiles, blocks = fields["col_tiles"], fields["channel_blocks"]
    kernel = fields["kernel_h"], fields["kernel_w"]
    first = fields["weight_base"]
    stop = first + tiles * kernel[0] * kernel[1] * blocks * config.weight_tile_rows
    if stop > config.weight_depth:
        raise command.fault(Error.ADDRESS)
    rows = core.weight[first:stop].reshape(
        tiles, *kernel, blocks, config.pe_rows, config.cols, config.pe_weights)
    rows = rows[:, :, :, :, ::-1]  # the last PE row comes first
    # kernel, block, PE row, weight of the PE; then tile, column
    return rows.transpose(1, 2, 3, 4, 6, 0, 5).reshape(
        *kernel, blocks * config.rows, tiles * config.cols)


def _accumulate(core: Core, command: Command) -> np.ndarray:
    """What the accumulators hold in the end, alpha already subtracted: int64
    [columns, pixels]."""
    config, fields = core.config, command.fields
    weights = _tile_weights(core, command)
    row, column = np.divmod(np.arange(fields["out_pixels"]), fields["out_w"])
    blocks = np.arange(fields["channel_blocks"])[:, None] * fields["in_plane"]
    base = fields["in_base"] + row * fields["pixel_row_step"] + column * fields["stride_w"]
    channels = weights.shape[2]
    dtype = np.float32 if channels <= _TAPS_EXACT_IN_FLOAT32 else np.float64
    sums = np.zeros((len(row), weights.shape[3]))
    inputs = np.zeros(len(row))    # their sums
    for kernel_y in range(fields["kernel_h"]):
        y = row * fields["stride_h"] + kernel_y * fields["dilation_h"] - fields["pad_top"]
        for kernel_x in range(fields["kernel_w"]):
            x = (column * fields["stride_w"] + kernel_x * fields["dilation_w"]
                 - fields["pad_left"])
            inside = (y >= 0) & (x >= 0) & (y < fields["in_h"]) & (x < fields["in_w"])
            address = (base + kernel_y * fields["kernel_row_step"]
                       + kernel_x * fields["dilation_w"] + blocks) % LOCAL_ADDRESSES
            if (address[:, inside] >= config.activation_depth).any():
                raise command.fault(Error.ADDRESS)
            words = core.activation[np.where(inside, address, 0)]
            words[:, ~inside] = fields["in_zero"]
            pixels = words.transpose(1, 0, 2).reshape(len(row), channels)
            sums += pixels.astype(dtype) @ weights[kernel_y, kernel_x].astype(dtype)
            inputs += pixels.sum(axis=1, dtype=np.int64)
    total = sums.T.astype(np.int64)
    if config.fip:
        # The fast inner product minus alpha still contains beta, which the bias subtracts.
        wide = weights.astype(np.int64)
        beta = (wide[:, :, 0::2] * wide[:, :, 1::2]).sum(axis=(0, 1, 2))
        total += beta[:, None]
    if config.products:
        # What the column that corrects yields beside alpha.
        zero, taps = fields["weight_zero"], channels * math.prod(weights.shape[:2])
        total -= zero * inputs.astype(np.int64)
        total -= config.fip * zero * zero * taps // 2
    return wrap(total, config.accumulator_width)


def _drain(core: Core, command: Command, sums: np.ndarray) -> None:
    config, fields = core.config, command.fields
    groups = (fields["col_tiles"] - 1) * config.requant_groups + fields["last_groups"]
    first = fields["parameter_base"]
    if first + groups > config.parameter_depth:
        raise command.fault(Error.ADDRESS)
    entries = core.units[Memory.PARAMETER][first:first + groups]
    clamp = fields["clamp_min"], fields["clamp_max"]
    channels = groups * config.requant_lanes

    def total(bias: np.ndarray) -> np.ndarray:
        return wrap(sums[:channels] + bias[:, None].astype(np.int64), 32).astype(np.int32)

    rule = Rounding(fields["rule"])
    if rule in (Rounding.FIXED_POINT, Rounding.FIXED_POINT_ONCE):
        bias, multiplier, shift = layout.unpack_fixed_point_parameters(entries)
        values = reference.requantize_fixed_point(
            total(bias), multiplier, shift, fields["out_zero"], clamp, rounding=rule)
    else:
        words = np.ascontiguousarray(entries).view("<i4").reshape(-1, 2)
        acc = total(words[:, 0])
        if rule is Rounding.BYTE:
            acc = reference.sum_bytes(acc, words[:, 1] % reference.SUM_BYTES)
        scale = np.ascontiguousarray(words[:, 1]).view("<f4")
        scale = np.where(scale < np.finfo(np.float32).tiny, np.float32(0), scale)
        values = reference.requantize(acc, scale, fields["out_zero"], clamp)
    if fields["table"]:
        entries = values.view(np.uint8).astype(int) + 256 * (fields["table"] - 1)
        if config.drain_lane_tables:
            lanes = np.arange(channels)[:, None] % config.word_lanes
            values = core.units[Memory.LANE_TABLE][entries, lanes]
        else:
            values = core.units[Memory.TABLE][entries, 0]
    pixels = np.arange(fields["out_pixels"])
    skipped = fields["out_slot"] * config.requant_lanes     # lanes of the first word
    for block in range(-(-(skipped + channels) // config.word_lanes)):
        first = block * config.word_lanes - skipped
        lanes = values[max(first, 0):first + config.word_lanes]
        start = max(-first, 0)
        address = (fields["out_base"] + block * fields["out_plane"] + pixels) % LOCAL_ADDRESSES
        if (address >= config.activation_depth).any():
            raise command.fault(Error.ADDRESS)
        core.activation[address, start:start + len(lanes)] = lanes.T
