"""Byte layout of tensors, weights and channel parameters in external memory.

On chip the same units lie without the pad bytes that round them up to a power of 2; the two
``*_units`` helpers at the end convert, for models of the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from amaranth.lib import data

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.constants import ChannelParameters, Exponential, FixedPointParameters, RowConstant

__all__ = ["ChannelMap", "channel_blocks", "tensor_words", "tensor_bytes", "pack_tensor",
           "unpack_tensor", "col_tiles", "pack_weights", "fip_beta", "fold_bias",
           "product_constant", "hardware_scale", "pack_parameters", "FIXED_POINT_BIAS_BITS",
           "fixed_point_words", "pack_fixed_point_parameters", "unpack_fixed_point_parameters",
           "pack_exponentials", "unpack_exponentials", "pack_normalization",
           "unpack_normalization", "bytes_to_units", "units_to_bytes"]

assert data.Layout.cast(ChannelParameters).size == 64  # bias, then scale: two 32-bit words
_FIXED_POINT = dict(data.Layout.cast(FixedPointParameters))
assert data.Layout.cast(FixedPointParameters).size == 64

_FRACTION_BITS = dict(data.Layout.cast(Exponential))["fraction"].width
assert data.Layout.cast(Exponential).size == 32

FIXED_POINT_BIAS_BITS = _FIXED_POINT["bias"].width
"""Bits of a bias with fixed-point rounding."""

Shape = tuple[int, int, int]


# Activations ----------------------------------------------------------------------------------

@dataclass(frozen=True)
class ChannelMap:
    """Where the channels of a tensor lie among the lanes of its words.

    Channels come in segments, and each starts at the first lane of a word: so tensors that were
    computed apart are one tensor without being moved.

    Parameters
    ----------
    segments : :class:`tuple` of :class:`int`
        Channels of each, at least 1. An ordinary tensor has one segment.
    order : :class:`tuple` of :class:`int` or :py:`None`
        The channels in the order of their places, segment after segment; :py:`None` for
        0, 1, 2...
    """

    segments: tuple[int, ...]
    order: tuple[int, ...] | None = None

    @classmethod
    def side_by_side(cls, maps: "Sequence[ChannelMap]") -> "ChannelMap":
        """The map of tensors one behind the other, each where it is."""
        segments = tuple(segment for each in maps for segment in each.segments)
        order: list[int] = []
        for each in maps:
            first = len(order)
            order += (first + channel for channel in each.order or range(each.channels))
        return cls.of(segments, order)

    @classmethod
    def of(cls, segments: tuple[int, ...], order: Sequence[int]) -> "ChannelMap":
        """The map with these fields; in the short form where the order is just counting."""
        in_order = all(channel == place for place, channel in enumerate(order))
        return cls(segments, None if in_order else tuple(order))

    def permuted(self, channels: np.ndarray) -> "ChannelMap":
        """The map of a tensor whose channel ``k`` is number ``channels[k]`` of this one."""
        number = np.empty(self.channels, np.int64)
        number[channels] = np.arange(self.channels)
        return self.of(self.segments, number[list(self.order or range(self.channels))].tolist())

    @property
    def channels(self) -> int:
        """Channels of the tensor."""
        return sum(self.segments)

    def blocks(self, config: AcceleratorConfig) -> int:
        """Activation words that the channels of one pixel take."""
        return sum(channel_blocks(config, segment) for segment in self.segments)

    def plain(self, config: AcceleratorConfig) -> bool:
        """Whether all channels lie side by side, in order."""
        return self.order is None \
            and all(segment % config.word_lanes == 0 for segment in self.segments[:-1])

    def lanes(self, config: AcceleratorConfig) -> np.ndarray:
        """int64 [channels]: lane of each, counted through all channel blocks."""
        starts, block = [], 0
        for segment in self.segments:
            starts.append(np.arange(segment) + block * config.word_lanes)
            block += channel_blocks(config, segment)
        places = np.concatenate(starts)
        if self.order is None:
            return places
        lanes = np.empty_like(places)
        lanes[list(self.order)] = places
        return lanes

    def spread(self, config: AcceleratorConfig, values: np.ndarray) -> np.ndarray:
        """[lanes, ...] from [channels, ...]: zero where a lane has no channel."""
        if values.shape[0] != self.channels:
            raise ValueError(f"Values must be of {self.channels} channels, "
                             f"not {values.shape[0]}")
        wide = np.zeros((self.blocks(config) * config.word_lanes, *values.shape[1:]),
                        values.dtype)
        wide[self.lanes(config)] = values
        return wide


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


def pack_tensor(config: AcceleratorConfig, values: np.ndarray, *,
                channels: ChannelMap | None = None, plane_bytes: int = 0) -> bytes:
    """A tensor as it lies in external memory: ``[channel blocks][H][W]`` words.

    Parameters
    ----------
    values : ``config.activation_type.dtype`` [C, H, W]
    channels : :class:`ChannelMap`
        Where the channels go; side by side, if not given.
    plane_bytes : :class:`int`
        Bytes from channel block to channel block, if more than ``H * W`` words.

    Returns
    -------
    :class:`bytes`
        Without a map, lane ``i`` of word ``[b][y][x]`` is channel ``b * rows + i``; lanes without
        a channel and pad bytes are zero.
    """
    element = config.activation_type
    if values.ndim != 3 or values.dtype != element.dtype:
        raise ValueError(f"Tensor must be {element.dtype} [C, H, W], not {values.dtype} "
                         f"{values.shape}")
    count, height, width = values.shape
    lanes = (channels or ChannelMap((count,))).spread(config, values)
    blocks = len(lanes) // config.word_lanes
    plane = height * width * config.word_bytes
    planes = np.zeros((blocks, max(plane, plane_bytes)), np.uint8)
    words = np.zeros((blocks, height, width, config.word_bytes // element.bytes), element.dtype)
    words[..., :config.word_lanes] = lanes.reshape(
        blocks, config.word_lanes, height, width).transpose(0, 2, 3, 1)
    planes[:, :plane] = words.view(np.uint8).reshape(blocks, plane)
    return planes.tobytes()


def unpack_tensor(config: AcceleratorConfig, raw: bytes, shape: Shape, *,
                  channels: ChannelMap | None = None, plane_bytes: int = 0) -> np.ndarray:
    """The tensor of the given ``shape`` (C, H, W) from its bytes in external memory; the other
    parameters are those of :func:`pack_tensor`."""
    count, height, width = shape
    channels = channels or ChannelMap((count,))
    blocks, plane = channels.blocks(config), height * width * config.word_bytes
    pitch = max(plane, plane_bytes)
    if len(raw) != blocks * pitch:
        raise ValueError(f"Tensor of shape {shape} must take {blocks * pitch} bytes, "
                         f"not {len(raw)}")
    planes = np.ascontiguousarray(np.frombuffer(raw, np.uint8).reshape(blocks, pitch)[:, :plane])
    words = planes.view(config.activation_type.dtype).reshape(blocks, height, width, -1)
    lanes = words[..., :config.word_lanes].transpose(0, 3, 1, 2)
    return np.ascontiguousarray(lanes.reshape(-1, height, width)[channels.lanes(config)])


# Weights --------------------------------------------------------------------------------------

def col_tiles(config: AcceleratorConfig, channels: int) -> int:
    """Column tiles of a layer with that many output channels."""
    return -(-channels // config.cols)


def _lanes(config: AcceleratorConfig, weights: np.ndarray) -> np.ndarray:
    """Weights with both channel axes padded with zeros to whole tiles."""
    outputs, inputs, kernel_h, kernel_w = weights.shape
    padded = np.zeros((col_tiles(config, outputs) * config.cols,
                       channel_blocks(config, inputs) * config.rows, kernel_h, kernel_w),
                      weights.dtype)
    padded[:outputs, :inputs] = weights
    return padded


def pack_weights(config: AcceleratorConfig, weights: np.ndarray) -> np.ndarray:
    """The weight rows of a layer, in the order in which the matrix engine reads them.

    Parameters
    ----------
    weights : ``config.weight_type.dtype`` [N, C, kernel_h, kernel_w]

    Returns
    -------
    int8 [column tiles, rows of a column tile, weight_row_bytes]
        The bytes. Inside a column tile: kernel row, kernel column, channel block, PE row from the
        last to the first. Lane ``c * pe_weights + k`` of a row is the weight of column ``c`` and
        channel ``pe_row * pe_weights + k`` of the block.
    """
    element = config.weight_type
    if weights.ndim != 4 or weights.dtype != element.dtype:
        raise ValueError(f"Weights must be {element.dtype} [N, C, kernel_h, kernel_w], not "
                         f"{weights.dtype} {weights.shape}")
    outputs, inputs, kernel_h, kernel_w = weights.shape
    tiles, blocks = col_tiles(config, outputs), channel_blocks(config, inputs)
    split = _lanes(config, weights).reshape(tiles, config.cols, blocks, config.pe_rows,
                                            config.pe_weights, kernel_h, kernel_w)
    #        tile kh kw block PE row column weight
    ordered = split.transpose(0, 5, 6, 2, 3, 1, 4)[:, :, :, :, ::-1]
    rows = ordered.reshape(tiles, -1, config.weight_row_lanes)
    packed = np.zeros((*rows.shape[:2], config.weight_row_bytes // element.bytes), element.dtype)
    packed[..., :config.weight_row_lanes] = rows
    return packed.view(np.int8)


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
    weights : ``config.weight_type.dtype`` [N, C, kernel_h, kernel_w]
    bias : int32 [N]
    input_zero : :class:`int`
        Zero point of the input, in the domain of the activations.

    Returns
    -------
    int32 [N]
        Modulo 2**32: the adder wraps, and the sum fits.
    """
    sums = weights.astype(np.int64).sum(axis=(1, 2, 3))
    folded = bias.astype(np.int64) - input_zero * sums - fip_beta(config, weights)
    return (folded & 0xffff_ffff).astype(np.uint32).view(np.int32)


def product_constant(config: AcceleratorConfig, depth: int, input_zero: int, zero: int) -> int:
    """The constant in the biases of a product of two tensors over ``depth`` channels, whose lanes
    are padded with ``zero``, the zero point of the second: what is left of both zero points once
    those parts are gone that depend on a pixel or a channel."""
    lanes = channel_blocks(config, depth) * config.word_lanes
    if config.fip:
        return lanes // 2 * (input_zero + zero) ** 2
    return lanes * input_zero * zero


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
    return _parameter_entries(config, np.stack([bias, scale.view(np.int32)], -1))


def fixed_point_words(bias: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Parameters of channels with fixed-point rounding.

    Parameters
    ----------
    bias : int32 [N]
        With everything folded in; of ``FIXED_POINT_BIAS_BITS``.
    multiplier : int32 [N]
        At least 0.
    shift : int32 [N]
        -32..31.

    Returns
    -------
    int32 [N, 2]
        The words of each channel.

    Raises
    ------
    ValueError
        If a value does not fit its field.
    """
    arrays = {"Bias": bias, "multiplier": multiplier, "shift": shift}
    if any(array.dtype != np.int32 or array.shape != bias.shape for array in arrays.values()):
        raise ValueError("Bias, multiplier and shift must be int32 of one shape, not " + ", ".join(
            f"{array.dtype} {array.shape}" for array in arrays.values()))
    fields = {"bias": bias, "shift": shift, "multiplier": multiplier}
    raw = np.zeros(bias.shape, np.uint64)
    for name, values in ((name, array.astype(np.int64)) for name, array in fields.items()):
        width, is_signed = _FIXED_POINT[name].width, name != "multiplier"
        low, high = (-(1 << width - 1), 1 << width - 1) if is_signed else (0, 1 << width)
        if ((values < low) | (values >= high)).any():
            raise ValueError(f"Fixed-point {name} must be between {low} and {high - 1}, not "
                             f"{values.min()} to {values.max()}")
        raw |= (values & (1 << width) - 1).astype(np.uint64) << np.uint64(_FIXED_POINT[name].offset)
    return raw.astype("<u8").view("<i4").reshape(-1, 2)


def pack_fixed_point_parameters(config: AcceleratorConfig, bias: np.ndarray, multiplier: np.ndarray,
                                shift: np.ndarray) -> np.ndarray:
    """Parameter entries of a layer with fixed-point rounding, of arrays as
    :func:`fixed_point_words` takes them.

    Returns
    -------
    int8 [column tiles, requant_groups, parameter_entry_bytes]
        Channels beyond N have zeros.
    """
    return _parameter_entries(config, fixed_point_words(bias, multiplier, shift))


def unpack_fixed_point_parameters(entries: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bias, multiplier and shift, int32 [channels] each, of parameter entries as they lie on chip,
    int8 [entries, parameter_entry_data_bytes]."""
    raw = np.ascontiguousarray(entries).view("<u8").reshape(-1)

    def field(name: str) -> np.ndarray:
        # To the top and down again, with the sign.
        offset, width = _FIXED_POINT[name].offset, _FIXED_POINT[name].width
        top = (raw << np.uint64(64 - offset - width)).view(np.int64)
        return top >> np.int64(64 - width)

    multiplier = field("multiplier") & (1 << _FIXED_POINT["multiplier"].width) - 1
    bias, multiplier, shift = (values.astype(np.int32) for values in (
        field("bias"), multiplier, field("shift")))
    return bias, multiplier, shift


def _parameter_entries(config: AcceleratorConfig, words: np.ndarray) -> np.ndarray:
    """Entries of the int32 [N, 2] words of each channel."""
    tiles = col_tiles(config, len(words))
    padded = np.zeros((tiles * config.cols, 2), "<i4")
    padded[:len(words)] = words
    packed = np.zeros((tiles, config.requant_groups, config.parameter_entry_bytes), np.int8)
    packed[..., :config.parameter_entry_data_bytes] = padded.view(np.int8).reshape(
        tiles, config.requant_groups, config.parameter_entry_data_bytes)
    return packed


# Constants of rows ----------------------------------------------------------------------------

_EXPONENT_BIAS = 182    # above that of a float32 of 24 bits as an integer: all are above zero


def pack_exponentials(table: np.ndarray) -> np.ndarray:
    """Entries of the memory ROW_CONSTANT, int8 [256, 4], of float32 [256], at least 0."""
    fraction, exponent = np.frexp(table.astype(np.float64))
    whole = np.ldexp(fraction, _FRACTION_BITS + 1).astype(np.int64)
    assert (np.ldexp(whole.astype(np.float64), exponent - _FRACTION_BITS - 1) == table).all()
    raw = np.where(whole > 0, whole - (1 << _FRACTION_BITS)
                   + (exponent.astype(np.int64) - _FRACTION_BITS - 1 + _EXPONENT_BIAS
                      << _FRACTION_BITS), 0)
    return raw.astype("<u4").view(np.int8).reshape(-1, 4)


def unpack_exponentials(entries: np.ndarray) -> np.ndarray:
    """The values of entries of the memory ROW_CONSTANT, int8 [256, 4], as float64 [256]; they are
    those of :func:`pack_exponentials` times a constant."""
    raw = np.ascontiguousarray(entries).view("<u4").reshape(-1).astype(np.int64)
    exponent = raw >> _FRACTION_BITS
    whole = (raw & (1 << _FRACTION_BITS) - 1) + (1 << _FRACTION_BITS)
    return np.where(exponent > 0, np.ldexp(whole.astype(np.float64), exponent), 0.0)


_SIGN = np.uint32(1 << 31)


def pack_normalization(values: np.ndarray, thresholds: np.ndarray, scale: np.ndarray,
                       shift: np.ndarray) -> np.ndarray:
    """The same for a NORMALIZE, int8 [CHANNELS + 2 * C, 4].

    Parameters
    ----------
    values : float32 [256]
        What each value stands for, from -128 on.
    thresholds : float32 [255]
        See :func:`weft.reference.thresholds`.
    scale, shift : float32 [C]
    """
    words = np.zeros(RowConstant.CHANNELS + 2 * len(scale), np.uint32)
    words[RowConstant.TERMS:][:256] = np.roll(_bits(values), -128)  # from 0 on, then those below
    bits = _bits(thresholds)
    words[RowConstant.THRESHOLDS:][:255] = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    words[RowConstant.CHANNELS - 1] = np.uint32(0xffffffff)
    words[RowConstant.CHANNELS::2] = _bits(scale)
    words[RowConstant.CHANNELS + 1::2] = _bits(shift)
    return words.astype("<u4").view(np.int8).reshape(-1, 4)


def unpack_normalization(entries: np.ndarray, channels: int) -> tuple[np.ndarray, ...]:
    """The arguments of :func:`pack_normalization`; infinite thresholds as they are."""
    words = np.ascontiguousarray(entries).view("<u4").reshape(-1)
    order = words[RowConstant.THRESHOLDS:][:255]
    bits = np.where(order & _SIGN, order ^ _SIGN, ~order)
    places = words[RowConstant.CHANNELS:][:2 * channels].view(np.float32)
    return (np.roll(words[RowConstant.TERMS:][:256], 128).view(np.float32),
            bits.astype(np.uint32).view(np.float32), places[::2], places[1::2])


def _bits(values: np.ndarray) -> np.ndarray:
    """Of float32 values, with one zero."""
    return (np.asarray(values, np.float32) + np.float32(0)).view(np.uint32)


# On chip --------------------------------------------------------------------------------------

def bytes_to_units(raw: bytes, unit_bytes: int, data_bytes: int) -> np.ndarray:
    """External bytes as int8 [units, data_bytes], as they lie in an on-chip memory."""
    return np.frombuffer(raw, np.int8).reshape(-1, unit_bytes)[:, :data_bytes]


def units_to_bytes(units: np.ndarray, unit_bytes: int) -> bytes:
    """On-chip units, int8 [units, data_bytes], as they lie in external memory, pads zero."""
    padded = np.zeros((units.shape[0], unit_bytes), np.int8)
    padded[:, :units.shape[1]] = units
    return padded.tobytes()
