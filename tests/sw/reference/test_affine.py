"""Constants of linear functions, one for each channel, found from tables."""

import numpy as np
import pytest

from weft import reference
from weft.ir import Affine

EVERY = np.arange(-128, 128)


def fit(tables, clamp):
    tables = np.asarray(tables, np.int8)
    factor, bias, scale, differing = reference.affine_constants(tables, clamp)
    assert (np.abs(factor.astype(np.int64)) < 1 << 24).all()
    assert (128 * np.abs(factor.astype(np.int64)) + np.abs(bias.astype(np.int64)) < 1 << 31).all()
    layer = Affine(name="f", op="Mul", input="x", output="y", factor=factor, bias=bias,
                   scale=scale, clamp=clamp)
    values = np.broadcast_to(EVERY.astype(np.int8), (len(tables), 1, 256))
    made = reference.affine(layer, values)[:, 0]
    np.testing.assert_array_equal((made != tables).sum(axis=1), differing)
    return differing


def linear(slope, offset, clamp=(-128, 127)):
    real = np.multiply.outer(slope, EVERY) + np.asarray(offset)[:, None]
    return np.clip(np.rint(real), *clamp)


@pytest.mark.parametrize("clamp", [(-128, 127), (-7, 90)])
def test_any_slope_and_offset(clamp):
    rng = np.random.default_rng(0)
    slope = rng.choice([-1, 1], 400) * 10 ** rng.uniform(-4, 2.4, 400)
    assert not fit(linear(slope, rng.uniform(-200, 200, 400), clamp), clamp).any()


def test_ties():
    rng = np.random.default_rng(1)
    slope = rng.choice([0.5, -0.25, 1.5, -2.5, 0.125, 1.0], 300)
    assert not fit(linear(slope, rng.integers(-80, 80, 300) / 8), (-128, 127)).any()


def test_constants_and_steps():
    tables = np.stack([np.full(256, 127), np.full(256, -128), np.full(256, 5),
                       np.where(EVERY < 3, -128, 127), np.where(EVERY == 127, -128, 127)])
    assert not fit(tables, (-128, 127)).any()


def test_what_is_not_linear_is_counted():
    tables = np.stack([EVERY, np.abs(EVERY) - 64])
    differing = fit(tables, (-128, 127))
    assert differing[0] == 0 and differing[1] > 100
