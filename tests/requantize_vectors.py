"""What the tests of the requantizer put into it, and what must come out."""

import numpy as np

from weft.hw.isa.commands import Engine, Rounding
from weft.hw.isa.subset import roundings
from weft.reference import requantize, requantize_fixed_point


class Group:
    """What goes into a requantizer in one cycle, and the model of what comes out."""

    rule = Rounding.FLOAT32

    def __init__(self, acc, scale, *, bias=0, alpha=0, zero=0, clamp=(-128, 127)):
        self.acc = np.asarray(acc, np.int64)
        self.scale = np.broadcast_to(np.asarray(scale, np.float32), self.acc.shape)
        self.bias = np.broadcast_to(np.asarray(bias, np.int64), self.acc.shape)
        self.alpha = alpha
        self.zero = zero
        self.clamp = clamp

    def expected(self, accumulator_width):
        value = wrap(wrap(self.acc - self.alpha, accumulator_width) + self.bias, 32)
        return self.rounded(value.astype(np.int32))

    def rounded(self, value):
        return requantize(value, self.scale, self.zero, self.clamp)

    def parameters(self):
        for bias, scale in zip(self.bias, self.scale.view(np.uint32), strict=True):
            yield from ((bias, 32), (scale, 32))

    def bits(self, config, tag, *, valid=1):
        """The port ``i`` of a requantizer with a tag of 24 bits."""
        width = config.accumulator_width
        fields = [(valid, 1), (tag, 24), *((value, width) for value in self.acc)]
        if config.array.corrects:
            fields.append((self.alpha, width))
        fields += [*self.parameters(), (self.zero, 8), (self.clamp[0], 8), (self.clamp[1], 8)]
        if len(roundings(config, Engine.MATRIX)) > 1:
            fields.append((self.rule.value, 2))
        return pack(fields)


class ByteGroup(Group):
    """The same for one byte of each sum."""

    rule = Rounding.BYTE

    def rounded(self, value):
        which = self.scale.view(np.uint32) & 3
        octets = value.astype("<i4").view(np.uint8).reshape(-1, 4)
        chosen = octets[np.arange(len(value)), which].astype(np.int32)
        return requantize(chosen, self.scale, self.zero, self.clamp)


class FixedPointGroup(Group):
    """The same with the parameters of fixed-point rounding."""

    def __init__(self, acc, multiplier, shift, *, rule=Rounding.FIXED_POINT, **kwargs):
        super().__init__(acc, 0, **kwargs)
        self.rule = rule
        self.multiplier = np.broadcast_to(np.asarray(multiplier, np.int64), self.acc.shape)
        self.shift = np.broadcast_to(np.asarray(shift, np.int64), self.acc.shape)

    def rounded(self, value):
        return requantize_fixed_point(value, self.multiplier, self.shift, self.zero, self.clamp,
                                      rounding=self.rule)

    def parameters(self):
        for bias, multiplier, shift in zip(self.bias, self.multiplier, self.shift, strict=True):
            yield from ((bias, 27), (shift, 6), (multiplier, 31))


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


def fixed_point_grouped(acc, multiplier, shift, *, lanes=LANES, **kwargs):
    """Vectors of fixed-point rounding as groups of ``lanes``, the last filled up likewise."""
    count = -(-len(acc) // lanes) * lanes
    acc, multiplier, shift = (np.resize(values, count) for values in (acc, multiplier, shift))
    return [FixedPointGroup(acc[k:k + lanes], multiplier[k:k + lanes], shift[k:k + lanes], **kwargs)
            for k in range(0, count, lanes)]


def random_magnitudes(rng, count):
    """Integers of all magnitudes of int32, about as many of each."""
    return rng.integers(-2**31, 2**31, count) >> rng.integers(0, 31, count)


def random_fixed_point(rng, count):
    """Accumulators, multipliers and shifts whose results are all over the range of int8."""
    acc = random_magnitudes(rng, count)
    bits = np.frexp(acc.astype(np.float64))[1]
    shift = np.clip(rng.integers(1, 11, count) - bits, -32, 31)
    return acc, rng.integers(2**30, 2**31, count), shift


def fixed_point_ties():
    """Triples of accumulator, multiplier and shift about the ties of fixed-point rounding. With a
    multiplier of 2**30 the first rounding sees half the accumulator: an odd one is a tie."""
    for exponent in range(31):
        step = 1 << exponent
        for k in range(-130, 132, 5):
            tie = k * step + step // 2       # of the second rounding, but for an exponent of 0
            for value in range(2 * tie - 3, 2 * tie + 4):
                if -2**31 <= value < 2**31:
                    yield value, 2**30, -exponent
    for shift in range(1, 8):                # of the first alone, behind a shift to the left
        for odd in range(2**shift + 1, 2**(shift + 1), 2):
            for acc in range(-9, 10):
                yield acc, odd << 30 - shift, shift


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
