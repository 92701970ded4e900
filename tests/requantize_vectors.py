"""What the tests of the requantizer put into it, and what must come out."""

import numpy as np

from weft.reference import requantize


class Group:
    """What goes into a requantizer in one cycle, and the model of what comes out."""

    def __init__(self, acc, scale, *, bias=0, alpha=0, zero=0, clamp=(-128, 127)):
        self.acc = np.asarray(acc, np.int64)
        self.scale = np.broadcast_to(np.asarray(scale, np.float32), self.acc.shape)
        self.bias = np.broadcast_to(np.asarray(bias, np.int64), self.acc.shape)
        self.alpha = alpha
        self.zero = zero
        self.clamp = clamp

    def expected(self, accumulator_width):
        value = wrap(wrap(self.acc - self.alpha, accumulator_width) + self.bias, 32)
        return requantize(value.astype(np.int32), self.scale, self.zero, self.clamp)


    def bits(self, config, tag, *, valid=1):
        """The port ``i`` of a requantizer with a tag of 24 bits."""
        width = config.accumulator_width
        fields = [(valid, 1), (tag, 24), *((value, width) for value in self.acc)]
        if config.fip:
            fields.append((self.alpha, width))
        for bias, scale in zip(self.bias, self.scale.view(np.uint32), strict=True):
            fields += [(bias, 32), (scale, 32)]
        return pack([*fields, (self.zero, 8), (self.clamp[0], 8), (self.clamp[1], 8)])


def wrap(value, width):
    half = 1 << width - 1
    return (value + half & 2 * half - 1) - half


def pack(fields):
    """One integer of ``(value, width)`` pairs, the first in the lowest bits."""
    bits, offset = 0, 0
    for value, width in fields:
        bits |= (int(value) & (1 << width) - 1) << offset
        offset += width
    return bits


LANES = 16


def grouped(acc, scale, *, lanes=LANES, **kwargs):
    """Vectors as groups of ``lanes``, the last filled up with the first vectors."""
    acc, scale = np.asarray(acc, np.int64), np.asarray(scale, np.float32)
    count = -(-len(acc) // lanes) * lanes
    acc, scale = np.resize(acc, count), np.resize(scale, count)
    return [Group(acc[k:k + lanes], scale[k:k + lanes], **kwargs)
            for k in range(0, count, lanes)]


def random_magnitudes(rng, count):
    """Integers of all magnitudes of int32, about as many of each."""
    return rng.integers(-2**31, 2**31, count) >> rng.integers(0, 31, count)


def product_ties():
    """Pairs of accumulator and scale whose product lies halfway between two float32 values, one
    of which is a half: the rounding of the product decides to which side the result falls."""
    for k in range(128):
        half = 2 * k + 1                       # of k + 0.5, in units of 0.5
        shift = 24 - half.bit_length()         # the half as a 24-bit mantissa
        for target in ((half << shift + 1) + 1, (half << shift + 1) - 1, (half << shift + 1) + 3):
            for factor in range(3, 4096, 2):   # the product exactly, of 25 bits and odd
                if target % factor == 0 and target // factor < 1 << 24:
                    for a, b in ((factor, target // factor), (target // factor, factor)):
                        yield a, b * 2.0 ** -(shift + 2)
