"""Requantization: an accumulator becomes a float32, a fixed-point product is rounded."""

from amaranth.hdl import Assert, Module, Mux, Signal, signed
from formal import free, spoil

from weft.hw.lib.delay import delay
from weft.hw.requantize.fixed_point import FixedPointScale
from weft.hw.requantize.float32 import FloatScale


def magnitude_of(integer):
    return Mux(integer < 0, -integer, integer)[:32]


def normalized(m, magnitude):
    """``magnitude`` with its leading one at the top, by trying all places."""
    shifted = Signal(32)
    for place in range(32):  # the last one counts
        with m.If(magnitude[place]):
            m.d.comb += shifted.eq(magnitude << (31 - place))
    return shifted


def mantissa_spec(change=None):
    """float32's nearest to an integer: none is nearer, and of two the even one."""
    m = Module()
    dut = FloatScale()
    if change is not None:
        spoil(dut, lambda inner: change(inner, dut))
    m.submodules.dut = dut
    free(m, dut)
    byte = dut.i.as_unsigned().word_select(dut.scale[:2], 8)
    integer = Mux(dut.byte, byte, dut.i)[:32].as_signed()
    shifted = normalized(m, magnitude_of(delay(m, integer, 3, name="i")))
    error = Signal(signed(34))
    m.d.comb += [
        error.eq((dut.a << 8) - shifted),
        Assert((error > -128) | ((error == -128) & ~dut.a[0])),
        Assert((error < 128) | ((error == 128) & ~dut.a[0])),
    ]
    return m


def test_integer_becomes_the_nearest_float(prove):
    # What comes out depends on the last three cycles alone.
    prove(mantissa_spec(), depth=5)


def test_float_that_is_always_odd_is_found(refute):
    refute(mantissa_spec(lambda m, dut: m.d.comb.__iadd__(dut.a[0].eq(1))), depth=5)


# Fixed point ----------------------------------------------------------------------------------

def shifted_spec(change=None):
    """A product is divided by a power of 2 with the roundings of its rule: by way of magnitudes and
    remainders, which the hardware has neither of."""
    m = Module()
    dut = FixedPointScale()
    if change is not None:
        spoil(dut, lambda inner: change(inner, dut))
    m.submodules.dut = dut
    free(m, dut)
    later = FloatScale.MULTIPLIER_LATENCY + 3 + 4   # from shift and rule to the result
    product = delay(m, dut.product, 4, name="product")
    places = delay(m, Mux(dut.shift < 0, -dut.shift, 0)[:6], later, name="places")
    once = delay(m, dut.once, later, name="rule")
    usual = delay(m, dut.shift <= 0, later, name="usual") & (places < 32)

    # Of 31 + places bits that are dropped; the first rounding, half up, may have dropped 31.
    first = Signal(signed(34))
    value = Signal(signed(65))
    m.d.comb += [
        first.eq((product >> 31) + product[30]),
        value.eq(Mux(once, product, first << 31)),
    ]
    magnitude, kept = Signal(64), Signal(64)
    m.d.comb += [
        magnitude.eq(Mux(value < 0, -value, value)),
        kept.eq((magnitude[30:] + (1 << places)) >> (places + 1)),
    ]
    result = Mux(dut.o < 0, -dut.o, dut.o)
    most = (1 << 31) * ((1 << 31) - 1)  # a product of such factors
    inside = (product <= most) & (product >= -most)
    with m.If(usual & inside):
        with m.If(kept < 256):
            m.d.comb += Assert((result == kept) & ((kept == 0) | ((dut.o < 0) == (value < 0))))
        with m.Else():
            m.d.comb += Assert(((value < 0) & (dut.o <= -256)) | ((value >= 0) & (dut.o >= 256)))
    return m


def left_spec(change=None):
    """A sum shifted to the left is the factor of 32 bits; one that is rounded once saturates if it
    needs more, whatever the product."""
    m = Module()
    dut = FixedPointScale()
    if change is not None:
        spoil(dut, lambda inner: change(inner, dut))
    m.submodules.dut = dut
    free(m, dut)
    shifted = Signal(signed(64))
    m.d.comb += shifted.eq(dut.i << Mux(dut.shift < 0, 0, dut.shift)[:5])
    fits = (shifted >= -(1 << 31)) & (shifted < 1 << 31)
    lost, negative = (delay(m, flag, dut.latency, name=name) for flag, name in (
        (dut.once & ~fits, "lost"), (dut.i < 0, "below")))
    m.d.comb += Assert(dut.a == delay(m, shifted, 3, name="shifted")[:32].as_signed())
    with m.If(lost):
        m.d.comb += Assert(Mux(negative, dut.o <= -256, dut.o >= 256))
    return m


def test_sum_shifted_to_the_left_fits_or_saturates(prove):
    prove(left_spec(), depth=14)


def test_product_is_rounded_by_its_rule(prove):
    prove(shifted_spec(), depth=14)


def test_guard_bit_that_is_lost_is_found(refute):
    refute(shifted_spec(lambda m, dut: m.d.comb.__iadd__(dut.o[0].eq(0))), depth=14)
