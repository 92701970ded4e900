"""Why the product of two tensors is one of pixels and weights: the arithmetic, without a device."""

import numpy as np
import pytest
from turn_model import bias_constant, exact_product, padded, product_biases

from weft.hw.isa.presets import load_config


@pytest.mark.parametrize("fip", [True, False])
def test_what_the_extra_column_and_the_bias_leave_is_the_product(fip):
    config = load_config(f"tiny,products=true,fip={str(fip).lower()}")
    rng = np.random.default_rng(fip)
    for number in range(300):
        m, k, n = (int(size) for size in rng.integers(1, 12, 3))
        za, zb = (int(zero) for zero in rng.choice([-128, -127, 0, 3, 127], 2))
        b = rng.choice([-128, 127], (k, n)) if number % 3 == 0 else rng.integers(-128, 128, (k, n))
        lanes = -(-k // config.rows) * config.rows
        # Whatever lies in the lanes beyond the depth.
        pixels = rng.integers(-128, 128, (m, lanes))
        weights = padded(b, config.rows, zb)
        if fip:
            columns = ((pixels[:, 0::2, None] + weights[None, 1::2])
                       * (pixels[:, 1::2, None] + weights[None, 0::2])).sum(axis=1)
            extra = ((pixels[:, 0::2] + zb) * (pixels[:, 1::2] + zb)).sum(axis=1)
        else:
            columns = pixels @ weights
            extra = zb * pixels.sum(axis=1)
        bias = product_biases(config, b, zb, za, bias_constant(config, k, zb, za))
        found = columns - extra[:, None] + bias
        np.testing.assert_array_equal(found[:, :n], exact_product(pixels[:, :k], b, za, zb))
        assert not found[:, n:].any()
