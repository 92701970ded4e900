"""Constants of functions with a bend, found from tables."""

import numpy as np
import pytest

from weft import reference

EVERY = np.arange(-128, 128)


def prelu(slopes, ratio, at, zero, clamp=(-128, 127)):
    """Tables of PRelus with these slopes."""
    real = np.where(at > EVERY, (EVERY - at) * np.asarray(slopes)[:, None], EVERY - at) * ratio
    return np.clip(np.rint(real) + zero, *clamp).astype(np.int8)


def made(found):
    """What the constants yield, in Python's integers and numpy's float32."""
    below = np.minimum(EVERY, found.at)
    above = found.distance.astype(int) if found.mirrored else EVERY
    rows = []
    for first, second, bias, scale in zip(found.first.tolist(), found.second.tolist(),
                                          found.bias.tolist(), found.scale, strict=True):
        sums = first * above + second * below + bias
        assert np.abs(sums).max() < 1 << 31 and 0 <= first < 1 << 24 and abs(second) < 1 << 24
        rounded = np.rint(sums.astype(np.float32) * scale) + found.zero
        rows.append(np.clip(rounded, *found.clamp))
    assert not ((found.second < 0).any() and (found.second > 0).any())
    return np.stack(rows).astype(np.int8)


@pytest.mark.parametrize(("slopes", "mirrored"), [
    ((-0.9, 0.9), False), ((-2.5, 1.0), False), ((-0.9, 3.0), True), ((1.0, 1.0), False)])
def test_any_slopes_on_one_side_of_the_slope_above(slopes, mirrored):
    rng = np.random.default_rng(0)
    for _ in range(40):
        at = int(rng.integers(-100, 100))
        tables = prelu(rng.uniform(*slopes, 30), 10 ** rng.uniform(-0.8, 0.3), at,
                       rng.integers(-60, 60))
        found = reference.bend_constants(tables, at)
        assert found is not None
        np.testing.assert_array_equal(made(found), tables)
        if at < 60 and slopes[1] > 1:
            assert found.mirrored == mirrored


def test_ties():
    rng = np.random.default_rng(1)
    for ratio in (0.25, 0.5, 1.0, 1.5):
        slopes = rng.choice([0.5, -0.5, 0.25, 0.0, 1.0, -1.0, 0.125], 50)
        for zero in (-3, 0, 8):     # halves are rounded to even before the zero point is added
            tables = prelu(slopes, ratio, -10, zero)
            np.testing.assert_array_equal(made(reference.bend_constants(tables, -10)), tables)


@pytest.mark.parametrize("at", [-128, 127])
def test_a_bend_at_the_end(at):
    tables = prelu([0.31, -0.23], 0.717, at, 5)
    np.testing.assert_array_equal(made(reference.bend_constants(tables, at)), tables)


def test_bounds_of_all_channels():
    tables = prelu([0.51, -0.47, 0.11], 1.03, 0, 0, clamp=(-7, 40))
    np.testing.assert_array_equal(made(reference.bend_constants(tables, 0)), tables)


def test_what_is_no_such_function_has_no_constants():
    rng = np.random.default_rng(2)
    assert reference.bend_constants(rng.integers(-128, 128, (3, 256)).astype(np.int8), 0) is None
    curve = np.rint(EVERY ** 2 / 200).astype(np.int8)[None]
    assert reference.bend_constants(curve, 0) is None
    # Slopes on both sides of what each form allows, results that differ at the bend, and a fall.
    assert reference.bend_constants(prelu([-1.5, 1.5], 0.5, 0, 0), 0) is None
    shifted = prelu([0.5, 0.5], 0.5, 0, 0) + np.array([[0], [1]], np.int8)
    assert reference.bend_constants(shifted, 0) is None
    assert reference.bend_constants(np.clip(-EVERY, -128, 127).astype(np.int8)[None], 0) is None


def test_a_byte_that_is_off_is_noticed():
    tables = prelu([0.31, -0.23, 0.71], 0.617, 4, -9)
    for place, off in ((3, 5), (100, -3), (200, 4)):
        other = tables.copy()
        other[1, place] += off
        assert reference.bend_constants(tables, 4) is not None
        assert reference.bend_constants(other, 4) is None
