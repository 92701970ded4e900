import re

import numpy as np
import pytest

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.presets import PRESETS
from weft.ir import layout

CONFIGS = [config.replace(fip=fip) for config in PRESETS.values() for fip in (False, True)] + [
    PRESETS["tiny"].replace(rows=6, cols=10, requant_lanes=2)]


@pytest.fixture(params=CONFIGS, ids=lambda config: f"{config.name}-{config.rows}-{config.fip}")
def config(request: pytest.FixtureRequest) -> AcceleratorConfig:
    return request.param


def random_int8(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-128, 128, shape).astype(np.int8)


def test_tensor_is_words_of_consecutive_channels(config):
    rng = np.random.default_rng(1)
    for channels in (1, config.rows, config.rows + 1, 3 * config.rows - 1):
        values = random_int8(rng, channels, 3, 5)
        raw = np.frombuffer(layout.pack_tensor(config, values), np.int8)
        assert raw.size == layout.tensor_bytes(config, values.shape)
        words = raw.reshape(-1, 3, 5, config.word_bytes)
        for block, y, x, byte in np.ndindex(words.shape):
            channel = block * config.rows + byte
            expected = values[channel, y, x] if byte < config.rows and channel < channels else 0
            assert words[block, y, x, byte] == expected


def test_unpacking_undoes_packing(config):
    rng = np.random.default_rng(2)
    for _ in range(10):
        values = random_int8(rng, *(int(size) for size in rng.integers(1, 40, 3)))
        packed = layout.pack_tensor(config, values)
        assert np.array_equal(layout.unpack_tensor(config, packed, values.shape), values)


def test_weight_rows_come_in_the_order_of_the_array(config):
    rng = np.random.default_rng(3)
    outputs, inputs = config.cols + 1, config.rows + 1
    weights = random_int8(rng, outputs, inputs, 2, 3)
    packed = layout.pack_weights(config, weights)
    row = 0
    for tile in range(2):
        rows = iter(packed[tile])
        for kernel_y, kernel_x, block in np.ndindex(2, 3, 2):
            for pe_row in reversed(range(config.pe_rows)):
                row = next(rows)
                for column in range(config.cols):
                    for k in range(config.pe_weights):
                        output = tile * config.cols + column
                        channel = block * config.rows + pe_row * config.pe_weights + k
                        expected = (weights[output, channel, kernel_y, kernel_x]
                                    if output < outputs and channel < inputs else 0)
                        assert row[column * config.pe_weights + k] == expected
                assert not row[config.weight_row_lanes:].any()
        assert next(rows, None) is None


def test_parameter_entries_hold_bias_and_scale_of_consecutive_channels(config):
    rng = np.random.default_rng(4)
    channels = config.cols + 1
    bias = rng.integers(-1 << 31, 1 << 31, channels).astype(np.int32)
    scale = rng.random(channels).astype(np.float32)
    packed = layout.pack_parameters(config, bias, scale)
    assert packed.shape == (2, config.requant_groups, config.parameter_entry_bytes)
    for channel in range(2 * config.cols):
        tile, column = divmod(channel, config.cols)
        group, lane = divmod(column, config.requant_lanes)
        raw = packed[tile, group, 8 * lane:8 * lane + 8].tobytes()
        expected = (bias[channel].tobytes() + scale[channel].tobytes() if channel < channels
                    else bytes(8))
        assert raw == expected


def test_folded_bias_turns_fast_inner_products_into_the_wanted_sum():
    rng = np.random.default_rng(5)
    config = PRESETS["tiny"].replace(fip=True)
    weights = random_int8(rng, 3, 7, 1, 1)
    bias = rng.integers(-1000, 1000, 3).astype(np.int32)
    x = random_int8(rng, 7).astype(np.int64)
    zero = -77
    folded = layout.fold_bias(config, weights, bias, zero)
    lanes, wide = np.append(x, 55), np.zeros((3, 8), np.int64)  # any value in the idle lane
    wide[:, :7] = weights[:, :, 0, 0]
    fast = ((lanes[0::2] + wide[:, 1::2]) * (lanes[1::2] + wide[:, 0::2])).sum(axis=1)
    alpha = (lanes[0::2] * lanes[1::2]).sum()
    expected = (wide[:, :7] * (x - zero)).sum(axis=1) + bias
    assert np.array_equal(fast - alpha + folded, expected)


def test_folded_bias_wraps_to_32_bits():
    config = PRESETS["tiny"].replace(fip=False)
    weights = np.full((1, 4, 1, 1), 127, np.int8)
    bias = np.array([(1 << 31) - 1], np.int32)
    folded = layout.fold_bias(config, weights, bias, -128)
    assert int(folded[0]) == (1 << 31) - 1 + 128 * 127 * 4 - (1 << 32)


def test_subnormal_scales_become_zero():
    scales = np.array([0, 1e-45, 1.1e-38, 1.2e-38, 1], np.float32)
    assert np.array_equal(layout.hardware_scale(scales),
                          np.array([0, 0, 0, 1.2e-38, 1], np.float32))


def test_units_on_chip_and_bytes_outside_convert_both_ways():
    units = np.arange(12, dtype=np.int8).reshape(2, 6)
    raw = layout.units_to_bytes(units, 8)
    assert raw == bytes([0, 1, 2, 3, 4, 5, 0, 0, 6, 7, 8, 9, 10, 11, 0, 0])
    assert np.array_equal(layout.bytes_to_units(raw, 8, 6), units)


@pytest.mark.parametrize("call, message", [
    (lambda c: layout.pack_tensor(c, np.zeros((1, 2), np.int8)),
     "Tensor must be int8 [C, H, W], not int8 (1, 2)"),
    (lambda c: layout.pack_tensor(c, np.zeros((1, 2, 3), np.uint8)),
     "Tensor must be int8 [C, H, W], not uint8 (1, 2, 3)"),
    (lambda c: layout.unpack_tensor(c, bytes(7), (1, 1, 2)),
     "Tensor of shape (1, 1, 2) must take 8 bytes, not 7"),
    (lambda c: layout.pack_weights(c, np.zeros((1, 1), np.int8)),
     "Weights must be int8 [N, C, kernel_h, kernel_w], not int8 (1, 1)"),
    (lambda c: layout.pack_parameters(c, np.zeros(2, np.int32), np.zeros(2)),
     "Bias and scale must be int32 and float32 of one shape, not int32 (2,) and float64 (2,)"),
])
def test_wrong_arrays_are_refused(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call(PRESETS["tiny"])


class AnyOperands(AcceleratorConfig):
    """Without the check that there is all that an operand needs."""

    def _check_operands(self) -> None:
        pass


def two_byte_config(fip: bool) -> AcceleratorConfig:
    return AnyOperands(rows=6, cols=10, fip=fip, requant_lanes=2, activation_bytes=1 << 16,
                       weight_bytes=1 << 16, activation_width=10, weight_width=12)


@pytest.mark.parametrize("fip", [False, True])
def test_operands_of_two_bytes_lie_as_those_of_one_do(fip):
    config = two_byte_config(fip)
    narrow = PRESETS["tiny"].replace(rows=6, cols=10, fip=fip, requant_lanes=2)
    assert (config.word_bytes, narrow.word_bytes) == (16, 8)
    rng = np.random.default_rng(8)

    values = rng.integers(-512, 512, (13, 3, 5)).astype(np.int16)
    packed = layout.pack_tensor(config, values, plane_bytes=256)
    assert len(packed) == 3 * 256
    assert np.array_equal(
        layout.unpack_tensor(config, packed, values.shape, plane_bytes=256), values)
    # Byte by byte, the lanes are those of two tensors of int8.
    words = np.frombuffer(packed, np.int8).reshape(3, 256)[:, :15 * 16].reshape(3, 3, 5, 8, 2)
    for byte in range(2):
        half = (values >> 8 * byte).astype(np.int8)
        lanes = np.frombuffer(layout.pack_tensor(narrow, half), np.int8).reshape(3, 3, 5, 8)
        assert np.array_equal(words[..., :6, byte], lanes[..., :6])
    assert not words[..., 6:, :].any()

    weights = rng.integers(-2048, 2048, (11, 7, 2, 3)).astype(np.int16)
    rows = layout.pack_weights(config, weights)
    assert rows.dtype == np.int8
    assert rows.shape[2] == config.weight_row_bytes
    lanes = rows.view(np.int16)
    for byte in range(2):
        half = layout.pack_weights(narrow, (weights >> 8 * byte).astype(np.int8))
        count = config.weight_row_lanes
        assert np.array_equal((lanes >> 8 * byte).astype(np.int8)[..., :count], half[..., :count])
    assert not lanes[..., config.weight_row_lanes:].any()
    beta = layout.fip_beta(config, weights)
    padded = np.concatenate((weights, np.zeros((11, 5, 2, 3))), axis=1)
    assert np.array_equal(beta, fip * (padded[:, 0::2] * padded[:, 1::2]).sum(axis=(1, 2, 3)))


def test_operands_of_one_byte_wrong_where_they_have_two():
    config = two_byte_config(fip=False)
    with pytest.raises(ValueError, match=re.escape(
            "Tensor must be int16 [C, H, W], not int8 (1, 1, 1)")):
        layout.pack_tensor(config, np.zeros((1, 1, 1), np.int8))
    with pytest.raises(ValueError, match=re.escape(
            "Weights must be int16 [N, C, kernel_h, kernel_w], not int8 (1, 1, 1, 1)")):
        layout.pack_weights(config, np.zeros((1, 1, 1, 1), np.int8))
