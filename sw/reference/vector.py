"""The golden model of the vector engine: operations channel by channel, in numpy.

The functions on tensors say what an operation is; :func:`execute` says what a command does, on
the words of the on-chip memories, and is exact for any command the hardware accepts.
"""

from collections.abc import Mapping

import numpy as np

from weft import reference
from weft.errors import InputError
from weft.hw.isa.commands import Rounding, VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.limits import LINE_QUARTERS, LINE_WORDS, LOCAL_ADDRESSES
from weft.hw.isa.vector_rules import (
    MULTIPLIER_BYTES,
    add_entries,
    line_columns,
    multiplier_passes,
    window_groups,
)
from weft.ir import layout

__all__ = ["add", "depthwise", "evaluate", "execute", "lookup", "max_pool", "multiply",
           "no_lines", "pack_kernel", "pack_multipliers", "split_multiplier", "windows"]

Pair = tuple[int, int]


# On tensors -----------------------------------------------------------------------------------

def windows(x: np.ndarray, kernel: Pair, *, strides: Pair = (1, 1),
            pads: tuple[int, int, int, int] = (0, 0, 0, 0), dilations: Pair = (1, 1),
            fill: int = 0) -> np.ndarray:
    """The words under each position of a window, [C, out_h, out_w, kernel_h, kernel_w].

    Parameters
    ----------
    x : int8 [C, H, W]
    pads : (top, left, bottom, right)
    fill : :class:`int`
        Value of the padding.
    """
    top, left, bottom, right = pads
    out_h = reference.output_size(x.shape[1], kernel[0], strides[0], top, bottom, dilations[0])
    out_w = reference.output_size(x.shape[2], kernel[1], strides[1], left, right, dilations[1])
    if out_h < 1 or out_w < 1:
        raise InputError(f"Kernel {kernel[0]}x{kernel[1]} must fit into the padded input of shape "
                         f"{list(x.shape)}")
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right)), constant_values=fill)
    rows = np.arange(out_h)[:, None] * strides[0] + np.arange(kernel[0]) * dilations[0]
    cols = np.arange(out_w)[:, None] * strides[1] + np.arange(kernel[1]) * dilations[1]
    return np.asarray(padded[:, rows[:, None, :, None], cols[None, :, None, :]])


def depthwise(x: np.ndarray, weights: np.ndarray, bias: np.ndarray, scale: np.ndarray, *,
              in_zero: int = 0, out_zero: int = 0, clamp: Pair = (-128, 127),
              strides: Pair = (1, 1), pads: tuple[int, int, int, int] = (0, 0, 0, 0),
              dilations: Pair = (1, 1)) -> np.ndarray:
    """Depthwise convolution; with weights of 1, the sum or average of a window.

    Parameters
    ----------
    x : int8 [C, H, W]
    weights : int8 [C, kernel_h, kernel_w]
    bias : int32 [C]
        Of ``sum((x - in_zero) * w)``; padding contributes nothing to it.
    scale : float32 [C]
    """
    taps = windows(x, weights.shape[1:], strides=strides, pads=pads, dilations=dilations,
                   fill=in_zero).astype(np.int64) - in_zero
    sums = (taps * weights.astype(np.int64)[:, None, None]).sum(axis=(3, 4))
    return _scaled(sums + bias.astype(np.int64)[:, None, None], scale, out_zero, clamp)


def max_pool(x: np.ndarray, kernel: Pair, *, clamp: Pair = (-128, 127), strides: Pair = (1, 1),
             pads: tuple[int, int, int, int] = (0, 0, 0, 0),
             dilations: Pair = (1, 1)) -> np.ndarray:
    """Maximum of each window; padding counts as -128."""
    taps = windows(x, kernel, strides=strides, pads=pads, dilations=dilations, fill=-128)
    return np.asarray(np.clip(taps.max(axis=(3, 4)), *clamp), np.int8)


def add(a: np.ndarray, b: np.ndarray, multipliers: tuple[np.ndarray, np.ndarray],
        bias: np.ndarray, scale: np.ndarray, *, subtract: bool = False, out_zero: int = 0,
        clamp: Pair = (-128, 127)) -> np.ndarray:
    """``(a * Ma +- b * Mb + bias) * scale`` per channel.

    Parameters
    ----------
    a, b : int8 [C, H, W]
        ``b`` may be [C, 1, 1].
    multipliers : two of int [C]
        0 to 2**24 - 1.
    bias : int32 [C]
    scale : float32 [C]
    """
    first, second = (factor.astype(np.int64)[:, None, None] for factor in multipliers)
    sums = a * first + (-1 if subtract else 1) * b * second
    return _scaled(sums + bias.astype(np.int64)[:, None, None], scale, out_zero, clamp)


def multiply(a: np.ndarray, b: np.ndarray, bias: np.ndarray, scale: np.ndarray, *,
             a_zero: int = 0, b_zero: int = 0, out_zero: int = 0,
             clamp: Pair = (-128, 127)) -> np.ndarray:
    """``((a - a_zero) * (b - b_zero) + bias) * scale``; ``b`` may be [C, 1, 1]."""
    products = (a.astype(np.int64) - a_zero) * (b.astype(np.int64) - b_zero)
    return _scaled(products + bias.astype(np.int64)[:, None, None], scale, out_zero, clamp)


def lookup(x: np.ndarray, table: np.ndarray, clamp: Pair = (-128, 127)) -> np.ndarray:
    """``table[x mod 256]``; ``table`` is int8 [256], its second half for negative values."""
    return np.clip(table[x.view(np.uint8)], *clamp)


def _scaled(sums: np.ndarray, scale: np.ndarray, out_zero: int, clamp: Pair) -> np.ndarray:
    """Requantization of sums that wrap at 32 bits."""
    return reference.requantize(sums.astype(np.int32), scale, out_zero, clamp)


# Weight entries -------------------------------------------------------------------------------

def pack_kernel(config: AcceleratorConfig, weights: np.ndarray, *,
                lines: bool = False) -> np.ndarray:
    """Weight entries of a CONV, in order: channel block, kernel row, group of taps.

    Parameters
    ----------
    weights : int8 [C, kernel rows, taps of a row]
        Axes in the order of the command's loops: transposed if it slides along columns.
    lines : :class:`bool`
        The command keeps rows.

    Returns
    -------
    int8 [entries, vector_entry_lanes]
    """
    channels, *kernel = weights.shape
    taps, lanes = config.vector_taps, config.word_lanes
    blocks = -(-channels // lanes)
    padded = np.zeros((blocks * lanes, *kernel), np.int8)
    padded[:channels] = weights
    ordered = padded.reshape(blocks, lanes, *kernel).transpose(0, 2, 3, 1)
    groups = window_groups(config, (kernel[0], kernel[1]), lines=lines)
    entries = np.zeros((blocks, len(groups), taps, lanes), np.int8)
    for number, group in enumerate(groups):
        rows, places = zip(*group, strict=True)
        entries[:, number, taps - len(group):] = ordered[:, rows, places]
    return entries.reshape(-1, config.vector_entry_lanes)


def split_multiplier(config: AcceleratorConfig, multiplier: np.ndarray) -> np.ndarray:
    """Bytes of unsigned 24-bit multipliers, int [C], as weights: int8 [C, passes, vector_taps]."""
    if np.any((multiplier < 0) | (multiplier >= 1 << 24)):
        raise ValueError("Multipliers must be between 0 and 16777215, not "
                         f"{multiplier.min()} to {multiplier.max()}")
    taps = config.vector_taps
    passes = multiplier_passes(config)
    split = np.zeros((len(multiplier), passes * taps), np.uint8)
    for byte in range(MULTIPLIER_BYTES):
        split[:, byte] = multiplier.astype(np.int64) >> 8 * byte & 0xff
    return split.view(np.int8).reshape(len(multiplier), passes, taps)


def pack_multipliers(config: AcceleratorConfig, first: np.ndarray,
                     second: np.ndarray) -> np.ndarray:
    """Weight entries of an ADD from its multipliers, int [C] each: channel block, operand, pass; of
    both operands in one entry, where their words are read at a time.

    Returns
    -------
    int8 [entries, vector_entry_lanes]
    """
    lanes = config.word_lanes
    channels = len(first)
    blocks = -(-channels // lanes)
    split = np.stack([split_multiplier(config, first), split_multiplier(config, second)], axis=1)
    if config.vector_pairs:
        both = np.zeros_like(split[:, :1])
        both[..., :2 * MULTIPLIER_BYTES] = split[..., :MULTIPLIER_BYTES].reshape(
            channels, 1, 1, 2 * MULTIPLIER_BYTES)
        split = both
    padded = np.zeros((blocks * lanes, *split.shape[1:]), np.int8)
    padded[:channels] = split
    ordered = padded.reshape(blocks, lanes, *split.shape[1:]).transpose(0, 2, 3, 4, 1)
    return ordered.reshape(-1, config.vector_entry_lanes)


# On words -------------------------------------------------------------------------------------

def execute(config: AcceleratorConfig, fields: Mapping[str, int], words: np.ndarray, *,
            weights: np.ndarray, parameters: np.ndarray, tables: np.ndarray,
            lines: np.ndarray) -> None:
    """Carry out a VECTOR command on the activation memory; parameters as in :func:`evaluate`."""
    target, result = evaluate(config, fields, words, weights=weights, parameters=parameters,
                              tables=tables, lines=lines)
    words[target] = result


def no_lines(config: AcceleratorConfig) -> np.ndarray:
    """The lines of an engine at rest, int8 [vector_lines, words of a line, rows]."""
    return np.zeros((config.vector_lines, LINE_WORDS, config.word_lanes), np.int8)


def evaluate(config: AcceleratorConfig, fields: Mapping[str, int], words: np.ndarray, *,
             weights: np.ndarray, parameters: np.ndarray, tables: np.ndarray,
             lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a VECTOR command writes where.

    All words are read before any is written, so the output must not overlap the input; lookup
    and addition in place are the same either way.

    Parameters
    ----------
    fields
        Of the command, as :func:`~weft.hw.isa.encoding.decode` returns them. Must be legal.
    words : int8 [activation_depth, rows]
        The activation memory.
    weights : int8 [vector_entries, vector_entry_lanes]
    parameters : int8 [vector_parameter_depth, parameter_entry_data_bytes]
    tables : int8 [vector_table_bytes, rows]
    lines : int8 [vector_lines, words of a line, rows]
        The last words of each column, newest last; a command that keeps rows leaves its own.

    Returns
    -------
    int64 [blocks, out_outer, out_inner], int8 [blocks, out_outer, out_inner, rows]
        Addresses, and the word for each.
    """
    f = fields
    op = VectorOp(f["op"])
    shared = bool(f["shared"])
    binary = op in (VectorOp.ADD, VectorOp.MULTIPLY)
    clamp = (f["clamp_min"], f["clamp_max"])
    block, outer, inner, row, tap = np.ogrid[
        :f["blocks"], :f["out_outer"], :f["out_inner"], :f["kernel_outer"],
        :1 if binary else f["kernel_inner"]]
    address = (f["in_base"] + block * f["in_block_step"] + outer * f["in_outer_step"]
               + inner * f["in_inner_step"] + row * f["kernel_outer_step"]
               + tap * f["kernel_inner_step"])
    if binary and f["broadcast"]:
        second = f["in_base"] + f["kernel_outer_step"] + block * f["kernel_inner_step"]
        address = np.where(row == 1, second, address)
    y = outer * f["stride_outer"] + row * f["dilation_outer"] - f["pad_outer"]
    x = inner * f["stride_inner"] + tap * f["dilation_inner"] - f["pad_inner"]
    inside = np.broadcast_to((y >= 0) & (y < f["in_outer"]) & (x >= 0) & (x < f["in_inner"]),
                             address.shape)
    padding = -128 if op is VectorOp.MAX else f["in_zero"]
    above = np.broadcast_to(_rows_above(f, outer, row), address.shape)
    # [block, outer, inner, row, tap, lane]
    read = np.full((*address.shape, config.word_lanes), padding, np.int64)
    read[inside & ~above] = words[address[inside & ~above] % LOCAL_ADDRESSES]
    if f["lines"]:
        for number, its in enumerate(read):
            _keep_lines(config, f, number, its, above[number], padding, lines)

    if op in (VectorOp.MAX, VectorOp.LOOKUP):
        result = np.clip(read.max(axis=(3, 4)), *clamp)
    else:
        sums = _sums(config, f, op, read, weights)
        by_channel = sums.transpose(0, 3, 1, 2).reshape(-1, *sums.shape[1:3])
        blocks = np.zeros(f["blocks"], int) if shared else np.arange(f["blocks"])
        entries = (f["parameter_base"] + blocks[:, None] * config.vector_groups
                   + np.arange(config.vector_groups)).reshape(-1)
        result = _requantized(f, by_channel, parameters[entries], clamp).reshape(
            f["blocks"], config.word_lanes, *sums.shape[1:3]).transpose(0, 2, 3, 1)
    if f["table"]:
        own = np.arange(f["blocks"])[:, None, None, None] * f["table_step"]
        entries = 256 * (f["table"] - 1 + own) + (result.astype(np.int64) & 0xff)
        result = tables[entries, np.arange(config.word_lanes)]

    block, outer, inner = np.ogrid[:f["blocks"], :f["out_outer"], :f["out_inner"]]
    target = (f["out_base"] + block * f["out_block_step"] + outer * f["out_outer_step"]
              + inner * f["out_inner_step"]) % LOCAL_ADDRESSES
    return target, result


def _rows_above(f: Mapping[str, int], outer: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Whether the words of a kernel row are in the lines when a command begins that resumes."""
    new = min(f["stride_outer"], f["kernel_outer"])
    return bool(f["resumes"]) & (outer * f["stride_outer"] + row < f["kernel_outer"] - new)


def _keep_lines(config: AcceleratorConfig, f: Mapping[str, int], block: int, read: np.ndarray,
                above: np.ndarray, padding: int, lines: np.ndarray) -> None:
    """Fills in the words of a channel block that are ``above``, [outer, inner, row, tap, lane], and
    leaves the last words of each column in its line."""
    kernel, stride = f["kernel_outer"], f["stride_inner"]
    new = min(f["stride_outer"], kernel)
    skip = min(f["pad_inner"], kernel - 1)
    columns = line_columns(f["out_inner"], kernel=kernel, stride=stride, pad=f["pad_inner"])
    start = f["quarter"] * config.vector_lines // LINE_QUARTERS + block * columns
    places = (start + np.arange(columns)) % config.vector_lines
    outer, inner, row, tap = np.nonzero(above)
    column = inner * stride + tap - skip
    held = LINE_WORDS - (kernel - new) + outer * f["stride_outer"] + row
    filled = np.where((column >= 0)[:, None], lines[places[np.maximum(column, 0)], held], padding)
    read[outer, inner, row, tap] = filled
    # Each column in a window that it belongs to.
    inner = np.minimum((np.arange(columns) + skip) // stride, f["out_inner"] - 1)
    tap = np.arange(columns) + skip - inner * stride
    first = new if f["resumes"] else kernel - min(f["pad_outer"], kernel - 1)
    kept = [lines[places] if f["resumes"] else np.full_like(lines[places], padding)]
    for position, its in enumerate(read):
        kept.append(its[inner, -(first if position == 0 else new):, tap])
    lines[places] = np.concatenate(kept, axis=1)[:, -LINE_WORDS:]


def _requantized(f: Mapping[str, int], sums: np.ndarray, entries: np.ndarray,
                 clamp: Pair) -> np.ndarray:
    """int8 of sums before the bias, int64 [channels, outer, inner], with their parameter entries by
    the rule of the command."""
    def total(bias: np.ndarray) -> np.ndarray:
        return np.asarray((sums + bias.astype(np.int64)[:, None, None]).astype(np.int32))

    rule = Rounding(f["rule"])
    if rule is not Rounding.FLOAT32:
        bias, multiplier, shift = layout.unpack_fixed_point_parameters(entries)
        return reference.requantize_fixed_point(total(bias), multiplier, shift, f["out_zero"],
                                                clamp, rounding=rule)
    words = np.ascontiguousarray(entries).view("<i4").reshape(-1, 2)
    scale = np.ascontiguousarray(words[:, 1]).view(np.float32)
    return reference.requantize(total(words[:, 0]), scale, f["out_zero"], clamp)


def _sums(config: AcceleratorConfig, f: Mapping[str, int], op: VectorOp, read: np.ndarray,
          weights: np.ndarray) -> np.ndarray:
    """Sums before the bias, int64 [block, outer, inner, lane]."""
    if op is VectorOp.MULTIPLY:
        return np.asarray((read[..., 0, 0, :] - f["in_zero"])
                          * (read[..., 1, 0, :] - f["second_zero"]))
    taps, lanes = config.vector_taps, config.word_lanes
    kernel = f["kernel_outer"], f["kernel_inner"]
    groups = window_groups(config, kernel, lines=bool(f["lines"]))
    blocks = 1 if f["shared"] else f["blocks"]
    count = add_entries(config) if op is VectorOp.ADD else len(groups)
    entries = weights[f["weight_base"]:f["weight_base"] + blocks * count].reshape(
        blocks, count, taps, lanes)
    if op is VectorOp.ADD:
        places = entries.view(np.uint8).astype(np.int64).reshape(blocks, -1, lanes)
        after = MULTIPLIER_BYTES if config.vector_pairs else places.shape[1] // 2
        factors = sum(places[:, [byte, after + byte]] << 8 * byte
                      for byte in range(MULTIPLIER_BYTES))
        factors = np.broadcast_to(factors, (f["blocks"], 2, lanes)).copy()
        if f["subtract"]:
            factors[:, 1] *= -1
        return np.asarray((read[..., 0, :] * factors[:, None, None]).sum(axis=3))
    # Taps are summed away one at a time: no array of all products.
    sums = np.zeros((*read.shape[:3], lanes), np.int64)
    for number, group in enumerate(groups):
        for place, (row, tap) in enumerate(group, start=taps - len(group)):
            sums += read[..., row, tap, :] * entries[:, number, place][:, None, None]
    return sums
