"""Byte layout of tensors, weights and channel parameters in external memory.

On chip the same units lie without the pad bytes that round them up to a power of 2; the two
``*_units`` helpers at the end convert, for models of the device.
"""

import numpy as np
from amaranth.lib import data

from weft.config import AcceleratorConfig
from weft.hw.commands import ChannelParameters

__all__ = ["channel_blocks", "tensor_words", "tensor_bytes", "pack_tensor", "unpack_tensor",
           "col_tiles", "pack_weights", "fip_beta", "fold_bias",
           "hardware_scale", "pack_parameters", "bytes_to_units", "units_to_bytes"]

assert data.Layout.cast(ChannelParameters).size == 64  # bias, then scale: two 32-bit words

Shape = tuple[int, int, int]


# Activations ----------------------------------------------------------------------------------

def channel_blocks(config: AcceleratorConfig, channels: int) -> int:
    """Activation words that the ``channels`` of one pixel take."""
    return -(-channels // config.word_lanes)


def tensor_words(config: AcceleratorConfig, shape: Shape) -> int:
    """Activation words of a tensor of shape (C, H, W)."""
    channels, height, width = shape
    return channel_blocks(config, channels) * height * width


def tensor_bytes(config: AcceleratorConfig, shape: Shape) -> int:
    """Bytes of a tensor of shape (C, H, W) in external memory."""
    return tensor_words(config, shape) * config.word_bytes


def pack_tensor(config: AcceleratorConfig, values: np.ndarray) -> bytes:
    """A tensor as it lies in external memory: ``[ceil(C / rows)][H][W]`` words.

    Parameters
    ----------
    values : int8 [C, H, W]

    Returns
    -------
    :class:`bytes`
        Lane ``i`` of word ``[b][y][x]`` is channel ``b * rows + i``; lanes without a channel and
        pad bytes are zero.
    """
    if values.ndim != 3 or values.dtype != np.int8:
        raise ValueError(f"Tensor must be int8 [C, H, W], not {values.dtype} {values.shape}")
    channels, height, width = values.shape
    blocks = channel_blocks(config, channels)
    lanes = np.zeros((blocks * config.word_lanes, height, width), np.int8)
    lanes[:channels] = values
    words = np.zeros((blocks, height, width, config.word_bytes), np.int8)
    words[..., :config.word_lanes] = lanes.reshape(
        blocks, config.word_lanes, height, width).transpose(0, 2, 3, 1)
    return words.tobytes()


def unpack_tensor(config: AcceleratorConfig, raw: bytes, shape: Shape) -> np.ndarray:
    """The int8 [C, H, W] tensor of the given ``shape`` from its bytes in external memory."""
    channels, height, width = shape
    if len(raw) != tensor_bytes(config, shape):
        raise ValueError(f"Tensor of shape {shape} must take {tensor_bytes(config, shape)} bytes, "
                         f"not {len(raw)}")
    words = np.frombuffer(raw, np.int8).reshape(-1, height, width, config.word_bytes)
    lanes = words[..., :config.word_lanes].transpose(0, 3, 1, 2)
    return np.ascontiguousarray(lanes.reshape(-1, height, width)[:channels])


# Weights --------------------------------------------------------------------------------------

def col_tiles(config: AcceleratorConfig, channels: int) -> int:
    """Column tiles of a layer with that many output channels."""
    return -(-channels // config.cols)


def _lanes(config: AcceleratorConfig, weights: np.ndarray) -> np.ndarray:
    """Weights with both channel axes padded with zeros to whole tiles."""
    outputs, inputs, kernel_h, kernel_w = weights.shape
    padded = np.zeros((col_tiles(config, outputs) * config.cols,
                       channel_blocks(config, inputs) * config.rows, kernel_h, kernel_w), np.int8)
    padded[:outputs, :inputs] = weights
    return padded


def pack_weights(config: AcceleratorConfig, weights: np.ndarray) -> np.ndarray:
    """The weight rows of a layer, in the order in which the matrix engine reads them.

    Parameters
    ----------
    weights : int8 [N, C, kernel_h, kernel_w]

    Returns
    -------
    int8 [column tiles, rows of a column tile, weight_row_bytes]
        Inside a column tile: kernel row, kernel column, channel block, PE row from the last to
        the first. Byte ``c * pe_weights + k`` of a row is the weight of column ``c`` and channel
        ``pe_row * pe_weights + k`` of the block.
    """
    if weights.ndim != 4 or weights.dtype != np.int8:
        raise ValueError(f"Weights must be int8 [N, C, kernel_h, kernel_w], not {weights.dtype} "
                         f"{weights.shape}")
    outputs, inputs, kernel_h, kernel_w = weights.shape
    tiles, blocks = col_tiles(config, outputs), channel_blocks(config, inputs)
    split = _lanes(config, weights).reshape(tiles, config.cols, blocks, config.pe_rows,
                                            config.pe_weights, kernel_h, kernel_w)
    #        tile kh kw block PE row column weight
    ordered = split.transpose(0, 5, 6, 2, 3, 1, 4)[:, :, :, :, ::-1]
    rows = ordered.reshape(tiles, -1, config.weight_row_lanes)
    packed = np.zeros((*rows.shape[:2], config.weight_row_bytes), np.int8)
    packed[..., :config.weight_row_lanes] = rows
    return packed


# Channel parameters ---------------------------------------------------------------------------

def fip_beta(config: AcceleratorConfig, weights: np.ndarray) -> np.ndarray:
    """``sum(w0 * w1)`` over all channel pairs and taps, int64 [N]; zeros without FIP.

    It is what the fast inner product adds to the sum besides ``alpha``, which the array measures:
    ``(a0 + w1) * (a1 + w0) = a0*w0 + a1*w1 + a0*a1 + w0*w1``.
    """
    outputs = weights.shape[0]
    if not config.fip:
        return np.zeros(outputs, np.int64)
    lanes = _lanes(config, weights)[:outputs].astype(np.int64)
    return (lanes[:, 0::2] * lanes[:, 1::2]).sum(axis=(1, 2, 3))


def fold_bias(config: AcceleratorConfig, weights: np.ndarray, bias: np.ndarray,
              input_zero: int) -> np.ndarray:
    """The bias that turns what the accumulators hold into ``sum (x - zx) * w + bias``.

    Parameters
    ----------
    weights : int8 [N, C, kernel_h, kernel_w]
    bias : int32 [N]
    input_zero : :class:`int`
        Zero point of the input, in the int8 domain.

    Returns
    -------
    int32 [N]
        Modulo 2**32: the adder wraps, and the sum fits.
    """
    sums = weights.astype(np.int64).sum(axis=(1, 2, 3))
    folded = bias.astype(np.int64) - input_zero * sums - fip_beta(config, weights)
    return (folded & 0xffff_ffff).astype(np.uint32).view(np.int32)


def hardware_scale(multiplier: np.ndarray) -> np.ndarray:
    """Multipliers as the hardware takes them, float32: zero, or positive and normal.

    A subnormal becomes zero, which changes no result: times 2**31 it is still far below one half.
    """
    tiny = np.finfo(np.float32).tiny
    return np.where(multiplier < tiny, np.float32(0), multiplier).astype(np.float32)


def pack_parameters(config: AcceleratorConfig, bias: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Parameter entries of a layer.

    Parameters
    ----------
    bias : int32 [N]
        With everything folded in.
    scale : float32 [N]
        Zero, or positive and normal.

    Returns
    -------
    int8 [column tiles, requant_groups, parameter_entry_bytes]
        Channels beyond N have bias and scale zero.
    """
    if bias.dtype != np.int32 or scale.dtype != np.float32 or bias.shape != scale.shape:
        raise ValueError(f"Bias and scale must be int32 and float32 of one shape, not {bias.dtype} "
                         f"{bias.shape} and {scale.dtype} {scale.shape}")
    tiles = col_tiles(config, bias.shape[0])
    words = np.zeros((tiles * config.cols, 2), np.int32)
    words[:bias.shape[0], 0] = bias
    words[:bias.shape[0], 1] = scale.view(np.int32)
    packed = np.zeros((tiles, config.requant_groups, config.parameter_entry_bytes), np.int8)
    packed[..., :config.parameter_entry_lanes] = words.astype("<i4").view(np.int8).reshape(
        tiles, config.requant_groups, config.parameter_entry_lanes)
    return packed


# On chip --------------------------------------------------------------------------------------

def bytes_to_units(raw: bytes, unit_bytes: int, unit_lanes: int) -> np.ndarray:
    """External bytes as int8 [units, unit_lanes], as they lie in an on-chip memory."""
    return np.frombuffer(raw, np.int8).reshape(-1, unit_bytes)[:, :unit_lanes]


def units_to_bytes(units: np.ndarray, unit_bytes: int) -> bytes:
    """On-chip units, int8 [units, lanes], as they lie in external memory; pad bytes are zero."""
    padded = np.zeros((units.shape[0], unit_bytes), np.int8)
    padded[:, :units.shape[1]] = units
    return padded.tobytes()
