"""Constants of the vector engine as they lie in external memory."""

import numpy as np

from weft.hw.isa.config import AcceleratorConfig
from weft.ir import layout
from weft.reference import vector as vector_model
from weft.reference.exact import ScaleConstants

__all__ = ["pack_fixed_point", "pack_kernel", "pack_lane_tables", "pack_multipliers",
           "pack_scales", "pack_table", "scale_entries", "fixed_point_entries"]


def pack_kernel(config: AcceleratorConfig, weights: np.ndarray, *, lines: bool) -> np.ndarray:
    """Weight entries of a CONV, in the order in which they are used.

    Parameters
    ----------
    weights : int8 [lanes, kernel rows, taps of a row]
        Of whole channel blocks, axes in the order of the command's loops.
    lines : :class:`bool`
        The command keeps rows.

    Returns
    -------
    int8 [channel blocks, entries of a block, vector_entry_bytes]
    """
    blocks = len(weights) // config.word_lanes
    entries = vector_model.pack_kernel(config, weights, lines=lines)
    return _padded(entries, config.vector_entry_bytes).reshape(
        blocks, -1, config.vector_entry_bytes)


def pack_multipliers(config: AcceleratorConfig, first: np.ndarray,
                     second: np.ndarray) -> np.ndarray:
    """Weight entries of an ADD.

    Parameters
    ----------
    first, second : int [lanes]
        Multipliers of both operands, of whole channel blocks: 0 to 2**24 - 1.

    Returns
    -------
    int8 [channel blocks, entries of a block, vector_entry_bytes]
    """
    blocks = len(first) // config.word_lanes
    entries = vector_model.pack_multipliers(config, first, second)
    return _padded(entries, config.vector_entry_bytes).reshape(
        blocks, -1, config.vector_entry_bytes)


def pack_scales(config: AcceleratorConfig, bias: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Parameter entries.

    Parameters
    ----------
    bias : int32 [lanes]
        Of whole channel blocks, with everything folded in.
    scale : float32 [lanes]
        Zero, or positive and normal.

    Returns
    -------
    int8 [channel blocks, vector_groups, parameter_entry_bytes]
    """
    return _parameter_entries(
        config, np.stack((bias.astype("<i4"), scale.astype("<f4").view("<i4")), axis=1))


def pack_fixed_point(config: AcceleratorConfig, bias: np.ndarray, multiplier: np.ndarray,
                     shift: np.ndarray) -> np.ndarray:
    """Parameter entries of a fixed-point rule, as :func:`pack_scales`: of int32 [lanes] as
    :func:`weft.ir.layout.fixed_point_words` takes them."""
    return _parameter_entries(config, layout.fixed_point_words(bias, multiplier, shift))


def _parameter_entries(config: AcceleratorConfig, words: np.ndarray) -> np.ndarray:
    entries = words.view(np.int8).reshape(-1, config.parameter_entry_data_bytes)
    return _padded(entries, config.parameter_entry_bytes).reshape(
        -1, config.vector_groups, config.parameter_entry_bytes)


def pack_table(table: np.ndarray) -> np.ndarray:
    """A table of the hardware, int8 [256, 1], which starts with the entry of 0, from one that
    starts with that of -128."""
    return np.roll(table, 128)[:, None]


def pack_lane_tables(config: AcceleratorConfig, tables: np.ndarray) -> np.ndarray:
    """Tables with an entry for each lane.

    Parameters
    ----------
    tables : int8 [lanes, 256]
        Of whole channel blocks, each from the entry of -128 on.

    Returns
    -------
    int8 [channel blocks, 256, word_bytes]
    """
    entries = np.roll(tables, 128, axis=1).reshape(-1, config.word_lanes, 256).swapaxes(1, 2)
    return _padded(entries.reshape(-1, config.word_lanes), config.word_bytes).reshape(
        -1, 256, config.word_bytes)


def scale_entries(config: AcceleratorConfig, constants: ScaleConstants, bias: int) -> np.ndarray:
    """Parameter entries of one channel block, int8 [1, vector_groups, entry bytes]."""
    lanes = config.word_lanes
    return pack_scales(config, np.full(lanes, constants.bias + bias, np.int32),
                       np.full(lanes, constants.scale, np.float32))


def fixed_point_entries(config: AcceleratorConfig, *values: int) -> np.ndarray:
    """The same of bias, multiplier and shift of a fixed-point rule."""
    return pack_fixed_point(config, *(np.full(config.word_lanes, value, np.int32)
                                      for value in values))


def _padded(entries: np.ndarray, entry_bytes: int) -> np.ndarray:
    raw = layout.units_to_bytes(entries, entry_bytes)
    return np.frombuffer(raw, np.int8).reshape(-1, entry_bytes)
