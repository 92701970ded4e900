"""How often a sum of real values, rounded to float32 on the way, may become another int8 value than
the exact sum of integers does.

A framework without an integer kernel for a convolution multiplies and adds real values: inputs and
weights are rounded, and so is every partial sum, in an order that is not known. Whatever the order,
the result is that near to the exact one; so only exact sums near a tie of the output may differ.
"""

import numpy as np

from weft.ir import Convolution, Depthwise, Tensor

__all__ = ["differing_sums"]


_HALF_ULP = 2.0 ** -24      # of float32, relative
_OPERANDS = 3               # roundings of a product: both factors, and itself
_SCALING = 6                # of a sum by a scale, in the framework and in the hardware


def differing_sums(layer: Convolution | Depthwise, source: Tensor,
                   target: Tensor) -> tuple[int, int]:
    """Exact sums that the output channels of a layer can have, and those of them that may come
    out differently: an upper bound."""
    weights = layer.weights.reshape(len(layer.weights), -1).astype(np.float64)
    low, high = (bound - source.zero_point for bound in (-128, 127))
    above, below = np.maximum(weights, 0).sum(axis=1), np.minimum(weights, 0).sum(axis=1)
    bias = layer.bias.astype(np.float64)
    most, least = above * high + below * low + bias, above * low + below * high + bias
    # No partial sum is larger than all terms of one sign together.
    reach = np.maximum(above * max(high, 0) - below * max(-low, 0),
                       above * max(-low, 0) - below * max(high, 0)) + np.abs(bias)
    roundings = (weights != 0).sum(axis=1) + 1 + _OPERANDS
    error = _HALF_ULP * roundings * reach

    ties = np.arange(layer.clamp[0], layer.clamp[1]) + 0.5 - target.zero_point
    places = ties / np.maximum(layer.multiplier.astype(np.float64), 1e-30)[:, None]
    near = error[:, None] + _HALF_ULP * _SCALING * np.abs(places)
    inside = (places >= least[:, None]) & (places <= most[:, None])
    counts = np.floor(places + near) - np.ceil(places - near) + 1
    possible = most - least + 1
    differing = np.minimum(np.where(inside, counts, 0).sum(axis=1), possible)
    return int(possible.sum()), int(differing.sum())
