"""What a TURN writes, in plain numpy, and what the product of two tensors is."""

import numpy as np

__all__ = ["turned_weights", "product_biases", "bias_constant", "exact_product"]


def _blocks(count, size):
    return -(-count // size) * size


def padded(b, size, zero):
    """``b`` [k, n] with whole tiles of ``size``, ``zero`` beyond it."""
    full = np.full((_blocks(b.shape[0], size), _blocks(b.shape[1], size)), zero, np.int64)
    full[:b.shape[0], :b.shape[1]] = b
    return full


def turned_weights(config, b, zero):
    """The weight rows of ``b`` [k, n], in order: int8 [rows, weight_row_lanes]."""
    full = padded(b, config.rows, zero)
    rows = []
    for column in range(0, full.shape[1], config.cols):
        for channel in range(0, full.shape[0], config.rows):
            tile = full[channel:channel + config.rows, column:column + config.cols]
            for pe in reversed(range(config.pe_rows)):
                pair = tile[pe * config.pe_weights:(pe + 1) * config.pe_weights]
                rows.append(pair.T.reshape(-1))
    return np.array(rows).astype(np.int8)


def bias_constant(config, depth, zero, input_zero):
    """The constant of a TURN, for products over ``depth`` channels."""
    lanes = _blocks(depth, config.rows)
    if config.fip:
        return lanes // 2 * (input_zero + zero) ** 2
    return lanes * input_zero * zero


def product_biases(config, b, zero, input_zero, constant):
    """The bias of each column of ``b`` [k, n] and of those up to whole column tiles: int32."""
    full = padded(b, config.rows, zero)
    if config.fip:
        taken = ((full[0::2] + input_zero) * (full[1::2] + input_zero)).sum(axis=0)
    else:
        taken = (full * input_zero).sum(axis=0)
    return ((constant - taken) & 0xffff_ffff).astype(np.uint32).view(np.int32)


def exact_product(a, b, input_zero, zero):
    """``sum (a[m, k] - input_zero) * (b[k, n] - zero)``: int64 [m, n]."""
    return (a.astype(np.int64) - input_zero) @ (b.astype(np.int64) - zero)
