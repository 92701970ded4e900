"""Weights as layers take them."""

import numpy as np

__all__ = ["dense_weights"]


def dense_weights(weights: np.ndarray, groups: int) -> np.ndarray:
    """int8 [N, C, kernel_h, kernel_w] of a convolution in groups, [N, C / groups, kernel_h,
    kernel_w]: with zeros between channels of different groups."""
    filters, channels = weights.shape[:2]
    dense = np.zeros((filters, channels * groups, *weights.shape[2:]), np.int8)
    for group in range(groups):
        rows = slice(group * filters // groups, (group + 1) * filters // groups)
        dense[rows, group * channels:(group + 1) * channels] = weights[rows]
    return dense
